"""``train --seeds``: several runs, one after the other."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_models.cli import main
from mnist_models.cli.options import seeds
from mnist_models.job import alone_in
from mnist_models.record import FILE_NAME, find_records, load_record


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0-4", [0, 1, 2, 3, 4]),
        ("0,3,7", [0, 3, 7]),
        ("5", [5]),
        ("7, 1-2", [7, 1, 2]),
        ("3-3", [3]),
    ],
)
def test_seeds(text: str, found: list[int]) -> None:
    assert seeds(text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected seeds such as 0-4 or 0,3,7"),
        ("-1", "expected seeds such as"),
        ("a-b", "expected seeds such as"),
        ("1..3", "expected seeds such as"),
        ("0,", "expected seeds such as"),
        ("٣", "expected seeds such as"),
        ("0;rm -rf x", "expected seeds such as"),
        ("4-0", "4-0 runs backwards"),
        ("0-999999999", "at most 1000"),
        ("0-999,1000-1999", "at most 1000"),
        ("0-3,2", "2 is there twice"),
    ],
)
def test_bad_seeds(text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        seeds(text)


def train(*arguments: object) -> int:
    return main(["train", "steps-3", "--dataset", "digits", "--epochs", "1", *map(str, arguments)])


def test_trains_each_seed_and_skips_what_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    out = ["--out", tmp_path / "runs"]
    assert train("--seed", 1, *out, "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["seed"] == 1
    first = Path(alone["record"]).read_bytes()
    assert train("--seeds", "0-1", *out, "--json") == 0
    captured = capsys.readouterr()
    assert [run["seed"] for run in json.loads(captured.out)] == [0, 1]
    assert captured.err.count("holds this very run already") == 1
    assert Path(alone["record"]).read_bytes() == first
    folders = [tmp_path / "runs" / "digits-test" / "steps-3" / f"seed-{n}" for n in range(2)]
    assert [load_record(folder).seed for folder in folders] == [0, 1]
    assert len({load_record(folder).final.test_loss for folder in folders}) == 2
    assert (tmp_path / "summary").read_text().count("### steps-3, seed") == 3


@pytest.mark.parametrize(
    ("experiment", "arguments", "stacked"),
    [
        ("steps-3", [], [True] * 4 + [False]),  # the last of five has nobody beside it
        ("steps-3", ["--stacked", "2"], [True] * 4 + [False]),
        ("steps-3", ["--stacked", "1"], [False] * 5),
        ("attempt-3", [], [False] * 5),  # its schedule looks at each seed's own loss
    ],
)
def test_seeds_go_side_by_side_where_they_can(
    experiment: str, arguments: list[str], stacked: list[bool], tmp_path: Path
) -> None:
    fixed = ["--dataset", "digits", "--epochs", "1", "--out", str(tmp_path), "--json"]
    assert main(["train", experiment, "--seeds", "0-4", *fixed, *arguments]) == 0
    found = [load_record(folder) for folder in find_records(tmp_path)]
    assert [record.seed for record in found] == [0, 1, 2, 3, 4]
    assert [record.stacked for record in found] == stacked


def test_another_record_in_the_way_shows_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", tmp_path]
    assert train("--seed", 1, *out) == 0
    before = (tmp_path / "digits-test" / "steps-3" / "seed-1" / FILE_NAME).read_bytes()
    assert train("--seeds", "0-1", "--epochs", 2, *out) == 2
    assert "holds the record of another run: recipe." in capsys.readouterr().err
    assert not (tmp_path / "digits-test" / "steps-3" / "seed-0").exists()
    assert (tmp_path / "digits-test" / "steps-3" / "seed-1" / FILE_NAME).read_bytes() == before


def test_a_folder_at_which_another_is_at_work_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows before anything is trained, though it would be the turn of the last group."""
    folder = tmp_path / "digits-test" / "steps-3" / "seed-2"
    arguments = ("--seeds", "0-2", "--stacked", 2, "--out", tmp_path)
    with alone_in(folder):
        for more in ((), ("--force",), ("--resume",)):
            assert train(*arguments, *more) == 2
            error = capsys.readouterr().err
            assert f"{folder} is held by another process, which writes there" in error
    assert find_records(tmp_path) == []
    assert train(*arguments) == 0
    assert [load_record(found).seed for found in find_records(tmp_path)] == [0, 1, 2]
    assert not list(tmp_path.rglob(".lock"))


def test_a_run_that_another_ended_meanwhile_is_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--seeds", "0-1", "--out", tmp_path)

    @contextlib.contextmanager
    def late(folder: Path) -> Iterator[None]:
        monkeypatch.undo()
        assert train("--seed", 0, "--out", tmp_path) == 0  # while this one asks for the folder
        with alone_in(folder):
            yield

    monkeypatch.setattr("mnist_models.cli.training.alone_in", late)
    assert train(*arguments) == 0
    assert "seed-0 holds this very run already" in capsys.readouterr().err
    assert len(find_records(tmp_path)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "0", "--seeds", "1-2"], "not allowed with argument --seed"),
        (["--seeds", "4-0"], "runs backwards"),
        (["--seeds=-1"], "expected seeds such as"),
    ],
)
def test_bad_input_is_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", *arguments])
    assert message in capsys.readouterr().err
