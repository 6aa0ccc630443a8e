"""A tensor that was written in parts: what its elements see, put together from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mnist_models.receptive_field.geometry import (
    Geometry,
    NotFollowedError,
    flat,
    unify,
    window,
)
from mnist_models.trace import Operand


@dataclass(frozen=True)
class _Part:
    """The geometry of the whole tensor, as far as one part tells.

    Attributes:
        start, end: per dimension, the positions that were written.
        along: the dimensions along which the part moves over the image.
    """

    geometry: Geometry
    start: tuple[int, ...]
    end: tuple[int, ...]
    along: tuple[int, ...]

    def count(self, dim: int) -> int:
        return self.end[dim] - self.start[dim]


def assembled(parts: Sequence[tuple[Operand, Geometry]], tensor: Operand) -> Geometry:
    """The geometry of a tensor whose memory was written in parts.

    Elements in the same place, such as those of several channels, see what any of them sees.
    A border, such as the columns that circular padding brings from the other side, is left out,
    as with all padding: the field is that of an inner position.

    Raises:
        NotFollowedError: the parts are no slices of the tensor, or move at different speeds.
    """
    placed = [_placed(part, geometry, tensor) for part, geometry in parts]
    inside = [p for p in placed if all(map(_meets, p.start, p.end, tensor.shape))]
    main = max(inside, key=lambda p: math.prod(map(p.count, p.along)), default=None)
    kept = [p.geometry for p in inside if p is main or main is None or not _borders(p, main)]
    return unify(kept, tensor.shape)


def _meets(start: int, end: int, size: int) -> bool:
    return start < size and end > 0


def _borders(part: _Part, main: _Part) -> bool:
    """It lies beside the main part, where that moves, and is narrower."""
    return not part.geometry.unknown and any(
        (part.end[dim] <= main.start[dim] or part.start[dim] >= main.end[dim])
        and part.count(dim) < main.count(dim)
        for dim in main.along
    )


def _placed(part: Operand, geometry: Geometry, tensor: Operand) -> _Part:
    """The geometry of a tensor of which `part`, a view with the same strides, was written."""
    if len(part.shape) != len(tensor.shape) or part.stride != tensor.stride:
        raise NotFollowedError("parts")
    start = tuple(a - b for a, b in zip(_indices(part), _indices(tensor), strict=True))
    end = tuple(first + size for first, size in zip(start, part.shape, strict=True))
    along = tuple(geometry.spatial)
    for dim, size in enumerate(tensor.shape):
        if not any(any(step) for _, step in geometry.dims[dim]):
            dims = (*geometry.dims[:dim], flat(size), *geometry.dims[dim + 1 :])
            geometry = replace(geometry, dims=dims)
        else:
            geometry = window(geometry, dim, size, padding=start[dim])
    return _Part(geometry, start, end, along)


def _indices(operand: Operand) -> tuple[int, ...]:
    """Where in its memory a view begins, as an index per dimension."""
    found, rest = [0] * len(operand.shape), operand.offset
    for dim in sorted(range(len(operand.shape)), key=lambda dim: -operand.stride[dim]):
        if operand.stride[dim]:
            found[dim], rest = divmod(rest, operand.stride[dim])
    if rest:
        raise NotFollowedError("parts")
    return tuple(found)
