"""Maps that are one only in shape: what they hold comes from a number that all positions share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnist_models.intervention import Replace
from mnist_models.probe import run
from mnist_models.receptive_field.geometry import Geometry
from mnist_models.trace import Node, Operand, Taint, Trace


@dataclass(frozen=True)
class Shared:
    """Numbers of operations: what all positions share, and the maps that it was joined to."""

    numbers: frozenset[int]
    maps: frozenset[int]


def find_shared(trace: Trace, geometry: dict[int, Geometry], maps: Collection[int]) -> Shared:
    """The operations whose output, the same at all positions, was joined to a map.

    Such as the gate of a squeeze-and-excite, or a fully connected layer added to a map.

    Args:
        maps: only what leads to these operations is looked at.
    """
    made: dict[tuple[object, ...], Node] = {}
    above = trace.ancestors(frozenset(maps))
    found: set[int] = set()
    joined: set[int] = set()
    for node in trace.nodes:
        if node.number in above and _joins(node) and _spatial(geometry, node.number):
            sources = {source.number for each in node.inputs if (source := _computed(each, made))}
            alike = {number for number in sources if not _spatial(geometry, number)}
            found |= alike
            joined |= sources - alike if alike else set()
        source = _viewed(node, made) if node.view else node
        for operand in node.outputs:
            if source is not None:
                made[operand.place] = source
    return Shared(frozenset(found), frozenset(joined))


def in_any_order(
    module: nn.Module, image: Tensor, trace: Trace, geometry: dict[int, Geometry], shared: Shared
) -> bool:
    """What is shared stays the same when positions of a map that it comes from change places.

    So do means, maxima and attention; the weights of a fully connected layer belong to places.

    Args:
        trace: of this image in evaluation mode.
    """
    left = set(shared.numbers)
    for number in shared.maps & set(geometry):
        replace = {number: _mixing(geometry[number].spatial)}
        mixed = run(module, image, replace=replace, values=shared.numbers)
        left -= {
            each
            for each in left
            if number in trace.ancestors(frozenset({each})) and _same(trace, mixed, each)
        }
    return not left


def _mixing(dims: list[int]) -> Replace:
    def replace(tensor: Tensor) -> Tensor:
        moved = tensor.movedim(dims, list(range(-len(dims), 0)))
        flat = moved.flatten(-len(dims))
        order = torch.randperm(flat.shape[-1], generator=torch.Generator().manual_seed(9))
        return flat[..., order].reshape(moved.shape).movedim(list(range(-len(dims), 0)), dims)

    return replace


def _same(here: Trace, there: Trace, number: int) -> bool:
    if number >= len(there.nodes):
        return False
    a, b = here.nodes[number].outputs[0].value, there.nodes[number].outputs[0].value
    if a is None or b is None or a.shape != b.shape:
        return False
    return bool((a - b).abs().max() <= 1e-3 * a.std())


def _joins(node: Node) -> bool:
    return node.pointwise or node.name in {"cat", "stack"}


def _spatial(geometry: dict[int, Geometry], number: int) -> bool:
    return number not in geometry or bool(geometry[number].spatial)


def _computed(operand: Operand, made: dict[tuple[object, ...], Node]) -> Node | None:
    """The operation behind any views; None if it does not depend on the image."""
    return made.get(operand.place) if Taint.IMAGE in operand.taint else None


def _viewed(node: Node, made: dict[tuple[object, ...], Node]) -> Node | None:
    """What computed the values that a view shows. A view may lead back to where it began."""
    return next(filter(None, (_computed(each, made) for each in node.inputs)), None)
