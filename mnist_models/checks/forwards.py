"""The forwards that the checks share, and interventions on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import cached_property

import torch
from torch import Tensor, nn

from mnist_models.intervention import Changes, Replace
from mnist_models.probe import answer, digits, relative_change, run
from mnist_models.receptive_field.faint import BATCH, noise
from mnist_models.receptive_field.global_pooling import CHANGES
from mnist_models.trace import Node, Operand, Taint, Trace

__all__ = ["BATCH", "Forwards", "differs", "half", "noise"]

LARGE = 128  # images in a batch of training
_SPLIT = 64  # images that a module takes which splits the batch, and normalises each part


class Forwards:
    """Traced forwards of one module with random parameters, made once each.

    Args:
        module: its parameters stay as they are while this is in use.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._traces: dict[tuple[bool, int, int], Trace] = {}

    @cached_property
    def batch(self) -> int:
        """How many images they are given."""
        return training_batch(self.module)

    def trace(self, training: bool, image: int = 0, seed: int = 0) -> Trace:
        """The forward on image batch number `image`, with the generators seeded by `seed`."""
        key = (training, image, seed)
        if key not in self._traces:
            batch = digits(self.batch, seed=20 + image)
            self._traces[key] = run(self.module, batch, training=training, seed=seed)
        return self._traces[key]

    def logits(self, training: bool, image: int = 0, seed: int = 0) -> Tensor:
        """``(B, 10)``, of as many images as training needs.

        Raises:
            NoLogitsError: the forward returned something else than a tensor.
        """
        return self.trace(training, image, seed).answer()

    def effect(
        self, training: bool, numbers: Iterable[int], replace: Replace, seed: int = 0
    ) -> float:
        """How far the logits move when these operations' outputs are replaced.

        In standard deviations of the logits.
        """
        batch = digits(self.batch, seed=20)
        changes = Changes(dict.fromkeys(numbers, replace))
        changed = answer(self.module, batch, changes, training=training, seed=seed)
        return relative_change(self.logits(training, seed=seed), changed)

    def effective(
        self, training: bool, nodes: list[Node], replace: Replace, seed: int = 0
    ) -> list[Node]:
        """Those whose output reaches the logits, each by itself and all together.

        Together, so that two which cancel each other are found out.
        """
        kept = [n for n in nodes if self.effect(training, [n.number], replace, seed) >= CHANGES]
        numbers = [node.number for node in kept]
        if len(kept) > 1 and self.effect(training, numbers, replace, seed) < CHANGES:
            return []
        return kept

    def lasting(self, training: bool, nodes: list[Node], seed: int = 0) -> list[Node]:
        """Those that run in a batch as large as training and testing use, too."""
        if not nodes:
            return []
        batch = digits(LARGE, seed=20)
        large = run(self.module, batch, training=training, seed=seed, values=False)
        trace = self.trace(training, seed=seed)
        return [node for node in nodes if large.find(trace.label(node)) is not None]

    def mixes(self) -> bool:
        """In training, the logits of an image depend on the images beside it."""
        batch, other = digits(self.batch, seed=20), digits(self.batch, seed=21)
        beside = torch.cat([batch[:1], other[1:]])
        here, there = self.logits(True), answer(self.module, beside, training=True)
        return relative_change(here[:1], there[:1], spread=here) >= CHANGES

    def depends(
        self,
        training: bool,
        node: Node,
        pick: Callable[[Node], Operand | None],
        seed: int = 0,
    ) -> bool:
        """An input of this operation differs between two images."""
        other = self.trace(training, image=1, seed=seed).nodes
        if node.number >= len(other) or other[node.number].name != node.name:
            return True  # the image decided what runs
        here, there = pick(node), pick(other[node.number])
        if here is None or there is None or here.value is None or there.value is None:
            return False
        return Taint.IMAGE in here.taint and differs(here.value, there.value)


def training_batch(module: nn.Module) -> int:
    """How many images a forward of training is given.

    Four; more where even two are refused, as by BatchNorm over each of many parts of a batch.
    """
    for few, size in ((2, BATCH), (_SPLIT, _SPLIT)):
        with contextlib.suppress(Exception):
            run(module, digits(few, seed=20), training=True, values=False)
            return size
    return BATCH  # it runs with no number: the checks say so


def differs(a: Tensor, b: Tensor) -> bool:
    """By more than a thousandth of their size: rounding and decoys are no difference."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return True
    a, b = a.double(), b.double()
    size = torch.maximum(a.square().mean(), b.square().mean()).sqrt()
    return bool((a - b).square().mean().sqrt() > 1e-3 * size)


def half(tensor: Tensor) -> Tensor:
    """Every other element, by a fixed draw, becomes zero: what a strong dropout does."""
    generator = torch.Generator().manual_seed(8)
    mask = torch.rand(tuple(tensor.shape), generator=generator) < 0.5
    return tensor * mask.to(tensor)
