"""Muon: momentum whose every update is a matrix with singular values near one.

After Keller Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024);
the size of the update after Liu and others, "Muon is scalable for LLM training" (2025), so that
learning rates are of the size that AdamW takes. torch's own (from 2.9) takes matrices alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

# Of the quintic whose iteration drives singular values into 0.7 .. 1.2, from Jordan's text:
# steepest at zero, so that five steps are enough.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_RMS = 0.2  # of an update's elements at learning rate 1, which is about what AdamW's have


class Muon(Optimizer):
    """Muon for every parameter: a kernel is a matrix of one row an output, a bias one row.

    A matrix of one row is only scaled, so that biases move at the same pace as weights.

    Args:
        parameters: of the network.
        lr: learning rate.
        momentum: share of the former updates that is kept.
        weight_decay: per unit of learning rate, apart from the gradient, as AdamW's.
        lanes: networks that lie one after the other along the first dimension of each parameter.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        lanes: int = 1,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.lanes = lanes
        self._bundles: dict[tuple[torch.Size, ...], list[Bundle]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override] # no loss
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise NotImplementedError("Muon evaluates nothing; give the gradients first")
        for group in self.param_groups:
            moved = [each for each in group["params"] if each.grad is not None]
            if moved:
                self._move(moved, group["lr"], group["momentum"], group["weight_decay"])

    def _move(
        self, moved: list[Tensor], rate: float | Tensor, momentum: float, weight_decay: float
    ) -> None:
        """One call for all: parameters are so small that on a GPU calls are what costs."""
        shapes = [self._shape(each) for each in moved]
        laid = list(zip(moved, shapes, strict=True))
        own = [_in_order(each, each).view(shape) for each, shape in laid]
        kept = [_in_order(self._kept(each), each).view(shape) for each, shape in laid]
        gradients = [_in_order(each.grad, each).reshape(shape) for each, shape in laid]
        torch._foreach_lerp_(kept, gradients, 1 - momentum)
        ahead = list(torch._foreach_lerp(gradients, kept, momentum))  # Nesterov's
        updates = together(ahead, self._bundles_of(ahead))
        torch._foreach_mul_(updates, [_RMS * math.sqrt(max(each.shape[1:])) for each in updates])
        torch._foreach_add_(updates, torch._foreach_mul(own, weight_decay))
        # The rate comes last, alone: a number or a tensor, the product is the same.
        torch._foreach_mul_(updates, rate)
        torch._foreach_sub_(own, updates)

    def _kept(self, parameter: Tensor) -> Tensor:
        """Where the gradients of all steps point."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        kept: Tensor = state["momentum_buffer"]
        return kept

    def _shape(self, parameter: Tensor) -> tuple[int, int, int]:
        """Of a parameter as matrices, one a network."""
        rows = 1 if parameter.dim() == 1 else len(parameter) // self.lanes
        return (self.lanes, rows, parameter.numel() // (self.lanes * rows))

    def _bundles_of(self, matrices: list[Tensor]) -> list[Bundle]:
        """Made once: to make one waits for the device."""
        shapes = tuple(each.shape for each in matrices)
        device = matrices[0].device
        if shapes not in self._bundles:
            self._bundles[shapes] = bundles(shapes, device, padded=device.type == "cuda")
        return self._bundles[shapes]


def _in_order(values: Tensor | None, parameter: Tensor) -> Tensor:
    """A parameter, or what has its shape, with its dimensions as they lie in memory.

    Kernels whose channels come last there give matrices whose columns are in that order.
    """
    assert values is not None  # a gradient
    return values if parameter.is_contiguous() else values.permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Bundle:
    """Some of the matrices as one batch, upright ones laid down, small ones amid zeros.

    Attributes:
        members: which ones.
        places: ``(K, rows, columns)``, of every element among those of all members, one after the
            other; where there is none, past their end.
        back: of every element of the members within the batch.
    """

    members: list[int]
    places: Tensor
    back: Tensor


def bundles(shapes: Sequence[Sequence[int]], device: torch.device, *, padded: bool) -> list[Bundle]:
    """How matrices of these shapes, each ``(K, rows, columns)``, are made orthogonal together.

    Args:
        shapes: of each.
        device: on which they lie.
        padded: all those of more than one row in one batch, which takes the fewest calls; else
            those of one shape, which takes the fewest operations.
    """
    alike: dict[object, list[int]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        alike[min(shape[1:]) > 1 if padded else tuple(shape)].append(number)
    return [
        _bundle(members, [shapes[each] for each in members], device) for members in alike.values()
    ]


def _bundle(members: list[int], shapes: list[Sequence[int]], device: torch.device) -> Bundle:
    lanes = shapes[0][0]
    rows = max(min(shape[1:]) for shape in shapes)
    columns = max(max(shape[1:]) for shape in shapes)
    count = sum(math.prod(shape) for shape in shapes)
    places = torch.full((len(members), lanes, rows, columns), count)
    elements = torch.arange(count).split([math.prod(shape) for shape in shapes])
    for batch, own, shape in zip(places, elements, shapes, strict=True):
        matrices = own.view(*shape)
        wide = matrices if shape[1] <= shape[2] else matrices.mT
        batch[:, : wide.shape[1], : wide.shape[2]] = wide
    back = torch.empty(count + 1, dtype=torch.int64)
    back[places.flatten()] = torch.arange(places.numel())
    return Bundle(members, places.flatten(0, 1).to(device), back[:count].to(device))


def together(matrices: list[Tensor], bundled: list[Bundle]) -> list[Tensor]:
    """`orthogonal` of each, of which each is ``(K, rows, columns)``, bundle by bundle."""
    found: dict[int, Tensor] = {}
    for bundle in bundled:
        own = [matrices[number] for number in bundle.members]
        joined = torch.cat([*(each.flatten() for each in own), own[0].new_zeros(1)])
        answers = orthogonal(joined[bundle.places]).flatten()[bundle.back]
        parts = answers.split([each.numel() for each in own])
        for number, each, part in zip(bundle.members, own, parts, strict=True):
            found[number] = part.view(each.shape)
    return [found[number] for number in range(len(matrices))]


def orthogonal(matrices: Tensor) -> Tensor:
    """``(K, rows, columns)`` -> the same shape: singular values near one, same singular vectors."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    found = wide / wide.norm(dim=(1, 2), keepdim=True).clamp_min(1e-20)
    if wide.shape[1] > 1:
        a, b, c = _QUINTIC
        for _ in range(_STEPS):
            gram = found @ found.mT
            by = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            found = torch.baddbmm(found, by, found, beta=a)
    upright: Tensor = found if wide is matrices else found.mT
    return upright
