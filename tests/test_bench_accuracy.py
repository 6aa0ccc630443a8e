from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnist_models.bench import BenchError, measure_accuracy
from mnist_models.bench.accuracy import ALONE, ROUNDED, SIDE_BY_SIDE, STACKED, accuracy_turns
from mnist_models.data import Dataset
from mnist_models.models import EXPERIMENTS
from mnist_models.schema import read
from mnist_models.timings import Accuracy
from mnist_models.train import train

OWN = EXPERIMENTS["steps-6"]


@pytest.fixture(scope="module")
def measured(few: Dataset) -> tuple[Accuracy, int]:
    """Six seeds, so that one group is full and one is not."""
    told: list[int] = []
    found = measure_accuracy(few, seeds=range(6), epochs=2, listener=lambda: told.append(1))
    return found, len(told)


def test_every_seed_is_trained_in_every_way(measured: tuple[Accuracy, int]) -> None:
    found, told = measured
    assert told == accuracy_turns(6, 2) == 2 * (6 + 2 + 2)
    assert list(found.correct) == [ALONE, STACKED, ROUNDED]
    assert found.against == ALONE
    assert (found.experiment, found.epochs, found.total) == ("steps-6", 2, 100)
    assert read(Accuracy, json.loads(json.dumps(found.to_dict()))) == found


def test_alone_is_what_train_gives(digits: Dataset, tmp_path: Path) -> None:
    """Over epochs enough for the schedule to show: its rate falls after each."""
    short = replace(OWN, recipe=replace(OWN.recipe, epochs=4))
    records = [train(short, seed, digits, tmp_path / str(seed)) for seed in (0, 4)]
    found = measure_accuracy(digits, seeds=[0, 4], epochs=4)
    assert found.correct[ALONE] == [record.final.test_correct for record in records]


def test_side_by_side_each_seed_is_its_own(measured: tuple[Accuracy, int]) -> None:
    correct = measured[0].correct
    for alone, stacked in zip(correct[ALONE], correct[STACKED], strict=True):
        assert abs(alone - stacked) <= 3  # of 100: another order of the same sums
    assert len(set(correct[ALONE])) > 1  # which would not do, were all seeds one


def test_only_the_last_way_computes_in_bfloat16(
    few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[int, list[torch.dtype]] = {}
    convolve = nn.Conv2d.forward

    def watched(layer: nn.Conv2d, maps: Tensor) -> Tensor:
        found = convolve(layer, maps)
        if layer.training:
            kinds.setdefault(layer.groups, []).append(found.dtype)
        return found

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    measure_accuracy(few, seeds=range(SIDE_BY_SIDE), epochs=1)
    assert set(kinds) == {1, SIDE_BY_SIDE}
    assert set(kinds[1]) == {torch.float32}
    layers = sum(isinstance(layer, nn.Conv2d) for layer in OWN.build().modules())
    rounded = 4 * layers  # an epoch of 200 images has four steps
    assert set(kinds[SIDE_BY_SIDE][:-rounded]) == {torch.float32}
    assert kinds[SIDE_BY_SIDE][-rounded:] == [torch.bfloat16] * rounded


def test_one_seed_has_no_spread(few: Dataset) -> None:
    with pytest.raises(BenchError, match="found 1 seeds, expected at least 2"):
        measure_accuracy(few, seeds=[3])
