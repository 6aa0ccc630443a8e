"""Studies: arms that are asked, trained, pruned, refused, kept, and gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from mnist_models import data
from mnist_models.data import Dataset, Source
from mnist_models.job import Job, work
from mnist_models.models.funnel import funnel
from mnist_models.record import find_records, load_record
from mnist_models.search import loop
from mnist_models.search.arm import Arm
from mnist_models.search.log import log
from mnist_models.search.loop import Effort, pooled, search
from mnist_models.search.space import SpaceError, read_setting
from mnist_models.search.study import Question, SearchError, arms, load_study, storage_of
from mnist_models.sweep import Listener

from .runners import QUICK

FOUR = replace(QUICK, recipe=replace(QUICK.recipe, epochs=4))  # one more than are pooled
RATES = ("learning_rate=0.1,0.01,0.001",)


@pytest.fixture(scope="module")
def validation() -> Dataset:
    return data.load("digits", validation=True)


@pytest.fixture
def question(validation: Dataset, tmp_path: Path) -> Question:
    return Question(FOUR, {}, (0, 1), (), validation, tmp_path)


def varied(question: Question, *settings: str) -> Question:
    return replace(question, settings=tuple(read_setting(text) for text in settings))


def effort(**options: Any) -> Effort:
    standard: dict[str, Any] = {
        "arms": None,
        "batch": 2,
        "sampler": "random",
        "prune": False,
        "source": Source("digits", None, True, "cpu"),
        "threads": torch.get_num_threads(),
    }
    return Effort(**standard | options)


def run(question: Question, *settings: str, name: str = "study", **options: Any) -> list[Arm]:
    def listener(epochs: int, runs: int) -> Listener:
        batches.append((epochs, runs))
        return lambda progress: None

    question = varied(question, *settings)
    batches: list[tuple[int, int]] = []
    with ThreadPoolExecutor(1) as executor:
        study = load_study(question.out, name, question)
        found = list(search(study, question, effort(**options), executor, listener))
    assert found == [arms(study)[arm.number] for arm in found]
    run.batches = batches  # type: ignore[attr-defined] # for the one test that looks
    return found


def test_every_combination_is_an_arm_and_the_first_is_the_experiment_itself(
    question: Question,
) -> None:
    found = run(question, *RATES, "momentum=0.5,0.9")
    assert [arm.number for arm in found] == list(range(7))
    assert found[0].values == {}
    assert found[1].values == {"learning_rate": "0.1", "momentum": "0.5"}
    assert len({tuple(arm.values.values()) for arm in found}) == 7
    assert {arm.state for arm in found} == {"finished"}
    assert {arm.parameters for arm in found} == {7_850}
    assert run.batches == [(16, 4), (16, 4), (16, 4), (8, 2)]  # type: ignore[attr-defined] # above


def test_an_arms_score_is_that_of_its_records(question: Question) -> None:
    found = run(question, "learning_rate=0.01")
    records = [load_record(folder) for folder in find_records(question.out)]
    assert len(records) == 4
    assert {record.data.split for record in records} == {"validation"}
    for arm in found:
        rate = float(arm.values.get("learning_rate", FOUR.recipe.learning_rate))
        own = [record for record in records if record.recipe["learning_rate"] == rate]
        assert arm.correct == {record.seed: pooled(record)[0] for record in own}
        assert arm.loss == {record.seed: pooled(record)[1] for record in own}
        assert arm.total == own[0].final.test_total == 140
        assert arm.mean == pytest.approx(100 * sum(arm.correct.values()) / 2 / 140)
        last = [epoch.test_correct for epoch in own[0].epochs[1:]]
        assert pooled(own[0])[0] == pytest.approx(sum(last) / 3)
        losses = [epoch.test_loss for epoch in own[0].epochs[1:]]
        assert pooled(own[0])[1] == pytest.approx(sum(losses) / 3)


def test_an_arm_that_changes_nothing_is_the_first(question: Question) -> None:
    own = FOUR.recipe.learning_rate
    found = run(question, f"learning_rate={own},{own}0,0.01")
    assert [arm.values for arm in found] == [{}, {"learning_rate": "0.01"}]


def test_what_is_finished_is_not_trained_again(question: Question) -> None:
    first = run(question, "learning_rate=0.01")
    written = {path: path.stat().st_mtime_ns for path in question.out.rglob("record.json")}
    assert run(question, "learning_rate=0.01") == []
    more = run(question, "learning_rate=0.01,0.001")
    assert [arm.values for arm in more] == [{"learning_rate": "0.001"}]
    for path, time in written.items():
        assert path.stat().st_mtime_ns == time
    other = run(question, "learning_rate=0.01", name="another")  # asks again, trains nothing
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
            run(question, *RATES)
    study = load_study(question.out, "study")
    assert [arm.state for arm in arms(study)] == ["waiting"] * 3  # one rate is the arm's own
    running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert [trial.number for trial in running] == [0, 1]
    found = run(question, *RATES)
    assert [arm.number for arm in found] == [0, 1, 2]
    assert {arm.state for arm in found} == {"finished"}


def test_arms_may_be_listed_one_by_one(question: Question) -> None:
    listed = ({"learning_rate": "0.01", "momentum": "0.5"}, {"batch_size": "400"})
    found = run(replace(question, listed=listed))
    assert [arm.values for arm in found] == [{}, *listed]
    assert all(arm.correct.keys() == arm.loss.keys() == {0, 1} for arm in found)
    more = run(replace(question, listed=(*listed, {"batch_size": "500"})))
    assert [arm.values for arm in more] == [{"batch_size": "500"}]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_arms_are_sampled_from_ranges(question: Question, sampler: str) -> None:
    settings = ("learning_rate=0.001..0.1", "batch_size=400..600", "momentum=0.5,0.9")
    first = run(question, *settings, arms=4, sampler=sampler)
    assert len(first) == 4
    assert first[0].values == {}
    more = run(question, *settings, arms=6, sampler=sampler)
    assert [arm.number for arm in more] == [4, 5]
    sampled = [arm.values for arm in (*first[1:], *more)]
    assert len({str(values) for values in sampled}) == 5
    for values in sampled:
        assert 0.001 <= float(values["learning_rate"]) <= 0.1
        assert values["batch_size"] in range(400, 601)
        assert values["momentum"] in ("0.5", "0.9")


def test_more_combinations_than_arms_are_sampled(question: Question) -> None:
    found = run(question, *RATES, "momentum=0.1,0.5,0.9", arms=5)
    assert len(found) == 5
    listed = [{"learning_rate": "0.1", "momentum": value} for value in ("0.1", "0.5", "0.9")]
    assert [arm.values for arm in found[1:4]] != listed  # not simply the first ones
    more = run(question, *RATES, "momentum=0.1,0.5,0.9", arms=8)
    assert len(more) == 3
    rest = run(question, *RATES, "momentum=0.1,0.5,0.9")
    assert len(rest) == 2
    every = [tuple(arm.values.items()) for arm in (*found, *more, *rest)]
    assert len(set(every)) == 10  # the experiment itself, and each of nine combinations once


def test_an_arm_below_the_median_gets_no_further_seed(question: Question) -> None:
    rates = ",".join(f"0.{digit}" for digit in range(1, 7))
    run(question, f"learning_rate={rates}")
    found = run(question, f"learning_rate={rates},0.000001", prune=True)
    assert [(arm.state, list(arm.correct)) for arm in found] == [("pruned", [0])]
    found = run(question, f"learning_rate={rates},0.0000001")
    assert [(arm.state, list(arm.correct)) for arm in found] == [("finished", [0, 1])]


def test_what_breaks_the_assignment_is_refused_without_training(
    question: Question, validation: Dataset
) -> None:
    limits = replace(FOUR.assignment, batch_norm="once")
    base = replace(FOUR, assignment=limits)
    found = run(replace(question, base=base), "learning_rate=0.01")
    assert {arm.state for arm in found} == {"refused"}
    assert found[0].cause.startswith("batch-norm: ")
    assert found[0].correct == {}
    long = run(replace(question, fixed={"epochs": "16"}), "learning_rate=0.01", name="long")
    assert {arm.cause for arm in long} == {"epochs: 16, expected <= 15"}
    assert find_records(question.out) == []


def test_an_arm_that_diverges_is_reported_and_the_others_go_on(question: Question) -> None:
    found = run(question, "learning_rate=1e38,0.01")
    states = {arm.values.get("learning_rate"): arm.state for arm in found}
    assert states == {None: "finished", "1e38": "failed", "0.01": "finished"}
    [failed] = [arm for arm in found if arm.state == "failed"]
    assert "DivergedError" in failed.cause


def test_a_slip_costs_nothing(question: Question) -> None:
    with pytest.raises(SpaceError, match="no setting 'rate'"):
        run(question, "learning_rate=0.1", "rate=1")
    with pytest.raises(SpaceError, match="expected a whole number"):
        run(question, "batch_size=64,0.5", name="other")
    with pytest.raises(SpaceError, match=r"no two whole numbers within 1\.2"):
        run(question, "batch_size=1.2..1.9", name="third", arms=2)
    with pytest.raises(SpaceError, match="plan=4x: no network can be made of it"):
        base = replace(FOUR, build=partial(funnel, "4/4"))
        run(replace(question, base=base), "plan=4/4,4x", name="fourth")
    with pytest.raises(SpaceError, match="batch_size=0: no recipe has batch_size = 0"):
        run(question, "batch_size=0", name="fifth")
    assert all(
        arms(load_study(question.out, name)) == []
        for name in ("study", "other", "third", "fourth", "fifth")
    )


def test_a_study_has_one_question(question: Question) -> None:
    question = varied(question, "momentum=0.5")
    load_study(question.out, "study", question)
    load_study(question.out, "study", varied(question, "momentum=0.5,0.9"))  # a list may grow
    for other, said in (
        (replace(question, seeds=(0, 1, 2)), "another seeds"),
        (replace(question, fixed={"epochs": "2"}), "another fixed, recipe"),
        (varied(question, "learning_rate=0.5"), "another settings"),
        (varied(question, "momentum=0.5..0.9"), "another settings"),
    ):
        with pytest.raises(SearchError, match=f"begun with {said}; choose another --study"):
            load_study(question.out, "study", other)


def test_what_is_no_study_is_refused(question: Question) -> None:
    with pytest.raises(SearchError, match="no search has written there yet"):
        load_study(question.out, "study")
    load_study(question.out, "study", question)
    with pytest.raises(SearchError, match="no study 'other'; there are: study"):
        load_study(question.out, "other")
    optuna.create_study(storage=storage_of(question.out / "search.db"), study_name="killed")
    with pytest.raises(SearchError, match="study 'killed' was never begun"):
        load_study(question.out, "killed")
    database = question.out / "search.db"
    database.write_bytes(b"no database at all, but long enough to look at")
    for asked in (None, question):
        with pytest.raises(SearchError, match=r"cannot be used as a study: .*not a database"):
            load_study(question.out, "study", asked)
    assert database.read_bytes().startswith(b"no database")


def test_a_database_that_is_lost_meanwhile_is_one_clear_error(question: Question) -> None:
    question = varied(question, *RATES)
    study = load_study(question.out, "study", question)
    with ThreadPoolExecutor(1) as executor:
        going = search(study, question, effort(), executor, lambda *_: lambda progress: None)
        next(going)
        (question.out / "search.db").write_bytes(b"no database at all, but long enough to look at")
        with pytest.raises(SearchError, match="cannot be used as a study"):
            list(going)


def test_an_arm_that_was_asked_but_never_drawn_is_drawn(question: Question) -> None:
    question = varied(question, "learning_rate=0.01..0.1")
    study = load_study(question.out, "study", question)
    loop.enqueue(study, question, 3)
    for _ in range(2):
        study.ask()  # and killed before the values of the second were kept
    found = run(question, "learning_rate=0.01..0.1", arms=3)
    assert [len(arm.values) for arm in found] == [0, 1, 1]
    assert {arm.state for arm in found} == {"finished"}


def test_what_failed_is_tried_again_and_its_other_seeds_are_kept(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(jobs: Sequence[Job]) -> Any:
        if jobs[0].seed == 1:
            raise OSError("disk full")
        return work(jobs)

    with monkeypatch.context() as patch:
        patch.setattr("mnist_models.sweep.work", full)
        found = run(question, "momentum=0.5")
    assert [(arm.state, list(arm.correct)) for arm in found] == [("failed", [0])] * 2
    assert "seed 1: OSError: disk full" in found[0].cause
    again = run(question, "momentum=0.5")
    assert [(arm.state, list(arm.correct)) for arm in again] == [("finished", [0, 1])] * 2
    assert [dict(arm.values) for arm in again] == [dict(arm.values) for arm in found]


QUESTION: dict[str, Any] = {"recipe": {"epochs": 15}}


def test_the_log_says_how_many_epochs_were_pooled() -> None:
    assert log("s", QUESTION, [arm(0, [900], None)])["pooled_epochs"] == 3
    short = {"recipe": {"epochs": 2}}
    assert log("s", short, [arm(0, [900], None)])["pooled_epochs"] == 2


def arm(number: int, correct: Sequence[float], rate: str | None) -> Arm:
    values = {} if rate is None else {"learning_rate": rate}
    scores = dict(enumerate(correct))
    losses = {seed: 1 - right / 1_000 for seed, right in scores.items()}
    return Arm(number, values, "finished", 7_850, scores, total=1_000, loss=losses)


def test_the_log_compares_with_the_first_arm_over_the_same_seeds() -> None:
    table = log("s", QUESTION, [
        arm(0, [900, 910, 920], None),
        arm(1, [910, 918, 932], "0.1"),
        arm(2, [905], "0.2"),
        arm(3, [], "0.3"),
    ])  # fmt: skip
    assert [row["arm"] for row in table["arms"]] == [1, 0, 2, 3]  # best first
    first, second, third, none = sorted(table["arms"], key=lambda row: row["arm"])
    assert first["difference"] is None
    assert first["mean"] == pytest.approx(91.0)
    assert first["deviation"] == pytest.approx(1.0)
    assert (first["loss"], none["loss"]) == (pytest.approx(0.09), None)
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
    pruned = replace(arm(5, [999], "0.1"), state="pruned")
    table = log("s", QUESTION, [*found, sampled, pruned])
    assert table["arms"][-1]["arm"] == 5  # on fewer seeds than the others
    waiting = replace(arm(6, [], "0.1"), state="waiting")
    assert log("s", QUESTION, [*found, sampled, pruned, waiting]) == table
    assert table["settings"] == [
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
