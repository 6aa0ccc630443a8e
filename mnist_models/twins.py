"""What no two runs share: a record that has it from another one is a copy."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from mnist_models.record import Record, RecordError, load_weights

# Distance over length: the weights of two published seeds of one network lie 0.86 apart or more,
# also where they began alike; those of two epochs of one run 1.6e-4, at the end of its schedule.
_NEAR = 0.1
_NEAR_EPOCHS = 1e-5
_MISTAKES = 10  # which images are missed says nothing where a handful are
# Of the images that either of two runs misses; two published runs share 0.65 of them at most.
_COMMON = 0.85
_MANY = 30  # mistakes, of which so large a share is no chance
_STATISTICS = ("running_mean", "running_var")  # of the images, hardly of the run


class Twins:
    """The records looked at so far, to find the one that repeats another."""

    def __init__(self) -> None:
        self._marks: dict[str, tuple[Path, str]] = {}
        self._mistakes: list[tuple[Path, object, frozenset[int]]] = []
        self._weights: dict[int, list[tuple[Path, str, Tensor]]] = defaultdict(list)

    def problems(self, folder: Path, record: Record) -> Iterator[str]:
        """What this record has from one before it, and its epochs from each other."""
        course = [[epoch.train_loss, epoch.test_loss] for epoch in record.epochs]
        yield from self._repeated(folder, "the course of its losses", f"losses {course}")
        if len(record.misclassified) >= _MISTAKES:
            answers = f"{record.data.md5} {record.misclassified} {record.confusion}"
            copied = list(
                self._repeated(folder, "the table of its mistakes", f"mistakes {answers}")
            )
            yield from copied or self._shared(folder, record)
        for weights in record.weights:
            with suppress(RecordError):  # reported already
                tensors = load_weights(folder, weights)
                same = list(self._repeated(folder, weights.file, f"tensors {_digest(tensors)}"))
                yield from same or self._near(folder, weights.file, tensors)

    def _repeated(self, folder: Path, name: str, mark: str) -> Iterator[str]:
        twin, first = self._marks.setdefault(mark, (folder, name))
        if twin != folder:
            yield f"{folder}: {name} is the same as in {twin}"
        elif first != name:
            yield f"{folder}: {name} has the tensors of {first}; an epoch changes them"

    def _shared(self, folder: Path, record: Record) -> Iterator[str]:
        """The mistakes of another run: they stay where its weights are put in another order."""
        mine = frozenset(record.misclassified)
        for twin, data, theirs in self._mistakes:
            common = len(mine & theirs) / len(mine | theirs)
            alike = data == record.data.md5 and min(len(mine), len(theirs)) >= _MANY
            if alike and common > _COMMON:
                yield (
                    f"{folder}: {len(mine & theirs)} of its {len(mine)} mistakes are those of "
                    f"{twin}; two runs share less than {_COMMON:.0%} of all that either makes"
                )
                break
        self._mistakes.append((folder, record.data.md5, mine))

    def _near(self, folder: Path, name: str, tensors: dict[str, Tensor]) -> Iterator[str]:
        """The weights of another run, with little added to hide it."""
        mine = _weights(tensors)
        others = self._weights[mine.numel()]  # layers without weights change the others' names
        for twin, its_name, weights in others:
            apart = float((mine - weights).norm() / weights.norm())
            least = _NEAR_EPOCHS if twin == folder else _NEAR
            if apart < least:
                what = "epochs" if twin == folder else "runs"
                yield (
                    f"{folder}: {name} differs from {its_name} in {twin} by {apart:.1e} of its "
                    f"length; the weights of two {what} differ by {least} or more"
                )
                break
        others.append((folder, name, mine))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point():  # a count of batches is the same in all runs
            values = tensor.reshape(-1).view(torch.uint8)  # NumPy has no bfloat16
            digest.update(name.encode() + values.numpy().tobytes())
    return digest.hexdigest()


def _weights(tensors: dict[str, Tensor]) -> Tensor:
    """All of them, one after the other."""
    kept = [
        tensor.reshape(-1).double()
        for name, tensor in sorted(tensors.items())
        if tensor.is_floating_point() and name.rpartition(".")[2] not in _STATISTICS
    ]
    return torch.cat(kept) if kept else torch.zeros(0)
