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
            before = seen.setdefault((operand.place, operand.writers), value)
            if not torch.equal(torch.nan_to_num(before), torch.nan_to_num(value)):
                return f"what {node.name} handles was written to outside the recorded operations"
    return None
