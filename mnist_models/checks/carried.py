"""Running statistics that a switch to evaluation puts others in place of, made from themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnist_models.mode import set_mode
from mnist_models.module_state import buffers
from mnist_models.probe import preserved

STATISTICS = ("running_mean", "running_var")
_MOVED = 1.0  # of a statistic; what is made from it by averaging moves by as much


def carried(module: nn.Module) -> frozenset[str]:
    """Paths of such buffers, as of BatchNorm over parts of a batch, which averages over the parts.

    Each element that replaces them must move as they do: what does not is no statistic.
    """
    with preserved(module):
        first = _replaced(module, 0.0)
        moved = _replaced(module, _MOVED) if first else {}
    return frozenset(
        name
        for name, value in first.items()
        if name in moved and bool(((moved[name] - value) > _MOVED / 2).all())
    )


def _replaced(module: nn.Module, by: float) -> dict[str, Tensor]:
    """The statistics that stand there in evaluation in place of those of training, plus `by`."""
    set_mode(module, training=True)
    before = _statistics(module)
    with torch.no_grad():
        for value in before.values():
            value.add_(by)
    set_mode(module, training=False)
    after = _statistics(module)
    return {name: after[name].clone() for name in after if after[name] is not before.get(name)}


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in buffers(module).items() if name.endswith(STATISTICS)}
