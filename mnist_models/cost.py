"""What runs cost, by the timing of records: seconds an epoch, and a run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnist_models.record import Record

_HOUR = 3_600


@dataclass(frozen=True)
class Cost:
    """What one experiment costs.

    Attributes:
        experiment: which.
        runs: how many records say so.
        epochs: of one run.
        epoch_seconds: median over all epochs of all those records.
        fastest: seconds, of the fastest epoch.
        slowest: likewise.
        devices: what computed.
        stacked: whether these are shares of seeds that trained side by side.
    """

    experiment: str
    runs: int
    epochs: int
    epoch_seconds: float
    fastest: float
    slowest: float
    devices: tuple[str, ...]
    stacked: bool

    @property
    def run_seconds(self) -> float:
        """Of one run, without what the timing leaves out."""
        return self.epochs * self.epoch_seconds


def costs(records: Iterable[Record]) -> dict[str, Cost]:
    """The cost of each experiment that has a record, in order of their first.

    Of seeds that trained alone, where there are any: a share of a stack is something else.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.experiment, []).append(record)
    return {name: _cost(name, group) for name, group in groups.items()}


def _cost(name: str, every: Sequence[Record]) -> Cost:
    group = [record for record in every if not record.stacked] or every
    seconds = [epoch for record in group for epoch in record.timing.epoch_seconds]
    devices = sorted({record.provenance.device for record in group})
    return Cost(
        experiment=name,
        runs=len(group),
        epochs=max(len(record.epochs) for record in group),
        epoch_seconds=statistics.median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
        devices=tuple(devices),
        stacked=group[0].stacked,
    )


def duration(seconds: float) -> str:
    """Seconds for people: ``48 s``, ``12.5 min``, ``3.1 h``, ``5.2 days``."""
    for limit, unit, name in ((120, 1, "s"), (2 * _HOUR, 60, "min"), (48 * _HOUR, _HOUR, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / (24 * _HOUR):,.1f} days"
