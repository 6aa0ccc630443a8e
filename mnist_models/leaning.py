"""Stored counts that lean to one side of the measured ones.

Rounding has no direction: what it moves up in one epoch it moves down in another. A difference
that each epoch may have is no difference that all of them may have.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mnist_models.record import Record

# Images of the scored set by which two honest scorings of an epoch may differ: another processor,
# kernel or thread count rounds differently, which can turn an image that lies on the border.
TOLERANCE = 2


def allowed(epochs: int) -> float:
    """Images that the counts of so many epochs may differ by, the differences added with signs.

    Half of `TOLERANCE` an epoch, up or down by chance, adds up to its root; one epoch may always
    differ by all of it.
    """
    return max(TOLERANCE, TOLERANCE * math.sqrt(epochs) / 2)


@dataclass
class _Sum:
    """Stored less measured, over several epochs."""

    epochs: list[int] = field(default_factory=list)

    def said(self, what: str) -> str:
        """What is wrong with it, or ""."""
        apart, most = sum(self.epochs), allowed(len(self.epochs))
        if abs(apart) <= most:
            return ""
        side = "more" if apart > 0 else "fewer"
        return (
            f"{what}: its {len(self.epochs)} counts are {abs(apart)} images {side} than measured, "
            f"added up (up to {most:.3g} is rounding, which has no direction)"
        )


def leaning(apart: Mapping[int, int]) -> Iterator[str]:
    """What is wrong with the epochs of one record.

    Args:
        apart: epoch -> images correct, stored less measured.
    """
    if said := _Sum(list(apart.values())).said("stored epochs"):
        yield said


class Leanings:
    """The differences of the records looked at so far, by experiment.

    The final epochs are summed apart too: they make the means, and others could make up for them.
    """

    def __init__(self) -> None:
        self._all: dict[str, _Sum] = defaultdict(_Sum)
        self._final: dict[str, _Sum] = defaultdict(_Sum)

    def add(self, record: Record, apart: Mapping[int, int]) -> None:
        """Take in what was measured of one record; `apart` as for `leaning`."""
        self._all[record.experiment].epochs += apart.values()
        if record.final.epoch in apart:
            self._final[record.experiment].epochs.append(apart[record.final.epoch])

    def problems(self, experiment: str) -> Iterator[str]:
        """What is wrong with all records of an experiment together."""
        for found, which in ((self._all, "stored epochs"), (self._final, "final epochs")):
            if said := found[experiment].said(f"all records of {experiment}, {which}"):
                yield said
