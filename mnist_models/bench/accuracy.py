"""Whether a faster way to train costs accuracy: the same seeds, trained to the end by each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mnist_models.bench.turns import BenchError, Told, nothing
from mnist_models.bench.variants import Stacked
from mnist_models.data import Dataset
from mnist_models.models import Experiment, find_experiment
from mnist_models.optimisation import end_epoch
from mnist_models.provenance import environment, provenance
from mnist_models.run import start
from mnist_models.score import score
from mnist_models.stacked import SideBySide
from mnist_models.timings import ACCURACY, Accuracy
from mnist_models.train import refuse_divergence, step_for, train_epoch

EXPERIMENT = "steps-6"
SEEDS = tuple(range(10))
ALONE = "one by one"
SIDE_BY_SIDE = 5  # seeds in one network: half of them, so that all of two groups are alike
STACKED = f"{SIDE_BY_SIDE} side by side"
ROUNDED = f"{STACKED}, bfloat16 autocast"


def accuracy_turns(seeds: int, epochs: int) -> int:
    """How often `measure_accuracy` tells its listener."""
    return epochs * (seeds + 2 * -(-seeds // SIDE_BY_SIDE))


def measure_accuracy(
    data: Dataset,
    *,
    seeds: Sequence[int] = SEEDS,
    epochs: int | None = None,
    experiment: str = EXPERIMENT,
    listener: Told = nothing,
) -> Accuracy:
    """Train the seeds to the end alone, side by side, and side by side in bfloat16.

    Args:
        data: on the device to train on; its images held out are scored after the last epoch.
        seeds: which, at least two.
        epochs: of each training; those of the recipe if None.
        experiment: whose network and recipe.
        listener: told after every epoch of a run, or of several that go on side by side.

    Raises:
        BenchError: fewer than two seeds.
        DivergedError: a loss is no number any more.
    """
    if len(seeds) < 2:
        raise BenchError(f"found {len(seeds)} seeds, expected at least 2: there is no spread")
    found = find_experiment(experiment)
    if epochs is not None:
        found = replace(found, recipe=replace(found.recipe, epochs=epochs))
    groups = [seeds[first : first + SIDE_BY_SIDE] for first in range(0, len(seeds), SIDE_BY_SIDE)]
    correct = {ALONE: [_alone(found, seed, data, listener) for seed in seeds]}
    for way in (STACKED, ROUNDED):
        correct[way] = []
        for group in groups:
            trainer = Stacked(found, data, group, bfloat16=way == ROUNDED)
            correct[way] += _side_by_side(trainer.side, data, listener)
    device = data.train.images.device
    return Accuracy(
        kind=ACCURACY,
        experiment=experiment,
        epochs=found.recipe.epochs,
        split=data.split,
        seeds=list(seeds),
        total=len(data.held_out),
        against=ALONE,
        correct=correct,
        provenance=provenance(device, [environment(device)]),
    )


def _alone(experiment: Experiment, seed: int, data: Dataset, told: Told) -> int:
    """Images answered correctly after the last epoch."""
    run = start(experiment, seed, len(data.train), data.train.images.device)
    step = step_for(run, data)
    for number in range(1, run.recipe.epochs + 1):
        trained = train_epoch(run, data, number, lambda progress: None, step)
        end_epoch(run.schedule, trained.loss)
        told()
    return score(run.scored, data.held_out).correct


def _side_by_side(side: SideBySide, data: Dataset, told: Told) -> list[int]:
    """As `_alone`, of each seed."""
    recipe = side.run.recipe
    for number in range(1, recipe.epochs + 1):
        for trained in side.train_epoch(data, number, lambda progress: None):
            refuse_divergence(trained, recipe, number)
        told()
    return [score(lane.run.scored, data.held_out).correct for lane in side.lanes]
