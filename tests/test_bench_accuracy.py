from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnist_models.bench import BenchError, measure_accuracy
from mnist_models.bench.accuracy import ALONE, ROUNDED, STACKED, accuracy_turns
from mnist_models.data import Dataset, Split
from mnist_models.models import EXPERIMENTS
from mnist_models.record import Record
from mnist_models.schema import read
from mnist_models.stack import StackError
from mnist_models.stacked import SIDE_BY_SIDE, train_stacked
from mnist_models.timings import Accuracy
from mnist_models.train import DivergedError, train

OWN = EXPERIMENTS["steps-6"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def measured(few: Dataset) -> tuple[Accuracy, int]:
    """Three seeds, so that the last of them has none beside it."""
    told: list[int] = []
    found = measure_accuracy(few, seeds=range(3), epochs=2, listener=lambda: told.append(1))
    return found, len(told)


def test_every_seed_is_trained_in_every_way(measured: tuple[Accuracy, int]) -> None:
    found, told = measured
    assert told == accuracy_turns(3, 2, CPU) == 2 * (3 + 3 + 2)
    assert list(found.correct) == [ALONE, ROUNDED, STACKED]
    assert found.against == ALONE
    assert (found.experiment, found.epochs, found.total) == ("steps-6", 2, 100)
    assert found.side_by_side == SIDE_BY_SIDE["cpu"] == 2
    assert read(Accuracy, json.loads(json.dumps(found.to_dict()))) == found


def test_each_way_is_what_train_gives(digits: Dataset, tmp_path: Path) -> None:
    """Over epochs enough for the schedule to show: its rate falls after each."""
    short = replace(OWN, recipe=replace(OWN.recipe, epochs=4))
    part = replace(digits, train=Split(digits.train.images[:600], digits.train.labels[:600]))
    found = measure_accuracy(part, seeds=[0, 4], epochs=4)
    records = [train(short, seed, part, tmp_path / str(seed)) for seed in (0, 4)]
    assert found.correct[ALONE] == [record.final.test_correct for record in records]
    stacked = train_stacked(short, {seed: tmp_path / f"stacked-{seed}" for seed in (0, 4)}, part)
    finals = [record.final.test_correct for record in stacked.values() if type(record) is Record]
    assert found.correct[STACKED] == finals


def test_only_one_way_computes_in_bfloat16(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[torch.dtype] = []
    convolve = nn.Conv2d.forward

    def watched(layer: nn.Conv2d, maps: Tensor) -> Tensor:
        found = convolve(layer, maps)
        kinds.append(found.dtype)
        return found

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    measure_accuracy(few, seeds=[0, 1], epochs=1)
    layers = sum(isinstance(layer, nn.Conv2d) for layer in OWN.build().modules())
    run = 4 * layers  # an epoch of 200 images has four steps
    first = kinds.index(torch.bfloat16)
    assert first >= 2 * run  # those in full precision come before
    assert kinds[first : first + run] == [torch.bfloat16] * run
    assert kinds[first + run] is torch.float32  # it is scored so
    assert kinds.count(torch.bfloat16) == 2 * run
    assert set(kinds[-run:]) == {torch.float32}  # side by side


def test_a_loss_that_is_no_number_ends_it(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = replace(OWN, name="wild", recipe=replace(OWN.recipe, learning_rate=1e38))
    monkeypatch.setitem(EXPERIMENTS, "wild", wild)
    with pytest.raises(DivergedError, match="training loss of epoch 1"):
        measure_accuracy(few, seeds=[0, 1], epochs=1, experiment="wild")
    monkeypatch.setattr("mnist_models.bench.accuracy._alone", lambda *arguments: 0)
    with pytest.raises(DivergedError, match="training loss of epoch 1"):
        measure_accuracy(few, seeds=[0, 1], epochs=1, experiment="wild")


def test_one_seed_has_no_spread(few: Dataset) -> None:
    with pytest.raises(BenchError, match="found 1 seed, expected at least 2"):
        measure_accuracy(few, seeds=[3])


def test_what_cannot_go_side_by_side_is_refused_first(few: Dataset) -> None:
    with pytest.raises(StackError, match="attempt-3 cannot be trained stacked"):
        measure_accuracy(few, seeds=[0, 1], experiment="attempt-3")
