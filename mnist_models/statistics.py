"""Records of several seeds of one experiment -> mean, spread, minimum, share that held."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_models.assignment import Assignment
from mnist_models.checks.record import is_consistent
from mnist_models.record import Record, canonical


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
        SeedsError: the seeds are not 0, 1, 2, ... or the records are of several experiments,
            recipes, networks or data sets.
    """
    seeds = sorted(record.seed for record in records)
    kinds = {canonical(record.identity | {"seed": None}) for record in records}
    if len(kinds) != 1 or seeds != list(range(len(seeds))):
        names = sorted({record.experiment for record in records})
        raise SeedsError(
            f"{', '.join(names)}: found seeds {seeds} of {len(kinds)} kinds of run, expected "
            "0, 1, 2, ... of one experiment, recipe, network and data set"
        )
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
    if assignment.accuracy is None or assignment.consistent_epochs is None:
        return None
    return sum(is_consistent(record, assignment) for record in records)
