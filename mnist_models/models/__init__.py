"""The registry of experiments: one file per published system, one for this project's own.

Importing this package registers them all.
"""

# ruff: noqa: I001 - the order of these imports is the order of the registry and of every table

from mnist_models.models import frontier
from mnist_models.models import era_v1_blocks
from mnist_models.models import era_v1_steps
from mnist_models.models import era_v3
from mnist_models.models import eva4
from mnist_models.models import attempt

from mnist_models.models.registry import (
    EXPERIMENTS,
    Claim,
    Experiment,
    System,
    UnknownExperimentError,
    find_experiment,
    register,
)

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Experiment",
    "System",
    "UnknownExperimentError",
    "attempt",
    "era_v1_blocks",
    "era_v1_steps",
    "era_v3",
    "eva4",
    "find_experiment",
    "frontier",
    "register",
]
