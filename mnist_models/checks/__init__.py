"""Checks on what a module executes: ``(module, assignment) -> list[CheckResult]``.

They find structural cheats; code that attacks the interpreter itself is out of their reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn

from mnist_models.assignment import Assignment, Limit
from mnist_models.checks.aged import aged, runs_otherwise
from mnist_models.checks.asleep import HELP as ASLEEP_HELP
from mnist_models.checks.asleep import Asleep, find_asleep, operations_of
from mnist_models.checks.dropout import check_dropout
from mnist_models.checks.forwards import Forwards, training_batch
from mnist_models.checks.normalisation import check_batch_norm
from mnist_models.checks.parameters import Count, count_parameters
from mnist_models.checks.pooling import check_pooling
from mnist_models.checks.result import CheckResult, unmeasured, worded
from mnist_models.checks.shape import check_shape
from mnist_models.module_state import buffers, parameters
from mnist_models.plural import counted
from mnist_models.probe import calibrate, preserved, randomise
from mnist_models.receptive_field import ReceptiveField, measure_fields
from mnist_models.receptive_field.global_pooling import GlobalPooling, global_pooling

__all__ = [
    "CheckResult",
    "Measurements",
    "asked",
    "check_against",
    "check_built",
    "check_module",
    "measure",
]


@dataclass(frozen=True)
class Measurements:
    """What was measured, None where it could not be.

    Attributes:
        parameters: elements.
        receptive_field_before_pooling: image pixels, at the input of the global pooling.
        receptive_field_output: image pixels, at the logits.
    """

    parameters: int | None
    receptive_field_before_pooling: int | None
    receptive_field_output: int | None


T = TypeVar("T")

_NOTHING = Assignment(name="none", title="no limits")

# check -> the unit of what it measures, and what an assignment asks of it, None for nothing
_ASKED: dict[str, tuple[str, Callable[[Assignment], Any]]] = {
    "output-shape": ("shape", lambda _: "(B, 10)"),
    "parameters": ("parameters", lambda asks: asks.parameters),
    "batch-norm": ("layers", lambda asks: asks.batch_norm),
    "dropout": ("layers", lambda asks: asks.dropout),
    "global-average-pooling": ("head", lambda asks: asks.head),
    "receptive-field": ("pixels", lambda asks: asks.receptive_field),
}


def asked(assignment: Assignment) -> list[str]:
    """The names of the checks on a module that an assignment asks for."""
    return [name for name, (_, asks) in _ASKED.items() if asks(assignment) is not None]


def measure(module: nn.Module) -> Measurements:
    """Parameters and receptive fields, without limits; the module comes back unchanged."""
    return check_module(module, _NOTHING)[1]


def check_module(
    module: nn.Module, assignment: Assignment
) -> tuple[list[CheckResult], Measurements]:
    """Check what the assignment asks of a module, and that it returns ten logits an image.

    No exception of the module's gets out: a check that could not be carried out has
    ``passed`` None and says why. The module comes back unchanged.
    """
    results, measurements = check_against(module, [assignment])
    return results[0], measurements


@cache
def check_built(
    build: Callable[[], nn.Module], *assignments: Assignment
) -> tuple[tuple[tuple[CheckResult, ...], ...], Measurements]:
    """`check_against` of the network that a registered experiment builds, carried out once.

    Experiments share builders, and each of an experiment's records is asked for the checks on
    its network.
    """
    results, measurements = check_against(build(), assignments)
    return tuple(map(tuple, results)), measurements


def check_against(
    module: nn.Module, assignments: Sequence[Assignment]
) -> tuple[list[list[CheckResult]], Measurements]:
    """`check_module` for several assignments: what they ask alike is measured once."""
    session = _Session(module, assignments)
    try:
        with torch.enable_grad(), preserved(module):  # a file may have switched them off
            session.run()
        _attempt(lambda: _look_later(session))  # a network that fails then is not scored
    except Exception as error:  # the forward of a stranger may raise anything
        session.failed(error)
    return session.results, session.measurements


def _look_later(session: _Session) -> None:
    """Check a network again as it is after many steps, where it then runs other operations."""
    module = session.module
    with torch.enable_grad(), preserved(module):
        batch = training_batch(module)
        if not runs_otherwise(module, batch):
            return
        with aged(module, batch):
            later = _Session(module, session.assignments)
            later.run()
    for results, others in zip(session.results, later.results, strict=True):
        for place, (now, then) in enumerate(zip(results, others, strict=True)):
            if now.passed and not then.passed:
                results[place] = replace(then, cause=f"after many steps of training: {then.cause}")


class _Session:
    """One run of all checks on one module."""

    def __init__(self, module: nn.Module, assignments: Sequence[Assignment]) -> None:
        self.module, self.assignments = module, assignments
        self.forwards = Forwards(module)
        self.results: list[list[CheckResult]] = [[] for _ in assignments]
        self.measurements = Measurements(None, None, None)
        self.asleep = Asleep({}, None, [])

    def run(self) -> None:
        self._check("output-shape", lambda _: check_shape(self.module))
        count = _attempt(lambda: count_parameters(self.module))
        self.asleep = find_asleep(
            self.module, {name for each in self.assignments for name in asked(each)}
        )
        self._check("parameters", lambda limit: self._parameters(_value(count), limit))
        randomise(self.module, seed=1)
        self.asleep = self.asleep.beside(operations_of(self.module))
        _attempt(lambda: calibrate(self.module))  # what it cannot do is told by the checks
        self._check("batch-norm", lambda norm: self._awake(check_batch_norm(self.forwards, norm)))
        self._check("dropout", lambda where: self._awake(check_dropout(self.forwards, where)))
        pooling = _attempt(lambda: global_pooling(self.module))
        self._check(
            "global-average-pooling",
            lambda head: self._awake(check_pooling(self.forwards, _value(pooling), head)),
        )
        # Last: it draws the parameters anew.
        fields = _attempt(lambda: self._measured(_value(pooling)))
        self._check("receptive-field", lambda limit: self._field(_value(fields), limit))
        found = fields if isinstance(fields, ReceptiveField) else ReceptiveField(None, None, "")
        self.measurements = Measurements(
            count.total if isinstance(count, Count) else None, found.before_pooling, found.output
        )

    def failed(self, error: Exception) -> None:
        """Nothing runs: every check that was asked for says so."""
        for name, (unit, asks) in _ASKED.items():
            for assignment, results in zip(self.assignments, self.results, strict=True):
                limit = asks(assignment)
                if limit is not None and name not in {result.name for result in results}:
                    results.append(unmeasured(name, worded(name, limit), unit, error))

    def _check(self, name: str, check: Callable[[Any], CheckResult]) -> None:
        """Carry out a check for each of its limits, and add its result where that is asked."""
        unit, asks = _ASKED[name]
        found: dict[Any, CheckResult] = {}
        for assignment, results in zip(self.assignments, self.results, strict=True):
            limit = asks(assignment)
            if limit is not None and limit not in found:
                try:
                    found[limit] = check(limit)
                except Exception as error:  # a check that crashes is not a pass
                    found[limit] = unmeasured(name, worded(name, limit), unit, error)
            if limit is not None:
                results.append(found[limit])

    def _awake(self, result: CheckResult) -> CheckResult:
        """A pass only if it holds with the network's own parameters too."""
        cause = self.asleep.causes.get(result.name)
        if not result.passed or cause is None or result.measured == "fully connected":
            return result
        measured = 0 if isinstance(result.measured, int) else "none"
        return replace(result, passed=False, measured=measured, cause=cause, help=ASLEEP_HELP)

    def _measured(self, pooling: GlobalPooling) -> ReceptiveField:
        """The smaller of the fields with random and with its own parameters."""
        found, own = measure_fields(self.module, pooling), self.asleep.field
        if found.before_pooling is None or own is None or own >= found.before_pooling:
            return found
        return replace(found, before_pooling=own)

    def _parameters(self, count: Count, limit: Limit) -> CheckResult:
        passed = None if count.total is None else limit.holds(count.total)
        advice = "" if passed else "use fewer channels or layers; keep all weights in nn.Parameter"
        if advice and _pruned(self.module):
            advice = "make pruning permanent with torch.nn.utils.prune.remove: its masks count"
        if passed is None:
            advice = "compute with torch's own operations alone in the forward pass"
        return CheckResult(
            "parameters", passed, count.total, str(limit), "parameters", count.cause, advice
        )

    def _field(self, found: ReceptiveField, limit: Limit) -> CheckResult:
        field = found.before_pooling
        passed = None if field is None else limit.holds(field)
        cause = found.cause
        if field is not None:
            cause = (
                f"{counted(field, 'pixel')} before the global pooling, {found.output} at the output"
            )
        advice = "add 3x3 convolutions or a pooling before the global pooling"
        if passed is not False:  # unknown: what would enlarge it is not what is missing
            advice = ""
        if passed is None and cause.startswith("no rule for"):
            advice = (
                "what a position of its output depends on is not known here: leave it out, or "
                "measure the network without it"
            )
        return CheckResult("receptive-field", passed, field, str(limit), "pixels", cause, advice)


def _pruned(module: nn.Module) -> bool:
    """A mask of `torch.nn.utils.prune` stands beside the weights that it multiplies."""
    names = parameters(module)
    masks = (name.removesuffix("_mask") for name in buffers(module) if name.endswith("_mask"))
    return any(f"{name}_orig" in names for name in masks)


def _attempt(action: Callable[[], T]) -> T | Exception:
    try:
        return action()
    except Exception as error:
        return error


def _value(found: T | Exception) -> T:
    if isinstance(found, Exception):
        raise found
    return found
