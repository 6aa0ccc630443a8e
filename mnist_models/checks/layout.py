"""A network answers alike however its weights lie in memory; records are scored channels-last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from mnist_models.module_state import parameters
from mnist_models.probe import answer, digits

_SAME = 0.01  # of the spread of the logits; rounding changes some 1e-6 of it


def told_by_layout(module: nn.Module) -> str | None:
    """Why the answers differ where kernels are channels-last, if they do.

    Raises:
        Exception: whatever the module's forward raises.
    """
    image = digits(4, seed=50)
    plain = answer(module, image)
    if not torch.equal(plain, answer(module, image, seed=1)):
        return None  # chance has a part in them, and masks are drawn as the maps lie
    try:
        with _channels_last(module):
            other = answer(module, image)
    except Exception:  # it asks for one layout, and says so when it is scored
        return None
    apart = (other.double() - plain.double()).abs().max()
    if plain.shape == other.shape and apart > _SAME * plain.double().std():
        return "the answers depend on how the weights lie in memory (contiguous or channels-last)"
    return None


@contextlib.contextmanager
def _channels_last(module: nn.Module) -> Iterator[None]:
    saved = [(t, t.data) for t in parameters(module).values() if t.dim() == 4]
    try:
        for tensor, data in saved:
            tensor.data = data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for tensor, data in saved:
            tensor.data = data
