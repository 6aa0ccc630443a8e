"""Features that change although no recorded operation wrote to them."""

from __future__ import annotations

import torch
from torch import Tensor

from mnist_models.trace import Taint, Trace


def unseen_write(trace: Trace) -> str | None:
    """What was written to by another thread, or past torch's dispatcher, if anything was.

    The same elements after the same recorded writes must be the same numbers.
    """
    seen: dict[object, Tensor] = {}
    for node in trace.nodes:
        for operand in (*node.inputs, *node.outputs):
            value = operand.value
            if value is None or operand.stored or Taint.IMAGE not in operand.taint:
                continue
            if value.layout != torch.strided:
                continue
            lazy = (operand.tensor.is_conj(), operand.tensor.is_neg())  # views of other numbers
            before = seen.setdefault((operand.place, lazy, operand.writers), value)
            if before is not value and not torch.equal(_bits(before), _bits(value)):
                return f"what {node.name} handles was written to outside the recorded operations"
    return None


def _bits(value: Tensor) -> Tensor:
    """As they are stored: so a NaN equals itself, and no dtype is left out."""
    return value.resolve_conj().resolve_neg().reshape(-1).view(torch.uint8)
