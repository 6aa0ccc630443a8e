from __future__ import annotations

import json
from collections.abc import Callable
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
    Timings,
    TimingsError,
    newest,
    read_timings,
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
            names[1]: Spread.of([40.0, 44.0]),
            "steps-6: compute floor": Spread.of([9.5, 10.5]),
        },
        start_up=dict.fromkeys(names, Spread.of([0.5, 0.25])),
        scoring=dict.fromkeys(names, Spread.of([2.0, 2.0])),
        to_the_end={names[0]: Spread.of([190.0, 194.0]), names[1]: Spread.of([630.0, 650.0])},
        ratios={
            "steps-6: notebook / this loop": Ratio.of([4.0, 3.5], ">= 3"),
            "steps-6: this loop / compute floor": Ratio.of([1.05, 1.25], "<= 1.10"),
        },
        to_the_end_ratios={"steps-6: notebook / this loop": Ratio.of([3.3, 3.4])},
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
                runs_per_hour=25.0,
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


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_timings(tmp_path) == Timings([], [], [])
    full = Full(15, {"steps-6: this loop": 300.0}, {"steps-6: this loop": 9_930}, 10_000, {})
    there = bench_of("cuda: some", full)
    store(tmp_path, bench_of(), choices_of(), there, accuracy_of())
    found = read_timings(tmp_path)
    assert found.benches == [bench_of(), there]
    assert found.choices == [choices_of()]
    assert found.accuracies == [accuracy_of()]


@pytest.mark.parametrize("text", ["", "{", "3", "{}", "[3]", "[{}]", '[{"kind": "other"}]', "\xff"])
def test_a_damaged_file_is_one_clear_error(text: str, tmp_path: Path) -> None:
    path = store(tmp_path)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TimingsError, match=r"docs/performance\.json: .*; expected a list of what"):
        read_timings(tmp_path)


def faster(table: Any) -> None:
    table["seconds_per_epoch"]["steps-6: this loop"]["median"] = 5.0


def excused(table: Any) -> None:
    table["ratios"]["steps-6: this loop / compute floor"]["passed"] = True


def loosened(table: Any) -> None:
    table["ratios"]["steps-6: this loop / compute floor"]["limit"] = "at most 2"


def emptied(table: Any) -> None:
    table["matrix_rate"] = {"median": 1.0, "rounds": []}


def negative(table: Any) -> None:
    table["matrix_rate"] = {"median": -1.0, "rounds": [-1.0]}


def missing(table: Any) -> None:
    del table["provenance"]


def unknown(table: Any) -> None:
    table["more"] = 1


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (faster, "median: found 5.0"),
        (excused, "passed: found True, which 1.15 does not give"),
        (loosened, "limit: found 'at most 2'"),
        (emptied, "rounds: found"),
        (negative, "rounds: found"),
        (missing, "provenance: missing"),
        (unknown, "more: no such field"),
    ],
)
def test_a_number_typed_by_hand_is_found(
    edit: Callable[[Any], None], found: str, tmp_path: Path
) -> None:
    table = bench_of().to_dict()
    store(tmp_path, table)
    assert read_timings(tmp_path).benches  # as it was, it is sound
    edit(table)
    store(tmp_path, table)
    with pytest.raises(TimingsError, match=found):
        read_timings(tmp_path)


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


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("against", "nothing", "against: found 'nothing'"),
        ("seeds", [0], "expected two or more, each once"),
        ("seeds", [0, 1, 1], "expected two or more, each once"),
        ("seeds", [0, 1], "expected 2 numbers from 0 to 1000"),
        ("epochs", 0, "total, epochs, side_by_side: found 1000, 0 and 2, expected from 1"),
        ("side_by_side", 0, "found 1000, 15 and 0"),
        ("total", 0, "found 0, 15 and 2"),
        ("total", 983, r"correct\.one by one: .* expected 3 numbers from 0 to 983"),
    ],
)
def test_accuracies_that_do_not_fit_are_found(
    field: str, value: Any, found: str, tmp_path: Path
) -> None:
    table = accuracy_of().to_dict()
    store(tmp_path, table | {field: value})
    with pytest.raises(TimingsError, match=found):
        read_timings(tmp_path)


def test_the_newest_of_every_device() -> None:
    first, other, second = bench_of("cpu: some"), bench_of("cuda: some"), bench_of("cpu: some")
    assert newest([first]) == [first]
    found = newest([first, other, second])
    assert found[0] is second
    assert found[1] is other
