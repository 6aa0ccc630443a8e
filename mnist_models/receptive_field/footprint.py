"""The receptive field as the set of pixels whose gradient is not zero.

Independent of the recurrence: no rule of any operation is used, only autograd, or, where that
shows less, what changes when rows and columns of the image are changed. In single
precision, since tensors that are no parameters cannot be converted; zero stays exactly zero,
and positive averaging weights keep everything else far above the smallest number.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from mnist_models.intervention import Changes, Replace
from mnist_models.probe import SIDE, digits, make_tracer, randomise, run
from mnist_models.receptive_field.faint_weights import (
    faint_ones_zeroed,
    overwritten_weights,
    without_faint_weights,
)
from mnist_models.receptive_field.geometry import HEIGHT, WIDTH, Geometry, reduce
from mnist_models.trace import Label, Trace

ROUNDS = 12  # a max-pool passes the gradient of one position: unite over many inputs
ENLARGED = 3 * SIDE
_AT_ONCE = 28  # images in a forward: enlarged ones take memory
_ENTRIES = 64  # of a batch that are looked at one by one
_STRONG = 100  # times the noise: the far end of a deep field weighs little
_ROUNDING = 1e-6  # share of a number in single precision that is none of its content

Box = tuple[int, int, int, int]  # first row, end row, first column, end column


def expected(geometry: Geometry, side: int, position: tuple[int, ...] | None) -> Box:
    """The box that the recurrence predicts for one position, or for all together."""
    if position is None:
        geometry = reduce(geometry, geometry.spatial, keep=True)
        position = (0,) * len(geometry.dims)
    box: list[int] = []
    for axis in (HEIGHT, WIDTH):
        start = geometry.offset[axis]
        for dim, index in zip(geometry.dims, position, strict=True):
            left = index
            for size, step in reversed(dim):
                start += left % size * step[axis]
                left //= size
        end = start + geometry.extent[axis]
        if geometry.everywhere[axis]:
            start, end = 0, side
        box += [int(max(0, start)), int(min(side, end))]
    return box[0], box[1], box[2], box[3]


def agree(target: Box, seen: Box | None, slack: float) -> bool:
    """Whether the box that was seen is the expected one, within `slack` pixels a side."""
    return seen is not None and all(abs(a - b) <= slack for a, b in zip(target, seen, strict=True))


def footprint(
    module: nn.Module,
    side: int,
    target: Box,
    node: Label | None,
    position: tuple[int, ...] | None,
    *,
    slack: float = 0,
) -> Box | None:
    """The bounding box of nonzero gradients, united over random inputs until it is `target`.

    Args:
        module: in any state; its parameters are drawn at random.
        side: of the square input, pixels.
        target: stops early when reached; a footprint cannot exceed the truth.
        node: the operation to look at; None: the logits.
        slack: how far it may be off `target`.
        position: index of the element per dimension (batch and channels are united).

    Returns:
        The box, or None where no gradient flows or the operation is not met.
    """
    randomise(module, seed=0, positive=True)
    with faint_ones_zeroed(run(module, digits(2, seed=1), values=False)):
        rows, columns = torch.zeros(side, dtype=torch.bool), torch.zeros(side, dtype=torch.bool)
        for attempt in range(ROUNDS):
            randomise(module, seed=attempt, positive=attempt % 3 != 2)
            leaf = _input(8, side, attempt).requires_grad_()
            seen = _observed(module, leaf, node)
            if seen is None or not seen.requires_grad:
                break
            if position is not None:
                seen = seen[tuple(p if p else slice(None) for p in position)]
            try:
                (gradient,) = torch.autograd.grad(seen.sum(), leaf, allow_unused=True)
            except RuntimeError:  # such as of checkpoints that only a whole backward may enter
                break
            if gradient is not None:
                reached = (gradient != 0).flatten(0, 1).any(0)
                rows, columns = rows | reached.any(1), columns | reached.any(0)
            # What is not exact will not become so: three inputs have passed a max-pool by then.
            if rows.any() and agree(target, _box(rows, columns), slack if attempt > 1 else 0):
                return _box(rows, columns)
        # Gradients may be switched off, or not be those of the function: see what changes then.
        for attempt in range(ROUNDS // 2):
            randomise(module, seed=attempt, positive=attempt % 3 != 2)
            changed = _changes(module, side, node, position, attempt)
            if changed is None:
                break
            rows, columns = rows | changed[0], columns | changed[1]
            if rows.any() and _box(rows, columns) == target:
                break
        return _box(rows, columns) if rows.any() else None


def largest_sample(
    module: nn.Module, side: int, node: Label, position: tuple[int, ...], axis: int
) -> int | None:
    """The receptive field of one entry along `axis`, pixels, the largest; None without a gradient.

    Where a network puts several views of an image into the batch, no one of them sees all.
    """
    reached: dict[int, Tensor] = {}
    for attempt in range(3):  # as many inputs as it takes to pass a max-pool
        randomise(module, seed=attempt, positive=True)
        leaf = _input(2, side, attempt).requires_grad_()
        seen = _observed(module, leaf, node)
        if seen is None or not seen.requires_grad:
            return None
        for entry in range(min(seen.shape[axis], _ENTRIES)):
            index = [p if p else slice(None) for p in position]
            index[axis] = entry
            one = seen[tuple(index)].sum()
            (gradient,) = torch.autograd.grad(one, leaf, retain_graph=True, allow_unused=True)
            if gradient is not None:
                here = (gradient != 0).flatten(0, 1).any(0)
                reached[entry] = reached.get(entry, torch.zeros_like(here)) | here
    boxes = [_box(each.any(1), each.any(0)) for each in reached.values() if each.any()]
    return max((min(b - a, d - c) for a, b, c, d in boxes), default=None)


def _changes(
    module: nn.Module, side: int, node: Label | None, position: tuple[int, ...] | None, seed: int
) -> tuple[Tensor, Tensor] | None:
    """The rows and columns of the image that change the element when they are changed."""
    image = _input(1, side, seed)
    batch = image.repeat(2 * side, 1, 1, 1)
    for index in range(side):
        batch[index, :, index] = _STRONG * (1 - batch[index, :, index])
        batch[side + index, :, :, index] = _STRONG * (1 - batch[side + index, :, :, index])
    far: list[Tensor] = []
    for part in batch.split(_AT_ONCE):
        seen = _observed(module, torch.cat([part, image]), node, grad=False)
        if seen is None or len(seen) != len(part) + 1:
            return None
        if position is not None:
            seen = seen[tuple(p if p else slice(None) for p in position)]
        seen = seen.reshape(len(part) + 1, -1)
        distance = (seen[:-1] - seen[-1:]).abs().amax(1)
        far.append(distance > _ROUNDING * seen[-1].abs().amax())
    changed = torch.cat(far)
    return changed[:side], changed[side:]


def _input(count: int, side: int, seed: int) -> Tensor:
    """Positive noise with strong single pixels, so that every position wins a max-pool once."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 1, side, side, generator=generator)
    return noise + 3 * (torch.rand(noise.shape, generator=generator) < 0.1)


