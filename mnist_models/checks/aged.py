"""A network as it is after many steps: what counts its forwards has counted on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mnist_models.mode import set_mode
from mnist_models.module_state import State, buffers, walk
from mnist_models.probe import digits, preserved, quiet, run

_LARGEST = 1e300  # of what a float can hold; no counter comes near
_STEPS = 10_000  # after which a network counts as trained


@contextlib.contextmanager
def aged(module: nn.Module, batch: int) -> Iterator[None]:
    """Every single number of its own that a step of training changes is as many steps further.

    Such as the batches that a BatchNorm counts; a tensor or a number of Python's, registered or
    not. It all comes back as it was. `batch` is how many images training needs.

    Raises:
        Exception: whatever the module's forward raises.
    """
    state, before = State(module), _numbers(module)
    plain = {key: value for key, value in before.items() if not isinstance(value, Tensor)}
    start = {key: float(value) for key, value in before.items()}
    try:
        with preserved(module):
            set_mode(module, training=True)
            with torch.no_grad(), quiet():
                module(digits(batch, seed=53))
            after = {key: float(value) for key, value in _numbers(module).items()}
        for (part, name), number in start.items():
            further = number + _STEPS * (after.get((part, name), number) - number)
            if further != number and math.isfinite(further):
                _set(part, name, further)
        yield
    finally:
        state.restore()
        for (part, name), value in plain.items():  # itself: a float holds no large whole number
            part.__dict__[name] = value


def runs_otherwise(module: nn.Module, batch: int) -> bool:
    """Whether other operations run in the aged network, in either mode.

    Raises:
        Exception: whatever the module's forward raises.
    """
    new = _operations(module, batch)
    with aged(module, batch):
        return _operations(module, batch) != new


def _operations(module: nn.Module, batch: int) -> list[str]:
    image = digits(batch, seed=53)
    traces = [run(module, image, training=mode, values=False) for mode in (False, True)]
    return [node.name for trace in traces for node in trace.nodes]


def _numbers(module: nn.Module) -> dict[tuple[nn.Module, str], Any]:
    return {
        (part, name): value
        for part in walk(module).values()
        for name, value in _own(part).items()
        if _is_number(value)
    }


def _own(part: nn.Module) -> dict[str, Any]:
    """Its attributes and its buffers."""
    if isinstance(part, torch.jit.ScriptModule):  # keeps them on the C++ side
        return dict(buffers(part))
    return {**part.__dict__, **part.__dict__.get("_buffers", {})}


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        real = not is_lazy(value) and value.layout == torch.strided and not value.is_complex()
        return real and value.numel() == 1 and value.dtype != torch.bool
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < _LARGEST


def _set(part: nn.Module, name: str, number: float) -> None:
    value = _own(part).get(name)
    if isinstance(value, Tensor):
        with torch.no_grad():
            value.fill_(number)
    elif isinstance(value, int | float):
        part.__dict__[name] = type(value)(number)
