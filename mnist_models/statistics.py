"""Records of several seeds of one experiment -> mean, spread, minimum, share that held."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_models.assignment import Assignment
from mnist_models.record import Record


class SeedsError(ValueError):
    """Records that are no fair sample: seeds missing, repeated or of several experiments."""


@dataclass(frozen=True)
class Aggregate:
    """The final epochs of seeds 0 .. n - 1, in images correct.

    Attributes:
        seeds: how many.
        total: images scored.
        mean: of the images correct.
        deviation: sample standard deviation of the same; None for a single seed.
        minimum: of the same.
        consistent: seeds that kept the accuracy limit in each of the last epochs; None where
            the assignment has no such limit.
    """

    seeds: int
    total: int
    mean: float
    deviation: float | None
    minimum: int
    consistent: int | None


def aggregate(records: Sequence[Record], assignment: Assignment) -> Aggregate:
    """Summarise all seeds of one experiment; the final epoch counts, not the best.

    Raises:
        SeedsError: the seeds are not 0, 1, 2, ... or the records are of several experiments.
    """
    seeds = sorted(record.seed for record in records)
    if len({record.experiment for record in records}) != 1 or seeds != list(range(len(seeds))):
        names = sorted({record.experiment for record in records})
        raise SeedsError(f"{names}: found seeds {seeds}, expected 0, 1, 2, ... of one experiment")
    correct = [record.final.test_correct for record in records]
    return Aggregate(
        seeds=len(seeds),
        total=records[0].final.test_total,
        mean=statistics.mean(correct),
        deviation=statistics.stdev(correct) if len(correct) > 1 else None,
        minimum=min(correct),
        consistent=_consistent(records, assignment),
    )


def _consistent(records: Sequence[Record], assignment: Assignment) -> int | None:
    limit, count = assignment.accuracy, assignment.consistent_epochs
    if limit is None or count is None:
        return None
    return sum(
        len(record.epochs) >= count
        and all(limit.holds(epoch.test_correct) for epoch in record.epochs[-count:])
        for record in records
    )
