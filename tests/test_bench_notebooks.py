from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mnist_models.bench.notebooks import LOG_INTERVAL, Pipeline, era_v3, example, steps_6
from mnist_models.data import Dataset, normalise
from mnist_models.models import EXPERIMENTS
from mnist_models.score import score

CPU = torch.device("cpu")
PIPELINES = {"steps-6": steps_6, "era-v3": era_v3, "plain loop": example}


def parameters(model: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("name", "batches", "workers", "experiment"),
    [
        ("steps-6", [64, 64], 2, "steps-6"),
        ("era-v3", [128, 128], 0, "era-v3"),
        ("plain loop", [64, 1_000], 0, "steps-6"),
    ],
)
def test_each_is_as_its_document_gives_it(
    digits: Dataset, name: str, batches: list[int], workers: int, experiment: str
) -> None:
    pipeline = PIPELINES[name](digits, CPU)
    loaders = (pipeline.train, pipeline.test)
    assert [loader.batch_size for loader in loaders] == batches
    assert [loader.num_workers for loader in loaders] == [workers] * 2
    assert isinstance(pipeline.train.sampler, torch.utils.data.RandomSampler)
    recipe = EXPERIMENTS[experiment].recipe
    assert pipeline.train.batch_size == recipe.batch_size
    assert parameters(pipeline.model) == parameters(EXPERIMENTS[experiment].build())
    group = pipeline.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"]) == (recipe.learning_rate, recipe.momentum)
    assert group["fused"] is None  # as torch chooses
    dropouts = [m for m in pipeline.model.modules() if isinstance(m, nn.Dropout)]
    assert {type(layer) for layer in dropouts} == {nn.Dropout}


def test_only_steps_6_augments_and_only_in_training(digits: Dataset) -> None:
    plain = normalise(digits.train.images[:1])[0]
    for name, make in PIPELINES.items():
        pipeline = make(digits, CPU)
        first, again = (pipeline.train.dataset[0][0] for _ in range(2))
        same = torch.allclose(first, plain, atol=1e-6) and torch.equal(first, again)
        assert same is (name != "steps-6")
        held_out, label = pipeline.test.dataset[0]
        assert torch.allclose(held_out, normalise(digits.held_out.images[:1])[0], atol=1e-6)
        assert label == digits.held_out.labels[0]


@pytest.mark.parametrize(
    "name", ["era-v3", "plain loop"]
)  # steps-6 runs in test_bench, workers too
def test_an_epoch_learns_and_its_scoring_counts(few: Dataset, name: str) -> None:
    pipeline = PIPELINES[name](few, CPU)
    before = [parameter.clone() for parameter in pipeline.model.parameters()]
    told: list[int] = []
    pipeline.epoch(lambda: told.append(1))
    assert len(told) == len(pipeline.train)
    changed = zip(before, pipeline.model.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in changed)
    assert pipeline.score() == score(pipeline.model, few.held_out).correct
    assert not pipeline.model.training


class Looked(torch.Tensor):
    """A loss that counts how often its number is asked for."""

    asked = 0

    def item(self) -> Any:
        type(self).asked += 1
        return super().item()


def asked(pipeline: Pipeline, steps: int) -> int:
    """How often a pipeline asks the device for the loss in so many steps."""
    Looked.asked = 0
    answers, targets = torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64)
    for step in range(steps):
        pipeline.look(step, answers, targets, torch.zeros(()).as_subclass(Looked))
    return Looked.asked


def test_each_asks_for_the_loss_as_often_as_its_log_shows_it(few: Dataset) -> None:
    steps = 3 * LOG_INTERVAL
    found = {name: asked(make(few, CPU), steps) for name, make in PIPELINES.items()}
    assert found == {"steps-6": steps, "era-v3": steps, "plain loop": 3}
