"""What each choice in the training loop is worth: variants of it in turn with it as built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from mnist_models.bench.processes import PAIR, WAYS, processes, usable_cores
from mnist_models.bench.turns import (
    WARM_UP,
    BenchError,
    Told,
    Trainer,
    nothing,
    refuse_unfair,
    steps_of_turn,
    stretch,
    take_turns,
)
from mnist_models.bench.variants import AS_BUILT, COMPILED, UNRECORDED, VARIANTS
from mnist_models.data import Dataset
from mnist_models.models import Experiment, find_experiment
from mnist_models.plural import counted
from mnist_models.provenance import environment, provenance
from mnist_models.timings import CHOICES, Choice, Choices, Spread

EXPERIMENTS = ("steps-6", "frontier-8k")
INCLUDES = (
    "A training step: data, augmentation, forward, backward, update; for each model where several "
    "train at once. Not start-up, compilation, scoring, or the start of an epoch."
)
_HOUR = 3_600


def choice_turns(device: torch.device, rounds: int, *, compile_: bool) -> int:
    """How often `measure_choices` tells its listener."""
    return (
        rounds
        * len(EXPERIMENTS)
        * (len(_chosen(device, compile_=compile_)) + len(WAYS) * _has_pair(device))
    )


def measure_choices(
    data: Dataset,
    *,
    rounds: int = 5,
    steps: int = 96,
    compile_: bool = False,
    experiments: Sequence[str] = EXPERIMENTS,
    pair: bool = True,
    listener: Told = nothing,
) -> Choices:
    """Time the training steps of the loop and of its variants, interleaved.

    Args:
        data: MNIST, on the device to time.
        rounds: turns that each variant takes.
        steps: timed training steps of a turn, of 64 images each; see `bench`.
        compile_: have one variant compiled by torch, which takes long to start.
        experiments: which, one after the other.
        pair: compare one process of two threads with two of one, where there are two cores.
        listener: told after every turn.

    Raises:
        BenchError: the turns do not fit into a run, or torch cannot compile here.
    """
    device = data.train.images.device
    found: list[Choice] = []
    for experiment in map(find_experiment, experiments):
        count = steps_of_turn(steps, experiment.recipe.batch_size)
        _refuse_too_many(experiment, len(data.train), rounds, steps)
        turns = {
            name: partial(_turn, name, *VARIANTS[name](experiment, data), count, device)
            for name in _chosen(device, compile_=compile_)
        }
        ways = processes(experiment, data, count) if pair and _has_pair(device) else None
        with ways or contextlib.nullcontext({}) as more:
            seconds = take_turns(turns | more, rounds, listener)
        found += _choices(experiment, seconds, len(data.train))
    return Choices(
        kind=CHOICES,
        includes=INCLUDES,
        rounds=rounds,
        steps_per_round=steps,
        choices=found,
        provenance=provenance(device, [environment(device)]),
    )


def _chosen(device: torch.device, *, compile_: bool) -> list[str]:
    left_out = {COMPILED: not compile_, UNRECORDED: device.type == "cpu"}
    return [name for name in VARIANTS if not left_out.get(name)]


def _has_pair(device: torch.device) -> bool:
    """Whether there are two cores for two processes: on a GPU, cores decide nothing."""
    return device.type == "cpu" and usable_cores() >= 2


def _refuse_too_many(experiment: Experiment, images: int, rounds: int, steps: int) -> None:
    """A variant keeps its state from turn to turn: its schedule must not run out."""
    batch, epochs = experiment.recipe.batch_size, experiment.recipe.epochs
    refuse_unfair(steps, batch, images)
    each, run = steps_of_turn(steps, batch) + WARM_UP, epochs * -(-images // batch)
    if rounds * each > run:
        raise BenchError(
            f"{counted(rounds, 'round')} of {counted(each, 'step')}, {WARM_UP} of them to warm up, "
            f"do not fit into a run of {counted(run, 'step')}; choose fewer"
        )


def _turn(name: str, models: int, trainer: Trainer, steps: int, device: torch.device) -> float:
    """Seconds of a training step, for each model."""
    if name != COMPILED:
        return stretch(trainer, steps, device)[1] / steps / models
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415 - takes seconds

    try:
        return stretch(trainer, steps, device)[1] / steps / models
    except TorchDynamoException as error:
        first = str(error).strip().partition("\n")[0]
        raise BenchError(
            f"--compile: torch cannot compile here ({first}); leave it out, or install what it "
            "asks for"
        ) from error


def _choices(
    experiment: Experiment, seconds: dict[str, list[float]], images: int
) -> Iterator[Choice]:
    run = experiment.recipe.epochs * -(-images // experiment.recipe.batch_size)
    for name, taken in seconds.items():
        against = PAIR if name in WAYS else AS_BUILT  # `sweep` starts its workers so
        spread = Spread.of(taken)
        yield Choice(
            experiment=experiment.name,
            variant=name,
            against=against,
            seconds_per_step=spread,
            runs_per_hour=_HOUR / (run * spread.median),
            ratio=Spread.of([a / b for a, b in zip(taken, seconds[against], strict=True)]),
        )
