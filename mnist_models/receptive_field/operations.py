"""The rule of each operation for the recurrence of `geometry`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mnist_models.receptive_field.arguments import (
    Lookup,
    pointwise,
)
from mnist_models.receptive_field.geometry import (
    ZERO,
    Dim,
    Geometry,
    NotFollowedError,
    flat,
    length,
    normalise,
)
from mnist_models.receptive_field.parts import assembled
from mnist_models.receptive_field.rules import RULES, SEVERAL
from mnist_models.trace import Node, Operand, Taint, Trace


class _Table:
    """The geometry of every tensor of a trace, by its place in memory."""

    def __init__(self, image: Operand, geometry: Geometry) -> None:
        self.places: dict[tuple[object, ...], Geometry] = {image.place: geometry}
        self._parts: dict[int, list[tuple[Operand, Geometry]]] = {}
        self._seen: dict[tuple[object, ...], Operand] = {image.place: image}
        self._blind: set[tuple[object, ...]] = set()

    def find(self, operand: Operand) -> Geometry | None:
        """What is known of an operand; None if it does not depend on the image."""
        if Taint.IMAGE not in operand.taint or operand.place in self._blind:
            return None
        self._seen[operand.place] = operand
        if operand.place not in self.places:
            self.places[operand.place] = self._assembled(operand)
        return self.places[operand.place]

    def blind(self, operand: Operand) -> None:
        """What it holds does not count as depending on the image."""
        self._blind.add(operand.place)

    def made(self, operand: Operand, geometry: Geometry) -> None:
        """Note what an operation gave."""
        self._blind.discard(operand.place)
        self._seen[operand.place] = operand
        self.places[operand.place] = geometry

    def written(self, operand: Operand, geometry: Geometry) -> None:
        """Other views of the memory are put together anew when they are asked for."""
        if self.places.get(operand.place) == geometry:
            return
        if operand.storage not in self._parts:  # else all that is known was made of the parts
            before = [p for p in self.places if p[0] == operand.storage and p != operand.place]
            self._parts[operand.storage] = [(self._seen[p], self.places[p]) for p in before]
        parts = self._parts[operand.storage]
        self._seen[operand.place] = operand
        if operand.tensor.numel() == _elements(operand):
            parts.clear()  # nothing else is left
        parts.append((operand, geometry))
        for place in [place for place in self.places if place[0] == operand.storage]:
            del self.places[place]
        self.places[operand.place] = geometry

    def _assembled(self, operand: Operand) -> Geometry:
        parts = self._parts.get(operand.storage, [])
        try:
            return assembled(parts, operand)
        except (NotFollowedError, ValueError):
            reason = "a tensor was written in parts"
        known = [g for _, g in parts if g.spatial]
        dims = [flat(size) for size in operand.shape]
        if known and len(dims) == 4:  # (B, C, H, W)
            moves = ((1.0, 0.0, 0.0), ZERO, (0, known[0].step(1), 0), (0, 0, known[0].step(2)))
            dims = [normalise([pair]) for pair in zip(operand.shape, moves, strict=True)]
        return Geometry(tuple(dims), ZERO, ZERO, reason)


def _elements(operand: Operand) -> int:
    return operand.tensor.untyped_storage().nbytes() // operand.tensor.element_size()


def follow(trace: Trace, without: Collection[int] = ()) -> dict[int, Geometry]:
    """The geometry of the first output of each operation that depends on the image.

    What the operations `without` compute counts as not depending on it.
    """
    image = trace.image
    if image is None:
        return {}
    steps = ((1.0, 0.0, 0.0), ZERO, (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    dims = tuple(normalise([pair]) for pair in zip(image.shape, steps, strict=True))
    table = _Table(image, Geometry(dims, ZERO, (1, 1, 1)))
    found: dict[int, Geometry] = {}
    for node in trace.nodes:
        if not any(Taint.IMAGE in operand.taint for operand in node.inputs):
            continue
        if without and (node.number in without or not any(map(table.find, node.inputs))):
            for operand in [] if node.writes else node.outputs:
                table.blind(operand)
            continue
        geometries = _outputs(node, table.find)
        for operand, geometry in zip(node.outputs, geometries, strict=True):
            if node.writes:
                table.written(operand, geometry)
            else:
                table.made(operand, geometry)
        if geometries:
            found[node.number] = geometries[0]
    return found


def logits_geometry(trace: Trace, found: dict[int, Geometry]) -> Geometry | None:
    """The geometry of what the forward returned."""
    if trace.logits is None:
        return None
    places = {
        operand.place: found[node.number]
        for node in trace.nodes
        if node.number in found
        for operand in node.outputs[:1]
    }
    return places.get(trace.logits.place)


def _outputs(node: Node, find: Lookup) -> list[Geometry]:
    try:
        if node.name in SEVERAL:
            return SEVERAL[node.name](node, find)
        rule = RULES.get(node.name) or RULES.get(node.name.rstrip("_"))
        if rule is None and node.pointwise:
            rule = pointwise
        if rule is None:
            raise NotFollowedError(node.name)
        geometry = rule(node, find)
        shapes = [operand.shape for operand in node.outputs]
        if tuple(length(dim) for dim in geometry.dims) != shapes[0]:
            raise NotFollowedError(node.name)
        return [geometry] + [
            geometry if shape == shapes[0] else _lost(node, shape, find, node.name)
            for shape in shapes[1:]
        ]
    except (NotFollowedError, ValueError, IndexError, KeyError, TypeError) as cause:
        # Anything but NotFollowedError: a form of the operation that its rule does not fit.
        known = isinstance(cause, NotFollowedError) and str(cause) != node.name
        reason = f"{node.name} ({cause})" if known else node.name
        return [_lost(node, operand.shape, find, reason) for operand in node.outputs]


def _lost(node: Node, shape: Sequence[int], find: Lookup, reason: str) -> Geometry:
    """Not followed; that a map stays a map of the image is kept, as far as shapes tell."""
    known = [g for g in map(find, node.inputs) if g is not None]
    source = next((g for g in known if len(g.dims) == len(shape) and g.spatial), None)
    dims: list[Dim] = [flat(size) for size in shape]
    if source is not None:
        for index in source.spatial:
            step = next(step for _, step in source.dims[index] if any(step))
            dims[index] = normalise([(shape[index], step)])
    where = f" in {node.path}" if node.path else ""
    unknown = next((g.unknown for g in known if g.unknown), f"no rule for {reason}{where}")
    return Geometry(tuple(dims), ZERO, ZERO, unknown)
