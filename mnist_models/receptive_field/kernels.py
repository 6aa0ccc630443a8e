"""The rules of operations that combine positions or channels: kernels, pools, products."""

from __future__ import annotations

import itertools
from dataclasses import replace

from mnist_models.receptive_field.arguments import (
    Lookup,
    batch_statistics,
    first,
    integers,
    named_dims,
)
from mnist_models.receptive_field.geometry import (
    ZERO,
    Dim,
    Geometry,
    NotFollowedError,
    contract,
    flat,
    normalise,
    plus,
    reduce,
    resize,
    times,
    unify,
    whole,
    window,
)
from mnist_models.trace import Node


def convolution(node: Node, find: Lookup) -> Geometry:
    """Convolutions, transposed ones too: kernel, stride, padding, dilation, groups."""
    geometry = first(node, find, "input")
    weight, transposed = node.operand("weight"), node.arguments.get("transposed")
    if weight is None or len(geometry.dims) != len(weight.shape):
        raise NotFollowedError(node.name)
    count = len(weight.shape) - 2
    stride, padding, dilation = (
        integers(node, name, count) for name in ("stride", "padding", "dilation")
    )
    grouped = node.arguments.get("groups") != 1
    if grouped and any(any(step) for _, step in geometry.dims[1]):
        raise NotFollowedError("groups of channels that see different places")
    reduced = reduce(geometry, [1], keep=True)
    dims = (reduced.dims[0], flat(node.outputs[0].shape[1]), *reduced.dims[2:])
    reduced = replace(reduced, dims=dims)
    for index in range(count):
        kernel, size = weight.shape[2 + index], node.outputs[0].shape[2 + index]
        reach = (kernel - 1) * dilation[index]
        pad = reach - padding[index] if transposed else padding[index]
        if transposed and stride[index] > 1:
            reduced = resize(reduced, 2 + index, size, reach / stride[index], -pad / stride[index])
            continue
        reduced = window(
            reduced,
            2 + index,
            size,
            kernel=kernel,
            stride=stride[index],
            padding=pad,
            dilation=dilation[index],
        )
    return reduced


def pool(node: Node, find: Lookup) -> Geometry:
    """Max and average pools with a kernel."""
    geometry = first(node, find)
    kernel = integers(node, "kernel_size", 1)
    count = max(len(kernel), 3 if "3d" in node.name else 2 if "2d" in node.name else 1)
    kernel = integers(node, "kernel_size", count)
    stride = integers(node, "stride", count) or kernel
    padding = integers(node, "padding", count)
    dilation = integers(node, "dilation", count) or [1] * count
    shape = node.outputs[0].shape
    for index in range(count):
        dim = len(shape) - count + index
        geometry = window(
            geometry,
            dim,
            shape[dim],
            kernel=kernel[index],
            stride=stride[index],
            padding=padding[index],
            dilation=dilation[index],
        )
    return geometry


