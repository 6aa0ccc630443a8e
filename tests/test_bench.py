from __future__ import annotations

import pytest
import torch
from torch import nn

from mnist_models.bench import bench, plain_dropout
from mnist_models.blocks import Dropout
from mnist_models.data import Dataset


def test_contenders_take_turns(digits: Dataset) -> None:
    told: list[int] = []
    result = bench(digits, rounds=2, steps=3, listener=lambda: told.append(1))
    assert len(told) == 6
    assert [timing.name for timing in result.timings] == ["this loop", "notebook", "floor"]
    table = result.to_dict()
    assert (table["rounds"], table["steps_per_round"], table["steps_per_epoch"]) == (2, 3, 23)
    seconds = {name: values["rounds"] for name, values in table["seconds_per_epoch"].items()}
    assert all(value > 0 for values in seconds.values() for value in values)
    speed_up = table["ratios"]["notebook / this loop"]
    expected = [a / b for a, b in zip(seconds["notebook"], seconds["this loop"], strict=True)]
    assert speed_up["rounds"] == pytest.approx(expected)
    assert speed_up["passed"] is (speed_up["median"] >= 2.5)
    overhead = table["ratios"]["this loop / floor"]
    assert overhead["passed"] is (overhead["median"] <= 1.15)


def test_the_notebook_has_torchs_own_dropout() -> None:
    model = plain_dropout(nn.Sequential(nn.Sequential(Dropout(0.2)), nn.ReLU()))
    layer = model.get_submodule("0.0")
    assert type(layer) is nn.Dropout
    assert layer.p == 0.2
    torch.manual_seed(0)
    assert (layer(torch.ones(100)) == 0).any()