def _observed(
    module: nn.Module, leaf: Tensor, node: Label | None, grad: bool = True
) -> Tensor | None:
    """The logits, or what an operation gave, without what weights too faint would add."""

    def forward(
        replace: dict[int, Replace] | None = None, values: Collection[int] | bool = False
    ) -> Trace:
        image = leaf.clone()  # the forward may write to its input
        tracer = make_tracer(module, image, values, Changes(replace or {}))
        try:
            # Without its optimised graphs TorchScript leaves a gradient on every operation.
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined] # documented
                run(module, image, grad=grad, partial=tracer)
        except Exception:
            if node is None:
                raise
            tracer.trace.output = None  # what comes after need not fit an enlarged input
        return tracer.trace

    trace = forward()
    kept = forward(values=lost) if (lost := overwritten_weights(trace)) else trace
    if replace := without_faint_weights(kept):
        trace = forward(replace)
    if node is None:
        return trace.output if isinstance(trace.output, Tensor) else None
    found = trace.find(node)
    return None if found is None else found.outputs[0].tensor


def _box(rows: Tensor, columns: Tensor) -> Box:
    y, x = rows.nonzero().flatten(), columns.nonzero().flatten()
    return int(y[0]), int(y[-1]) + 1, int(x[0]), int(x[-1]) + 1
