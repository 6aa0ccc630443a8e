"""BatchNorm over parts of a batch, as it is taught: its statistics are statistics."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.assignment import CARD
from mnist_models.checks import check_module
from mnist_models.checks.carried import carried
from mnist_models.checks.forwards import BATCH, training_batch
from mnist_models.checks.parameters import count_parameters
from mnist_models.probe import preserved
from tests import zoo

torch.set_num_threads(1)


class Ghost(nn.BatchNorm2d):
    """Normalises each of some parts of a batch, and averages over the parts in evaluation."""

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__(channels)
        self.parts = parts
        self.register_buffer("running_mean", torch.zeros(channels * parts))
        self.register_buffer("running_var", torch.ones(channels * parts))

    def train(self, mode: bool = True) -> Ghost:
        if self.training and not mode:
            self.running_mean = self.one(self.running_mean)
            self.running_var = self.one(self.running_var)
        return super().train(mode)

    def one(self, statistics: Tensor | None) -> Tensor:
        assert statistics is not None
        return statistics.view(self.parts, -1).mean(0).repeat(self.parts)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        assert self.running_mean is not None and self.running_var is not None
        if not self.training:
            mean, variance = self.running_mean[:channels], self.running_var[:channels]
            return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.1)
        parts = x.view(-1, channels * self.parts, height, width)
        weight, bias = self.weight.repeat(self.parts), self.bias.repeat(self.parts)
        result = F.batch_norm(parts, self.running_mean, self.running_var, weight, bias, True, 0.1)
        return result.view(batch, channels, height, width)


class Swaps(Ghost):
    """Puts in evaluation numbers of its own where statistics are expected."""

    def one(self, statistics: Tensor | None) -> Tensor:
        assert statistics is not None
        return torch.linspace(0.5, 2, len(statistics)) + 1e-3 * statistics.mean()


class SwapsHalf(Ghost):
    """Of every other channel."""

    def one(self, statistics: Tensor | None) -> Tensor:
        mean = super().one(statistics)
        return torch.where(torch.arange(len(mean)) % 2 == 0, mean, torch.linspace(1, 2, len(mean)))


def model(kind: type[Ghost], parts: int) -> zoo.Net:
    found = zoo.Net()
    found.bn1, found.bn2 = kind(8, parts), kind(8, parts)
    return found


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_the_parts_of_a_batch_are_no_parameters(parts: int) -> None:
    honest = model(Ghost, parts)
    results, measured = check_module(honest, CARD)
    verdicts = {result.name: result.passed for result in results}
    assert measured.parameters == zoo.HONEST_COUNT
    assert verdicts["batch-norm"] is verdicts["dropout"] is True
    assert carried(honest) == {f"bn{n}.running_{what}" for n in (1, 2) for what in ("mean", "var")}


@pytest.mark.parametrize("kind", [Swaps, SwapsHalf])
def test_what_evaluation_puts_there_instead_counts(kind: type[Ghost]) -> None:
    cheat = model(kind, 2)
    assert carried(cheat) == frozenset()
    with preserved(cheat):
        assert (count_parameters(cheat).total or 0) > zoo.HONEST_COUNT


def test_the_statistics_come_back() -> None:
    honest = model(Ghost, 2).train()
    before, mean = honest.bn1.running_mean, torch.randn(16)
    assert before is not None
    before.copy_(mean)
    carried(honest)
    assert honest.bn1.running_mean is before
    assert torch.equal(before, mean)


def test_a_module_gets_as_many_images_as_it_has_parts() -> None:
    found = {parts: training_batch(model(Ghost, parts).train()) for parts in (1, 2, 16)}
    assert found == {1: BATCH, 2: BATCH, 16: 64}
    assert training_batch(nn.Linear(3, 3)) == BATCH
