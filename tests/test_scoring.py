"""The command verify with worker processes: they find what one process does, and may die."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mnist_models.record import load_record

from .test_record import edit

REPOSITORY = Path(__file__).resolve().parent.parent
SEEDS = 3
LIMIT = 120  # seconds; to start two workers takes some ten where the cores are shared

pytestmark = pytest.mark.sweep


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Published records of an experiment that is scored within a second."""
    for seed in range(SEEDS):
        place = Path("mnist-test", "attempt-3", f"seed-{seed}")
        shutil.copytree(REPOSITORY / "records" / place, tmp_path / "records" / place)
    return tmp_path / "records"


def verify(records: Path, mnist_root: Path, *options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mnist_models", "verify", "--records", records, *options]
    return subprocess.Popen(
        [*map(str, command), "--data-root", str(mnist_root), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of the command that score."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a helper of torch's, ended by now
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_workers_find_what_one_process_finds(records: Path, mnist_root: Path) -> None:
    damaged = records / "mnist-test" / "attempt-3" / "seed-1"
    path = damaged / load_record(damaged).weights[0].file
    path.write_bytes(path.read_bytes()[:-1])
    found: list[Any] = []
    for count in (1, 2):
        out, err = verify(records, mnist_root, "--workers", count).communicate(timeout=LIMIT)
        assert f"{SEEDS}/{SEEDS}" in err  # the bar knows how many there are
        found.append(json.loads(out))
    assert found[0] == found[1]
    assert found[0]["passed"] is False
    assert [record["passed"] for record in found[0]["records"]] == [True, False, True]


@pytest.mark.parametrize("count", [1, 2])
def test_an_experiment_whose_counts_lean_fails(records: Path, mnist_root: Path, count: int) -> None:
    """Within each record they are rounding; the last one says what all of them are not."""

    def lift(table: dict[str, Any]) -> None:
        for epoch in table["epochs"][-3:-1]:
            epoch["test_correct"] += 1

    for folder in sorted(records.glob("*/*/seed-*")):
        edit(folder, lift)
    process = verify(records, mnist_root, "--workers", count)
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    found = [record["problems"] for record in json.loads(out)["records"]]
    assert found[:-1] == [[], []]
    (said,) = found[-1]
    assert said.startswith("all records of attempt-3, stored epochs: its 9 counts are 6 images")


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_is_no_verdict(
    death: signal.Signals, records: Path, mnist_root: Path
) -> None:
    process = verify(records, mnist_root, "--workers", 2)
    deadline = time.monotonic() + LIMIT
    while not (started := workers(process)) and time.monotonic() < deadline:
        time.sleep(0.1)
    started[0].send_signal(death)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert json.loads(out)["passed"] is None
    assert "a worker process died" in err
    assert "run verify again with --workers 1" in err
    assert "Traceback" not in err
    assert not any(child.is_running() for child in started)


def test_more_workers_than_cores_are_refused(records: Path, mnist_root: Path) -> None:
    process = verify(records, mnist_root, "--workers", 100_000)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert "expected room for 100000; ask for fewer" in err
    assert json.loads(out)["passed"] is None
