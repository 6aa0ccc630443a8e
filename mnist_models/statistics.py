"""Records of several seeds -> mean, spread, intervals, share that held, paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean, by Student's t; None for a single seed."""
        return _mean_interval(self.mean, self.deviation, self.seeds)

    @property
    def share(self) -> tuple[float, float] | None:
        """The 95 % interval of the share of consistent seeds, by Wilson; None without a limit."""
        if self.consistent is None:
            return None
        from scipy.stats import binomtest  # noqa: PLC0415 - takes a second; most commands need none

        found = binomtest(self.consistent, self.seeds).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Comparison:
    """The final epochs of one experiment less those of another, seed by seed, in images.

    Attributes:
        seeds: pairs, of seeds 0 .. n - 1.
        total: images scored.
        mean: of the differences.
        interval: the 95 % interval of that mean; None for a single pair.
        p: probability of a mean this far from zero if there were no difference, by the paired
            t-test; None for a single pair, or where all differences are the same.
    """

    seeds: int
    total: int
    mean: float
    interval: tuple[float, float] | None
    p: float | None


def compare(first: Sequence[Record], second: Sequence[Record]) -> Comparison | None:
    """The difference between two experiments over the seeds that both have; None without one.

    Raises:
        SeedsError: they were trained or scored on different data.
    """
    kinds = {canonical(record.identity["md5"]) for record in (*first, *second)}
    if len(kinds) > 1:
        raise SeedsError("found records of several data sets, expected one: nothing to compare")
    scores = [
        {record.seed: record.final.test_correct for record in side} for side in (first, second)
    ]
    seeds = sorted(scores[0].keys() & scores[1].keys())
    found = paired([scores[0][seed] - scores[1][seed] for seed in seeds])
    if found is None:
        return None
    return Comparison(len(seeds), first[0].final.test_total, found.mean, found.interval, found.p)


class Difference(NamedTuple):
    """The mean of paired differences, its 95 % interval, and the paired t-test's p.

    Interval and p are None for a single pair, p also where all differences are the same.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float | None


def paired(differences: Sequence[float]) -> Difference | None:
    """What paired differences say of their mean; None where there are none."""
    if not differences:
        return None
    mean = statistics.mean(differences)
    deviation = statistics.stdev(differences) if len(differences) > 1 else None
    p = None
    if deviation:
        from scipy.stats import ttest_1samp  # noqa: PLC0415 - as above

        p = float(ttest_1samp(differences, 0).pvalue)
    return Difference(mean, _mean_interval(mean, deviation, len(differences)), p)


def _mean_interval(mean: float, deviation: float | None, count: int) -> tuple[float, float] | None:
    if deviation is None:
        return None
    from scipy.special import stdtrit  # noqa: PLC0415 - as above

    half = float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)
    return mean - half, mean + half


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


class Best(NamedTuple):
    """What choosing an epoch on the scored images is worth, in images.

    Attributes:
        runs: how many.
        mean: of each run's best epoch.
        gain: the mean of that less the run's final epoch.
        highest: the best epoch of all.
        total: images scored.
    """

    runs: int
    mean: float
    gain: float
    highest: int
    total: int


def best(records: Sequence[Record]) -> Best | None:
    """What the best epochs of these runs have, which no number here is; None without runs."""
    if not records:
        return None
    tops = [max(epoch.test_correct for epoch in record.epochs) for record in records]
    finals = [record.final.test_correct for record in records]
    gain = statistics.mean([top - final for top, final in zip(tops, finals, strict=True)])
    return Best(len(records), statistics.mean(tops), gain, max(tops), records[0].final.test_total)


def _consistent(records: Sequence[Record], assignment: Assignment) -> int | None:
    if assignment.accuracy is None or assignment.consistent_epochs is None:
        return None
    return sum(is_consistent(record, assignment) for record in records)
