"""The table of this project's own models: the accuracy reached below each number of parameters."""

from __future__ import annotations

from collections.abc import Iterable

from mnist_models.report.markdown import table
from mnist_models.report.reproduction import Row, limits
from mnist_models.report.status import LAST, SHARE, accuracy
from mnist_models.statistics import Aggregate
from mnist_models.tables import percent

_HEADER = (
    "experiment",
    "limit",
    "parameters",
    "receptive field before the GAP",
    "epochs",
    "final epoch",
    "95 % interval of the mean",
    f"seeds that kept {SHARE} in each of the {LAST}",
    "its limits",
)


def frontier(found: Iterable[Row]) -> str:
    """A row for each experiment, in registry order."""
    return table(_HEADER, [_line(row) for row in found])


def _line(row: Row) -> tuple[str, ...]:
    experiment = row.experiment
    return (
        f"`{experiment.name}`",
        str(experiment.assignment.parameters),
        "unknown" if row.parameters is None else f"{row.parameters:,}",
        "unknown" if row.before is None else str(row.before),
        str(experiment.recipe.epochs),
        accuracy(row.found),
        _interval(row.found),
        _share(row.found),
        limits(row),
    )


def _interval(found: Aggregate | None) -> str:
    if found is None or found.interval is None:
        return "-"
    low, high = (percent(bound, found.total) for bound in found.interval)
    return f"{low} to {high}"


def _share(found: Aggregate | None) -> str:
    if found is None:
        return "no record"
    text = f"{found.consistent} of {found.seeds}"
    if found.share is None:
        return text
    low, high = (f"{100 * bound:.0f} %" for bound in found.share)
    return f"{text} (95 % interval {low} to {high})"
