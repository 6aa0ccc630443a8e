"""The status of this project's own model: a row and a badge per requirement of the card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_models.assignment import CARD, IMAGES
from mnist_models.badges import RUN_BADGES, Badge
from mnist_models.checks import check_built
from mnist_models.checks.record import check_record
from mnist_models.checks.result import CheckResult, overall
from mnist_models.figures.catalogue import OWN
from mnist_models.models import EXPERIMENTS
from mnist_models.plural import counted
from mnist_models.record import Record
from mnist_models.report.markdown import table
from mnist_models.statistics import Aggregate, aggregate
from mnist_models.tables import percent, spread

_TITLES = {
    "parameters": "parameters",
    "batch-norm": "BatchNorm",
    "dropout": "Dropout",
    "global-average-pooling": "global average pooling",
    "receptive-field": "receptive field",
    "epochs": "epochs",
    "accuracy": "accuracy",
    "consistency": "consistency",
}
SHARE = percent(CARD.accuracy.value if CARD.accuracy else 0, IMAGES)  # the card's accuracy
LAST = f"last {CARD.consistent_epochs} epochs"
_WORDED = {"batch-norm", "dropout", "global-average-pooling"}  # no number says it all


@dataclass(frozen=True)
class Requirement:
    """One requirement of the card, as measured.

    Attributes:
        title: what is required.
        limit: what was asked for.
        measured: what was found, in words for the table.
        short: the same with its limit, short enough for a badge.
        passed: None where it is not known.
    """

    name: str
    title: str
    limit: str
    measured: str
    short: str
    passed: bool | None

    @property
    def badge(self) -> Badge:
        """Its badge."""
        return Badge(self.name, self.title, self.short, self.passed)


def requirements(records: Mapping[str, Sequence[Record]]) -> list[Requirement]:
    """Every requirement of the card, measured on this project's own model and its records."""
    own = records.get(OWN, ())
    results: dict[str, list[CheckResult]] = defaultdict(list)
    for check in check_built(EXPERIMENTS[OWN].build, CARD)[0][0]:
        results[check.name].append(check)
    for record in own:
        for check in check_record(record, CARD):
            results[check.name].append(check)
    found = aggregate(own, CARD) if own else None
    return [
        Requirement(name, title, *_words(name, results[name], found), overall(results[name]))
        for name, title in _TITLES.items()
    ]


def _words(
    name: str, checks: Sequence[CheckResult], found: Aggregate | None
) -> tuple[str, str, str]:
    """Limit, measured value, and both in short, of one requirement."""
    if name == "accuracy":
        limit = f">= {SHARE} in the final epoch of every seed"
        short = f"{_mean(found)}, n = {found.seeds}, each >= {SHARE}" if found else ""
        return limit, accuracy(found), short or f"no record, limit {SHARE}"
    if name == "consistency":
        limit = f">= {SHARE} in each of the {LAST}"
        kept = f"{found.consistent} of {counted(found.seeds, 'seed')}" if found else "no record"
        return limit, kept, f"{kept}, {limit}"
    if not checks:
        return str(CARD.epochs), "no record", f"no record, limit {CARD.epochs}"
    measured = sorted({check.measured for check in checks if check.measured is not None}, key=str)
    values = ", ".join(map(_value, measured)) or "unknown"
    limit, worded = str(checks[0].limit), name in _WORDED
    if values == limit:  # a kind of head, not a number
        return "required", checks[0].cause, "runs, required"
    return limit, checks[0].cause if worded else f"{values} {checks[0].unit}", f"{values} {limit}"


def _value(measured: float | str) -> str:
    return measured if isinstance(measured, str) else f"{measured:,}"


def _mean(found: Aggregate) -> str:
    """Mean and standard deviation: ``99.56 % ± 0.08``; of a single seed there is none."""
    return percent(found.mean, found.total) + (
        "" if found.deviation is None else f" ± {spread(found.deviation, found.total)}"
    )


def accuracy(found: Aggregate | None) -> str:
    """Mean, standard deviation and minimum over the seeds, as text."""
    if found is None:
        return "no record"
    if found.deviation is None:
        return f"{_mean(found)}, n = 1"
    return f"{_mean(found)}, minimum {percent(found.minimum, found.total)}, n = {found.seeds}"


def intervals(found: Aggregate) -> str:
    """The 95 % intervals of the mean and of the share of consistent seeds, as text."""
    parts = []
    if found.interval is not None:
        low, high = (percent(bound, found.total) for bound in found.interval)
        parts.append(f"mean within {low} to {high}")
    if found.share is not None:
        low, high = (f"{100 * bound:.0f} %" for bound in found.share)
        parts.append(f"share of consistent seeds within {low} to {high}")
    return " and ".join(parts)


def status(found: Sequence[Requirement]) -> str:
    """The badges of the last run, and the status table."""
    rows = [
        (
            requirement.title,
            requirement.limit,
            requirement.measured,
            f"![{requirement.badge.text}](badges/{requirement.name}.svg)",
        )
        for requirement in found
    ]
    runs = " ".join(f"![{name} of the last run](badges/{name}.svg)" for name in RUN_BADGES)
    return f"{runs}\n\n" + table((f"`{OWN}`", "limit", "measured", "verdict"), rows)
