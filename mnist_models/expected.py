"""Whether each experiment keeps and breaks what it is known to keep and break.

A published network may break its own assignment, and most break this project's card: that is
what was found out about them. What counts is that the verdict is the one expected. This
project's own networks may break nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_models.assignment import CARD
from mnist_models.checks import check_built
from mnist_models.checks.record import check_record
from mnist_models.checks.result import CheckResult
from mnist_models.models import Experiment
from mnist_models.record import Record

_MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Comparison:
    """The checks of one experiment against one assignment.

    Attributes:
        experiment: its name.
        assignment: its name.
        expected: names of the checks that are known not to pass.
        checks: what was found.
    """

    experiment: str
    assignment: str
    expected: frozenset[str]
    checks: tuple[CheckResult, ...]

    @property
    def found(self) -> frozenset[str]:
        """Names of the checks that do not pass."""
        return frozenset(check.name for check in self.checks if check.passed is not True)

    @property
    def passed(self) -> bool:
        """Whether exactly the expected checks do not pass."""
        return self.found == self.expected

    @property
    def cause(self) -> str:
        """What differs, one sentence for each check, or ""."""
        broken = [
            f"{check.name} is not expected to fail: {check.cause}"
            for check in self.checks
            if check.passed is not True and check.name not in self.expected
        ]
        kept = [f"{name} is expected to fail, and passes" for name in self.expected - self.found]
        return "; ".join(dict.fromkeys([*broken, *sorted(kept)]))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table."""
        return {
            "experiment": self.experiment,
            "assignment": self.assignment,
            "passed": self.passed,
            "expected": sorted(self.expected),
            "found": sorted(self.found),
            "cause": self.cause,
        }


def compare(experiment: Experiment, records: Sequence[Record] = ()) -> Iterator[Comparison]:
    """Check an experiment against its own assignment, and against the card if that is another.

    Args:
        experiment: any registered one.
        records: its published ones; those of this project's own experiments must keep the limits
            on epochs, accuracy and consistency of their own assignment too.
    """
    own = experiment.source is None  # nothing excuses it, whatever it says of itself
    wanted = [(experiment.assignment, experiment.breaks), (CARD, experiment.breaks_card)]
    if own:
        wanted = [(assignment, frozenset()) for assignment, _ in wanted]
    wanted = list(dict.fromkeys(wanted))
    results, _ = check_built(experiment.build, *(assignment for assignment, _ in wanted))
    for (assignment, breaks), found in zip(wanted, results, strict=True):
        checks = list(found)
        for record in records if own and assignment == experiment.assignment else ():
            checks += check_record(record, assignment)
        yield Comparison(experiment.name, assignment.name, breaks, tuple(checks))


def registered_at(name: str) -> tuple[Path, int]:
    """The file, and the line from 1, in which an experiment is given its name."""
    for path in sorted(_MODELS.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for value in _names(node):
                if isinstance(value, ast.Constant) and value.value == name:
                    return path, value.lineno
    return _MODELS / "__init__.py", 1


def _names(node: ast.AST) -> list[ast.expr]:
    """Where a name may stand: in a call, or first in a row of the table that a loop registers."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = [key.value for key in node.keywords if key.arg == "name"]
        return named if node.func.id == "Experiment" else node.args[:1]
    return node.elts[:1] if isinstance(node, ast.Tuple) else []
