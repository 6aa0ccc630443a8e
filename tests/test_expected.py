"""``check --all``: red where a verdict is not the one expected, or our own break the card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_models.checks.record import check_record
from mnist_models.cli import main
from mnist_models.expected import compare, registered_at
from mnist_models.models import EXPERIMENTS, Experiment
from mnist_models.record import Record

from .test_checks_record import run

OWN, PUBLISHED = EXPERIMENTS["frontier-8k"], EXPERIMENTS["eva4-2"]


def own_record(correct: Sequence[int]) -> Record:
    return replace(run(list(correct)), experiment=OWN.name)


def test_a_published_network_fails_as_expected() -> None:
    found = list(compare(PUBLISHED))
    assert [comparison.assignment for comparison in found] == ["eva4", "card"]
    assert [comparison.found for comparison in found] == [set(), {"parameters"}]
    assert all(comparison.passed and not comparison.cause for comparison in found)


def test_a_verdict_that_is_not_expected_is_named() -> None:
    changed = replace(PUBLISHED, breaks=frozenset({"dropout"}), breaks_card=frozenset())
    own, card = compare(changed)
    assert not own.passed
    assert own.cause == "dropout is expected to fail, and passes"
    assert not card.passed
    assert card.cause == "parameters is not expected to fail: 9,770 registered"


def test_our_own_may_break_nothing_whatever_they_say() -> None:
    excused = replace(OWN, build=PUBLISHED.build, breaks_card=frozenset({"parameters"}))
    (comparison,) = compare(excused)
    assert not comparison.passed
    assert comparison.found == {"parameters"}


GOOD = [9_000] * 12 + [9_945, 9_950, 9_960]


@pytest.mark.parametrize(("correct", "broken"), [([9_300] * 15, set()), ([9_300] * 16, {"epochs"})])
def test_a_smaller_one_answers_its_own_card_with_its_records(
    correct: list[int], broken: set[str]
) -> None:
    smaller = EXPERIMENTS["frontier-1k"]
    record = replace(run(correct), experiment=smaller.name)
    own, card = compare(smaller, [record])
    assert (own.assignment, own.found) == ("card-1k", broken)
    assert (card.assignment, card.found) == ("card", set())  # the network alone


@pytest.mark.parametrize(
    ("correct", "broken"),
    [
        (GOOD, set()),
        ([*GOOD[:-1], 9_939], {"accuracy", "consistency"}),
        ([*GOOD, 9_960], {"epochs"}),
    ],
)
def test_our_own_records_must_keep_the_card(correct: list[int], broken: set[str]) -> None:
    (comparison,) = compare(OWN, [own_record(GOOD), own_record(correct)])
    assert comparison.found == broken
    assert comparison.passed == (not broken)


def test_a_published_record_may_fall_short() -> None:
    low = replace(own_record([9_000] * 15), experiment=PUBLISHED.name)
    assert any(check.passed is False for check in check_record(low, PUBLISHED.assignment))
    assert all(comparison.passed for comparison in compare(PUBLISHED, [low]))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_where_an_experiment_is_registered(name: str) -> None:
    path, number = registered_at(name)
    line = path.read_text().splitlines()[number - 1].strip()
    assert line in (f'name="{name}",', f'"{name}",')
    assert "System(" not in path.read_text().splitlines()[number - 2]


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Experiment]:
    """One experiment alone: all of them take a minute."""
    chosen = {OWN.name: OWN}
    monkeypatch.setattr("mnist_models.cli.expectations.EXPERIMENTS", chosen)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    return chosen


def test_command(
    some: dict[str, Experiment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--all", "--json", "--records", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "::error" not in captured.err
    (row,) = json.loads(captured.out)["comparisons"]
    assert (row["experiment"], row["assignment"], row["found"]) == (OWN.name, "card", [])
    some[OWN.name] = replace(OWN, build=PUBLISHED.build)
    assert main(["check", "--all", "--records", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    path, line = registered_at(OWN.name)
    said = "frontier-8k on card: parameters is not expected to fail: 9,770 registered"
    assert f"FAIL: {path}:{line}: {said}" in captured.out
    assert "1 of 1 verdicts are not the ones expected" in captured.out
    place = f"file=mnist_models/models/frontier.py,line={line},title=frontier-8k"
    assert f"::error {place}::{said}" in captured.err
    assert "| FAIL | frontier-8k | card | - | parameters |" in (tmp_path / "summary").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "either TARGET or --all"),
        (["check", "steps-1", "--all"], "either TARGET or --all"),
        (["check", "--all", "--assignment", "card"], "belong to check TARGET"),
        (["check", "--all", "--badges", "x"], "belong to check TARGET"),
        (["check", "steps-1", "--records", "x"], "--records belongs to check --all"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
