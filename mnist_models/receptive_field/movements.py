"""The rules of operations that move elements: views, cuts, joins, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from mnist_models.receptive_field.arguments import (
    Lookup,
    first,
    named_dims,
)
from mnist_models.receptive_field.geometry import (
    ZERO,
    Geometry,
    NotFollowedError,
    Vector,
    flat,
    length,
    normalise,
    plus,
    reshape,
    resize,
    times,
    unify,
    window,
)
from mnist_models.trace import Node, Operand


def join(node: Node, find: Lookup) -> Geometry:
    """Concatenation and stacking."""
    operands = [operand for operand in node.arguments["tensors"] if operand.shape != (0,)]
    shape, stacked = node.outputs[0].shape, node.name == "stack"
    dim = int(node.arguments.get("dim") or 0) % len(shape)
    found = [find(operand) for operand in operands]
    samples = _sample_step(operands, found, dim, stacked=stacked)
    known: list[Geometry] = []
    start = 0
    for operand, geometry in zip(operands, found, strict=True):
        if geometry is not None:
            dims = list(geometry.dims)
            if stacked:
                dims.insert(dim, ())
            moved = dims[dim] or normalise([(shape[dim], samples)])
            if any(any(step) for _, step in moved):  # cutting a map in two and joining it
                if len(moved) > 1:
                    raise NotFollowedError(node.name)
                dims[dim] = ((shape[dim], moved[0][1]),)
                offset = plus(geometry.offset, times(moved[0][1], -start))
            else:
                dims[dim] = ()
                offset = geometry.offset
            known.append(replace(geometry, dims=tuple(dims), offset=offset))
        start += 1 if stacked else operand.shape[dim]
    return unify(known, shape)


def _sample_step(
    operands: Sequence[Operand], found: Sequence[Geometry | None], dim: int, *, stacked: bool
) -> Vector:
    """How samples that were cut out one by one follow each other, or no step at all.

    A single one has lost the step that the batch had.
    """
    firsts = [geometry.offset[0] for geometry in found if geometry is not None]
    single = stacked or all(operand.shape[dim] == 1 for operand in operands)
    if not single or len(firsts) < max(2, len(operands)):
        return ZERO
    steps = {after - before for before, after in pairwise(firsts)}
    return (steps.pop(), 0, 0) if len(steps) == 1 else ZERO


def pick(node: Node, find: Lookup) -> Geometry:
    """Elements picked by index."""
    geometry = first(node, find)
    shape = node.outputs[0].shape
    if node.name == "index_select":
        chosen = [int(node.arguments["dim"]) % len(shape)]
    else:
        chosen = [i for i, index in enumerate(node.arguments["indices"]) if index is not None]
    if len(chosen) != 1 or len(shape) != len(geometry.dims):
        raise NotFollowedError(node.name)
    if any(any(step) for _, step in geometry.dims[chosen[0]]):
        raise NotFollowedError(f"{node.name} of positions")
    dims = list(geometry.dims)
    dims[chosen[0]] = flat(shape[chosen[0]])
    return replace(geometry, dims=tuple(dims))


def padded(node: Node, find: Lookup) -> Geometry:
    """Padding shifts where the map starts."""
    geometry = first(node, find)
    amounts, shape = list(node.arguments.get("pad") or node.arguments["padding"]), node.outputs[0]
    for index in range(len(amounts) // 2):
        dim = len(geometry.dims) - 1 - index
        geometry = window(geometry, dim, shape.shape[dim], padding=amounts[2 * index])
    return geometry


def roll(node: Node, find: Lookup) -> Geometry:
    """Elements moved round, past the border."""
    geometry = first(node, find)
    for shift, named in zip(node.arguments["shifts"], node.arguments["dims"], strict=True):
        dim = named % len(geometry.dims)
        geometry = window(geometry, dim, length(geometry.dims[dim]), padding=shift)
    return geometry


def flip(node: Node, find: Lookup) -> Geometry:
    """A dimension read backwards."""
    geometry = first(node, find)
    dims, offset = list(geometry.dims), geometry.offset
    for dim in named_dims(node, geometry, "dims"):
        for size, step in dims[dim]:
            offset = plus(offset, times(step, size - 1))
        dims[dim] = tuple((size, times(step, -1)) for size, step in dims[dim])
    return replace(geometry, dims=tuple(dims), offset=offset)


def pixel_unshuffle(node: Node, find: Lookup) -> Geometry:
    """Space to depth."""
    geometry = first(node, find)
    factor = int(node.arguments["downscale_factor"])
    batch, channels, height, width = node.outputs[0].shape
    inner = (batch, channels // factor**2, height, factor, width, factor)
    split = reshape(geometry, inner)
    order = [split.dims[i] for i in (0, 1, 3, 5, 2, 4)]
    moved = replace(split, dims=tuple(order))
    return reshape(moved, (batch, channels, height, width))


def pixel_shuffle(node: Node, find: Lookup) -> Geometry:
    """Depth to space."""
    geometry = first(node, find)
    factor = int(node.arguments["upscale_factor"])
    batch, channels, height, width = node.outputs[0].shape
    inner = (batch, channels, factor, factor, height // factor, width // factor)
    split = reshape(geometry, inner)
    order = [split.dims[i] for i in (0, 1, 4, 2, 5, 3)]
    moved = replace(split, dims=tuple(order))
    return reshape(moved, (batch, channels, height, width))


def upsample(node: Node, find: Lookup) -> Geometry:
    """Nearest-pixel enlargement."""
    geometry = first(node, find)
    before, shape = geometry.dims, node.outputs[0].shape
    dims = list(before)
    for dim in range(2, len(shape)):
        size = length(before[dim])
        if shape[dim] % size:
            geometry = resize(replace(geometry, dims=tuple(dims)), dim, shape[dim], 0)
            dims = list(geometry.dims)
            continue
        dims[dim] = normalise([*before[dim], (shape[dim] // size, ZERO)])
    return replace(geometry, dims=tuple(dims))


def interpolate(node: Node, find: Lookup) -> Geometry:
    """Linear and cubic, whose kernels are 2 and 4 positions wide; wider where they smooth."""
    geometry = first(node, find)
    shape = node.outputs[0].shape
    width = 4 if "cubic" in node.name else 2
    for dim in range(2, len(shape)):
        size = length(geometry.dims[dim])
        if shape[dim] == size:
            continue
        if size == 1:  # the same everywhere
            dims = (*geometry.dims[:dim], flat(shape[dim]), *geometry.dims[dim + 1 :])
            geometry = replace(geometry, dims=dims)
            continue
        ratio = size / shape[dim]
        reach = width * max(1.0, ratio) - 1 if node.name.endswith("_aa") else width - 1
        geometry = resize(geometry, dim, shape[dim], reach, (ratio - 1 - reach) / 2)
    return geometry


def viewed(node: Node, find: Lookup) -> Geometry:
    """The same elements under another shape."""
    if node.name == "view" and "dtype" in node.arguments:
        raise NotFollowedError("view as another type")
    return reshape(first(node, find), node.outputs[0].shape)


def strided(node: Node, find: Lookup) -> Geometry:
    """Other strides, where they lead to the same elements: dimensions of one element may differ.

    Pools over the whole of a map that is kept channels last give their output such strides.
    """
    geometry, before, after = first(node, find), node.inputs[0], node.outputs[0]
    steps = zip(before.shape, before.stride, after.stride, strict=True)
    same = before.shape == after.shape and all(size == 1 or a == b for size, a, b in steps)
    if not same or before.offset != after.offset:
        raise NotFollowedError(node.name)
    return geometry


def permute(node: Node, find: Lookup) -> Geometry:
    """Dimensions in another order."""
    geometry = first(node, find)
    rank = len(geometry.dims)
    order = list(range(rank))
    if node.name == "permute":
        order = [int(dim) % rank for dim in node.arguments["dims"]]
    elif node.name == "t":
        order = order[::-1]
    else:
        a, b = (int(node.arguments[name]) % rank for name in ("dim0", "dim1"))
        order[a], order[b] = order[b], order[a]
    return replace(geometry, dims=tuple(geometry.dims[dim] for dim in order))


def repeat(node: Node, find: Lookup) -> Geometry:
    """Copies side by side."""
    geometry = first(node, find)
    counts = [int(count) for count in node.arguments["repeats"]]
    inner = ((),) * (len(counts) - len(geometry.dims)) + geometry.dims
    dims = [normalise([(n, ZERO), *dim]) for n, dim in zip(counts, inner, strict=True)]
    return replace(geometry, dims=tuple(dims))


def expand(node: Node, find: Lookup) -> Geometry:
    """One element seen many times."""
    geometry = first(node, find)
    return unify([geometry], node.outputs[0].shape)


def cut_slice(node: Node, find: Lookup) -> Geometry:
    """A part of a dimension."""
    geometry = first(node, find)
    dim = int(node.arguments["dim"]) % len(geometry.dims)
    size = length(geometry.dims[dim])
    start, end, step = slice(
        node.arguments.get("start"), node.arguments.get("end"), node.arguments.get("step")
    ).indices(size)
    count = len(range(start, end, step))
    return geometry if count == size else _cut(geometry, dim, start, count, step)


def _cut(geometry: Geometry, dim: int, start: int, count: int, stride: int = 1) -> Geometry:
    if not any(any(step) for _, step in geometry.dims[dim]):
        dims = list(geometry.dims)
        dims[dim] = flat(count)
        return replace(geometry, dims=tuple(dims))
    if len(geometry.dims[dim]) > 1:
        raise NotFollowedError("a cut through positions that are not evenly spaced")
    return window(geometry, dim, count, stride=stride, padding=-start)


def select(node: Node, find: Lookup) -> Geometry:
    """One position of a dimension, which goes away."""
    geometry = first(node, find)
    dim = int(node.arguments["dim"]) % len(geometry.dims)
    size = length(geometry.dims[dim])
    cut = _cut(geometry, dim, int(node.arguments["index"]) % size, 1)
    return replace(cut, dims=cut.dims[:dim] + cut.dims[dim + 1 :])


def unfold(node: Node, find: Lookup) -> Geometry:
    """Sliding windows as a new dimension."""
    geometry = first(node, find)
    dim = int(node.arguments["dimension"]) % len(geometry.dims)
    size, stride = int(node.arguments["size"]), int(node.arguments["step"])
    factors = geometry.dims[dim]
    if len(factors) > 1:
        raise NotFollowedError("unfold of positions that are not evenly spaced")
    step = factors[0][1] if factors else ZERO
    dims = list(geometry.dims)
    dims[dim] = normalise([(node.outputs[0].shape[dim], times(step, stride))])
    return replace(geometry, dims=(*dims, normalise([(size, step)])))


def split(node: Node, find: Lookup) -> list[Geometry]:
    """Parts of a dimension, one geometry each."""
    geometry = first(node, find)
    dim = int(node.arguments.get("dim") or 0) % len(geometry.dims)
    found: list[Geometry] = []
    start = 0
    for operand in node.outputs:
        count = 1 if node.name == "unbind" else operand.shape[dim]
        cut = _cut(geometry, dim, start, count)
        if node.name == "unbind":
            cut = replace(cut, dims=cut.dims[:dim] + cut.dims[dim + 1 :])
        found.append(cut)
        start += count
    return found


def copied(node: Node, find: Lookup) -> Geometry:
    """A copy carries the source; written into a map, no more than the source remains."""
    source = node.operand("src")
    geometry = None if source is None else find(source)
    if geometry is None:
        target = node.operand("self")
        geometry = None if target is None else find(target)
    if geometry is None:
        raise NotFollowedError(node.name)
    return unify([geometry], node.outputs[0].shape)
