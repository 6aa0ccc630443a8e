"""Studies: arms that are asked, trained, pruned, refused, kept, and gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from mnist_models import data
from mnist_models.data import Dataset
from mnist_models.job import Source
from mnist_models.record import find_records, load_record
from mnist_models.search import loop
from mnist_models.search.log import log
from mnist_models.search.loop import Effort, pooled, search
from mnist_models.search.space import SpaceError, read_setting
from mnist_models.search.study import Arm, Question, SearchError, arms, load_study
from mnist_models.sweep import Listener

from .runners import QUICK

FOUR = replace(QUICK, recipe=replace(QUICK.recipe, epochs=4))  # one more than are pooled
RATES = ("learning_rate=0.1,0.01,0.001",)


@pytest.fixture(scope="module")
def validation() -> Dataset:
    return data.load("digits", validation=True)


@pytest.fixture
def question(validation: Dataset, tmp_path: Path) -> Question:
    return Question(FOUR, {}, (0, 1), validation, tmp_path)


def effort(*settings: str, **options: Any) -> Effort:
    standard: dict[str, Any] = {
        "settings": [read_setting(text) for text in settings],
        "arms": None,
        "batch": 2,
        "sampler": "random",
        "prune": False,
        "source": Source("digits", None, True, "cpu"),
        "threads": torch.get_num_threads(),
    }
    return Effort(**standard | options)


def run(question: Question, effort: Effort, name: str = "study") -> list[Arm]:
    def listener(epochs: int, runs: int) -> Listener:
        batches.append((epochs, runs))
        return lambda progress: None

    batches: list[tuple[int, int]] = []
    with ThreadPoolExecutor(1) as executor:
        study = load_study(question.out, name, question)
        found = list(search(study, question, effort, executor, listener))
    assert found == [arms(study)[arm.number] for arm in found]
    run.batches = batches  # type: ignore[attr-defined] # for the one test that looks
    return found


def test_every_combination_is_an_arm_and_the_first_is_the_experiment_itself(
    question: Question,
) -> None:
    found = run(question, effort(*RATES, "momentum=0.5,0.9"))
    assert [arm.number for arm in found] == list(range(7))
    assert found[0].values == {}
    assert found[1].values == {"learning_rate": "0.1", "momentum": "0.5"}
    assert len({tuple(arm.values.values()) for arm in found}) == 7
    assert {arm.state for arm in found} == {"finished"}
    assert {arm.parameters for arm in found} == {7_850}
    assert run.batches == [(16, 4), (16, 4), (16, 4), (8, 2)]  # type: ignore[attr-defined] # above


def test_an_arms_score_is_that_of_its_records(question: Question) -> None:
    found = run(question, effort("learning_rate=0.01"))
    records = [load_record(folder) for folder in find_records(question.out)]
    assert len(records) == 4
    assert {record.data.split for record in records} == {"validation"}
    for arm in found:
        rate = float(arm.values.get("learning_rate", FOUR.recipe.learning_rate))
        own = [record for record in records if record.recipe["learning_rate"] == rate]
        assert arm.correct == {record.seed: pooled(record) for record in own}
        assert arm.total == own[0].final.test_total == 140
        assert arm.mean == pytest.approx(100 * sum(arm.correct.values()) / 2 / 140)
        last = [epoch.test_correct for epoch in own[0].epochs[1:]]
        assert pooled(own[0]) == pytest.approx(sum(last) / 3)


def test_what_is_finished_is_not_trained_again(question: Question) -> None:
    first = run(question, effort("learning_rate=0.01"))
    written = {path: path.stat().st_mtime_ns for path in question.out.rglob("record.json")}
    assert run(question, effort("learning_rate=0.01")) == []
    more = run(question, effort("learning_rate=0.01,0.001"))
    assert [arm.values for arm in more] == [{"learning_rate": "0.001"}]
    for path, time in written.items():
        assert path.stat().st_mtime_ns == time
    other = run(question, effort("learning_rate=0.01"), "another")  # asks again, trains nothing
    assert [(arm.values, arm.correct) for arm in other] == [
        (arm.values, arm.correct) for arm in first
    ]
    for path, time in written.items():
        assert path.stat().st_mtime_ns == time


def test_arms_that_were_begun_are_ended_first(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> Iterator[Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "sweep", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(question, effort(*RATES))
    study = load_study(question.out, "study")
    assert [arm.state for arm in arms(study)] == ["waiting"] * 4
    running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert [trial.number for trial in running] == [0, 1]
    found = run(question, effort(*RATES))
    assert [arm.number for arm in found] == [0, 1, 2, 3]
    assert {arm.state for arm in found} == {"finished"}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_arms_are_sampled_from_ranges(question: Question, sampler: str) -> None:
    settings = ("learning_rate=0.001..0.1", "batch_size=400..600", "momentum=0.5,0.9")
    first = run(question, effort(*settings, arms=4, sampler=sampler))
    assert len(first) == 4
    assert first[0].values == {}
    more = run(question, effort(*settings, arms=6, sampler=sampler))
    assert [arm.number for arm in more] == [4, 5]
    sampled = [arm.values for arm in (*first[1:], *more)]
    assert len({str(values) for values in sampled}) == 5
    for values in sampled:
        assert 0.001 <= float(values["learning_rate"]) <= 0.1
        assert values["batch_size"] in range(400, 601)
        assert values["momentum"] in ("0.5", "0.9")


def test_more_combinations_than_arms_are_sampled(question: Question) -> None:
    found = run(question, effort(*RATES, "momentum=0.1,0.5,0.9", arms=5))
    assert len(found) == 5
    listed = [{"learning_rate": "0.1", "momentum": value} for value in ("0.1", "0.5", "0.9")]
    assert [arm.values for arm in found[1:4]] != listed  # not simply the first ones


def test_an_arm_below_the_median_gets_no_further_seed(question: Question) -> None:
    rates = ",".join(f"0.{digit}" for digit in range(1, 7))
    run(question, effort(f"learning_rate={rates}"))
    found = run(question, effort(f"learning_rate={rates},0.000001", prune=True))
    assert [(arm.state, list(arm.correct)) for arm in found] == [("pruned", [0])]
    found = run(question, effort(f"learning_rate={rates},0.0000001"))
    assert [(arm.state, list(arm.correct)) for arm in found] == [("finished", [0, 1])]


def test_what_breaks_the_assignment_is_refused_without_training(
    question: Question, validation: Dataset
) -> None:
    limits = replace(FOUR.assignment, batch_norm="once")
    base = replace(FOUR, assignment=limits)
    found = run(replace(question, base=base), effort("learning_rate=0.01"))
    assert {arm.state for arm in found} == {"refused"}
    assert found[0].cause.startswith("batch-norm: ")
    assert found[0].correct == {}
    long = run(replace(question, fixed={"epochs": "16"}), effort("learning_rate=0.01"), "long")
    assert {arm.cause for arm in long} == {"epochs: 16, expected <= 15"}
    assert find_records(question.out) == []


def test_an_arm_that_diverges_is_reported_and_the_others_go_on(question: Question) -> None:
    found = run(question, effort("learning_rate=1e38,0.01"))
    states = {arm.values.get("learning_rate"): arm.state for arm in found}
    assert states == {None: "finished", "1e38": "failed", "0.01": "finished"}
    [failed] = [arm for arm in found if arm.state == "failed"]
    assert "DivergedError" in failed.cause


def test_a_slip_costs_nothing(question: Question) -> None:
    with pytest.raises(SpaceError, match="no setting 'rate'"):
        run(question, effort("learning_rate=0.1", "rate=1"))
    with pytest.raises(SpaceError, match="expected a whole number"):
        run(question, effort("batch_size=64,0.5"))
    assert arms(load_study(question.out, "study")) == []


def test_a_study_has_one_question(question: Question) -> None:
    load_study(question.out, "study", question)
    load_study(question.out, "study", question)
    for other, said in (
        (replace(question, seeds=(0, 1, 2)), "another seeds"),
        (replace(question, fixed={"epochs": "2"}), "another fixed, recipe"),
    ):
        with pytest.raises(SearchError, match=f"begun with {said}; choose another --study"):
            load_study(question.out, "study", other)


def test_what_is_no_study_is_refused(question: Question) -> None:
    with pytest.raises(SearchError, match="no search has written there yet"):
        load_study(question.out, "study")
    load_study(question.out, "study", question)
    with pytest.raises(SearchError, match="no study 'other'; there are: study"):
        load_study(question.out, "other")
    database = question.out / "search.db"
    database.write_bytes(b"no database at all, but long enough to look at")
    for asked in (None, question):
        with pytest.raises(SearchError, match="cannot be read as a study"):
            load_study(question.out, "study", asked)
    assert database.read_bytes().startswith(b"no database")


def arm(number: int, correct: Sequence[float], rate: str | None) -> Arm:
    values = {} if rate is None else {"learning_rate": rate}
    scores = dict(enumerate(correct))
    return Arm(number, values, "finished", 7_850, scores, total=1_000)


def test_the_log_compares_with_the_first_arm_over_the_same_seeds() -> None:
    table = log("s", {"seeds": [0, 1, 2]}, [
        arm(0, [900, 910, 920], None),
        arm(1, [910, 918, 932], "0.1"),
        arm(2, [905], "0.2"),
        arm(3, [], "0.3"),
    ])  # fmt: skip
    first, second, third, none = table["arms"]
    assert first["difference"] is None
    assert first["mean"] == pytest.approx(91.0)
    assert first["deviation"] == pytest.approx(1.0)
    assert second["difference"]["mean"] == pytest.approx(1.0)
    assert second["difference"]["seeds"] == 3
    low, high = second["difference"]["interval"]  # of 10, 8, 12: mean 10, sd 2, t(2) 4.3027
    assert (low, high) == pytest.approx((1 - 0.49683, 1 + 0.49683), abs=1e-4)
    assert second["difference"]["p"] == pytest.approx(0.01307, abs=1e-4)
    assert third["difference"] == {"seeds": 1, "mean": 0.5, "interval": None, "p": None}
    assert (third["deviation"], none["mean"], none["difference"]) == (None, None, None)


def test_the_log_gives_the_mean_of_each_value() -> None:
    found = [arm(0, [900], None), arm(1, [910], "0.1"), arm(2, [930], "0.1"), arm(3, [850], "0.2")]
    sampled = Arm(4, {"learning_rate": 0.123}, "finished", 1, {0: 999}, total=1_000)
    assert log("s", {}, [*found, sampled])["settings"] == [
        {
            "setting": "learning_rate",
            "value": "0.1",
            "arms": 2,
            "mean": pytest.approx(92.0),
            "deviation": pytest.approx(2**0.5),
        },
        {
            "setting": "learning_rate",
            "value": "0.2",
            "arms": 1,
            "mean": pytest.approx(85.0),
            "deviation": None,
        },
    ]
