"""Which part of the image each element of a tensor sees, followed affinely.

Each dimension of a tensor is a list of factors ``(size, step)``, outermost first: one index
step of that factor moves the region seen by ``step`` samples, rows and columns. All elements
see a region of the same extent; element 0 starts at `offset`. Reshapes regroup factors,
strides multiply steps, kernels widen the extent. Interpolation does not keep to this exactly:
`slack` is how far it may be off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

Vector = tuple[float, float, float]  # samples, rows, columns
Factor = tuple[int, Vector]
Dim = tuple[Factor, ...]
ZERO: Vector = (0, 0, 0)
AXES = (0, 1, 2)
HEIGHT, WIDTH = 1, 2


class NotFollowedError(Exception):
    """The recurrence has no rule for this; the message names the operation."""


@dataclass(frozen=True)
class Geometry:
    """Attributes:
    dims: the factors of each dimension.
    offset: where the region of element 0 starts; samples, rows, columns.
    extent: its size, as kernels make it.
    unknown: why extent and offset are not known, or "".
    everywhere: per axis, that it also sees the whole image by a number that all positions
        share, such as the gate of a squeeze-and-excite or the mean of a GroupNorm. That does
        not count into the extent: it says nothing of where.
    slack: pixels by which extent and offset may be off.
    """

    dims: tuple[Dim, ...]
    offset: Vector
    extent: Vector
    unknown: str = ""
    everywhere: tuple[bool, bool, bool] = (False, False, False)
    slack: float = 0

    def moves(self, axis: int) -> bool:
        """Different elements see different places along this axis."""
        return any(step[axis] for dim in self.dims for _, step in dim)

    def step(self, axis: int) -> float:
        """The smallest nonzero move along this axis in image pixels, or 0: the jump."""
        moves = [abs(step[axis]) for dim in self.dims for _, step in dim if step[axis]]
        return min(moves, default=0)

    @property
    def spatial(self) -> list[int]:
        """The dimensions along which the region moves over the image."""
        return [
            index
            for index, dim in enumerate(self.dims)
            if any(step[HEIGHT] or step[WIDTH] for _, step in dim)
        ]

    @property
    def receptive_field(self) -> float | None:
        """The smaller of height and width, pixels; None if it could not be followed."""
        return None if self.unknown else min(self.extent[HEIGHT], self.extent[WIDTH])


def normalise(dim: Iterable[Factor]) -> Dim:
    """Leave out factors of size 1 and join those that count on."""
    found: list[Factor] = []
    for size, step in dim:
        if size == 1:
            continue
        if found and found[-1][1] == times(step, size):
            found[-1] = (found[-1][0] * size, step)
        else:
            found.append((size, step))
    return tuple(found)


def times(step: Vector, factor: float) -> Vector:
    """The vector, scaled."""
    return (step[0] * factor, step[1] * factor, step[2] * factor)


def plus(a: Vector, b: Vector) -> Vector:
    """The sum of two vectors."""
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def length(dim: Dim) -> int:
    """The number of elements along a dimension."""
    return math.prod(size for size, _ in dim)


def flat(size: int) -> Dim:
    """A dimension along which the region does not move, such as channels."""
    return normalise([(size, ZERO)])


def widen(geometry: Geometry, spans: Iterable[Vector]) -> Geometry:
    """Each element now also sees what lies this far further on."""
    offset, extent = geometry.offset, geometry.extent
    for span in spans:
        offset = plus(offset, (min(span[0], 0), min(span[1], 0), min(span[2], 0)))
        extent = plus(extent, (abs(span[0]), abs(span[1]), abs(span[2])))
    return replace(geometry, offset=offset, extent=extent)


def reduce(geometry: Geometry, dims: Sequence[int], keep: bool) -> Geometry:
    """Every element sees all that the elements along these dimensions saw."""
    spans = [times(step, size - 1) for dim in dims for size, step in geometry.dims[dim]]
    left = [
        () if index in dims else dim
        for index, dim in enumerate(geometry.dims)
        if keep or index not in dims
    ]
    return replace(widen(geometry, spans), dims=tuple(left))


def whole(geometry: Geometry, dims: Sequence[int]) -> Geometry:
    """As `reduce`, but the result keeps its shape: each element sees the whole line."""
    flags = list(geometry.everywhere)
    for dim in dims:
        for _, step in geometry.dims[dim]:
            flags = [flags[a] or bool(step[a]) for a in AXES]
    return replace(geometry, everywhere=(flags[0], flags[1], flags[2]))


def contract(geometry: Geometry, dims: Sequence[int]) -> Geometry:
    """As `whole`, where what each element sees along the line depends on where it lies."""
    spans = [times(step, size - 1) for dim in dims for size, step in geometry.dims[dim]]
    return whole(widen(geometry, spans), dims)


def reshape(geometry: Geometry, shape: Sequence[int]) -> Geometry:
    """Regroup the factors, in row-major order.

    Raises:
        NotFollowedError: a factor would have to be cut unevenly.
    """
    rest = list(normalise(factor for dim in geometry.dims for factor in dim))[::-1]
    dims: list[Dim] = []
    for size in shape:
        dim: list[Factor] = []
        wanted = size
        while wanted > 1:
            if not rest:
                raise NotFollowedError("reshape")
            count, step = rest.pop()
            taken = math.gcd(count, wanted)
            if taken not in (count, wanted):
                raise NotFollowedError("reshape")
            dim.append((taken, times(step, count // taken)))
            if count > taken:
                rest.append((count // taken, step))
            wanted //= taken
        dims.append(normalise(dim))
    return replace(geometry, dims=tuple(dims))


def smooth(geometry: Geometry, dim: int) -> Geometry:
    """Positions that stand still for a while, then jump, as ones that move on evenly.

    Raises:
        NotFollowedError: they move otherwise.
    """
    factors = geometry.dims[dim]
    if len(factors) < 2:
        return geometry
    jumps = [step for _, step in factors if any(step)]
    if len(jumps) != 1 or not any(factors[0][1]):
        raise NotFollowedError("positions that are not evenly spaced")
    count = length(factors)
    step = times(jumps[0], factors[0][0] / count)
    dims = (*geometry.dims[:dim], normalise([(count, step)]), *geometry.dims[dim + 1 :])
    slack = geometry.slack + max(map(abs, jumps[0]))
    return replace(geometry, dims=dims, slack=slack)


def resize(geometry: Geometry, dim: int, count: int, reach: float, start: float = 0) -> Geometry:
    """`count` positions spread over the old ones, each of which sees `reach` more of them.

    Args:
        start: where the region of the first one begins, in old positions.
    """
    geometry = smooth(geometry, dim)
    if not geometry.dims[dim]:
        raise NotFollowedError("interpolation of a single position")
    size, step = geometry.dims[dim][0]
    dims = list(geometry.dims)
    dims[dim] = normalise([(count, times(step, size / count))])
    moved = replace(geometry, dims=tuple(dims), offset=plus(geometry.offset, times(step, start)))
    slack = geometry.slack + max(map(abs, step))
    return replace(widen(moved, [times(step, reach)]), slack=slack)


def unify(geometries: Sequence[Geometry], shape: Sequence[int]) -> Geometry:
    """Elements at the same index, after broadcasting, are combined.

    Raises:
        NotFollowedError: the regions move at different speeds.
    """
    aligned = [replace(g, dims=((),) * (len(shape) - len(g.dims)) + g.dims) for g in geometries]
    dims: list[Dim] = []
    for index, size in enumerate(shape):
        moving = {g.dims[index] for g in aligned if any(any(s) for _, s in g.dims[index])}
        if len(moving) > 1:  # an enlarged map beside a plain one
            aligned = [smooth(g, index) for g in aligned]
            moving = {g.dims[index] for g in aligned if any(any(s) for _, s in g.dims[index])}
        if len(moving) > 1:
            raise NotFollowedError("combination of maps that move at different speeds")
        dims.append(moving.pop() if moving else flat(size))
    result = Geometry(tuple(dims), ZERO, ZERO)
    start, extent, flags = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [False, False, False]
    for axis in AXES:
        # What is seen from everywhere alike joins a moving region to the whole image.
        moving_parts = [g for g in aligned if g.moves(axis)]
        flags[axis] = any(g.everywhere[axis] for g in aligned) or (
            result.moves(axis) and len(moving_parts) < len(aligned)
        )
        parts = _leading(moving_parts, result, axis) if result.moves(axis) else aligned
        start[axis] = min(g.offset[axis] for g in parts)
        extent[axis] = max(g.offset[axis] + g.extent[axis] for g in parts) - start[axis]
    return Geometry(
        result.dims,
        (start[0], start[1], start[2]),
        (extent[0], extent[1], extent[2]),
        next((g.unknown for g in geometries if g.unknown), ""),
        (flags[0], flags[1], flags[2]),
        max(g.slack for g in aligned),
    )


def _leading(parts: Sequence[Geometry], result: Geometry, axis: int) -> Sequence[Geometry]:
    """Leave out what stands still along some dimensions, within what another part sees of them.

    As the weights that an involution makes for each position, which meet the whole patch there.
    """
    moving = [i for i, dim in enumerate(result.dims) if any(step[axis] for _, step in dim)]

    def still(part: Geometry) -> list[int]:
        return [i for i in moving if not any(step[axis] for _, step in part.dims[i])]

    def within(part: Geometry, lead: Geometry) -> bool:
        seen = reduce(lead, still(part), keep=True)
        start, end = seen.offset[axis], seen.offset[axis] + seen.extent[axis]
        return start <= part.offset[axis] and part.offset[axis] + part.extent[axis] <= end

    leads = [part for part in parts if not still(part)]
    return [p for p in parts if not still(p) or not any(within(p, lead) for lead in leads)]


def window(
    geometry: Geometry,
    dim: int,
    count: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Geometry:
    """A kernel slides along one dimension and leaves `count` positions.

    Raises:
        NotFollowedError: the dimension is made of several factors.
    """
    if kernel == stride == 1 and padding == 0 and count == length(geometry.dims[dim]):
        return geometry
    factors = geometry.dims[dim]
    if len(factors) > 1:
        geometry = smooth(geometry, dim)
        factors = geometry.dims[dim]
    step = factors[0][1] if factors else ZERO
    dims = list(geometry.dims)
    dims[dim] = normalise([(count, times(step, stride))])
    moved = replace(geometry, dims=tuple(dims), offset=plus(geometry.offset, times(step, -padding)))
    return widen(moved, [times(step, (kernel - 1) * dilation)])
