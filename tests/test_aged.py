"""Networks that keep a state of their own: as it was for each forward, and as it will be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.assignment import CARD
from mnist_models.checks import check_module
from mnist_models.checks.aged import aged
from mnist_models.probe import digits, run
from tests import zoo


class Counts(nn.Module):
    """Counts its steps in every way there is."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.left, self.rate, self.flag, self.side = 3, 5, 0.5, False, 7
        self.plain, self.mean = torch.zeros(1), torch.zeros(4)
        self.register_buffer("batches", torch.tensor(2))
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self.left -= 1
            self.rate *= 0.5
            self.flag = True
            self.plain = self.plain + 2
            self.mean = 0.9 * self.mean + 0.1
            self.batches += 1
            self.last = torch.ones(1)
        return torch.as_tensor(self.norm(x))


def state(model: Counts) -> list[object]:
    norm = model.norm.num_batches_tracked
    assert norm is not None
    return [
        *(model.steps, model.left, model.rate, model.side),
        *(model.plain.item(), model.batches.item(), norm.item(), model.mean.tolist()),
    ]


def test_what_counts_has_counted_on_and_comes_back() -> None:
    model = Counts()
    before, plain = state(model), model.plain
    with aged(model, 4):
        assert state(model) == [
            *(10_003, -9_995, 0.5 - 2_500, 7),
            *(20_000, 10_002, 10_000, [0.0] * 4),
        ]
        assert model.plain is plain
    assert state(model) == before
    assert model.plain is plain


def test_numbers_that_no_float_holds_come_back_whole() -> None:
    model = Counts()
    model.steps, model.side = 2**60 + 1, 10**400
    model.batches = torch.tensor(2**60 + 1)
    with aged(model, 4):
        assert model.left == -9_995
    assert (model.steps, model.side, int(model.batches)) == (2**60 + 1, 10**400, 2**60 + 1)


def test_it_comes_back_after_an_error_too() -> None:
    model = Counts()
    before = state(model)
    with pytest.raises(KeyError), aged(model, 4):
        raise KeyError
    assert state(model) == before
    model.norm = nn.BatchNorm2d(3)
    with pytest.raises(RuntimeError, match="running_mean"), aged(model, 4):
        pytest.fail("its forward fails")
    assert model.steps == 3


@pytest.mark.parametrize("training", [True, False])
def test_each_forward_finds_the_tensors_as_they_were(training: bool) -> None:
    model = Counts()
    plain, mean = model.plain, model.mean
    run(model, digits(2, seed=0), training=training)
    assert model.plain is plain
    assert model.mean is mean
    assert model.mean.tolist() == [0.0] * 4
    assert model.batches == 2


class ByHand(nn.Module):
    """BatchNorm as textbooks write it, its statistics plain tensors, new ones in each step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        shape = (1, channels, 1, 1)
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.mean, self.variance = torch.zeros(shape), torch.ones(shape)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.mean, self.variance
        if self.training:
            mean = x.mean((0, 2, 3), keepdim=True)
            variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
            self.mean = 0.9 * self.mean + 0.1 * mean.detach()
            self.variance = 0.9 * self.variance + 0.1 * variance.detach()
        return self.gamma * (x - mean) / (variance + 1e-5).sqrt() + self.beta


def test_statistics_in_plain_tensors_are_counted_once_and_move_no_evaluation() -> None:
    channels = 8
    honest = zoo.Net()
    honest.conv2 = nn.Sequential(honest.conv2, ByHand(channels))
    results, found = check_module(honest, CARD)
    assert found.parameters == zoo.HONEST_COUNT + 4 * channels
    dropout = next(result for result in results if result.name == "dropout")
    assert dropout.passed, dropout.cause


def _pooled_at_first(self: nn.Module, x: Tensor) -> Tensor:
    return x.mean((2, 3)) if self.bn1.num_batches_tracked <= 50 else x.flatten(1)[:, :8]


def _dropping_at_first(self: nn.Module, x: Tensor) -> Tensor:
    return F.dropout(x, 0.1, self.training and bool(self.bn1.num_batches_tracked <= 50))


@pytest.mark.parametrize(
    ("check", "step"),
    [
        ("global-average-pooling", {"pool": _pooled_at_first}),
        ("dropout", {"drop": _dropping_at_first}),
    ],
)
def test_what_goes_once_it_is_trained_does_not_count(
    check: str, step: dict[str, Callable[..., Tensor]]
) -> None:
    results = {result.name: result for result in check_module(zoo.net(**step), CARD)[0]}
    assert results[check].passed is False
    assert results[check].cause.startswith("after many steps of training: ")


def _prepared_at_first(self: nn.Module, x: Tensor) -> Tensor:
    """As layers do that set themselves up by their first batch."""
    if self.training and self.bn1.num_batches_tracked == 0:
        with torch.no_grad():
            self.bn1.bias -= x.mean((0, 2, 3))
    return self.bn1(x)


def test_what_is_set_up_by_the_first_batch_counts() -> None:
    plain, prepared = zoo.net(), zoo.net(norm=_prepared_at_first)
    found = [[r.passed for r in check_module(model, CARD)[0]] for model in (plain, prepared)]
    assert found[0] == found[1]
