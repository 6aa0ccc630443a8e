"""The command search: in this process, and as a real one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mnist_models.cli import main
from mnist_models.models import EXPERIMENTS
from mnist_models.record import find_records

from .runners import QUICK
from .test_sweep import COMMAND, LIMIT, REPOSITORY, until

OUT = Path("runs/search")


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(EXPERIMENTS, "quick", QUICK)
    monkeypatch.chdir(tmp_path)


def search(*arguments: object) -> int:
    return main(["search", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quik", "--vary", "momentum=0.5"], "no experiment 'quik'; there are"),
        (["quick"], "expected at least one --vary or --arm"),
        (["quick", "--arm", "rate=1"], "no setting 'rate'; there are optimizer"),
        (["quick", "--vary", "rate=1"], "no setting 'rate'; there are optimizer"),
        (["quick", "--vary", "batch_size=x"], "batch_size: found 'x', expected a whole number"),
        (["quick", "--vary", "momentum=0.1..0.9"], "say how many, such as --arms 40"),
        (
            ["quick", "--vary", "momentum=0.5", "--set", "momentum=0.9"],
            "expected each setting once; momentum is there twice",
        ),
        (["quick", "--vary", "momentum=0.5", "--set", "epochs=1,2"], "expected one value"),
        (["quick", "--show"], "no search has written there yet"),
        (["quick", "--vary", "momentum=0.5", "--prune", "--stacked", 2], "leave out --stacked"),
        (["quick", "--vary", "momentum=0.5", "--workers", 100_000], "ask for fewer"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(*arguments, "--dataset", "digits") == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not OUT.exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--vary", "momentum", "expected a setting and its values"),
        ("--vary", "momentum=0.5,0.5", "expected each value once"),
        ("--arm", "momentum=0.5,0.6", "expected one value a setting"),
        ("--arm", "momentum=0.5 momentum=0.6", "expected one value a setting"),
        ("--arm", " ", "expected settings, such as"),
        ("--study", "../elsewhere", "expected a letter or digit first"),
        ("--study", "..", "expected a letter or digit first"),
        ("--study", "a.b", "expected a letter or digit first"),
    ],
)
def test_what_cannot_be_read_is_refused(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        search("quick", option, value)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, "search", *arguments, "--dataset", "digits"]


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGINT, 130, "stopped; the same command goes on\n"),
    ],
)
def test_a_search_that_is_killed_goes_on_and_loses_no_arm(
    number: signal.Signals, status: int, said: str, tmp_path: Path
) -> None:
    def result() -> dict[str, Any]:
        shown = subprocess.run(
            [*command("slow", "--show", "--json")],
            **place,
            check=True,
            stdout=subprocess.PIPE,
            timeout=LIMIT,
        )
        table: dict[str, Any] = json.loads(shown.stdout)
        return table

    place: dict[str, Any] = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(REPOSITORY)}}
    place["env"]["SLOW"] = "0.2"  # three runs, some 10 s, are left when the kill comes
    vary = ("--vary", "learning_rate=0.2,0.3", "--seeds", "0-1")
    arguments = command("slow", *vary, "--workers", "1", "--stacked", "1")
    with (tmp_path / "said").open("w") as heard:
        process = subprocess.Popen(arguments, **place, stderr=heard)
    out = tmp_path / OUT
    until(lambda: len(find_records(out)) >= 3, "three runs of the first two arms")
    process.send_signal(number)
    assert process.wait(LIMIT) == status
    assert (tmp_path / "said").read_text().endswith(said)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("record.json")}
    assert 3 <= len(times) < 6
    place["env"]["SLOW"] = "0"
    second = subprocess.run(
        arguments, check=False, **place, capture_output=True, text=True, timeout=LIMIT
    )
    assert second.returncode == 0, second.stderr
    table = result()
    assert [arm["state"] for arm in table["arms"]] == ["finished"] * 3
    assert [sorted(arm["correct"]) for arm in table["arms"]] == [["0", "1"]] * 3
    for path, time in times.items():
        assert path.stat().st_mtime_ns == time


@pytest.mark.sweep
def test_what_was_found_is_shown_logged_and_kept_from_a_second_search(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "SLOW": "0.2"}
    place: dict[str, Any] = {"cwd": tmp_path, "env": environment}
    vary = command("slow", "--vary", "learning_rate=0.2", "--seeds", "0", "--workers", "1")
    first = subprocess.Popen([*vary, "--log", "docs"], **place, stdout=subprocess.PIPE, text=True)
    until(lambda: list((tmp_path / OUT).glob(".sweep-*")), "the first run")
    second = subprocess.run(
        vary, check=False, **place, capture_output=True, text=True, timeout=LIMIT
    )
    assert second.returncode == 2
    assert "is held by another process" in second.stderr
    out, _ = first.communicate(timeout=LIMIT)
    assert first.returncode == 0
    assert "2 finished" in out
    assert "scored: validation images of digits, never the test set" in out
    shown = subprocess.run(
        [*command("slow", "--show", "--json")],
        **place,
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    assert json.loads(shown.stdout) == json.loads((tmp_path / "docs" / "slow.json").read_text())
