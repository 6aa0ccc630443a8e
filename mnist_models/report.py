"""What follows from models, checks and records alone: the generated blocks of the README.

Never trains, and needs no data set.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mnist_models.assignment import CARD, IMAGES
from mnist_models.checks import check_module
from mnist_models.checks.record import check_record
from mnist_models.checks.result import CheckResult, overall
from mnist_models.models import EXPERIMENTS
from mnist_models.record import Record, find_records, load_record
from mnist_models.statistics import Aggregate, aggregate
from mnist_models.tables import percent

OWN = "frontier-8k"  # whose status the README opens with
_TITLES = {
    "parameters": "parameters",
    "batch-norm": "BatchNorm",
    "dropout": "Dropout",
    "global-average-pooling": "global average pooling",
    "receptive-field": "receptive field",
    "epochs": "epochs",
    "accuracy": "accuracy, final epoch",
    "consistency": "consistency",
}
_WORDED = {"batch-norm", "dropout", "global-average-pooling"}  # no number says it all
_MARKS = {True: "pass", False: "**FAIL**", None: "unknown"}
_BLOCK = re.compile(
    r"(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL
)


class ReportError(Exception):
    """A text whose generated blocks cannot be written."""


def published(root: Path) -> dict[str, list[Record]]:
    """The records below `root` by experiment, seeds ascending, experiments in registry order.

    Only runs scored on MNIST's test set: no table uses the stand-in or the validation slice.

    Raises:
        RecordError: one of them is damaged.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    for folder in find_records(root):
        record = load_record(folder)
        if (record.data.name, record.data.split) == ("mnist", "test"):
            found[record.experiment].append(record)
    return {
        name: sorted(found[name], key=lambda record: record.seed)
        for name in EXPERIMENTS
        if name in found
    }


def blocks(records: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """The text of every generated block, by name."""
    makers: dict[str, Callable[[Mapping[str, Sequence[Record]]], str]] = {
        "status": _status,
        "records": _records,
    }
    return {name: make(records) for name, make in makers.items()}


def render(text: str, generated: Mapping[str, str]) -> str:
    """The text with the body of each of its marked blocks replaced.

    Raises:
        ReportError: it marks a block that is not known, or lacks one.
    """
    marked = [match["name"] for match in _BLOCK.finditer(text)]
    if sorted(marked) != sorted(generated):
        raise ReportError(f"found the blocks {marked}, expected {sorted(generated)} once each")
    return _BLOCK.sub(lambda match: f"{match[1]}{generated[match['name']]}{match[4]}", text)


def stale_line(text: str, expected: str) -> int | None:
    """The first line, from 1, in which the two texts differ; None where they do not."""
    if text == expected:
        return None
    pairs = zip(text.splitlines(), expected.splitlines(), strict=False)
    for number, (found, wanted) in enumerate(pairs, start=1):
        if found != wanted:
            return number
    return min(len(text.splitlines()), len(expected.splitlines())) + 1


def _status(records: Mapping[str, Sequence[Record]]) -> str:
    """A row per requirement of the card, for this project's own model."""
    own = records.get(OWN, ())
    results: dict[str, list[CheckResult]] = defaultdict(list)
    for check in check_module(EXPERIMENTS[OWN].build(), CARD)[0]:
        results[check.name].append(check)
    for record in own:
        for check in check_record(record, CARD):
            results[check.name].append(check)
    found = aggregate(own, CARD) if own else None
    rows = [
        (title, *_measured(name, results[name], found), _verdict(results[name]))
        for name, title in _TITLES.items()
    ]
    return _markdown((f"`{OWN}`", "limit", "measured", ""), rows)


def _verdict(checks: Sequence[CheckResult]) -> str:
    return _MARKS[overall(checks)]


def _measured(name: str, checks: Sequence[CheckResult], found: Aggregate | None) -> tuple[str, str]:
    """Limit and measured value of one requirement, in words."""
    share = percent(CARD.accuracy.value if CARD.accuracy else 0, IMAGES)
    if name == "accuracy":
        return f">= {share}", accuracy(found)
    if name == "consistency":
        limit = f">= {share} in each of the last {CARD.consistent_epochs} epochs"
        return limit, f"{found.consistent} of {found.seeds} seeds" if found else "no record"
    if not checks:
        return "", "no record"
    if name in _WORDED:
        return "runs", checks[0].cause
    measured = {check.measured for check in checks if isinstance(check.measured, int)}
    values = ", ".join(f"{value:,}" for value in sorted(measured)) or "unknown"
    return str(checks[0].limit), f"{values} {checks[0].unit}"


def accuracy(found: Aggregate | None) -> str:
    """Mean, standard deviation and minimum over the seeds, as text."""
    if found is None:
        return "no record"
    mean = percent(found.mean, found.total)
    if found.deviation is None:
        return f"{mean}, n = 1"
    spread = f"{100 * found.deviation / found.total:.2f}"
    return f"{mean} ± {spread}, minimum {percent(found.minimum, found.total)}, n = {found.seeds}"


def _records(records: Mapping[str, Sequence[Record]]) -> str:
    """A row per published record."""
    rows = [
        (
            f"`{record.experiment}`",
            str(record.seed),
            f"{record.parameters:,}",
            str(len(record.epochs)),
            ", ".join(f"{epoch.test_correct:,}" for epoch in record.epochs[-3:]),
            percent(record.final.test_correct, record.final.test_total),
        )
        for group in records.values()
        for record in group
    ]
    header = ("experiment", "seed", "parameters", "epochs", "correct, last three epochs", "final")
    return _markdown(header, rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
