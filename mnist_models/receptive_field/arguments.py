"""Reading the arguments of a recorded operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mnist_models.receptive_field.geometry import (
    Geometry,
    NotFollowedError,
    unify,
)
from mnist_models.trace import Node, Operand, Taint

Lookup = Callable[[Operand], Geometry | None]
Rule = Callable[[Node, Lookup], Geometry]


def first(node: Node, find: Lookup, *names: str) -> Geometry:
    """The geometry of the one argument that may depend on the image."""
    operand = node.operand(*(names or ("self", "input")))
    geometry = None if operand is None else find(operand)
    others = [o for o in node.inputs if o is not operand and Taint.IMAGE in o.taint]
    if geometry is None or others:
        raise NotFollowedError(node.name)
    return geometry


def pointwise(node: Node, find: Lookup) -> Geometry:
    """Elementwise operations: what any of the operands sees."""
    known = [g for g in map(find, node.inputs) if g is not None]
    return unify(known, node.outputs[0].shape)


def integers(node: Node, name: str, count: int) -> list[int]:
    """An argument as `count` whole numbers; one stands for all of them."""
    value = node.arguments.get(name)
    values = [value] if isinstance(value, int) else list(value or [])
    return values * count if len(values) == 1 else values


def named_dims(node: Node, geometry: Geometry, *names: str) -> list[int]:
    """The dimensions an argument names; all if it names none."""
    rank = len(geometry.dims)
    value: Any = next((node.arguments[n] for n in names if node.arguments.get(n) is not None), [])
    values = [value] if isinstance(value, int) else list(value)
    return [dim % rank for dim in values] if values and rank else list(range(rank))


def batch_statistics(node: Node) -> bool:
    """A batch normalisation that uses the statistics of its input, not running ones."""
    if "no_training" in node.name or "no_update" in node.name:
        return False
    stored = node.operand("running_mean") is not None
    return bool(node.arguments.get("training", True)) or not stored
