"""The command sweep, in this process: its plan, its summary, and what it says of bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mnist_models.cli import main
from mnist_models.data import Dataset
from mnist_models.models import EXPERIMENTS
from mnist_models.plural import counted
from mnist_models.record import Record, find_records, folder_of, load_record
from mnist_models.train import train

from .runners import DIVERGING, QUICK


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(EXPERIMENTS, "quick", QUICK)
    monkeypatch.setitem(EXPERIMENTS, "diverging", DIVERGING)
    monkeypatch.chdir(tmp_path)  # which has no records/ to estimate from


def sweep(*arguments: object) -> int:
    return main(["sweep", *map(str, arguments), "--dataset", "digits", "--out", "runs"])


def trained(digits: Dataset, seed: int) -> Record:
    folder = folder_of(Path("runs"), "digits", "test", "quick", seed)
    return train(QUICK, seed, digits, folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quik"], "no experiment 'quik'; there are"),
        (["quick", "steps-1", "quick"], "expected each experiment once; quick is there twice"),
        (["quick", "--workers", 100_000], "expected room for 100000; ask for fewer"),
        (["quick", "--threads", 1_024], "cores, 1024 for each worker"),
        (["quick", "--workers", 1, "--dask", "tcp://x:1"], "--workers belongs to this machine"),
        (["quick", "--dask", "tcp://127.0.0.1:9"], "no Dask cluster with a worker answers at tcp:"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    arguments: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert [path for path in Path("runs").rglob("*") if path.is_file()] == []
    assert list(Path("runs").glob(".*")) == []


@pytest.mark.parametrize("seeds", ["", "3-1", "0,0", "0-100000", "x"])
def test_bad_seeds_are_refused(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        sweep("quick", "--seeds", seeds)
    assert caught.value.code == 2
    assert "expected seeds such as 0-4" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["nonsense", "", "tcp://127.0.0.1"])
def test_what_is_no_address_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        sweep("quick", "--dask", address)
    assert caught.value.code == 2
    said = f"found {address!r}, expected the address of a scheduler, such as tcp://10.0.0.1:8786"
    assert said in capsys.readouterr().err


def test_a_dry_run_estimates_from_records(
    digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = sorted(trained(digits, 0).timing.epoch_seconds)
    before = sorted(Path("runs").rglob("*"))
    assert sweep("quick", "diverging", "--seeds", "0-9999", "--dry-run", "--json") == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (plan["standing"], len(plan["runs"])) == (1, 19_999)
    median = sum(seconds) / 2
    assert plan["runs"][0] == {
        "experiment": "quick",
        "seed": 1,
        "epochs": 2,
        "seconds": pytest.approx(2 * median),
        "records": 1,
    }
    assert plan["runs"][-1]["seconds"] is None
    assert plan["training_seconds"] == pytest.approx(9_999 * 2 * median)
    assert plan["unknown"] == ["diverging"]
    assert sweep("quick", "diverging", "--seeds", "0-2", "--dry-run", "--workers", 1) == 0
    out = capsys.readouterr().out
    assert "5 runs to train, 1 stands already" in out
    assert "on 1 worker at that pace" in out
    assert "no record says how long it takes: diverging" in out
    assert sorted(Path("runs").rglob("*")) == before


def test_a_run_is_not_split_between_workers(
    digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(digits, 0)
    capsys.readouterr()
    said = []
    for workers in (1, 2):
        assert sweep("quick", "--seeds", "1", "--dry-run", "--workers", workers) == 0
        said.append(capsys.readouterr().out.replace(f"on {counted(workers, 'worker')}", ""))
    assert all(text.count("1 run to train") == 1 for text in said)
    assert said[0] == said[1]
    assert sweep("diverging", "--seeds", "1", "--dry-run", "--workers", 2) == 0
    assert "at that pace" not in capsys.readouterr().out


def test_what_stands_needs_no_worker(digits: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        trained(digits, seed)
    assert sweep("quick", "--seeds", "0-1", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["counts"] == {"trained": 0, "standing": 2, "elsewhere": 0, "failed": 0}
    correct = [load_record(folder).final.test_correct for folder in find_records(Path("runs"))]
    (found,) = summary["accuracies"]
    assert (found["experiment"], found["n"], found["total"]) == ("quick", 2, 360)
    assert (found["mean"], found["lowest"]) == (sum(correct) / 2, min(correct))
    assert found["sd"] == pytest.approx(abs(correct[0] - correct[1]) / 2**0.5)
    assert sweep("quick", "--seeds", "0-1") == 0
    out = capsys.readouterr().out
    assert "2 runs: 0 trained, 2 stood already" in out
    assert f"quick       2  {100 * sum(correct) / 720:.2f} %" in out
    assert sweep("quick", "--seeds", "1") == 0
    assert re.search(r"quick +1 +\d\d\.\d\d % +- ", capsys.readouterr().out)
    assert sweep("quick", "--seeds", "0-1", "--epochs", 3) == 2
    assert "another run: recipe.epochs is" in capsys.readouterr().err


def test_a_log_keeps_the_times_and_no_paths(
    digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(digits, 0)
    for _ in range(2):
        assert sweep("quick", "--log", "sweeps.json") == 0
    first, second = json.loads(Path("sweeps.json").read_text())
    assert (
        first["counts"]
        == second["counts"]
        == {
            "trained": 0,
            "standing": 1,
            "elsewhere": 0,
            "failed": 0,
        }
    )
    assert str(Path.cwd()) not in Path("sweeps.json").read_text()
    Path("sweeps.json").write_text("{")
    capsys.readouterr()
    assert sweep("quick", "--seeds", "0-1", "--log", "sweeps.json") == 2
    assert "--log sweeps.json: no JSON" in capsys.readouterr().err
    assert len(find_records(Path("runs"))) == 1  # asked before anything was trained


@pytest.mark.sweep
def test_a_failed_run_is_reported_and_decides_the_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep("diverging", "quick", "--seeds", "0-1", "--workers", 1, "--json") == 1
    captured = capsys.readouterr()
    assert "diverging seed 1 failed: DivergedError: the training loss of epoch 1" in captured.err
    summary = json.loads(captured.out)
    assert summary["counts"] == {"trained": 2, "standing": 0, "elsewhere": 0, "failed": 2}
    assert summary["workers"] == 1
    assert summary["trained_seconds"] < summary["wall_seconds"]
    assert [(run["experiment"], run["seed"]) for run in summary["runs"]] == [
        (name, seed) for name in ("diverging", "quick") for seed in (0, 1)
    ]
    assert len(find_records(Path("runs"))) == 2
