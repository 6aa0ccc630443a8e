"""What an experiment is, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from mnist_models.assignment import Assignment
from mnist_models.recipe import Recipe


@dataclass(frozen=True)
class Claim:
    """What a document says of its own result.

    Attributes:
        percent: claimed accuracy.
        epoch: the epoch it was read at, counted from 1, or None where the document is silent.
        measured_on: the images it was measured on.
        problems: what does not hold up in it, a sentence each.
    """

    percent: float
    epoch: int | None = None
    measured_on: Literal["test", "training"] = "test"
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """Experiments that belong together: those of one published document, or this project's own.

    Attributes:
        name: identifier; its notebook is named after it.
        title: one line for people.
        document: number of the document that it reproduces, or None for this project's own.
        findings: what does not hold up in the document as a whole, a sentence each.
    """

    name: str
    title: str
    document: str | None = None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A model builder, a recipe, the assignment it answers, a target and an analysis.

    Its result is never written here: it is read from records.

    Attributes:
        name: identifier on the command line and in the paths of records.
        build: makes a new network, ``(B, 1, 28, 28) -> (B, 10)`` logits, drawing its initial
            weights from torch's global generator.
        recipe: how it is trained.
        assignment: the limits it answers.
        target: what it set out to reach.
        analysis: what was learnt from it.
        system: the ladder it is a step of.
        claim: what its document claims; None for this project's own and for ablations.
        ablates: the published experiment that it changes in one point, or None.
        breaks: the checks on the network that are known to fail on its assignment; nothing
            excuses one without a document.
        breaks_card: likewise on this project's card.
    """

    name: str
    build: Callable[[], nn.Module]
    recipe: Recipe
    assignment: Assignment
    target: str
    analysis: str
    system: System
    claim: Claim | None = None
    ablates: str | None = None
    breaks: frozenset[str] = frozenset()
    breaks_card: frozenset[str] = frozenset()

    @property
    def source(self) -> str | None:
        """The document it comes from, or None for this project's own."""
        number = self.system.document
        return None if number is None else f"{self.system.title} (document {number})"


EXPERIMENTS: dict[str, Experiment] = {}


class UnknownExperimentError(KeyError):
    """No experiment of that name; the message lists those there are."""

    def __str__(self) -> str:
        return str(self.args[0])


def register(experiment: Experiment) -> Experiment:
    """Add an experiment to the registry.

    Raises:
        ValueError: the name is taken.
    """
    if experiment.name in EXPERIMENTS:
        raise ValueError(f"an experiment named {experiment.name!r} is registered already")
    EXPERIMENTS[experiment.name] = experiment
    return experiment


def find_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        UnknownExperimentError: there is none.
    """
    if name not in EXPERIMENTS:
        own = "; a model of your own is checked, and trained once it is registered: CONTRIBUTING.md"
        advice = own if ":" in name or name.endswith(".py") else ""
        known = ", ".join(EXPERIMENTS)
        raise UnknownExperimentError(f"no experiment {name!r}; there are {known}{advice}")
    return EXPERIMENTS[name]
