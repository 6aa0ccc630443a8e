"""Timing, interleaved in one run: this loop, the notebook pipeline, and the compute floor.

Absolute times drift with whatever else a machine does; the ratios of contenders that took turns
within the same seconds do not. Every round times each contender over the same number of
training steps, in a rotated order; the medians over rounds are reported, and the spread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mnist_models.data import MEAN, STD, Dataset
from mnist_models.models import Experiment, find_experiment
from mnist_models.models.era_v1_steps import small
from mnist_models.run import start
from mnist_models.train import batches, train_step

EXPERIMENT = "steps-6"
WORKERS = 2  # of the notebook's DataLoader, as its document runs it
_WARM_UP = 5  # steps of each contender before each timed stretch

INCLUDES = (
    "training steps: data, augmentation, forward, backward, update; not start-up, scoring, or "
    "starting the DataLoader's workers"
)


class BenchError(ValueError):
    """A comparison that would not be fair."""


@dataclass(frozen=True)
class Timing:
    """Seconds per epoch of one contender: one number a round, scaled from the timed steps."""

    name: str
    rounds: list[float]

    @property
    def median(self) -> float:
        """Over the rounds, seconds per epoch."""
        return statistics.median(self.rounds)


@dataclass(frozen=True)
class Ratio:
    """How many times as long one contender takes as another, one number a round."""

    name: str
    rounds: list[float]
    limit: str
    passed: bool

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.rounds)


@dataclass(frozen=True)
class Bench:
    """What was timed, and the ratios that count."""

    timings: list[Timing]
    ratios: list[Ratio]
    steps: int  # timed per contender and round
    steps_per_epoch: int
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table; seconds are per epoch."""
        return {
            "experiment": EXPERIMENT,
            "includes": INCLUDES,
            "rounds": len(self.timings[0].rounds),
            "steps_per_round": self.steps,
            "steps_per_epoch": self.steps_per_epoch,
            "threads": self.threads,
            "seconds_per_epoch": {
                timing.name: {"median": timing.median, "rounds": timing.rounds}
                for timing in self.timings
            },
            "ratios": {
                ratio.name: {
                    "median": ratio.median,
                    "rounds": ratio.rounds,
                    "limit": ratio.limit,
                    "passed": ratio.passed,
                }
                for ratio in self.ratios
            },
        }


class _Images(TorchDataset[tuple[Tensor, int]]):
    """What ``torchvision.datasets.MNIST`` with a transform gives: one PIL image at a time."""

    def __init__(self, data: Dataset, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels = data.train.images.cpu(), data.train.labels.cpu()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index].numpy(), mode=None)
        return self.transform(image), int(self.labels[index])


def _notebook_step(device: torch.device, data: Dataset) -> Generator[None, None, None]:
    """steps-6 as its document gives it: DataLoader, PIL transforms, plain loop, torch's layers."""
    from torchvision import transforms  # noqa: PLC0415 - takes seconds; only this pipeline needs it

    transform = transforms.Compose(
        [
            transforms.RandomRotation((-7.0, 7.0)),
            transforms.RandomAffine(degrees=7, shear=10, translate=(0.1, 0.1), scale=(0.8, 1.2)),
            transforms.ColorJitter(brightness=0.4, contrast=0.4),
            transforms.ToTensor(),
            transforms.Normalize((MEAN,), (STD,)),
        ]
    )
    loader = DataLoader(_Images(data, transform), batch_size=64, shuffle=True, num_workers=WORKERS)
    model = plain_dropout(small(dropout=0.05)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    while True:
        for images, labels in loader:
            inputs, targets = images.to(device), labels.to(device)
            optimizer.zero_grad()
            answers = F.log_softmax(model(inputs), dim=-1)
            loss = F.nll_loss(answers, targets)
            loss.backward()
            optimizer.step()
            answers.argmax(dim=1).eq(targets).sum().item()  # its progress bar shows both
            loss.item()
            yield


def plain_dropout(model: nn.Module) -> nn.Module:
    """The same network with ``torch.nn.Dropout`` itself, as the notebook has it."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout):
                setattr(parent, name, nn.Dropout(child.p))
    return model


def _loop_step(experiment: Experiment, data: Dataset) -> Generator[None, None, None]:
    """This package's loop."""
    run = start(experiment, 0, len(data.train), data.train.images.device)
    run.model.train()
    epoch = 0
    while True:
        epoch += 1
        # An epoch number within the recipe, so that the augmentation stays on.
        for inputs, labels in batches(data, experiment.recipe, epoch, 1):
            train_step(run, inputs, labels)
            yield


def _floor_step(experiment: Experiment, data: Dataset) -> Generator[None, None, None]:
    """The same model and update on one batch that never changes: no data work at all."""
    run = start(experiment, 0, len(data.train), data.train.images.device)
    run.model.train()
    inputs, labels = next(batches(data, replace(experiment.recipe, augmentation=()), 0, 1))
    while True:
        train_step(run, inputs, labels)
        yield


def bench(
    data: Dataset,
    *,
    rounds: int = 5,
    steps: int = 100,
    listener: Callable[[], None] = lambda: None,
) -> Bench:
    """Time the contenders, interleaved.

    Args:
        data: MNIST, on the device to time.
        rounds: turns that each contender takes; all of them lie within one epoch, so that no
            DataLoader is started anew.
        steps: timed training steps of a turn, of 64 images each.
        listener: told after every turn.

    Raises:
        BenchError: the turns do not fit into one epoch.
    """
    experiment = find_experiment(EXPERIMENT)
    per_epoch = -(-len(data.train) // experiment.recipe.batch_size)
    if rounds * (steps + _WARM_UP) > per_epoch:
        raise BenchError(
            f"{rounds} rounds of {steps} steps and {_WARM_UP} to warm up do not fit into an epoch "
            f"of {per_epoch} steps; choose fewer"
        )
    device = data.train.images.device
    contenders = {
        "this loop": _loop_step(experiment, data),
        "notebook": _notebook_step(device, data),
        "floor": _floor_step(experiment, data),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            taken = _timed(contenders[name], steps, device)
            seconds[name].append(taken * per_epoch / steps)
            listener()
    for contender in contenders.values():
        contender.close()  # ends the DataLoader's workers
    timings = [Timing(name, rounds_) for name, rounds_ in seconds.items()]
    return Bench(timings, _ratios(seconds), steps, per_epoch, torch.get_num_threads())


def _timed(contender: Iterator[None], steps: int, device: torch.device) -> float:
    """Seconds of `steps` steps, after a few that fill caches and queues."""
    for _ in islice(contender, _WARM_UP):
        pass
    _wait(device)
    began = time.perf_counter()
    for _ in islice(contender, steps):
        pass
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _ratios(seconds: dict[str, list[float]]) -> list[Ratio]:
    def ratio(numerator: str, denominator: str) -> list[float]:
        return [a / b for a, b in zip(seconds[numerator], seconds[denominator], strict=True)]

    speed_up, overhead = ratio("notebook", "this loop"), ratio("this loop", "floor")
    return [
        Ratio("notebook / this loop", speed_up, ">= 2.5", statistics.median(speed_up) >= 2.5),
        Ratio("this loop / floor", overhead, "<= 1.15", statistics.median(overhead) <= 1.15),
    ]
