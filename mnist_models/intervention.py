"""Forward passes in which the output of some operations is replaced, or drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Replace = Callable[[Tensor], Tensor]

# The same elements at the same place. Autograd adds some of its own, which must not count, so
# that operations have the same numbers with and without gradients.
SAME = {"aten::detach", "aten::alias"}


@dataclass(frozen=True)
class Changes:
    """What is changed of a forward pass, by the numbers of its operations.

    Attributes:
        replace: what to put in place of an operation's first output, where that is floating.
        redraw: random operations that draw something else than they would.
    """

    replace: Mapping[int, Replace] = field(default_factory=dict)
    redraw: Collection[int] = ()

    def call(self, number: int, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What operation `number` gives."""
        result = func(*args, **kwargs)
        if number in self.redraw:
            result = _drawn_again(func, args, kwargs)
        if number in self.replace:
            first = next((item for item in flat(result) if isinstance(item, Tensor)), None)
            if first is not None and first.is_floating_point():
                with torch.no_grad():
                    first.copy_(self.replace[number](first.detach().clone()))
        return result


class Intervention(TorchDispatchMode):
    """Changes a forward pass and records nothing: several times as fast as a `Tracer`.

    It numbers the operations as that does.
    """

    def __init__(self, changes: Changes) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self._changes, self._next = changes, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (parts := in_parts(self, func, args, kwargs or {})) is not NotImplemented:
            return parts
        if func._schema.name in SAME:
            return func(*args, **(kwargs or {}))
        self._next += 1
        return self._changes.call(self._next - 1, func, args, kwargs or {})


class Unchanged(TorchFunctionMode):
    """Under a function mode torch takes the way of one operation at a time, as when recorded."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def in_parts(mode: TorchDispatchMode, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives that inference mode leaves whole, such as `linear`.

    The mode sees its parts, as it does anywhere else. NotImplemented where it has none.
    """
    if not torch.is_inference_mode_enabled():
        return NotImplemented
    with mode:
        return func.decompose(*args, **kwargs)


def flat(value: Any) -> Iterator[Any]:
    """The items of lists within lists."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from flat(item)
    else:
        yield value


def _drawn_again(func: Any, args: Any, kwargs: Any) -> Any:
    """What it gives with other random numbers; those after it are drawn as if this were not."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(6)
    try:
        return func(*args, **kwargs)
    finally:
        torch.default_generator.set_state(state)
