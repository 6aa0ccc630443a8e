from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnist_models.bench.variants import COMPILED, VARIANTS
from mnist_models.cli import main, timing
from mnist_models.data import Dataset
from mnist_models.schema import read
from mnist_models.timings import Accuracy, Choices, Full

from .test_timings import accuracy_of, bench_of, choices_of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compile"], "--compile is one of the variants of --choices; add --choices"),
        (["--full", "2", "--choices"], "--accuracy compares how they answer; choose one"),
        (["--accuracy", "--choices"], "--accuracy compares how they answer; choose one"),
        (["--seeds", "0-3"], "say what --accuracy trains; add --accuracy"),
        (["--epochs", "3"], "say what --accuracy trains; add --accuracy"),
        (["--accuracy", "--rounds", "3"], "say what is timed, and --accuracy times nothing"),
        (["--accuracy", "--steps", "3"], "say what is timed, and --accuracy times nothing"),
    ],
)
def test_options_that_do_not_go_together(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--full", "0"], ["--rounds", "0"], ["--steps", "x"]])
def test_numbers_are_whole_and_from_one(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *options])
    assert "expected a whole number from 1" in capsys.readouterr().err


def test_choices_are_printed_as_json(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "load_data", lambda *arguments, validation: digits)
    for module in ("choices.usable_cores", "processes.usable_cores"):  # processes start slowly
        monkeypatch.setattr(f"mnist_models.bench.{module}", lambda: 1)
    few: dict[str, Any] = {name: VARIANTS[name] for name in list(VARIANTS)[:2]}
    monkeypatch.setattr("mnist_models.bench.choices.VARIANTS", few)
    assert main(["bench", "--choices", "--rounds", "1", "--steps", "2", "--json"]) == 0
    captured = capsys.readouterr()
    found = read(Choices, json.loads(captured.out))
    names = [(choice.experiment, choice.variant) for choice in found.choices]
    assert names == [(e, v) for e in ("steps-6", "frontier-8k") for v in few if v != COMPILED]
    assert "4/4" in captured.err  # the bar is full at the end


def test_a_bench_is_printed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    full = Full(2, {"steps-6: this loop": 60.5}, {"steps-6: this loop": 9_912}, 10_000, {"a": 3.5})
    timing._show(bench_of(full=full))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "steps-6: this loop 11 10 12 0.375 2 195.4" in lines
    assert "steps-6: compute floor 10 8 12 - - -" in lines
    assert "steps-6: notebook / this loop 3.75 3.5 4 >= 3 pass" in lines
    assert "steps-6: this loop / compute floor 1.125 1 1.25 <= 1.10 FAIL" in lines
    assert "steps-6: this loop 60.5 9,912 10,000" in lines
    assert "To the end = all of it." in lines
    assert "cpu: some, 2 threads" in lines


def test_choices_are_printed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    timing._show_choices(choices_of())
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "slower 25 10.23 2.5 2 3 as built" in lines
    assert "A ratio above 1: the loop is faster as built." in out


def test_accuracies_are_printed_as_json_and_kept(
    few: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[bool] = []

    def load_data(options: Any, dataset: str, *, validation: bool) -> Dataset:
        asked.append(validation)
        return few

    monkeypatch.setattr(timing, "load_data", load_data)
    log = tmp_path / "kept.json"
    options = ["--accuracy", "--seeds", "3,5", "--epochs", "1", "--log", str(log), "--json"]
    assert main(["bench", *options]) == 0
    captured = capsys.readouterr()
    found = read(Accuracy, json.loads(captured.out))
    assert (found.seeds, found.epochs, found.total) == ([3, 5], 1, 100)
    assert json.loads(log.read_text()) == [found.to_dict()]
    assert "5/5" in captured.err  # two runs alone, twice, and both at once
    assert asked == [True]


def test_accuracies_are_printed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    timing._show_accuracy(accuracy_of())
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "faster 97.90 % ± 0.10 97.80 % 98.00 % -0.300 -0.730 to +0.130 0.095" in lines
    assert any(line.startswith("steps-6, 15 epochs, 3 seeds each") for line in lines)
