"""What does nothing with the parameters that a network is built with, and will do nothing.

The checks draw parameters at random, so that what begins at zero hides no path. A gate that is
shut, and has no gradient by which training could open it, is open then; so is a branch that the
code takes by the value of a parameter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from mnist_models.checks.forwards import BATCH, Forwards, half, noise
from mnist_models.checks.masks import features
from mnist_models.checks.normalisation import is_batch_norm
from mnist_models.mode import set_mode
from mnist_models.module_state import State, parameters
from mnist_models.probe import calibrate, digits, quiet, relative_change, run
from mnist_models.receptive_field import awake_field
from mnist_models.receptive_field.arguments import batch_statistics
from mnist_models.receptive_field.global_pooling import global_pooling
from mnist_models.trace import Node

_STEPS = 10  # of training: what begins at zero, or at a millionth, is far from it then
_RATE = 0.01  # each parameter moves by so much, whichever way its gradient points
_IMAGES = 16
_SEEDS = 4  # forwards, where chance leaves out branches
# Of the change from image to image: what is behind a gate that is shut does nothing at all.
_SHARE = 1e-4
_POOLING = "global-average-pooling"
_AS_BUILT = "with the parameters that it is built with, and after a few steps of training, "
HELP = "begin with parameters by which it takes part, and which training can change"


@dataclass(frozen=True)
class Asleep:
    """What of a network takes no part.

    Attributes:
        causes: check -> why it fails.
        field: the receptive field before the pooling, in pixels, of what takes part; None where
            it is not known.
        operations: that run in evaluation as it is built.
    """

    causes: dict[str, str]
    field: int | None
    operations: list[str]

    def beside(self, operations: list[str]) -> Asleep:
        """Where the same run with random parameters, the pooling is the same, too."""
        if operations != self.operations:
            return self
        causes = {check: cause for check, cause in self.causes.items() if check != _POOLING}
        return replace(self, causes=causes)


def find_asleep(module: nn.Module, asked: Collection[str]) -> Asleep:
    """Look at a network as it is built, and where something sleeps, once more when it has trained.

    At what the checks that are `asked` for look at, and at the receptive field. It comes back
    unchanged. What cannot be looked at is not asleep: the checks themselves say what fails.
    """
    state = State(module)
    try:
        causes, field, whole = _look(module, asked)
        operations = operations_of(module)
        if causes or not whole:
            with contextlib.suppress(Exception):  # what cannot be trained stays as it is
                _train(module)
            still, trained_field, _ = _look(module, asked)
            causes = {check: cause for check, cause in causes.items() if check in still}
            known = [each for each in (field, trained_field) if each is not None]
            field = max(known, default=None)
        return Asleep(causes, field, operations)
    finally:
        state.restore()


def operations_of(module: nn.Module) -> list[str]:
    """The names of those that run in evaluation; none where it does not run."""
    with contextlib.suppress(Exception):
        return [node.name for node in run(module, digits(BATCH, seed=1), values=False).nodes]
    return []


def _look(module: nn.Module, asked: Collection[str]) -> tuple[dict[str, str], int | None, bool]:
    """Causes, field, and whether every branch takes part."""
    with contextlib.suppress(Exception):
        calibrate(module)  # a few steps leave running statistics half-way
    forwards = Forwards(module)
    looks: dict[str, tuple[Callable[[Forwards], bool], str]] = {
        "batch-norm": (_normalises, "no BatchNorm changes the logits"),
        "dropout": (_drops, "no Dropout changes the logits"),
    }
    causes = {}
    for check in looks.keys() & asked:
        awake, cause = looks[check]
        with contextlib.suppress(Exception):
            if not awake(forwards):
                causes[check] = _AS_BUILT + cause
    field, whole = None, True
    with contextlib.suppress(Exception):
        pooling = global_pooling(module)
        if _POOLING in asked and not (pooling.bottleneck and pooling.means):
            causes[_POOLING] = f"{_AS_BUILT}no global average pooling makes the logits"
        field, whole = awake_field(module, pooling, _least(forwards, training=False))
    return causes, field, whole


def _train(module: nn.Module) -> None:
    set_mode(module, training=True)
    trained = [tensor for tensor in parameters(module).values() if tensor.requires_grad]
    labels = torch.arange(_IMAGES) % 10
    for step in range(_STEPS):
        with quiet():
            logits = module(digits(_IMAGES, seed=60 + step))
        loss = F.cross_entropy(logits.float(), labels)
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        with torch.no_grad():
            for tensor, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    tensor.sub_(torch.nan_to_num(gradient).sign(), alpha=_RATE)


def _normalises(forwards: Forwards) -> bool:
    def found(node: Node) -> bool:
        return is_batch_norm(node) and batch_statistics(node)

    least = _least(forwards, training=True)
    return any(
        forwards.effect(True, [node.number], noise, seed) > least
        for seed in range(_SEEDS)
        for node in filter(found, forwards.trace(True, seed=seed).nodes)
    )


def _drops(forwards: Forwards) -> bool:
    least = _least(forwards, training=True)
    return any(
        forwards.effect(True, [node.number], half, seed) > least
        for seed in range(_SEEDS)
        for node in forwards.trace(True, seed=seed).nodes
        if features(node) is not None
    )


def _least(forwards: Forwards, training: bool) -> float:
    """Of effects, in standard deviations of the logits; a new network hardly tells images apart."""
    here, there = forwards.logits(training), forwards.logits(training, image=1)
    return _SHARE * relative_change(here, there)
