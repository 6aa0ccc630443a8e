"""One run with two threads against two processes of one: memory kept or not, seeds stacked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from mnist_models.bench.turns import WARM_UP, stretch
from mnist_models.bench.variants import Stacked, Steps
from mnist_models.data import Dataset, Split
from mnist_models.models import Experiment, find_experiment
from mnist_models.workers import local, places

ONE = "one process of two threads"
PAIR = "two processes of one thread each"
GIVING = f"{PAIR}, memory given back after each step"
PAIR_STACKED = {count: f"{PAIR}, {count} seeds stacked in both" for count in (2, 4)}
WAYS = (ONE, PAIR, GIVING, *PAIR_STACKED.values())


def usable_cores() -> int:
    """Cores that this process may use: a container has not all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def processes(
    experiment: Experiment, data: Dataset, steps: int
) -> Iterator[dict[str, Callable[[], float]]]:
    """A call for each way: seconds of a training step, for each run that goes on at once.

    The workers have cores of their own and are started here, once for all calls.

    Raises:
        WorkersError: there are no two cores.
    """
    images = (steps + WARM_UP) * experiment.recipe.batch_size  # no more than a turn needs
    few = (data.train.images[:images].numpy(), data.train.labels[:images].numpy())

    def call(executor: Executor, runs: int, threads: int, seeds: int, steps: int) -> float:
        asked = [
            executor.submit(_pace, few, experiment.name, threads, seeds, steps) for _ in range(runs)
        ]
        return sum(future.result() for future in asked) / runs / runs

    giving = [replace(place, keeps_memory=False) for place in places(2, 1)]
    with local(places(1, 2)) as one, local(places(2, 1)) as pair, local(giving) as givers:
        ways = {
            ONE: partial(call, one, 1, 2, 1),
            PAIR: partial(call, pair, 2, 1, 1),
            GIVING: partial(call, givers, 2, 1, 1),
            **{name: partial(call, pair, 2, 1, count) for count, name in PAIR_STACKED.items()},
        }
        for way in ways.values():
            way(1)  # starts them
        yield {name: partial(way, steps) for name, way in ways.items()}


def _pace(few: tuple[Any, Any], name: str, threads: int, seeds: int, steps: int) -> float:
    """Seconds of a training step on this worker, for each of its seeds."""
    torch.set_num_threads(threads)
    split = Split(*map(torch.from_numpy, few))
    data = Dataset("mnist", "test", split, split, {})
    experiment = find_experiment(name)
    trainer = Steps(experiment, data) if seeds == 1 else Stacked(experiment, data, range(seeds))
    return stretch(trainer, steps, torch.device("cpu"))[1] / steps / seeds
