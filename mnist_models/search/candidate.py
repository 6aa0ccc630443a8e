"""An arm before it is trained: its values, its network, and what it would break."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from mnist_models.checks import check_module
from mnist_models.models import Experiment
from mnist_models.search.space import Choice, Setting, SpaceError, Value, is_whole
from mnist_models.search.study import Question

if TYPE_CHECKING:
    import optuna


def refuse_slips(question: Question) -> None:
    """Make a network of every value once, before anything is queued: a slip costs nothing.

    Raises:
        SpaceError: a setting that the experiment does not have, or a value that it cannot take.
    """
    for setting in question.settings:
        for value in _ends(question, setting):
            built(question, {setting.name: value})
    for values in question.listed:
        built(question, values)


def _ends(question: Question, setting: Setting) -> tuple[Value, ...]:
    if isinstance(setting, Choice):
        return setting.values
    if not is_whole(question.base, setting.name):
        return setting.low, setting.high
    low, high = math.ceil(setting.low), math.floor(setting.high)
    if low >= high:
        raise SpaceError(f"{setting.name}: no two whole numbers within {setting.text}")
    return low, high


def built(question: Question, values: Mapping[str, Value]) -> tuple[Experiment, nn.Module]:
    """The experiment of an arm and its network; SpaceError where there is none."""
    experiment = question.arm(values)
    try:
        return experiment, experiment.build()
    except (ValueError, TypeError, RuntimeError) as error:
        named = ", ".join(f"{name}={value}" for name, value in values.items())
        raise SpaceError(f"{named}: no network can be made of it: {error}") from error


def breach(experiment: Experiment, network: nn.Module) -> tuple[str, int | None]:
    """Which limits of the assignment an arm breaks, and its parameters; a refusal costs no run."""
    checks, found = check_module(network, experiment.assignment)
    broken = [f"{check.name}: {check.cause}" for check in checks if check.passed is not True]
    limit = experiment.assignment.epochs
    if limit is not None and not limit.holds(experiment.recipe.epochs):
        broken.append(f"epochs: {experiment.recipe.epochs}, expected {limit}")
    return "; ".join(broken), found.parameters


def suggest(question: Question, trial: optuna.Trial, setting: Setting) -> Value:
    """What the study's sampler draws for a setting; ranges by their logarithm."""
    if isinstance(setting, Choice):
        return str(trial.suggest_categorical(setting.name, setting.values))
    low, high = _ends(question, setting)
    if is_whole(question.base, setting.name):
        return trial.suggest_int(setting.name, int(low), int(high), log=True)
    return trial.suggest_float(setting.name, float(low), float(high), log=True)
