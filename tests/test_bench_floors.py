from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mnist_models.bench.floors import Matrices, flops_per_step
from mnist_models.data import Dataset
from mnist_models.models import EXPERIMENTS


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))


def test_operations_are_counted_forward_and_backward(few: Dataset) -> None:
    experiment = replace(EXPERIMENTS["steps-6"], build=flat)
    first, second = (2 * 64 * inputs * outputs for inputs, outputs in ((784, 20), (20, 10)))
    # Forward, gradient of the weights, and gradient of the input, which the first layer needs not.
    assert flops_per_step(experiment, few) == 2 * first + 3 * second


def test_more_work_is_more_operations(few: Dataset) -> None:
    counts = {name: flops_per_step(EXPERIMENTS[name], few) for name in ("steps-6", "era-v3")}
    assert 0 < 2 * counts["steps-6"] < counts["era-v3"]


def test_the_matrix_rate_is_that_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = Matrices(torch.device("cpu"))
    times = iter((10.0, 12.0))
    monkeypatch.setattr("mnist_models.bench.floors.now", lambda device: next(times))
    assert matrices.rate() == 4 * 2 * matrices.side**3 / 2.0
