"""What only other parameters than a network's own would wake; and what training does wake."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.assignment import CARD
from mnist_models.checks import check_module
from mnist_models.checks.asleep import find_asleep
from mnist_models.checks.result import CheckResult
from tests import zoo

ASKED = ("batch-norm", "dropout", "global-average-pooling", "receptive-field")


class Gated(nn.Module):
    """All that the card asks for is in a branch behind a gate."""

    def __init__(self, gate: float, opens: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate, self.opens = nn.Parameter(torch.full((8, 1, 1), gate)), opens
        self.a, self.b = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)
        self.wide = nn.Conv2d(8, 8, 5, dilation=4, padding=8)
        self.bn, self.drop = nn.BatchNorm2d(8), nn.Dropout(0.1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(F.relu(self.a(x))))
        x = x + self.opens(self.gate) * self.drop(self.bn(self.wide(x)))
        return torch.as_tensor(self.head(x.mean((2, 3))))


class Flagged(zoo.Net):
    """Another network by the value of a parameter."""

    def extra(self) -> None:
        self.flag, self.flat = nn.Parameter(torch.zeros(1)), nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.flag.item() > 0.25:
            return super().forward(x)
        return torch.as_tensor(self.flat(x.flatten(1)))


def results(model: nn.Module) -> dict[str, CheckResult]:
    return {result.name: result for result in check_module(model, CARD)[0]}


@pytest.mark.parametrize(("gate", "opens"), [(-1.0, F.relu), (-4.0, F.hardsigmoid)])
def test_what_is_behind_a_gate_that_stays_shut_is_not_there(
    gate: float, opens: Callable[[Tensor], Tensor]
) -> None:
    found = results(Gated(gate, opens))
    for name in ("batch-norm", "dropout"):
        assert found[name].passed is False
        assert found[name].measured == 0
        assert found[name].cause.startswith("with the parameters that it is built with")
    assert found["global-average-pooling"].passed is True
    assert found["receptive-field"].measured == 5


@pytest.mark.parametrize(
    ("gate", "opens"),
    [
        (0.0, lambda gate: gate),  # as ReZero and zero-initialised BatchNorm begin
        (1e-6, lambda gate: gate),  # as LayerScale does
        (-5.0, torch.sigmoid),
        (1.0, F.relu),
    ],
)
def test_what_training_wakes_is_there(gate: float, opens: Callable[[Tensor], Tensor]) -> None:
    found = results(Gated(gate, opens))
    assert [found[name].passed for name in ASKED] == [True] * 4
    assert found["receptive-field"].measured == 21


def test_another_network_by_the_value_of_a_parameter_is_looked_at() -> None:
    found = results(Flagged())
    assert [found[name].passed for name in ASKED[:3]] == [False] * 3
    assert found["global-average-pooling"].measured == "none"
    assert "begin with parameters" in found["global-average-pooling"].help


def faint() -> nn.Module:
    """Layer after layer without a norm leaves little of what tells images apart, when it is new."""
    layers: list[nn.Module] = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)]
    for _ in range(9):
        layers += [nn.Conv2d(8, 8, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def test_a_new_network_that_hardly_tells_images_apart_is_awake() -> None:
    torch.manual_seed(0)
    found = results(faint())
    assert [found[name].passed for name in ASKED] == [True] * 4
    assert found["receptive-field"].measured == 21


def _raises(self: nn.Module, x: Tensor) -> Tensor:
    raise RuntimeError("no forward")


def _detached(self: nn.Module, x: Tensor) -> Tensor:
    return torch.as_tensor(self.fc(x)).detach()


@pytest.mark.parametrize(
    "make",
    [
        zoo.Net,
        lambda: zoo.net(head=_raises),
        lambda: zoo.net(head=_detached),  # cannot be trained
        lambda: zoo.net(head=lambda s, x: s.fc(x).argmax(1)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).requires_grad_(False),
    ],
)
def test_the_network_comes_back(make: Callable[[], nn.Module]) -> None:
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_asleep(model, ASKED)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_looked_at_is_not_asleep() -> None:
    assert find_asleep(zoo.net(head=_raises), ASKED).causes == {}
    assert find_asleep(zoo.net(head=lambda s, x: s.fc(x).argmax(1)), ASKED).causes == {}
    assert find_asleep(zoo.Net(), ASKED).causes == {}
