from __future__ import annotations

import pytest
import torch
from torch import nn

from mnist_models.muon import Muon
from mnist_models.optimisation import end_epoch, end_step, make_optimizer, make_schedule
from mnist_models.recipe import Constant, OneCycle, Plateau, Power, Recipe, Schedule, Step


def rates(schedule: Schedule, losses: list[float], steps: int = 10) -> list[float]:
    """The learning rate of the first step of every epoch, and of the last step of all."""
    recipe = Recipe("sgd", 1.0, batch_size=1, epochs=len(losses), schedule=schedule)
    optimizer = make_optimizer(nn.Linear(1, 1), recipe)
    made = make_schedule(optimizer, recipe, steps)
    found = []
    for loss in losses:
        found.append(optimizer.param_groups[0]["lr"])
        for _ in range(steps):
            last = optimizer.param_groups[0]["lr"]
            optimizer.step()
            end_step(made)
        end_epoch(made, loss)
    return [*found, last]


def test_schedules_that_count_epochs() -> None:
    assert rates(Constant(), [1.0] * 3) == [1.0] * 4
    assert rates(Step(2, 0.1), [1.0] * 5) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rates(Power(0.65), [1.0] * 3) == pytest.approx([1, 0.65, 0.65**2, 0.65**2])


def test_plateau_waits_for_its_patience() -> None:
    falling, flat = [0.9, 0.8, 0.7, 0.6], [0.9, 0.9, 0.9, 0.9]
    assert rates(Plateau(0.5, 0), falling) == [1.0] * 5
    assert rates(Plateau(0.5, 0), flat) == [1.0, 1.0, 0.5, 0.25, 0.25]
    assert rates(Plateau(0.5, 1), flat) == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_one_cycle_counts_steps() -> None:
    found = rates(OneCycle(warm_up=0.5), [1.0] * 4)
    assert found[0] == pytest.approx(1 / 25)
    assert found[1] < found[2]
    assert found[2] == pytest.approx(1, abs=0.02)
    assert found[4] < 1e-6


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("muon", Muon),
    ],
)
def test_optimisers_take_the_recipe(name: str, kind: type) -> None:
    model = nn.Linear(2, 2)
    recipe = Recipe(name, 0.5, 1, 1, momentum=0.9, nesterov=True, weight_decay=0.01)  # type: ignore[arg-type] - each is one of the literals
    optimizer = make_optimizer(model, recipe)
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.01)
    assert len(group["params"]) == 2
    if name in ("sgd", "muon"):
        assert group["momentum"] == 0.9
    if name == "sgd":
        assert group["nesterov"] is True