def adaptive_pool(node: Node, find: Lookup) -> Geometry:
    """Pools whose output size is given."""
    geometry = first(node, find)
    shape, before = node.outputs[0].shape, (node.operand("self", "input") or node.outputs[0]).shape
    count = len(integers(node, "output_size", 1))
    for dim in range(len(shape) - count, len(shape)):
        bins, size = shape[dim], before[dim]
        starts = [index * size // bins for index in range(bins)]
        ends = [-(-(index + 1) * size // bins) for index in range(bins)]
        widths = {end - start for start, end in zip(starts, ends, strict=True)}
        strides = {b - a for a, b in itertools.pairwise(starts)} or {1}
        if len(widths) > 1 or len(strides) > 1:
            raise NotFollowedError(f"{node.name} with uneven bins")
        geometry = window(geometry, dim, bins, kernel=widths.pop(), stride=strides.pop())
    return geometry


def reduction(node: Node, find: Lookup) -> Geometry:
    """Sums, means and extrema over dimensions."""
    geometry = first(node, find)
    keep = bool(node.arguments.get("keepdim"))
    return reduce(geometry, named_dims(node, geometry, "dim"), keep)


def line(node: Node, find: Lookup) -> Geometry:
    """Softmax and the like: each element sees its whole line."""
    geometry = first(node, find)
    dims = named_dims(node, geometry, "dim")
    return contract(geometry, dims) if "cum" in node.name else whole(geometry, dims)


def batch_norm(node: Node, find: Lookup) -> Geometry:
    """Elementwise with running statistics; with those of the batch, the whole map."""
    geometry = first(node, find)
    if batch_statistics(node):
        return whole(geometry, [dim for dim in range(len(geometry.dims)) if dim != 1])
    return geometry


def layer_norm(node: Node, find: Lookup) -> Geometry:
    """Each element sees all that it is normalised with."""
    geometry = first(node, find)
    rank = len(geometry.dims)
    count = len(node.arguments.get("normalized_shape") or [])
    start = rank - count if count else 1  # a group norm spares the batch alone
    return whole(geometry, range(start, rank))


def product(node: Node, find: Lookup) -> Geometry:
    """Matrix products: what both operands see along the summed dimension."""
    left = node.operand("mat1", "batch1", "self") if "add" not in node.name else None
    left = left or node.operand("mat1", "batch1", "mat")
    right = node.operand("mat2", "batch2", "vec", "tensor")
    extra = node.operand("self") if "add" in node.name else None
    if left is None or right is None:
        raise NotFollowedError(node.name)
    batch = 1 if "bmm" in node.name else 0
    shape = node.outputs[0].shape
    parts: list[Geometry] = []
    if (geometry := find(left)) is not None:
        rows = reduce(geometry, [len(geometry.dims) - 1], keep=False)
        columns: tuple[Dim, ...] = () if len(right.shape) == 1 else ((),)
        parts.append(replace(rows, dims=rows.dims + columns))
    if (geometry := find(right)) is not None:
        columns_seen = reduce(geometry, [batch], keep=False)
        dims = (*columns_seen.dims[:batch], (), *columns_seen.dims[batch:])
        parts.append(replace(columns_seen, dims=dims[: len(shape)]))
    if extra is not None and (geometry := find(extra)) is not None:
        parts.append(geometry)
    return unify(parts, shape)


def glu(node: Node, find: Lookup) -> Geometry:
    """Gated linear units: two halves of a dimension, joined."""
    geometry = first(node, find)
    dim = int(node.arguments["dim"]) % len(geometry.dims)
    return channels_only(geometry, dim, node)


def channel_shuffle(node: Node, find: Lookup) -> Geometry:
    """Channels change places; positions do not."""
    return channels_only(first(node, find), 1, node)


def channels_only(geometry: Geometry, dim: int, node: Node) -> Geometry:
    """Something happened along one dimension, and it has no places."""
    if any(any(step) for _, step in geometry.dims[dim]):
        raise NotFollowedError(f"{node.name} of positions")
    dims = list(geometry.dims)
    dims[dim] = flat(node.outputs[0].shape[dim])
    return replace(geometry, dims=tuple(dims))


def im2col(node: Node, find: Lookup) -> Geometry:
    """Patches unfolded into columns."""
    geometry = first(node, find)
    kernel, stride, padding, dilation = (
        integers(node, name, 2) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    inside: list[tuple[int, tuple[float, float, float]]] = []
    positions: list[tuple[int, tuple[float, float, float]]] = []
    offset = geometry.offset
    for index in range(2):
        factors = geometry.dims[2 + index]
        if len(factors) > 1:
            raise NotFollowedError(node.name)
        size, step = factors[0] if factors else (1, ZERO)
        span = (kernel[index] - 1) * dilation[index] + 1
        count = (size + 2 * padding[index] - span) // stride[index] + 1
        offset = plus(offset, times(step, -padding[index]))
        inside.append((kernel[index], times(step, dilation[index])))
        positions.append((count, times(step, stride[index])))
    channels = normalise([*geometry.dims[1], *inside])
    dims = (geometry.dims[0], channels, normalise(positions))
    return replace(geometry, dims=dims, offset=offset)


def attention(node: Node, find: Lookup) -> Geometry:
    """Every query sees all values; queries, keys and values come from the same positions."""
    parts = [
        g for name in ("query", "key", "value") if (o := node.operand(name)) and (g := find(o))
    ]
    return contract(unify(parts, node.outputs[0].shape), [2])
