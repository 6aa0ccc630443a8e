"""Checks on what a module executes: ``(module, assignment) -> list[CheckResult]``.

They find structural cheats; code that attacks the interpreter itself is out of their reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from mnist_models.assignment import Assignment
from mnist_models.checks.dropout import check_dropout
from mnist_models.checks.forwards import Forwards
from mnist_models.checks.normalisation import check_batch_norm
from mnist_models.checks.parameters import Count, count_parameters
from mnist_models.checks.pooling import check_pooling
from mnist_models.checks.result import CheckResult, unmeasured
from mnist_models.checks.shape import check_shape
from mnist_models.probe import calibrate, preserved, randomise
from mnist_models.receptive_field import ReceptiveField, measure_fields
from mnist_models.receptive_field.global_pooling import global_pooling

__all__ = ["CheckResult", "Measurements", "check_module", "measure"]


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
    session = _Session(module, assignment)
    try:
        with preserved(module):
            session.run()
    except Exception as error:  # the forward of a stranger may raise anything
        session.failed(error)
    return session.results, session.measurements


class _Session:
    """One run of all checks on one module."""

    def __init__(self, module: nn.Module, assignment: Assignment) -> None:
        self.module, self.assignment = module, assignment
        self.forwards = Forwards(module)
        self.results: list[CheckResult] = []
        self.measurements = Measurements(None, None, None)

    def run(self) -> None:
        self._add("output-shape", "(B, 10)", "shape", lambda: check_shape(self.module))
        count = _attempt(lambda: count_parameters(self.module))
        if self.assignment.parameters is not None:
            limit = str(self.assignment.parameters)
            self._add("parameters", limit, "parameters", lambda: self._parameters(count))
        randomise(self.module, seed=1)
        _attempt(lambda: calibrate(self.module))  # what it cannot do is told by the checks
        wanted = self.assignment
        if (norm := wanted.batch_norm) is not None:
            self._add("batch-norm", norm, "layers", lambda: check_batch_norm(self.forwards, norm))
        if (dropout := wanted.dropout) is not None:
            self._add("dropout", dropout, "layers", lambda: check_dropout(self.forwards, dropout))
        pooling = _attempt(lambda: global_pooling(self.module))
        if (head := wanted.head) is not None:
            self._add(
                "global-average-pooling",
                head,
                "head",
                lambda: check_pooling(self.forwards, _value(pooling), head),
            )
        # Last: it draws the parameters anew.
        fields = _attempt(lambda: measure_fields(self.module, _value(pooling)))
        if wanted.receptive_field is not None:
            limit = str(wanted.receptive_field)
            self._add("receptive-field", limit, "pixels", lambda: self._field(_value(fields)))
        found = fields if isinstance(fields, ReceptiveField) else ReceptiveField(None, None, "")
        self.measurements = Measurements(
            count.total if isinstance(count, Count) else None, found.before_pooling, found.output
        )

    def failed(self, error: Exception) -> None:
        """Nothing runs: every check that was asked for says so."""
        wanted, done = self.assignment, {result.name for result in self.results}
        asked = {
            "output-shape": ("(B, 10)", "shape"),
            "parameters": (wanted.parameters, "parameters"),
            "batch-norm": (wanted.batch_norm, "layers"),
            "dropout": (wanted.dropout, "layers"),
            "global-average-pooling": (wanted.head, "head"),
            "receptive-field": (wanted.receptive_field, "pixels"),
        }
        for name, (limit, unit) in asked.items():
            if limit is not None and name not in done:
                self.results.append(unmeasured(name, str(limit), unit, error))

    def _add(self, name: str, limit: str, unit: str, check: Callable[[], CheckResult]) -> None:
        try:
            self.results.append(check())
        except Exception as error:  # a check that crashes is not a pass
            self.results.append(unmeasured(name, limit, unit, error))

    def _parameters(self, found: Count | Exception) -> CheckResult:
        count, limit = _value(found), self.assignment.parameters
        assert limit is not None
        passed = None if count.total is None else limit.holds(count.total)
        advice = "" if passed else "use fewer channels or layers; keep all weights in nn.Parameter"
        return CheckResult(
            "parameters", passed, count.total, str(limit), "parameters", count.cause, advice
        )

    def _field(self, found: ReceptiveField) -> CheckResult:
        limit, field = self.assignment.receptive_field, found.before_pooling
        assert limit is not None
        passed = None if field is None else limit.holds(field)
        cause = found.cause
        if field is not None:
            cause = f"{field} pixels before the global pooling, {found.output} at the output"
        advice = "add 3x3 convolutions or a pooling before the global pooling"
        if passed is not False:  # unknown: what would enlarge it is not what is missing
            advice = ""
        return CheckResult("receptive-field", passed, field, str(limit), "pixels", cause, advice)


def _attempt(action: Callable[[], T]) -> T | Exception:
    try:
        return action()
    except Exception as error:
        return error


def _value(found: T | Exception) -> T:
    if isinstance(found, Exception):
        raise found
    return found
