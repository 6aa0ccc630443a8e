"""Numbers that change although no recorded operation wrote to them."""

from __future__ import annotations

import torch
from torch import Tensor

from mnist_models.checks.normalisation import is_batch_norm
from mnist_models.trace import Operand, Taint, Trace

_JUDGED = Taint.IMAGE | Taint.PARAMETER | Taint.STORED  # new memory may hold anything


def unseen_write(trace: Trace) -> str | None:
    """What was written to by another thread, by NumPy, or else past torch's dispatcher.

    The same elements after the same recorded writes must be the same numbers: of features, and of
    weights, which are counted by what they were computed from.
    """
    statistics = _statistics(trace)
    seen: dict[object, Tensor] = {}
    if trace.image is not None and trace.image.value is not None:
        seen[_key(trace.image)] = trace.image.value
    for node in trace.nodes:
        for operand in (*node.inputs, *node.outputs):
            value = operand.value
            if value is None or not operand.taint & _JUDGED or operand.storage in statistics:
                continue
            if value.layout != torch.strided:
                continue
            before = seen.setdefault(_key(operand), value)
            if before is not value and not torch.equal(_bits(before), _bits(value)):
                return f"what {node.name} handles was written to outside the recorded operations"
    return None


def _key(operand: Operand) -> object:
    lazy = (operand.tensor.is_conj(), operand.tensor.is_neg())  # views of other numbers
    return operand.place, lazy, operand.writers


def _statistics(trace: Trace) -> set[int]:
    """The storages that BatchNorm updates, which its schema does not tell."""
    return {
        operand.storage
        for node in trace.nodes
        if is_batch_norm(node)
        for operand in (node.operand("running_mean"), node.operand("running_var"))
        if operand is not None
    }


def _bits(value: Tensor) -> Tensor:
    """As they are stored: so a NaN equals itself, and no dtype is left out."""
    return value.resolve_conj().resolve_neg().reshape(-1).view(torch.uint8)
