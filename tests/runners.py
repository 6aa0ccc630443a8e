"""Experiments for sweeps, which spawned workers import: one slow, one diverging, one deadly."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from mnist_models.models import EXPERIMENTS, Experiment, register
from mnist_models.recipe import Recipe


class Line(nn.Module):
    """The smallest network that learns anything: ``(B, 1, 28, 28) -> (B, 10)``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        return logits


class Slow(Line):
    """SLOW seconds a training step: asleep, so that it takes no core from other tests."""

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            time.sleep(float(os.environ.get("SLOW", "0")))
        return super().forward(images)


class Deadly(Line):
    """Kills its process in its first step, and leaves one byte more in the file DEADLY."""

    def forward(self, images: Tensor) -> Tensor:
        with Path(os.environ["DEADLY"]).open("ab") as file:
            file.write(b".")
        os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


def experiment(name: str, build: type[nn.Module], epochs: int, rate: float = 0.1) -> Experiment:
    """An experiment of three steps an epoch on the digits."""
    recipe = Recipe(optimizer="sgd", learning_rate=rate, batch_size=512, epochs=epochs)
    return replace(EXPERIMENTS["steps-1"], name=name, build=build, recipe=recipe)


SLOW = experiment("slow", Slow, epochs=6)
QUICK = experiment("quick", Line, epochs=2)
DIVERGING = experiment("diverging", Line, epochs=3, rate=1e38)
DEADLY = experiment("deadly", Deadly, epochs=1)


def register_all() -> None:
    """Make them known to the command line of this process."""
    for each in (SLOW, QUICK, DIVERGING, DEADLY):
        register(each)
