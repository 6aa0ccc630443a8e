"""Whether a faster way to train costs accuracy: the same seeds, trained to the end by each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mnist_models.bench.turns import BenchError, Told, nothing
from mnist_models.bench.variants import Change, Stacked, rounded
from mnist_models.data import Dataset
from mnist_models.models import Experiment, find_experiment
from mnist_models.optimisation import end_epoch
from mnist_models.plural import counted
from mnist_models.provenance import environment, provenance
from mnist_models.run import start
from mnist_models.score import score
from mnist_models.stacked import SIDE_BY_SIDE, refuse_unstackable
from mnist_models.timings import ACCURACY, Accuracy
from mnist_models.train import refuse_divergence, step_for, train_epoch

EXPERIMENT = "steps-6"
SEEDS = tuple(range(10))
ALONE = "one by one"
ROUNDED = "one by one, bfloat16 autocast"
STACKED = "side by side"


def accuracy_turns(seeds: int, epochs: int, device: torch.device) -> int:
    """How often `measure_accuracy` tells its listener."""
    return epochs * (2 * seeds + -(-seeds // SIDE_BY_SIDE[device.type]))


def measure_accuracy(
    data: Dataset,
    *,
    seeds: Sequence[int] = SEEDS,
    epochs: int | None = None,
    experiment: str = EXPERIMENT,
    listener: Told = nothing,
) -> Accuracy:
    """Train the seeds to the end one by one, so in bfloat16, and as many side by side as `train`.

    Args:
        data: on the device to train on; its images held out are scored after the last epoch.
        seeds: which, at least two.
        epochs: of each training; those of the recipe if None.
        experiment: whose network and recipe.
        listener: told after every epoch of a run, or of several that go on side by side.

    Raises:
        BenchError: fewer than two seeds.
        StackError: seeds of the experiment cannot go side by side.
        DivergedError: a loss is no number any more.
    """
    if len(seeds) < 2:
        raise BenchError(
            f"found {counted(len(seeds), 'seed')}, expected at least 2: there is no spread"
        )
    found = find_experiment(experiment)
    if epochs is not None:
        found = replace(found, recipe=replace(found.recipe, epochs=epochs))
    refuse_unstackable(found)
    device = data.train.images.device
    width = SIDE_BY_SIDE[device.type]
    groups = [seeds[first : first + width] for first in range(0, len(seeds), width)]
    correct = {
        ALONE: [_alone(found, seed, data, listener) for seed in seeds],
        ROUNDED: [_alone(found, seed, data, listener, rounded) for seed in seeds],
        STACKED: [n for group in groups for n in _side_by_side(found, group, data, listener)],
    }
    return Accuracy(
        kind=ACCURACY,
        experiment=experiment,
        epochs=found.recipe.epochs,
        split=data.split,
        seeds=list(seeds),
        total=len(data.held_out),
        side_by_side=min(width, len(seeds)),
        against=ALONE,
        correct=correct,
        provenance=provenance(device, [environment(device)]),
    )


def _alone(
    experiment: Experiment,
    seed: int,
    data: Dataset,
    told: Told,
    change: Change = lambda run: None,
) -> int:
    """Images answered correctly after the last epoch."""
    run = start(experiment, seed, len(data.train), data.train.images.device)
    change(run)
    step = step_for(run, data)
    for number in range(1, run.recipe.epochs + 1):
        trained = train_epoch(run, data, number, lambda progress: None, step)
        end_epoch(run.schedule, trained.loss)
        told()
    return score(run.scored, data.held_out).correct


def _side_by_side(
    experiment: Experiment, seeds: Sequence[int], data: Dataset, told: Told
) -> list[int]:
    """As `_alone`, of each seed."""
    side = Stacked(experiment, data, seeds).side
    for number in range(1, experiment.recipe.epochs + 1):
        for trained in side.train_epoch(data, number, lambda progress: None):
            refuse_divergence(trained, experiment.recipe, number)
        told()
    return [score(lane.run.scored, data.held_out).correct for lane in side.lanes]
