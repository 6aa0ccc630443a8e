"""What `bench` measured, as data: written by it, and read again by `timings_file`.

Whoever reads it needs neither data set nor training. A median is stored for people; one that is
not that of its rounds, or a verdict that does not follow from its limit, was typed by hand.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from mnist_models.record import Provenance
from mnist_models.schema import SchemaError

FILE = Path("docs") / "performance.json"  # below the root of the repository
EPOCHS = 15  # of the training whose end is computed
NO_LIMIT = "-"
_SIGNS = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Spread:
    """One quantity: one number a round, above 0."""

    median: float
    rounds: list[float]

    def __post_init__(self) -> None:
        if not self.rounds or min(self.rounds) <= 0:
            raise SchemaError(f"rounds: found {self.rounds}, expected numbers above 0")
        if self.median != statistics.median(self.rounds):
            raise SchemaError(f"median: found {self.median}, expected that of {self.rounds}")

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Spread:
        """That of these rounds."""
        return cls(statistics.median(rounds), list(rounds))

    @property
    def lowest(self) -> float:
        """Of the rounds."""
        return min(self.rounds)

    @property
    def highest(self) -> float:
        """Of the rounds."""
        return max(self.rounds)


@dataclass(frozen=True)
class Ratio(Spread):
    """How many times as long one contender takes as another, one number a round.

    Attributes:
        limit: of the median, such as ``>= 3``, or `NO_LIMIT`.
        passed: whether it is kept; None without a limit.
    """

    limit: str
    passed: bool | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passed is not _kept(self.median, self.limit):
            raise SchemaError(f"passed: found {self.passed}, which {self.median} does not give")

    @classmethod
    def of(cls, rounds: Sequence[float], limit: str = NO_LIMIT) -> Ratio:
        """That of these rounds, held against its limit."""
        median = statistics.median(rounds)
        return cls(median, list(rounds), limit, _kept(median, limit))


def _kept(median: float, limit: str) -> bool | None:
    if limit == NO_LIMIT:
        return None
    sign, _, value = limit.partition(" ")
    try:
        return bool(_SIGNS[sign](median, float(value)))
    except (KeyError, ValueError):
        raise SchemaError(f"limit: found {limit!r}, expected such as '>= 3'") from None


@dataclass(frozen=True)
class Full:
    """Trainings that really ran, epoch by epoch in turn.

    Attributes:
        epochs: of each.
        seconds: contender -> wall time to the end, start-up and scoring included.
        correct: contender -> images answered correctly at the end.
        total: images scored.
        ratios: as those of a `Bench`, of one number each.
    """

    epochs: int
    seconds: dict[str, float]
    correct: dict[str, int]
    total: int
    ratios: dict[str, float]


@dataclass(frozen=True)
class Bench:
    """What `bench` measured. Contenders are named ``experiment: what trains it``.

    Attributes:
        kind: ``contenders``.
        includes: what the timer of an epoch includes.
        formula: how `to_the_end` was computed.
        notes: what else a reader must know, a sentence each.
        rounds: turns of each contender.
        steps_per_round: of 64 images; a contender with larger batches made fewer.
        steps_per_epoch: experiment -> training steps.
        seconds_per_epoch: of training alone; floors included.
        start_up: seconds to build everything and end the first step.
        scoring: seconds to score the images held out, once.
        to_the_end: seconds of a training of `EPOCHS`.
        ratios: of the seconds per epoch.
        to_the_end_ratios: of the seconds to the end.
        flops_per_step: experiment -> floating-point operations of one training step.
        matrix_rate: operations per second in a large float32 product of matrices.
        full: trainings that really ran, where they were asked for.
        provenance: of code, versions and device.
    """

    kind: str
    includes: str
    formula: str
    notes: list[str]
    rounds: int
    steps_per_round: int
    steps_per_epoch: dict[str, int]
    seconds_per_epoch: dict[str, Spread]
    start_up: dict[str, Spread]
    scoring: dict[str, Spread]
    to_the_end: dict[str, Spread]
    ratios: dict[str, Ratio]
    to_the_end_ratios: dict[str, Ratio]
    flops_per_step: dict[str, int]
    matrix_rate: Spread
    full: Full | None
    provenance: Provenance

    @property
    def passed(self) -> bool:
        """Whether no ratio breaks its limit."""
        return all(ratio.passed is not False for ratio in self.ratios.values())

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table, which `read_timings` reads again."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """One thing changed about the loop.

    Attributes:
        experiment: what was trained.
        variant: what was changed.
        against: what it is compared with, its rounds taken in turn.
        seconds_per_step: of a training step, for each model where several train at once.
        runs_per_hour: training steps alone, for as many runs at once as the variant makes.
        ratio: its time over that of `against`: above 1 where the loop as built is faster.
    """

    experiment: str
    variant: str
    against: str
    seconds_per_step: Spread
    runs_per_hour: float
    ratio: Spread


@dataclass(frozen=True)
class Choices:
    """What `bench --choices` measured; see `Bench` for the fields of the same name."""

    kind: str
    includes: str
    rounds: int
    steps_per_round: int
    choices: list[Choice]
    provenance: Provenance

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table, which `read_timings` reads again."""
        return asdict(self)


@dataclass(frozen=True)
class Accuracy:
    """What `bench --accuracy` measured: the same seeds, trained to the end in several ways.

    Attributes:
        kind: ``accuracy``.
        experiment: what was trained.
        epochs: of each training.
        split: what was scored after the last of them.
        seeds: which.
        total: images scored.
        side_by_side: seeds in one network, at most, in the way that has several.
        against: the way that the others are compared with.
        correct: way -> images answered correctly, seed by seed.
        provenance: of code, versions and device.
    """

    kind: str
    experiment: str
    epochs: int
    split: str
    seeds: list[int]
    total: int
    side_by_side: int
    against: str
    correct: dict[str, list[int]]
    provenance: Provenance

    def __post_init__(self) -> None:
        if min(self.total, self.epochs, self.side_by_side) < 1:
            counts = f"{self.total}, {self.epochs} and {self.side_by_side}"
            raise SchemaError(f"total, epochs, side_by_side: found {counts}, expected from 1")
        if len(set(self.seeds)) < max(2, len(self.seeds)):
            raise SchemaError(f"seeds: found {self.seeds}, expected two or more, each once")
        if self.against not in self.correct:
            raise SchemaError(f"against: found {self.against!r}, expected one of the ways")
        for way, found in self.correct.items():
            if len(found) != len(self.seeds) or not all(0 <= n <= self.total for n in found):
                raise SchemaError(
                    f"correct.{way}: found {found}, expected {len(self.seeds)} numbers "
                    f"from 0 to {self.total}"
                )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table, which `read_timings` reads again."""
        return asdict(self)


Measurement = TypeVar("Measurement", bound=Bench | Choices | Accuracy)


@dataclass(frozen=True)
class Timings:
    """All stored ones, in the order in which they stand."""

    benches: list[Bench]
    choices: list[Choices]
    accuracies: list[Accuracy]


CONTENDERS, CHOICES, ACCURACY = "contenders", "choices", "accuracy"  # the kinds


def newest(found: Sequence[Measurement]) -> list[Measurement]:
    """The last of every device, the devices in the order of their first."""
    return list({one.provenance.device: one for one in found}.values())
