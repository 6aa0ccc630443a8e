"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mnist_models.advice import advice_on_forward, describe, place


@dataclass(frozen=True)
class CheckResult:
    """One property of one module, measured.

    Attributes:
        name: such as ``parameters`` or ``batch-norm``.
        passed: None where it could not be measured; never a pass.
        measured: the number or word found, or None.
        limit: what was asked for, such as ``< 8,000``, or None.
        unit: of what was measured.
        cause: one sentence on what was found.
        help: what to try, or "" when passed.
    """

    name: str
    passed: bool | None
    measured: int | float | str | None
    limit: str | None
    unit: str
    cause: str
    help: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table."""
        return asdict(self)


_LIMITS = {
    ("batch-norm", "once"): ">= 1",
    ("batch-norm", "each-block"): "after each convolution",
    ("dropout", "once"): ">= 1 with p >= 0.01",
    ("dropout", "each-block"): "after each convolution",
    ("global-average-pooling", "gap"): "global average pooling",
    ("global-average-pooling", "gap-or-fc"): "global average pooling or fully connected",
}


def worded(name: str, limit: object) -> str:
    """What an assignment asks of a check, for people."""
    return _LIMITS.get((name, str(limit)), str(limit))


def overall(checks: Iterable[CheckResult]) -> bool | None:
    """False if any check is, else None if any is null or there are none, else True."""
    verdicts = {check.passed for check in checks}
    return False if False in verdicts else True if verdicts == {True} else None


def unmeasured(name: str, limit: str | None, unit: str, error: Exception) -> CheckResult:
    """The result of a check that could not be carried out."""
    where, cause = place(error), describe(error).split("\n")[0]
    cause += f" ({where})" if where else ""
    return CheckResult(name, None, None, limit, unit, cause, advice_on_forward(error))
