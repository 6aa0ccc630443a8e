"""Features that are all zero in training, so that nothing before reaches the logits."""

from __future__ import annotations

from torch import Tensor

from mnist_models.checks.blocks import name
from mnist_models.checks.forwards import Forwards
from mnist_models.probe import UnmeasurableError, relative_change
from mnist_models.receptive_field.global_pooling import CHANGES
from mnist_models.trace import Node, Operand, Taint

SILENCED = (
    "give Dropout a p below 1; F.dropout(x, self.training) has True for p, "
    "F.dropout(x, 0.1, training=self.training) does not"
)


def silenced(forwards: Forwards) -> str:
    """What leaves nothing of the features in training, in words; "" where the image gets through.

    Dropout with p = 1 does: every check would find fault with a layer before it, or behind.
    """
    if _gets_through(forwards):
        return ""
    gone = next((node for node in forwards.trace(True).nodes if _zeroes(node)), None)
    return "" if gone is None else f"in training {name(gone)} makes all features zero"


def _gets_through(forwards: Forwards) -> bool:
    here, there = forwards.logits(True), forwards.logits(True, image=1)
    try:
        return relative_change(here, there) >= CHANGES
    except UnmeasurableError:  # all the same
        return False


def _zeroes(node: Node) -> bool:
    return any(map(_something, node.inputs)) and bool(node.outputs) and _nothing(node.outputs[0])


def _something(operand: Operand) -> bool:
    value = _features(operand)
    return value is not None and bool(value.any())


def _nothing(operand: Operand) -> bool:
    value = _features(operand)
    return value is not None and not bool(value.any())


def _features(operand: Operand) -> Tensor | None:
    """What they hold; None of masks, or of quantised ones, of which torch cannot ask it."""
    value = operand.value
    floating = value is not None and value.is_floating_point()
    return value if floating and Taint.IMAGE in operand.taint else None
