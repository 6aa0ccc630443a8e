from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import nn

from mnist_models.bench import BenchError, bench, plain_dropout
from mnist_models.bench.comparison import turns_of
from mnist_models.bench.contenders import ALL
from mnist_models.bench.loops import Loop, Resident
from mnist_models.bench.turns import (
    WARM_UP,
    Told,
    refuse_unfair,
    steps_of_turn,
    stretch,
    take_turns,
)
from mnist_models.blocks import Dropout
from mnist_models.data import Dataset, Split
from mnist_models.models import EXPERIMENTS
from mnist_models.schema import read
from mnist_models.timings import EPOCHS, Bench

CPU = torch.device("cpu")


@dataclass
class Counter:
    """A trainer whose every step takes a second more than the one before, by its own clock."""

    steps: int
    told: int = 0
    clock: float = 0.0

    def epoch(self, told: Told) -> None:
        for _ in range(self.steps):
            self.told += 1
            self.clock += self.told
            told()

    def score(self) -> int:
        return 0

    def tell(self) -> None:
        self.told += 1


@pytest.fixture(scope="module")
def measured(digits: Dataset) -> tuple[Bench, int]:
    """A bench on the stand-in's images, and how often its listener was told."""
    told: list[int] = []
    short = replace(
        digits,
        train=Split(digits.train.images[:700], digits.train.labels[:700]),
        held_out=Split(digits.held_out.images[:40], digits.held_out.labels[:40]),
    )
    result = bench(short, rounds=2, steps=3, full=1, listener=lambda: told.append(1))
    return result, len(told)


def test_contenders_take_turns(measured: tuple[Bench, int]) -> None:
    result, told = measured
    assert told == turns_of(2, 1) == 2 * (len(ALL) + 1) + 3
    floors = {"steps-6: arithmetic floor", "frontier-8k: arithmetic floor"}
    assert set(result.seconds_per_epoch) == {contender.name for contender in ALL} | floors
    table = result.to_dict()
    assert (table["rounds"], table["steps_per_round"]) == (2, 3)
    assert table["steps_per_epoch"] == {"steps-6": 11, "era-v3": 6, "frontier-8k": 11}
    seconds = {name: values["rounds"] for name, values in table["seconds_per_epoch"].items()}
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in seconds.values())
    speed_up = table["ratios"]["steps-6: notebook / this loop"]
    expected = [
        a / b
        for a, b in zip(seconds["steps-6: notebook"], seconds["steps-6: this loop"], strict=True)
    ]
    assert speed_up["rounds"] == pytest.approx(expected)
    assert speed_up["limit"] == ">= 3"
    assert speed_up["passed"] is (speed_up["median"] >= 3)
    overhead = table["ratios"]["steps-6: this loop / compute floor"]
    assert overhead["limit"] == "<= 1.10"
    assert overhead["passed"] is (overhead["median"] <= 1.10)
    others = [r for r in table["ratios"].values() if r not in (speed_up, overhead)]
    assert len(others) == 5
    assert all((ratio["limit"], ratio["passed"]) == ("-", None) for ratio in others)


def test_the_end_follows_from_the_parts(measured: tuple[Bench, int]) -> None:
    result, _ = measured
    trained = {contender.name for contender in ALL if contender.trains}
    assert set(result.to_the_end) == set(result.start_up) == set(result.scoring) == trained
    for name, end in result.to_the_end.items():
        parts = (result.start_up[name], result.seconds_per_epoch[name], result.scoring[name])
        for number, found in enumerate(end.rounds):
            start_up, epoch, scoring = (part.rounds[number] for part in parts)
            assert found == pytest.approx(start_up + EPOCHS * (epoch + scoring))
    ratio = result.to_the_end_ratios["era-v3: notebook / this loop"]
    loops = (result.to_the_end[f"era-v3: {what}"].rounds for what in ("notebook", "this loop"))
    assert ratio.rounds == pytest.approx([a / b for a, b in zip(*loops, strict=True)])
    assert ratio.passed is None


def test_the_arithmetic_floor_is_counted_over_measured(measured: tuple[Bench, int]) -> None:
    result, _ = measured
    floor = result.seconds_per_epoch["steps-6: arithmetic floor"]
    work = result.flops_per_step["steps-6"] * 11
    expected = [work / rate for rate in result.matrix_rate.rounds]
    assert floor.rounds == pytest.approx(expected)


