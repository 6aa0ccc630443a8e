from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mnist_models.data import Dataset, normalise
from mnist_models.models import EXPERIMENTS, Experiment
from mnist_models.record import load_weights
from mnist_models.recount import calls_in_a_step, recount
from mnist_models.stacked import train_stacked
from mnist_models.train import Progress, train


def norms_of(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


class Counting(nn.Module):
    """One BatchNorm that is called twice in a step, once in evaluation; one that never is."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never = nn.BatchNorm2d(1), nn.BatchNorm2d(1)

    def forward(self, images: Tensor) -> Tensor:
        images = self.twice(images)
        return self.twice(images) if self.training else images


def test_calls_in_a_step_are_counted() -> None:
    names = ("twice.num_batches_tracked", "never.num_batches_tracked")
    model = Counting()
    model.twice(torch.randn(2, 1, 2, 2))
    state = torch.get_rng_state()
    assert calls_in_a_step(model, recounting=False) == dict(zip(names, (2, 0), strict=True))
    assert calls_in_a_step(model, recounting=True) == dict(zip(names, (1, 0), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["frontier-8k", "frontier-1k", "steps-6", "era-v3", "blocks-3"])
def test_statistics_are_those_of_the_images(name: str, few: Dataset) -> None:
    """Of what each BatchNorm gets in evaluation.

    Nearly: while they were counted, those before it normalised by the biased variance.
    """
    torch.manual_seed(1)
    model = EXPERIMENTS[name].build().eval()
    with torch.no_grad():  # no symmetry that would hide a mistake
        for norm in norms_of(model):
            norm.running_mean = torch.randn(norm.num_features)
            norm.running_var = torch.rand(norm.num_features) + 0.5
    recount(model, few.train.images)
    inputs: dict[_BatchNorm, Tensor] = {}
    for norm in norms_of(model):
        norm.register_forward_pre_hook(lambda norm, args: inputs.update({norm: args[0]}))
    with torch.no_grad():
        model(normalise(few.train.images))
    assert len(inputs) == len(norms_of(model))
    for norm, seen in inputs.items():
        channels = seen.movedim(1, 0).flatten(1).double()
        assert norm.running_mean is not None and norm.running_var is not None
        assert torch.allclose(norm.running_mean.double(), channels.mean(1), rtol=1e-2, atol=1e-4)
        assert torch.allclose(norm.running_var.double(), channels.var(1), rtol=1e-2, atol=1e-6)


def test_batches_count_alike(few: Dataset) -> None:
    """501 images are no batch of 500 and one of a single image."""
    images = torch.cat([few.train.images, few.train.images, few.train.images[:101]])
    model = EXPERIMENTS["frontier-1k"].build()
    first = norms_of(model)[0]
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    means: list[Tensor] = []
    first.register_forward_pre_hook(lambda _, args: means.append(args[0].mean((0, 2, 3))))
    recount(model, images)
    assert sizes == [251, 250]
    assert first.running_mean is not None
    assert torch.allclose(first.running_mean, torch.stack(means).mean(0), atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(training: bool, few: Dataset) -> None:
    model = EXPERIMENTS["frontier-8k"].build().train(training)
    frozen = norms_of(model)[1]
    frozen.train(not training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    momenta = [norm.momentum for norm in norms_of(model)]
    recount(model, few.train.images)
    after = model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if is_statistic(name)}
    assert [module.training for module in model.modules()] == modes
    assert [norm.momentum for norm in norms_of(model)] == momenta
    recount(model, few.train.images)  # no Dropout draws: once more gives the same
    assert all(torch.equal(value, after[name]) for name, value in model.state_dict().items())


def short(name: str, *, recounting: bool) -> Experiment:
    experiment = EXPERIMENTS[name]
    recipe = replace(experiment.recipe, epochs=2, batch_size=64, plain_epochs=1, recount=recounting)
    return replace(experiment, recipe=recipe)


@pytest.mark.parametrize("name", ["frontier-8k", "steps-6"])  # with an average, and without
def test_a_run_ends_with_it(name: str, few: Dataset, tmp_path: Path) -> None:
    """The weights are those of the run without it, the statistics those of the images."""
    without = train(short(name, recounting=False), 0, few, tmp_path / "without")
    record = train(short(name, recounting=True), 0, few, tmp_path / "with")
    assert record.recipe == without.recipe | {"recount": True}
    assert record.epochs[0] == without.epochs[0]
    assert record.weights[0] == without.weights[0]
    assert record.final.test_loss != without.final.test_loss
    assert (
        replace(
            record.final,
            test_loss=without.final.test_loss,
            test_correct=without.final.test_correct,
        )
        == without.final
    )
    model = EXPERIMENTS[name].build().to(memory_format=torch.channels_last)
    model.load_state_dict(load_weights(tmp_path / "without", without.weights[-1]))
    recount(model, few.train.images)
    stored = load_weights(tmp_path / "with", record.weights[-1])
    for key, value in model.state_dict().items():
        assert torch.allclose(stored[key], value, atol=1e-6), key


def test_a_run_killed_before_its_record_keeps_it(few: Dataset, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.finished is not None and progress.epoch == 2:
            raise KeyboardInterrupt

    experiment = short("frontier-8k", recounting=True)
    whole = train(experiment, 0, few, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(experiment, 0, few, tmp_path / "parts", listener=stop)
    done = train(experiment, 0, few, tmp_path / "parts", resume=True)
    assert (done.epochs, done.weights) == (whole.epochs, whole.weights)
    assert (done.confusion, done.misclassified) == (whole.confusion, whole.misclassified)


def test_stacked_seeds_end_with_it(few: Dataset, tmp_path: Path) -> None:
    experiment = short("frontier-1k", recounting=True)
    alone = train(experiment, 1, few, tmp_path / "alone")
    folders = {seed: tmp_path / f"seed-{seed}" for seed in (0, 1)}
    expected = load_weights(tmp_path / "alone", alone.weights[-1])
    stacked = train_stacked(experiment, folders, few)[1]
    assert not isinstance(stacked, Exception)
    for key, value in load_weights(folders[1], stacked.weights[-1]).items():
        assert torch.allclose(value, expected[key], rtol=1e-2, atol=1e-3), key
