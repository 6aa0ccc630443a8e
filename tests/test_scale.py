from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_models.report.markdown import ReportError
from mnist_models.report.scale import SWEEPS, how_long, scale

from .endless import DEEP, pipe, within
from .test_cost import timed


def test_the_arithmetic_is_shown_and_right(tmp_path: Path) -> None:
    text = scale({"a": [timed("a", 0, *[36.0] * 10)]}, tmp_path)
    assert "| `a` | 1 | 36.0 | 36.0 | 36.0 | 10 | 6 min | 10 h |" in text["cost"]
    assert "GPU: not measured" in text["cost"]
    # 10,000 runs of 360 s: 625 rounds of 16, 63 of 160 (62.5 in full), 7 of 1,600 (6.25).
    assert (
        "10,000 x 10 x 36.0 s = 1,000 core-hours | 2.6 days | 6.3 h | 42 min |"
        in (text["machines"])
    )


def test_sweeps_are_shown_only_where_they_were_measured(tmp_path: Path) -> None:
    assert "Not measured yet" in scale({}, tmp_path)["sweeps"]
    sweep = {
        "experiments": ["a", "b"],
        "epochs": 60,
        "workers": 2,
        "threads": 1,
        "device": "cpu: some, 1 threads",
        "counts": {"trained": 4, "failed": 0},
        "wall_seconds": 100.0,
        "trained_seconds": 180.0,
    }
    (tmp_path / SWEEPS).write_text(json.dumps([sweep]))
    line = scale({}, tmp_path)["sweeps"].splitlines()[-1]
    assert line == (
        "| `a`, `b` | 4 | 60 | 2 | 1 | 1 | 100 s | 3 min | 1.80 | cpu: some, 1 thread |"
    )


@pytest.mark.parametrize(
    ("wall", "training", "workers", "holds"),
    [
        (100.0, 180.0, 2, True),
        (100.0, 200.1, 2, False),
        (10.0, 180.0, 2, False),
        (100.0, 180.0, 1, False),
        (100.0, -1.0, 2, False),
        (10.0, 180.0, "tcp://there:8786", True),  # nobody said how many they are
    ],
)
def test_workers_train_no_longer_than_a_sweep_takes(
    wall: float, training: float, workers: object, holds: bool, tmp_path: Path
) -> None:
    sweep = {
        "experiments": ["a"],
        "epochs": 60,
        "workers": workers,
        "threads": 1,
        "device": "cpu",
        "counts": {"trained": 4},
        "wall_seconds": wall,
        "trained_seconds": training,
    }
    (tmp_path / SWEEPS).write_text(json.dumps([sweep]))
    if holds:
        assert "| `a` | 4 | 60 |" in scale({}, tmp_path)["sweeps"]
        return
    found = rf"docs/sweeps\.json: \[0\]\.trained_seconds: found {training}, expected from 0 to "
    with pytest.raises(ReportError, match=found):
        scale({}, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "3", "[3]", "[{}]", '[{"wall_seconds": 0}]', DEEP),
        f'[{{"wall_seconds": 1{"0" * 400}}}]',
    ],
    ids=lambda text: text[:20],
)
def test_damaged_sweeps_are_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / SWEEPS).write_text(text)
    with pytest.raises(ReportError, match=SWEEPS):
        scale({}, tmp_path)


def test_a_pipe_in_place_of_the_sweeps_is_not_waited_for(tmp_path: Path) -> None:
    pipe(tmp_path / SWEEPS)
    with within(), pytest.raises(ReportError, match=f"{SWEEPS}: it is no regular file"):
        scale({}, tmp_path)


def test_a_gpu_is_unmeasured_until_a_record_says_otherwise(tmp_path: Path) -> None:
    record = timed("a", 0, 1.0)
    there = replace(record, provenance=replace(record.provenance, device="cuda: some"))
    assert "not measured" not in scale({"a": [record, there]}, tmp_path)["cost"]


def test_the_readme_says_how_long_a_training_takes() -> None:
    text = how_long("a", [timed("a", 0, *[36.0] * 10)])
    assert text.startswith(
        "A seed of `a` trains for 6 min: 10 epochs of 36.0 s, the median over 1 published"
    )
    assert how_long("a", []) == "How long `a` takes no published record says.\n"
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert "<!-- generated: durations -->\nA seed of `frontier-8k` trains for " in readme
    for page in re.findall(r"\]\((docs/\w+\.md#[\w-]+)\)", readme):
        file, anchor = page.split("#")
        headings = re.findall(r"^#+ (.*)$", (Path(__file__).parent.parent / file).read_text(), re.M)
        assert anchor in [heading.lower().replace(" ", "-") for heading in headings]
