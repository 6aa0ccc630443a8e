"""The child process of `isolation`: loads a stranger's network and runs the checks on it.

Everything of this package, of torch and of the standard library that the checks need is
imported before the stranger's folder comes on `sys.path`, so that a `random.py` beside the
stranger's file shadows nothing here. Results leave over a pipe of their own, as JSON lines that
carry a token; what the stranger prints is not read.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from torch import nn
from torchinfo import summary

from mnist_models.assignment import Assignment, Limit
from mnist_models.checks import check_module
from mnist_models.models.registry import EXPERIMENTS
from mnist_models.receptive_field import layer_table, receptive_fields
from mnist_models.stranger import NotLoadedError, folder_of, guard, load

_PACKAGE = __name__.partition(".")[0]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class _Channel:
    """The way out for stages and results; bound early, so that patching json or os is in vain."""

    def __init__(self, descriptor: int, token: str) -> None:
        self._descriptor, self._token, self._process = descriptor, token, os.getpid()
        self._encode, self._write = json.JSONEncoder().encode, os.write
        self._getpid, self._exit = os.getpid, os._exit

    def send(self, **message: Any) -> None:
        if self._getpid() != self._process:
            self._exit(0)  # a copy that the stranger's code forked: one answer is enough
        line = (self._encode({"token": self._token, **message}) + "\n").encode()
        while line:
            line = line[self._write(self._descriptor, line) :]


def main(descriptor: int) -> None:
    """Answer the one request on stdin over the pipe `descriptor`, then end this process."""
    request = json.load(sys.stdin)
    os.set_inheritable(descriptor, False)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _die_with(request["parent"])
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the parent asks where it hangs
    channel = _Channel(descriptor, request["token"])
    leave, before, folder = os._exit, _package_state(), folder_of(request)
    try:
        module = guard(
            lambda: load(request, lambda stage: channel.send(stage=stage)),
            f"loading {request['where']} failed",
            folder,
        )
        _refuse_patches(before)
        if request["assignment"] is None:
            channel.send(stage="summarising")
            answer = guard(lambda: _summarise(module), "the forward pass failed", folder)
        else:
            channel.send(stage="running the checks")
            assignment = _assignment(request["assignment"])
            answer = guard(lambda: _check(module, assignment), "the checks could not end", folder)
        _refuse_patches(before)
    except NotLoadedError as error:
        answer = {"cause": str(error)}
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):  # the stranger's stream: it may raise anything
            stream.flush()
    channel.send(**answer)
    leave(0)  # neither the stranger's threads nor its exit handlers hold the answer up


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent ends without doing so (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent ended before


def _assignment(table: dict[str, Any]) -> Assignment:
    values: dict[str, Any] = {
        key: Limit(**value) if isinstance(value, dict) else value for key, value in table.items()
    }
    return Assignment(**values)


def _check(module: nn.Module, assignment: Assignment) -> dict[str, Any]:
    checks, found = check_module(module, assignment)
    return {
        "checks": [check.to_dict() for check in checks],
        "measurements": {
            "parameters": found.parameters,
            "receptive_field": {
                "before_pooling": found.receptive_field_before_pooling,
                "output": found.receptive_field_output,
            },
        },
    }


def _summarise(module: nn.Module) -> dict[str, Any]:
    rows = [asdict(row) for row in layer_table(module)]
    found = receptive_fields(module)
    layers = summary(module, input_size=(1, 1, 28, 28), device="cpu", verbose=0, mode="eval")
    text = str(layers).replace("Units.MEGABYTES", "M")  # torchinfo prints its enum, not its name
    return {"layers": text, "rows": rows, "receptive_field": asdict(found)}


class _Thing:
    """An object that equals itself alone, and is kept, so that no other one takes its place."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Thing) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _package_state() -> dict[str, object]:
    """What this package consists of, by name: functions, classes, their members, constants.

    Numbers, text and what is made of them are copied, since a list can be changed in place.
    """
    found: dict[str, object] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != _PACKAGE:
            continue
        for key, value in list(vars(module).items()):
            if value is EXPERIMENTS:  # what a file registers of its own replaces nothing
                continue
            members = list(vars(value).items()) if isinstance(value, type) else []
            for label, item in [(key, value), *((f"{key}.{k}", v) for k, v in members)]:
                if callable(item) or not label.endswith("__"):  # Python's own notes on a module
                    found[f"{name}.{label}"] = _copy(item)
    return found


def _copy(value: object) -> Hashable:
    try:
        return _frozen(value)
    except Exception:  # the stranger's: it raises, or has no end
        return _Thing(value)


def _frozen(value: Any) -> Hashable:
    """A copy to compare by; of exact types, since the stranger's own may equal anything."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind in (list, tuple):
        return kind, tuple(map(_frozen, value))
    if kind in (set, frozenset):
        return kind, frozenset(map(_frozen, value))
    if kind is dict:
        return kind, tuple((_frozen(key), _frozen(item)) for key, item in value.items())
    if is_dataclass(kind):
        return kind, tuple(_frozen(getattr(value, each.name)) for each in fields(kind))
    return _Thing(value), _Thing(getattr(value, "__code__", None))


def _refuse_patches(before: dict[str, object]) -> None:
    after = _package_state()
    for name, value in before.items():
        if after.get(name) != value:
            raise NotLoadedError(f"the code replaced {name}, which belongs to the checks")
