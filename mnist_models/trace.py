"""What one forward pass executes: every operation, what it reads, and where that came from.

`tracer` records it.
Dependence is followed per storage: a read depends on all that was written to the storage so
far, so that views and in-place operations need no cases of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any

import torch
from torch import Tensor


class Taint(Flag):
    """Where the content of a storage came from; none of these: generated in the forward."""

    NONE = 0
    IMAGE = auto()
    PARAMETER = auto()
    STORED = auto()  # a tensor that existed before, or was made outside torch
    RANDOM = auto()


# Python adds a combination to the class when it first meets it. All are there from the start:
# what changes while a stranger's network is checked counts as the stranger's doing.
_COMBINATIONS = tuple(map(Taint, range(2 * Taint.RANDOM.value)))


@dataclass
class Storage:
    """One memory block, as the trace met it.

    Attributes:
        stored: it holds what no operation of this forward made.
        writers: numbers of the operations that wrote to it so far.
        tensor: keeps the memory alive, so that its address is not used again.
    """

    taint: Taint
    stored: bool
    tensor: Tensor
    writers: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor as one operation met it; `value` is a copy made at that moment."""

    storage: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    taint: Taint
    stored: bool
    writers: frozenset[int]
    tensor: Tensor
    value: Tensor | None

    @property
    def place(self) -> tuple[object, ...]:
        """Same place, same elements: what identifies a view."""
        return (self.storage, self.offset, self.shape, self.stride, self.dtype)


@dataclass(eq=False)
class Node:
    """One executed operation.

    Attributes:
        name: without namespace and overload, such as ``convolution``.
        path: the innermost module that was running, such as ``block.0``.
        arguments: by the names of the operation's schema; tensors as `Operand`.
        view: the output shares the storage of an input and nothing was written.
        writes: inputs that it writes to.
    """

    number: int
    name: str
    path: str
    arguments: dict[str, Any]
    inputs: list[Operand]
    outputs: list[Operand]
    view: bool
    writes: list[Operand]
    random: bool
    pointwise: bool

    @property
    def parents(self) -> frozenset[int]:
        """The operations whose results this one reads."""
        return frozenset().union(*(operand.writers for operand in self.inputs))

    def operand(self, *names: str) -> Operand | None:
        """The first of these arguments that is a tensor."""
        for name in names:
            value = self.arguments.get(name)
            if isinstance(value, Operand):
                return value
        return None

    def scalars(self) -> Iterator[float]:
        """The numbers among the arguments that are no sizes, dimensions or other options."""
        whole = self.pointwise or self.name.strip("_").startswith(_FILLS)
        features = any(Taint.IMAGE in operand.taint for operand in self.inputs)
        for name, value in self.arguments.items():
            # Where nothing of the image is normalised, a momentum may stand for any number.
            if name in _OPTIONS and (features or name != "momentum"):
                continue
            factor = whole or name in _FACTORS
            for each in value if isinstance(value, list) and "scale" not in name else [value]:
                # Whole numbers in a list are sizes, other than in one of factors.
                number = factor and (each is value or name == "scalars")
                if isinstance(each, float) or (number and type(each) is int):
                    yield each


_OPTIONS = {"momentum", "p", "dim", "dtype", "layout", "device"}
_FACTORS = {"alpha", "beta", "divisor_override", "correction"}
_FILLS = ("full", "new_full", "fill", "scalar_tensor", "arange", "linspace", "logspace", "foreach")

Label = tuple[str, str, int]  # name, module path, how many of the same ran before


class NoLogitsError(TypeError):
    """The forward pass returned something else than one tensor: what, and in which mode."""


def as_logits(output: object, training: bool) -> Tensor:
    """What a forward pass returned in this mode.

    Raises:
        NoLogitsError: it is something else than a tensor of floating-point numbers.
    """
    if isinstance(output, Tensor) and output.is_floating_point():
        return output
    tensor = isinstance(output, Tensor)
    kind = f"{output.dtype} numbers" if tensor else f"a {type(output).__name__}"  # type: ignore[attr-defined] # is one
    raise NoLogitsError(
        f"in {'training' if training else 'evaluation'} mode the forward pass returned "
        f"{kind}; expected one tensor of logits"
    )


@dataclass
class Trace:
    """All operations of one forward, in order.

    Attributes:
        training: the mode that the module was in.
        buffers: paths of the module's buffers by `address`, as the forward found them.
        output: what the module returned.
        opaque: why what an operation computes with cannot be seen, or "".
        escaped: a way out of torch that a value depending on the image took, or "".
    """

    nodes: list[Node] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    image: Operand | None = None
    training: bool = False
    buffers: dict[object, str] = field(default_factory=dict)
    output: Any = None
    logits: Operand | None = None
    opaque: str = ""
    escaped: str = ""

    def answer(self) -> Tensor:
        """The logits, ``(B, 10)`` of an honest network.

        Raises:
            NoLogitsError: the module returned something else than a tensor of such numbers.
        """
        value = None if self.logits is None else self.logits.value
        return as_logits(self.output if value is None else value, self.training)

    def label(self, node: Node) -> Label:
        """Names an operation in a way that holds with and without gradients.

        Autograd copies what an in-place operation is about to overwrite, so numbers do not.
        """
        alike = [n.number for n in self.nodes if (n.name, n.path) == (node.name, node.path)]
        return node.name, node.path, alike.index(node.number)

    def find(self, label: Label) -> Node | None:
        """The operation of that label, or None if this forward did not get to it."""
        alike = [node for node in self.nodes if (node.name, node.path) == label[:2]]
        return alike[label[2]] if label[2] < len(alike) else None

    def ancestors(self, start: frozenset[int]) -> set[int]:
        """Numbers of all operations that these depend on, themselves included."""
        found: set[int] = set()
        queue = list(start)
        while queue:
            number = queue.pop()
            if number not in found:
                found.add(number)
                queue.extend(self.nodes[number].parents)
        return found

    def children(self) -> dict[int, list[int]]:
        """For each operation, the later ones that read what it wrote."""
        table: dict[int, list[int]] = {node.number: [] for node in self.nodes}
        for node in self.nodes:
            for parent in node.parents:
                table[parent].append(node.number)
        return table


def address(tensor: Tensor) -> object:
    """The memory of a tensor; the object itself where it has none (sparse, opaque, empty)."""
    try:
        pointer = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        pointer = 0
    return pointer or ("object", id(tensor))
