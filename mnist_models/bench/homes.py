"""Where contenders run: in a process that keeps freed memory, or in one that leaves it to itself.

A process cannot go back to what it did before it kept memory, and what trains as `train` does is
compared with what a user would run instead.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch

from mnist_models.bench.contenders import ALL, Contender
from mnist_models.bench.turns import BenchError, Trainer, nothing, now, steps_of_turn, stretch
from mnist_models.data import Dataset, Split
from mnist_models.timings import EPOCHS
from mnist_models.workers import Place, local

T = TypeVar("T")
_Images = tuple[Any, Any]  # of NumPy, which travel without torch's shared memory


class Parts(NamedTuple):
    """What one turn of a contender took, in seconds; a floor has an epoch alone."""

    start_up: float
    epoch: float
    scoring: float

    @property
    def to_the_end(self) -> float:
        """Of a whole training."""
        return self.start_up + EPOCHS * (self.epoch + self.scoring)


@dataclass
class _Home:
    """What such a process has: the data, and what is being trained to its end."""

    data: Dataset
    device: torch.device
    trainers: dict[str, Trainer]


_home: _Home  # of this process, once `_settle` was called in it


class Homes:
    """Both processes; each of its methods waits for what it asks one of them for.

    All raise BenchError where the process died, which costs what was measured.
    """

    def __init__(self, executors: dict[bool, Executor]) -> None:
        self._executors = executors

    def turn(self, contender: Contender, steps: int) -> Parts:
        """One turn, from a new start, with as many images as `steps` steps of 64."""
        return self._ask(contender, _turn, contender.name, steps)

    def begin(self, contender: Contender) -> float:
        """Start what `train` goes on with: seconds."""
        return self._ask(contender, _begin, contender.name)

    def train(self, contender: Contender) -> tuple[float, int]:
        """One epoch more, and scoring: seconds, correct answers."""
        return self._ask(contender, _train, contender.name)

    def _ask(self, contender: Contender, call: Callable[..., T], *arguments: object) -> T:
        try:
            return self._executors[contender.keeps_memory].submit(call, *arguments).result()
        except BrokenExecutor as error:
            raise BenchError(
                f"the process of {contender.name} died; see that there is memory enough for two "
                "more processes with the data set, and start again"
            ) from error


@contextlib.contextmanager
def homes(data: Dataset, device: torch.device) -> Iterator[Homes]:
    """Start both processes, with this data set of the host's memory, to train on `device`."""
    threads, method = torch.get_num_threads(), multiprocessing.get_start_method()
    train, held_out = (
        (each.images.numpy(), each.labels.numpy()) for each in (data.train, data.held_out)
    )
    with contextlib.ExitStack() as stack:
        # No cores of their own: one waits while the other computes.
        executors = {
            keeps: stack.enter_context(local([Place((), threads, keeps_memory=keeps)]))
            for keeps in (True, False)
        }
        for executor in executors.values():
            executor.submit(_settle, train, held_out, device.type, threads, method).result()
        yield Homes(executors)


def _settle(
    train: _Images, held_out: _Images, device: str, threads: int, start_method: str
) -> None:
    global _home  # noqa: PLW0603 - what a process keeps from call to call
    torch.set_num_threads(threads)
    # DataLoaders start their workers as in a program of its own, not as this process was started.
    multiprocessing.set_start_method(start_method, force=True)
    first, second = (Split(*map(torch.from_numpy, images)) for images in (train, held_out))
    _home = _Home(Dataset("mnist", "test", first, second, {}), torch.device(device), {})


def _turn(name: str, steps: int) -> Parts:
    contender, data, device = _named(name), _home.data, _home.device
    steps = steps_of_turn(steps, contender.batch)
    began = now(device)
    trainer = contender.build(data, device)
    first, seconds = stretch(trainer, steps, device)
    epoch = seconds * (-(-len(data.train) // contender.batch)) / steps
    between = now(device)
    trainer.score()
    return Parts(first - began, epoch, now(device) - between)


def _begin(name: str) -> float:
    began = now(_home.device)
    _home.trainers[name] = _named(name).build(_home.data, _home.device)
    return now(_home.device) - began


def _train(name: str) -> tuple[float, int]:
    began = now(_home.device)
    _home.trainers[name].epoch(nothing)
    right = _home.trainers[name].score()
    return now(_home.device) - began, right


def _named(name: str) -> Contender:
    return next(contender for contender in ALL if contender.name == name)
