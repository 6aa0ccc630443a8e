"""The tensors of a stranger's module, wherever it keeps them, and how they all come back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_Tables = dict[tuple[nn.Module, str], dict[str, Any]]
_PLAIN = "__dict__"  # the kind of those that are not registered


def walk(module: nn.Module) -> dict[str, nn.Module]:
    """Every registered submodule once, by path; ``modules()`` may be overridden, this not."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    queue = [("", module)]
    while queue:
        path, current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        found[path] = current
        children = current.__dict__.get("_modules", {})
        if isinstance(current, torch.jit.ScriptModule):
            children = dict(current.named_children())
        queue += [
            (f"{path}.{name}" if path else name, child)
            for name, child in children.items()
            if child is not None
        ]
    return found


def parameters(module: nn.Module) -> dict[str, Tensor]:
    """Every registered parameter that has a value, by path, trainable or not."""
    return _registered(module, "_parameters")


def buffers(module: nn.Module) -> dict[str, Tensor]:
    """Every registered buffer that has a value, by path."""
    return _registered(module, "_buffers")


def _registered(module: nn.Module, kind: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path, part in walk(module).items():
        table = part.__dict__.get(kind, {})
        if isinstance(part, torch.jit.ScriptModule):  # keeps them on the C++ side
            pairs = part.named_parameters if kind == "_parameters" else part.named_buffers
            table = dict(pairs(recurse=False))
        for name, tensor in table.items():
            if isinstance(tensor, Tensor) and not is_lazy(tensor):
                found[f"{path}.{name}" if path else name] = tensor
    return found


class State:
    """All tensors of a module as they are now: which they are, and what they hold."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._saved = [(tensor, tensor.detach().clone()) for tensor in _tensors(module)]
        self._tables = _tables(module)

    def extend(self) -> None:
        """What came into being since is part of it too, as it is now."""
        known = {id(tensor) for tensor, _ in self._saved}
        new = [tensor for tensor in _tensors(self._module) if id(tensor) not in known]
        self._saved += [(tensor, tensor.detach().clone()) for tensor in new]
        for key, table in _tables(self._module).items():
            before = {n: t for n, t in self._tables.get(key, {}).items() if t is not None}
            self._tables[key] = table | before

    def restore(self) -> None:
        """Everything is as it was."""
        for (part, kind), table in self._tables.items():
            (part.__dict__ if kind == _PLAIN else part.__dict__[kind]).update(table)
        with torch.no_grad():
            for tensor, value in self._saved:
                # Autograd counts every write; sparse tensors can neither be compared nor written.
                if tensor.layout == torch.strided and not torch.equal(tensor, value):
                    tensor.copy_(value)


def _tensors(module: nn.Module) -> list[Tensor]:
    plain = [t for part in walk(module).values() for t in _plain(part).values()]
    return [*parameters(module).values(), *buffers(module).values(), *plain]


def _tables(module: nn.Module) -> _Tables:
    parts = walk(module).values()
    registered: _Tables = {
        (part, kind): dict(part.__dict__[kind])
        for part in parts
        for kind in ("_parameters", "_buffers")
        if kind in part.__dict__
        and not isinstance(part, torch.jit.ScriptModule)
        and not any(t is not None and is_lazy(t) for t in part.__dict__[kind].values())
    }
    # Such as the mean that a BatchNorm written by hand keeps, a new tensor each time.
    return registered | {(part, _PLAIN): _plain(part) for part in parts}


def _plain(part: nn.Module) -> dict[str, Tensor]:
    """The tensors among its attributes that are not registered."""
    return {
        name: value
        for name, value in part.__dict__.items()
        if isinstance(value, Tensor) and not is_lazy(value)
    }
