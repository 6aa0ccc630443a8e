from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from mnist_models.record import Provenance
from mnist_models.schema import SchemaError
from mnist_models.timings import (
    ACCURACY,
    CHOICES,
    CONTENDERS,
    FILE,
    Accuracy,
    Bench,
    Choice,
    Choices,
    Full,
    Ratio,
    Spread,
    newest,
)


def origin(device: str) -> Provenance:
    return Provenance(
        package_digest="sha256:0",
        commit=None,
        modified=None,
        versions={"python": "3.11", "torch": "2.6"},
        device=device,
        threads=2,
        environments=["here"],
        finished="2026-01-01T00:00:00+00:00",
    )


def bench_of(device: str = "cpu: some, 2 threads", full: Full | None = None) -> Bench:
    """What a bench of two contenders and a floor would leave."""
    names = ("steps-6: this loop", "steps-6: notebook")
    return Bench(
        kind=CONTENDERS,
        includes="Everything.",
        formula="To the end = all of it.",
        notes=["One note.", "Another."],
        rounds=2,
        steps_per_round=96,
        steps_per_epoch={"steps-6": 938},
        seconds_per_epoch={
            names[0]: Spread.of([10.0, 12.0]),
            names[1]: Spread.of([40.0, 42.0]),
            "steps-6: compute floor": Spread.of([8.0, 12.0]),
        },
        start_up=dict.fromkeys(names, Spread.of([0.5, 0.25])),
        scoring=dict.fromkeys(names, Spread.of([2.0, 2.0])),
        to_the_end={names[0]: Spread.of([180.5, 210.25]), names[1]: Spread.of([630.5, 660.25])},
        ratios={
            "steps-6: notebook / this loop": Ratio.of([4.0, 3.5], ">= 3"),
            "steps-6: this loop / compute floor": Ratio.of([1.25, 1.0], "<= 1.10"),
        },
        to_the_end_ratios={
            "steps-6: notebook / this loop": Ratio.of([630.5 / 180.5, 660.25 / 210.25])
        },
        flops_per_step={"steps-6": 123_456_789},
        matrix_rate=Spread.of([5e10, 6e10]),
        full=full,
        provenance=origin(device),
    )


def choices_of(device: str = "cpu: some, 2 threads") -> Choices:
    """What a bench of three variants would leave."""
    rounds = {"as built": [0.01, 0.01], "slower": [0.02, 0.03], "unclear": [0.0095, 0.0125]}
    return Choices(
        kind=CHOICES,
        includes="Steps.",
        rounds=2,
        steps_per_round=96,
        choices=[
            Choice(
                experiment="steps-6",
                variant=name,
                against="as built",
                seconds_per_step=Spread.of(seconds),
                runs_per_hour=3_600 / (15 * 938 * statistics.median(seconds)),
                ratio=Spread.of([second / 0.01 for second in seconds]),
            )
            for name, seconds in rounds.items()
        ],
        provenance=origin(device),
    )


def accuracy_of(device: str = "cpu: some, 2 threads") -> Accuracy:
    """What a comparison of three seeds in three ways would leave."""
    return Accuracy(
        kind=ACCURACY,
        experiment="steps-6",
        epochs=15,
        split="validation",
        seeds=[0, 1, 2],
        total=1_000,
        side_by_side=2,
        against="one by one",
        correct={
            "one by one": [980, 982, 984],
            "faster": [978, 980, 979],
            "the same": [980, 982, 984],
        },
        provenance=origin(device),
    )


def store(root: Path, *found: Bench | Choices | Accuracy | Any) -> Path:
    """Write them where they are looked for; anything else as it is."""
    path = root / FILE
    path.parent.mkdir(exist_ok=True)
    kinds = Bench | Choices | Accuracy
    tables = [one.to_dict() if isinstance(one, kinds) else one for one in found]
    path.write_text(json.dumps(tables))
    return path


@pytest.mark.parametrize(
    ("rounds", "limit", "passed"),
    [
        ([3.0], ">= 3", True),
        ([2.9], ">= 3", False),
        ([1.1], "<= 1.10", True),
        ([1.11], "<= 1.10", False),
        ([1.0, 9.0, 1.1], "<= 1.10", True),  # of the median, not of the worst round
        ([9.0], "-", None),
    ],
)
def test_a_limit_decides(rounds: list[float], limit: str, passed: bool | None) -> None:
    assert Ratio.of(rounds, limit).passed is passed


def test_a_bench_passes_where_no_limit_is_broken() -> None:
    assert not bench_of().passed
    broken = "steps-6: this loop / compute floor"
    others = {name: ratio for name, ratio in bench_of().ratios.items() if name != broken}
    kept = bench_of().to_dict() | {"ratios": others | {"unlimited": Ratio.of([9.0])}}
    assert Bench(**kept).passed


def test_a_spread_needs_rounds() -> None:
    assert (Spread.of([3.0, 1.0]).lowest, Spread.of([3.0, 1.0]).highest) == (1.0, 3.0)
    with pytest.raises(SchemaError, match="above 0"):
        Spread(0.0, [0.0])


def test_the_newest_of_every_device() -> None:
    first, other, second = bench_of("cpu: some"), bench_of("cuda: some"), bench_of("cpu: some")
    assert newest([first]) == [first]
    found = newest([first, other, second])
    assert found[0] is second
    assert found[1] is other
