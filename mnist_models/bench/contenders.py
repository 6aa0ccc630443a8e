"""Who is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from mnist_models.bench import notebooks
from mnist_models.bench.loops import Loop, Resident
from mnist_models.bench.turns import Trainer
from mnist_models.data import Dataset
from mnist_models.models import find_experiment


@dataclass(frozen=True)
class Contender:
    """What is compared: an experiment, and what trains it.

    Attributes:
        experiment: its name.
        what: trains it.
        build: gives that, from a data set in the host's memory.
        trains: on the data set, to an end; else it is a floor.
        keeps_memory: as `train` does, see `mnist_models.allocator`.
    """

    experiment: str
    what: str
    build: Callable[[Dataset, torch.device], Trainer]
    trains: bool = True
    keeps_memory: bool = False

    @property
    def name(self) -> str:
        """``experiment: what trains it``."""
        return f"{self.experiment}: {self.what}"

    @property
    def batch(self) -> int:
        """Images of a step."""
        return find_experiment(self.experiment).recipe.batch_size


def _own(name: str, what: str, build: Callable[..., Trainer], *, trains: bool = True) -> Contender:
    built = partial(build, find_experiment(name))
    return Contender(name, what, built, trains, keeps_memory=True)


ALL = (
    _own("steps-6", "this loop", Loop),
    Contender("steps-6", "notebook", notebooks.steps_6),
    Contender("steps-6", "plain loop", notebooks.example),
    _own("steps-6", "compute floor", Resident, trains=False),
    _own("era-v3", "this loop", Loop),
    Contender("era-v3", "notebook", notebooks.era_v3),
    _own("frontier-8k", "this loop", Loop),
    _own("frontier-8k", "compute floor", Resident, trains=False),
)
