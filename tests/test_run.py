from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mnist_models.checkpoint import Checkpoint
from mnist_models.models import EXPERIMENTS
from mnist_models.run import Average, Run, capture, restore, start
from mnist_models.train import train_step


class Single(nn.Module):
    """One weight and one count."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))
        self.register_buffer("count", torch.tensor(0))
        self.count: Tensor


def test_average_forgets_its_start() -> None:
    model = Single(100.0)
    average = Average(model, 0.998)
    model.weight.data.fill_(1.0)
    for number in range(60):
        model.count.fill_(number)
        average.update()
    own = average.module.state_dict()
    assert own["weight"].item() == pytest.approx(1, abs=1e-3)  # a plain one would be at 88
    assert own["count"].item() == 59


def test_average_ends_at_its_decay() -> None:
    model = Single(0.0)
    average = Average(model, 0.9)
    average.updates = 10_000
    model.weight.data.fill_(1.0)
    for expected in (0.1, 0.19):
        average.update()
        assert average.module.state_dict()["weight"].item() == pytest.approx(expected)
    assert model.weight.item() == 1


def steps(run: Run, count: int) -> list[float]:
    torch.manual_seed(9)
    losses = []
    for _ in range(count):
        loss, _ = train_step(run, torch.randn(8, 1, 28, 28), torch.arange(8))
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["frontier-8k", "attempt-3", "eva4-2"])
def test_captured_state_goes_on_as_it_was(name: str) -> None:
    device = torch.device("cpu")
    first, second = (start(EXPERIMENTS[name], seed, 64, device) for seed in (0, 1))
    steps(first, 3)
    state = Checkpoint({})
    capture(first, state)
    restore(second, state)
    assert steps(first, 3) == steps(second, 3)
    for one, other in zip(
        first.scored.state_dict().values(), second.scored.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_captured_state_is_a_copy() -> None:
    run = start(EXPERIMENTS["steps-3"], 0, 64, torch.device("cpu"))
    state = Checkpoint({})
    capture(run, state)
    before = {name: value.clone() for name, value in state.tensors.items()}
    steps(run, 1)
    assert all(torch.equal(value, before[name]) for name, value in state.tensors.items())
