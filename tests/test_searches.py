"""docs/search.md: the tables of the published studies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnist_models.report.markdown import ReportError
from mnist_models.report.searches import FOLDER, searches
from mnist_models.search.log import log

from .endless import DEEP, pipe, within
from .test_search import arm

QUESTION: dict[str, Any] = {
    "experiment": "frontier-8k",
    "fixed": {"epochs": "6"},
    "recipe": {"epochs": 6},
    "seeds": [0, 1],
    "data": {"name": "mnist", "split": "validation", "md5": {"held_out_images": "0123abcdef"}},
}


def written(folder: Path, table: Any) -> Path:
    path = folder / FOLDER / "screen.json"
    path.parent.mkdir()
    path.write_text(json.dumps(table))
    return path


def test_a_study_is_shown_ranked_with_its_question(tmp_path: Path) -> None:
    found = [arm(0, [900, 910], None), arm(1, [905, 921], "0.1"), arm(2, [890], "0.2")]
    written(tmp_path, log("screen", QUESTION, found))
    text = searches(tmp_path)["screen"]
    assert text.startswith("`frontier-8k` with epochs = 6: 3 arms, 5 runs, seeds 0, 1, scored on ")
    assert "the validation images of mnist (0123abcd), mean of the last 3 epochs" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows[1] == (
        "| 1 | `learning_rate=0.1` | 7,850 | 2 | 91.300 | 1.131 | 0.08700 "
        "| +0.800 [-3.012, +4.612] | 0.228 |"
    )
    assert rows[2] == "| 0 | as it is | 7,850 | 2 | 90.500 | 0.707 | 0.09500 | - | - |"
    assert rows[3] == "| 2 | `learning_rate=0.2` | 7,850 | 1 | 89.000 | - | 0.11000 | -1.000 | - |"
    assert "Each value over all finished arms" not in text  # each has one


def test_a_study_from_before_losses_were_kept_is_shown_without(tmp_path: Path) -> None:
    table = log("screen", QUESTION, [arm(0, [900], None)])
    del table["arms"][0]["loss"]
    written(tmp_path, table)
    assert "| 0 | as it is | 7,850 | 1 | 90.000 | - | - | - | - |" in searches(tmp_path)["screen"]


def test_what_came_to_nothing_is_shown_too(tmp_path: Path) -> None:
    lost = replace(arm(1, [], "9"), state="failed", cause="DivergedError")
    written(tmp_path, log("screen", QUESTION, [arm(0, [900], None), lost]))
    assert (
        "| 1 | `learning_rate=9` (failed: DivergedError) | 7,850 | 0 | - | - | - | - | - |"
        in (searches(tmp_path)["screen"])
    )


def test_values_that_several_arms_had_are_averaged(tmp_path: Path) -> None:
    found = [arm(0, [900], None), arm(1, [910], "0.1"), arm(2, [930], "0.1")]
    written(tmp_path, log("screen", QUESTION, found))
    assert "| `learning_rate=0.1` | 2 | 92.000 | 1.414 |" in searches(tmp_path)["screen"]


def mean(table: Any) -> None:
    table["arms"][0]["mean"] = 99.9


def spread(table: Any) -> None:
    table["arms"][0]["deviation"] = 0.001


def gap(table: Any) -> None:
    table["arms"][0]["difference"]["mean"] += 1


def interval(table: Any) -> None:
    table["arms"][0]["difference"]["interval"] = [0.7, 0.9]


def p(table: Any) -> None:
    table["arms"][0]["difference"]["p"] = 1e-9


def pairs(table: Any) -> None:
    table["arms"][0]["difference"]["seeds"] = 30


def undone(table: Any) -> None:
    table["arms"][0]["difference"] = None


def seeds(table: Any) -> None:
    table["arms"][0]["seeds"] = [0, 1, 2]


def other_seed(table: Any) -> None:
    table["arms"][0]["correct"]["2"] = 921


def too_many(table: Any) -> None:
    table["arms"][0]["correct"]["1"] = 1_001


def parameters(table: Any) -> None:
    table["arms"][0]["parameters"] = 500


def order(table: Any) -> None:
    table["arms"].reverse()


def effect(table: Any) -> None:
    table["settings"][0]["mean"] = 99.9


def pooled(table: Any) -> None:
    table["pooled_epochs"] = 30


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (mean, "arms[0].mean: found 99.9, expected 91.3"),
        (spread, "arms[0].deviation: found 0.001, expected 1.13"),
        (gap, "arms[0].difference.mean: found 1.8, expected 0.8"),
        (interval, "arms[0].difference.interval[0]: found 0.7, expected -3.01"),
        (p, "arms[0].difference.p: found 1e-09, expected 0.2"),
        (pairs, "arms[0].difference.seeds: found 30, expected 2"),
        (undone, "arms[0].difference: found None, expected {"),
        (seeds, "arms[0].seeds: found 3 of them, expected 2"),
        (other_seed, "arms[0].correct: found seed 2, expected one of [0, 1]"),
        (too_many, "arms[0].correct.1: found 1001, expected from 0 to 1000"),
        (parameters, "arms[1].parameters: found 7850, expected 500"),
        (order, "arms[0].arm: found 2, expected 1"),
        (effect, "settings[0].mean: found 99.9, expected 91.3"),
        (pooled, "pooled_epochs: found 30, expected 3"),
    ],
)
def test_a_number_typed_by_hand_is_found(
    edit: Callable[[Any], None], said: str, tmp_path: Path
) -> None:
    question = QUESTION | {"recipe": {"epochs": 6, "learning_rate": 0.2}}
    found = [arm(0, [900, 910], None), arm(1, [905, 921], "0.1"), arm(2, [890], "0.2")]
    table = json.loads(json.dumps(log("screen", question, found)))
    path = written(tmp_path, table)
    assert searches(tmp_path)  # as it was, it is sound
    edit(table)
    path.write_text(json.dumps(table))
    with pytest.raises(ReportError, match=re.escape(f"screen.json: {said}")):
        searches(tmp_path)


def test_arms_of_other_networks_have_other_parameters(tmp_path: Path) -> None:
    planned = replace(arm(1, [905], None), values={"plan": "8/8"}, parameters=500)
    written(tmp_path, log("screen", QUESTION, [arm(0, [900], None), planned]))
    assert "| 1 | `plan=8/8` | 500 |" in searches(tmp_path)["screen"]


def test_a_study_whose_first_arm_waits_is_shown(tmp_path: Path) -> None:
    """Its counts are kept, and its differences were taken to them, but it is not listed."""
    waiting = replace(arm(0, [900, 910], None), state="waiting")
    written(tmp_path, log("screen", QUESTION, [waiting, arm(1, [905, 921], "0.1")]))
    assert "| +0.800 [" in searches(tmp_path)["screen"]


def test_without_studies_there_is_nothing(tmp_path: Path) -> None:
    assert searches(tmp_path) == {}


@pytest.mark.parametrize("table", [3, {}, {"question": 3}, [], {"question": {}, "arms": []}])
def test_a_damaged_study_is_one_clear_error(table: Any, tmp_path: Path) -> None:
    path = written(tmp_path, table)
    with pytest.raises(ReportError, match=f"{path.name}.*expected what `search --log` writes"):
        searches(tmp_path)
    path.write_text("{")
    with pytest.raises(ReportError, match="search --log"):
        searches(tmp_path)
    path.write_text(DEEP)
    with pytest.raises(ReportError, match="search --log"):
        searches(tmp_path)
    pipe(path)
    with within(), pytest.raises(ReportError, match=r"no regular file.*search --log"):
        searches(tmp_path)


@pytest.mark.parametrize("difference", [{"mean": 10**400}, {"mean": 0.0, "interval": [1]}])
def test_absurd_numbers_of_a_study_are_damage(difference: Any, tmp_path: Path) -> None:
    table = log("screen", QUESTION, [arm(0, [900], None)])
    table["arms"][0]["difference"] = difference
    written(tmp_path, table)
    with pytest.raises(ReportError, match=r"screen\.json.*search --log"):
        searches(tmp_path)
