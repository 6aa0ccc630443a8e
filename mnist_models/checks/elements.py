"""Counting stored numbers once, however many tensors show them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from mnist_models.trace import address

_WIDE = {torch.int64, torch.uint64, torch.complex64, torch.complex128, torch.complex32}


class Elements:
    """A set of elements of memory: one mask of bytes for each storage."""

    def __init__(self) -> None:
        self._masks: dict[object, Tensor] = {}
        self._sizes: dict[object, tuple[int, int]] = {}
        self._keep: list[Tensor] = []

    def add(self, tensor: Tensor) -> None:
        """Add what this tensor shows of its storage; shared and tied elements count once."""
        self._keep.append(tensor)  # its address must not be used again
        key = address(tensor)
        width = 2 if tensor.dtype in _WIDE else 1  # two numbers fit into one of these
        if tensor.layout != torch.strided or isinstance(key, tuple):
            self._masks[key] = torch.ones(_held(tensor), dtype=torch.bool)
            self._sizes.setdefault(key, (1, width))
            return
        size, storage = tensor.element_size(), tensor.untyped_storage().nbytes()
        # Read as a narrower type, each element holds several numbers.
        self._sizes[key] = min(self._sizes.get(key, (size, width)), (size, width))
        if key not in self._masks or self._masks[key].numel() < storage:
            grown = torch.zeros(storage, dtype=torch.bool)
            if key in self._masks:
                grown[: self._masks[key].numel()] = self._masks[key]
            self._masks[key] = grown
        whole = self._masks[key][: storage // size * size].view(-1, size)
        strides = [step * size for step in tensor.stride()]
        start = tensor.storage_offset() * size
        whole.as_strided((*tensor.shape, size), (*strides, 1), start).fill_(True)

    def count(self, key: object = None) -> int:
        """The number of elements, of all storages or of one; wide types count double."""
        keys = list(self._masks) if key is None else [key] if key in self._masks else []
        total = 0
        for each in keys:
            size, width = self._sizes[each]
            total += -(-int(self._masks[each].sum()) // size) * width
        return total

    def overlap(self, key: object, other: Elements) -> int:
        """How many elements of one storage both sets have, as the other counts them."""
        if key not in self._masks or key not in other._masks:
            return 0
        mine, theirs = self._masks[key], other._masks[key]
        common = min(mine.numel(), theirs.numel())
        size, width = other._sizes[key]
        return int((mine[:common] & theirs[:common]).sum()) // size * width

    @property
    def keys(self) -> set[object]:
        """The tensors counted so far."""
        return set(self._masks)


def _held(tensor: Tensor) -> int:
    """How many numbers it stores: a sparse one may hold many for one place, which is their sum."""
    if tensor.layout == torch.sparse_coo:
        return tensor._values().numel()
    if tensor.layout in {torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}:
        return tensor.values().numel()
    return tensor.numel()


def content(tensor: Tensor) -> str:
    """The same for tensors whose memory holds the same, so that what is made anew counts once.

    All of their memory: the view that was read last may show a part that is always the same.
    """
    if tensor.layout == torch.sparse_coo:
        return content(tensor._values())
    if tensor.layout != torch.strided:
        return content(tensor.to_dense())
    try:
        memory = torch.empty(0, dtype=torch.uint8).set_(tensor.detach().untyped_storage())
    except (RuntimeError, NotImplementedError):  # it has none of its own
        memory = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        memory = memory.reshape(-1).view(torch.uint8) if memory.numel() else memory
    return hashlib.sha256(bytes(memory.tolist()) + str(tensor.dtype).encode()).hexdigest()
