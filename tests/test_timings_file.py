from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_models.timings import EPOCHS, Full, Timings
from mnist_models.timings_file import TimingsError, read_timings

from .endless import pipe, within
from .test_timings import accuracy_of, bench_of, choices_of, store

THIS, NOTEBOOK = "steps-6: this loop", "steps-6: notebook"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_timings(tmp_path) == Timings([], [], [])
    full = Full(15, {THIS: 300.0}, {THIS: 9_930}, 10_000, {})
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


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    pipe(store(tmp_path))
    with within(), pytest.raises(TimingsError, match="it is no regular file; expected a list"):
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
        (faster, r"\[0\]\.seconds_per_epoch\.steps-6: this loop\.median: found 5.0"),
        (excused, "compute floor.passed: found True, which 1.125 does not give"),
        (loosened, "compute floor.limit: found 'at most 2'"),
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


def typed(spread: Any, rounds: list[float]) -> None:
    """As a forger would: the median and the verdict follow from the rounds."""
    spread["rounds"] = rounds
    spread["median"] = sum(sorted(rounds)[len(rounds) // 2 - 1 :][:2]) / 2
    if spread.get("limit", "-") == ">= 3":
        spread["passed"] = spread["median"] >= 3


def ratio(table: Any) -> None:
    typed(table["ratios"]["steps-6: notebook / this loop"], [40.0, 35.0])


def end_ratio(table: Any) -> None:
    typed(table["to_the_end_ratios"]["steps-6: notebook / this loop"], [40.0, 35.0])


def end(table: Any) -> None:
    typed(table["to_the_end"][NOTEBOOK], [6_305.0, 6_602.5])
    typed(table["to_the_end_ratios"]["steps-6: notebook / this loop"], [34.93, 31.4])


def epoch(table: Any) -> None:
    typed(table["seconds_per_epoch"][THIS], [1.0, 1.2])


def shorter(table: Any) -> None:
    table["start_up"][THIS] = {"median": 0.5, "rounds": [0.5]}


def rates(table: Any) -> None:
    table["matrix_rate"] = {"median": 5e10, "rounds": [5e10]}


def floor(table: Any) -> None:
    table["seconds_per_epoch"]["steps-6: arithmetic floor"] = {"median": 1.0, "rounds": [1.0, 1.0]}


def unnamed(table: Any) -> None:
    table["ratios"]["steps-6: sundial / this loop"] = table["ratios"].pop(
        "steps-6: notebook / this loop"
    )


def unscored(table: Any) -> None:
    del table["scoring"][THIS]


def full_ratio(table: Any) -> None:
    table["full"]["ratios"]["steps-6: notebook / this loop"] *= 10


def full_correct(table: Any) -> None:
    table["full"]["correct"][THIS] = 10_001


def full_lost(table: Any) -> None:
    del table["full"]["correct"][THIS]


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (ratio, r"[1].ratios.steps-6: notebook / this loop.rounds[0]: found 40.0, expected 4.0"),
        (end_ratio, "[1].to_the_end_ratios.steps-6: notebook / this loop.rounds[0]: found 40.0"),
        (end, "[1].to_the_end.steps-6: notebook.rounds[0]: found 6305.0, expected 630.5"),
        (epoch, "[1].to_the_end.steps-6: this loop.rounds[0]: found 180.5, expected 45.5"),
        (shorter, "[1].start_up.steps-6: this loop.rounds, in number: found 1, expected 2"),
        (rates, "[1].matrix_rate.rounds, in number: found 1, expected 2"),
        (floor, "[1].seconds_per_epoch.steps-6: arithmetic floor.rounds[0]: found 1.0, expected 2"),
        (unnamed, "[1].ratios.steps-6: sundial: missing"),
        (unscored, "[1].scoring.steps-6: this loop: missing"),
        (full_ratio, "[1].full.ratios.steps-6: notebook / this loop: found 40.0, expected 4.0"),
        (full_correct, "[1].full: found 10001 of 10000 correct"),
        (full_lost, "[1].full.correct.steps-6: this loop: missing"),
    ],
)
def test_what_follows_from_seconds_is_computed_again(
    edit: Callable[[Any], None], found: str, tmp_path: Path
) -> None:
    names = {THIS: 300.0, NOTEBOOK: 1_200.0}
    ratios = {"steps-6: notebook / this loop": 4.0}
    full = Full(EPOCHS, names, dict.fromkeys(names, 9_930), 10_000, ratios)
    table = json.loads(json.dumps(bench_of(full=full).to_dict()))  # its parts are its own
    store(tmp_path, bench_of(), table)
    assert len(read_timings(tmp_path).benches) == 2  # as it was, it is sound
    edit(table)
    store(tmp_path, bench_of(), table)
    with pytest.raises(TimingsError, match=re.escape(f"docs/performance.json: {found}")):
        read_timings(tmp_path)


def choice_ratio(choices: list[Any]) -> None:
    typed(choices[1]["ratio"], [20.0, 30.0])


def one_rate(choices: list[Any]) -> None:
    choices[2]["runs_per_hour"] *= 10


def all_rates(choices: list[Any]) -> None:
    for choice in choices:
        choice["runs_per_hour"] *= 10


def no_rate(choices: list[Any]) -> None:
    choices[0]["runs_per_hour"] = 0.0


def stranger(choices: list[Any]) -> None:
    choices[0]["against"] = "a sundial"


def fewer(choices: list[Any]) -> None:
    choices[2]["seconds_per_step"] = {"median": 0.01, "rounds": [0.01]}


@pytest.mark.parametrize("benched", [True, False])
@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (choice_ratio, "choices[1].ratio.rounds[0]: found 20.0, expected 2.0"),
        (one_rate, "choices[2].runs_per_hour: found 232.6"),
        (all_rates, "choices[0].runs_per_hour: found 255.8"),
        (no_rate, "choices[0].runs_per_hour: found 0.0, expected a number above 0"),
        (stranger, "choices[0].against: found 'a sundial'"),
        (fewer, "choices[2].seconds_per_step.rounds, in number: found 1, expected 2"),
    ],
)
def test_what_follows_from_steps_is_computed_again(
    edit: Callable[[Any], None], found: str, benched: bool, tmp_path: Path
) -> None:
    """How many steps a run has, a measurement of the contenders says, before or after it."""
    table = json.loads(json.dumps(choices_of().to_dict()))
    more = [bench_of()] if benched else []
    store(tmp_path, table, *more)
    assert read_timings(tmp_path).choices
    edit(table["choices"])
    store(tmp_path, table, *more)
    if edit is all_rates and not benched:
        assert read_timings(tmp_path).choices  # nothing there says how long a run is
        return
    with pytest.raises(TimingsError, match=re.escape(f"docs/performance.json: [0].{found}")):
        read_timings(tmp_path)


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
