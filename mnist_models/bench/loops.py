"""This package's own loop, and the same computation without any work on data."""

from __future__ import annotations

from dataclasses import replace

import torch

from mnist_models.bench.turns import Told
from mnist_models.data import Dataset
from mnist_models.models import Experiment
from mnist_models.optimisation import end_epoch
from mnist_models.run import start
from mnist_models.score import score
from mnist_models.step import best_step
from mnist_models.train import batches, step_for, train_epoch


class Loop:
    """What `train` runs, checkpoints aside."""

    def __init__(self, experiment: Experiment, data: Dataset, device: torch.device) -> None:
        self.data = data.to(device)
        self.run = start(experiment, 0, len(data.train), device)
        self._epochs = 0
        self._step = step_for(self.run, self.data)

    def epoch(self, told: Told) -> None:
        """Train one epoch; `told` is called after every step."""
        self._epochs += 1
        trained = train_epoch(
            self.run, self.data, self._epochs, lambda progress: told(), self._step
        )
        end_epoch(self.run.schedule, trained.loss)

    def score(self) -> int:
        """Score the images held out; returns how many were answered correctly."""
        return score(self.run.scored, self.data.held_out).correct


class Resident:
    """The compute floor: the same model and update on one batch that never changes."""

    def __init__(self, experiment: Experiment, data: Dataset, device: torch.device) -> None:
        self.run = start(experiment, 0, len(data.train), device)
        plain = replace(experiment.recipe, augmentation=())
        self.batch = next(batches(data.to(device), plain, 0, 1))
        self._step = best_step(self.run, *self.batch)

    def epoch(self, told: Told) -> None:
        """Train as many steps as an epoch has; `told` is called after each."""
        self.run.model.train()
        for _ in range(self.run.steps):
            self._step(self.run, *self.batch)
            told()

    def score(self) -> int:
        """Nothing: it has learnt one batch."""
        return 0
