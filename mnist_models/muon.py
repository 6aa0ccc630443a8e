"""Muon: momentum whose every update is a matrix with singular values near one.

After Keller Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024);
the size of the update after Liu and others, "Muon is scalable for LLM training" (2025), so that
learning rates are of the size that AdamW takes. torch's own (from 2.9) takes matrices alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

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

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override] # no loss
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise NotImplementedError("Muon evaluates nothing; give the gradients first")
        for group in self.param_groups:
            moved: list[Tensor] = []
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    matrices = self._matrices(parameter, parameter.grad, group["momentum"])
                    alike[matrices.shape].append(matrices)
                    moved.append(parameter)
            # Those of one shape in one call: these matrices are so small that calls are what costs.
            updates = {
                shape: iter(orthogonal(torch.cat(each)).split(self.lanes))
                for shape, each in alike.items()
            }
            for parameter in moved:
                update = next(updates[self._shape(parameter)])
                size = _RMS * math.sqrt(max(update.shape[1:]))
                # The rate comes last, alone: a number or a tensor, the product is the same.
                decay = parameter * group["weight_decay"]
                parameter.sub_((update.reshape(parameter.shape) * size + decay) * group["lr"])

    def _shape(self, parameter: Tensor) -> torch.Size:
        """Of a parameter as matrices, one a network."""
        rows = 1 if parameter.dim() == 1 else len(parameter) // self.lanes
        return torch.Size((self.lanes, rows, parameter.numel() // (self.lanes * rows)))

    def _matrices(self, parameter: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """Where the gradients of all steps point, as matrices."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        kept = state["momentum_buffer"]
        kept.lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(kept, momentum)  # Nesterov's
        return ahead.reshape(self._shape(parameter))


def orthogonal(matrices: Tensor) -> Tensor:
    """``(K, rows, columns)`` -> the same shape: singular values near one, same singular vectors."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    found = wide / wide.norm(dim=(1, 2), keepdim=True).clamp_min(1e-20)
    if wide.shape[1] > 1:
        a, b, c = _QUINTIC
        for _ in range(_STEPS):
            gram = found @ found.mT
            found = a * found + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ found
    upright: Tensor = found if wide is matrices else found.mT
    return upright
