"""Taking turns: what is compared is timed within the same seconds.

Absolute times drift with whatever else a machine does; the ratios of contenders that took turns
do not. Every round gives each contender one turn, in an order that moves on by one; medians over
the rounds are reported, and the spread.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import torch

from mnist_models.plural import counted

WARM_UP = 5  # steps of a turn before those that are timed: they fill caches and queues
IMAGES_PER_STEP = 64  # in which the steps of a turn are counted, whatever a contender's batch

T = TypeVar("T")
Told = Callable[[], None]


class BenchError(ValueError):
    """A comparison that would not be fair, or that cannot be made here."""


class Trainer(Protocol):
    """One way to train one experiment."""

    def epoch(self, told: Told) -> None:
        """Train one epoch; `told` is called after every step, and may raise to end it."""

    def score(self) -> int:
        """Score the images held out; returns how many were answered correctly."""


def nothing() -> None:
    """Told, and not interested."""


def take_turns(turns: Mapping[str, Callable[[], T]], rounds: int, told: Told) -> dict[str, list[T]]:
    """What each call gave, round by round; `told` is called after every turn."""
    names = list(turns)
    given: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            given[name].append(turns[name]())
            told()
    return given


def steps_of_turn(steps: int, batch: int) -> int:
    """Steps of a contender with this batch that see as many images as `steps` of 64."""
    return max(1, steps * IMAGES_PER_STEP // batch)


def refuse_unfair(steps: int, batch: int, images: int) -> None:
    """Raise BenchError where a turn does not fit into one epoch of so many images."""
    per_epoch = -(-images // batch)
    if steps_of_turn(steps, batch) + WARM_UP > per_epoch:
        raise BenchError(
            f"{counted(steps_of_turn(steps, batch), 'step')} and {WARM_UP} to warm up do not fit "
            f"into an epoch of {counted(per_epoch, 'step')}; choose fewer --steps"
        )


class _Enough(Exception):  # noqa: N818 - no error: the turn is over
    """Raised through an epoch to end it."""


class _Watch:
    """Told after every step: reads the clock after the first, the last to warm up, the last."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self.marks: list[float] = []
        self._count = 0
        self._at = (1, WARM_UP, WARM_UP + steps)
        self._device = device

    def __call__(self) -> None:
        self._count += 1
        if self._count in self._at:
            self.marks.append(now(self._device))
        if self._count == self._at[-1]:
            raise _Enough


def stretch(trainer: Trainer, steps: int, device: torch.device) -> tuple[float, float]:
    """The clock after the first step, and the seconds of `steps` steps after the warm-up.

    Raises:
        BenchError: the epoch ended before.
    """
    watch = _Watch(steps, device)
    with contextlib.suppress(_Enough):
        trainer.epoch(watch)
    if len(watch.marks) < 3:
        raise BenchError(f"an epoch ended before {WARM_UP + steps} steps; choose fewer --steps")
    return watch.marks[0], watch.marks[2] - watch.marks[1]


def now(device: torch.device) -> float:
    """The clock, in seconds, once the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
