"""Memory that was asked for and has not been written yet: its content is nobody's."""

from __future__ import annotations

import torch
from torch import Tensor

from mnist_models.trace import Node, Operand, Taint


class Unwritten:
    """Which elements no operation has written so far, as the nodes of a trace go by.

    `torch.empty` gives any content, so that it differs from forward to forward. Views of it and
    copies of it (circular padding copies corners before it writes them) are harmless; what
    computes with it reads what was written by a way outside torch's operations, or chance.
    """

    def __init__(self) -> None:
        self._written: dict[int, tuple[torch.dtype, Tensor]] = {}  # storage -> flag per element

    def read(self, node: Node, operand: Operand) -> Tensor | bool:
        """The elements of an input that must be the same, whatever the image is.

        To be asked before `run`.
        """
        moved = node.view or node.name == "copy_" or _placed(node, operand)
        return self.shown(operand) if moved else self.used(operand)

    def shown(self, operand: Operand) -> Tensor | bool:
        """As `read`, of what is looked at, such as an output, after `run`."""
        flags, alike = self._view(operand), Taint.IMAGE not in operand.taint
        return alike if flags is None else flags & alike

    def used(self, operand: Operand) -> Tensor | bool:
        """As `read`, of what is computed with, or returned."""
        flags, alike = self._view(operand), Taint.IMAGE not in operand.taint
        return alike if flags is None else ~flags | alike

    def run(self, node: Node) -> None:
        """Note what the operation wrote."""
        if "empty" in node.name:
            for operand in node.outputs:
                if operand.tensor.layout != torch.strided:
                    continue
                count = operand.tensor.untyped_storage().nbytes() // operand.dtype.itemsize
                self._written[operand.storage] = operand.dtype, torch.zeros(count, dtype=torch.bool)
        for operand in node.writes:
            flags = self._view(operand)
            source = node.operand("src") if node.name == "copy_" else None
            if flags is None:
                self._written.pop(operand.storage, None)
            elif source is not None:
                copied = self._view(source)
                flags.copy_(copied) if copied is not None else flags.fill_(True)
            elif _placed(node, operand):
                flags[_indices(node)] = True
            else:
                flags.fill_(True)

    def _view(self, operand: Operand) -> Tensor | None:
        """The flags of an operand's elements; None where all were written, or nothing is known."""
        dtype, flags = self._written.get(operand.storage, (None, None))
        if flags is None or dtype != operand.dtype:
            return None
        last = sum((n - 1) * step for n, step in zip(operand.shape, operand.stride, strict=True))
        if 0 not in operand.shape and operand.offset + last >= len(flags):
            return None  # it was resized
        return flags.as_strided(operand.shape, operand.stride, operand.offset)


def _placed(node: Node, operand: Operand) -> bool:
    """Some elements of this operand are overwritten by index, and none is read."""
    target = node.name in {"index_put_", "_index_put_impl_"} and operand is node.operand("self")
    return target and not node.arguments.get("accumulate")


def _indices(node: Node) -> tuple[Tensor | slice | None, ...]:
    return tuple(
        index.value if isinstance(index, Operand) else slice(None)
        for index in node.arguments["indices"]
    )