def test_trainings_that_really_ran(measured: tuple[Bench, int]) -> None:
    full = measured[0].full
    assert full is not None
    names = {"steps-6: this loop", "steps-6: notebook", "steps-6: plain loop"}
    assert set(full.seconds) == set(full.correct) == names
    assert (full.epochs, full.total) == (1, 40)
    assert all(0 <= correct <= 40 for correct in full.correct.values())
    seconds = full.seconds
    assert full.ratios == {
        "steps-6: notebook / this loop": pytest.approx(
            seconds["steps-6: notebook"] / seconds["steps-6: this loop"]
        ),
        "steps-6: plain loop / this loop": pytest.approx(
            seconds["steps-6: plain loop"] / seconds["steps-6: this loop"]
        ),
    }


def test_what_is_printed_can_be_read_again(measured: tuple[Bench, int]) -> None:
    result, _ = measured
    assert read(Bench, json.loads(json.dumps(result.to_dict()))) == result
    assert result.provenance.device.startswith("cpu: ")
    assert "torch" in result.provenance.versions


def test_no_worker_is_left(measured: tuple[Bench, int]) -> None:
    assert measured
    assert multiprocessing.active_children() == []


def test_every_contender_begins_a_round_as_often() -> None:
    order: list[str] = []

    def turn(name: str) -> int:
        order.append(name)
        return len(order)

    given = take_turns({name: partial(turn, name) for name in "abc"}, 4, lambda: None)
    assert "".join(order) == "abcbcacababc"
    assert given == {"a": [1, 6, 8, 10], "b": [2, 4, 9, 11], "c": [3, 5, 7, 12]}


def test_only_the_steps_after_the_warm_up_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Counter(20)
    monkeypatch.setattr("mnist_models.bench.turns.now", lambda device: trainer.clock)
    first, seconds = stretch(trainer, 3, CPU)
    assert trainer.told == WARM_UP + 3 == 8  # and no more
    assert (first, seconds) == (1, 6 + 7 + 8)


def test_a_turn_that_does_not_fit_is_refused(digits: Dataset) -> None:
    assert stretch(Counter(WARM_UP + 3), 3, CPU)
    with pytest.raises(BenchError, match="ended before 8 steps"):
        stretch(Counter(WARM_UP + 2), 3, CPU)
    refuse_unfair(18, 64, 1_437)
    with pytest.raises(
        BenchError, match="19 steps and 5 to warm up do not fit into an epoch of 23"
    ):
        refuse_unfair(19, 64, 1_437)
    with pytest.raises(BenchError, match="do not fit into an epoch of 12 steps"):
        bench(digits, rounds=1, steps=16)  # 8 of era-v3, whose batches are twice as large


def test_a_turn_has_as_many_images_for_everyone() -> None:
    assert [steps_of_turn(96, batch) for batch in (64, 128, 32)] == [96, 48, 192]
    assert steps_of_turn(1, 128) == 1


def test_this_loop_is_the_loop_that_trains(few: Dataset) -> None:
    experiment = EXPERIMENTS["steps-6"]
    loop = Loop(experiment, few, CPU)
    counter = Counter(0)
    loop.epoch(counter.tell)
    assert counter.told == 4  # 200 images in batches of 64
    assert loop.run.learning_rate == pytest.approx(0.01 * 0.65)  # the schedule of its recipe
    assert 0 <= loop.score() <= 100


def test_the_floor_trains_on_one_batch_alone(few: Dataset) -> None:
    floor = Resident(EXPERIMENTS["steps-6"], few, CPU)
    images, before = floor.batch[0].clone(), [p.clone() for p in floor.run.model.parameters()]
    floor.epoch(lambda: None)
    assert torch.equal(floor.batch[0], images)
    pairs = zip(before, floor.run.model.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in pairs)


def test_the_notebook_has_torchs_own_dropout() -> None:
    model = plain_dropout(nn.Sequential(nn.Sequential(Dropout(0.2)), nn.ReLU()))
    layer = model.get_submodule("0.0")
    assert type(layer) is nn.Dropout
    assert layer.p == 0.2
    torch.manual_seed(0)
    assert (layer(torch.ones(100)) == 0).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
def test_all_contenders_run_on_a_gpu(digits: Dataset) -> None:
    result = bench(digits.to("cuda"), rounds=1, steps=3, full=1)
    assert result.provenance.device.startswith("cuda: ")
    assert all(ratio.passed is None for ratio in result.ratios.values())  # limits are for a CPU
