"""What a faster way to train does to the accuracy, as rows of a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from mnist_models.plural import counted
from mnist_models.report.markdown import table
from mnist_models.statistics import paired
from mnist_models.tables import percent, spread
from mnist_models.timings import Accuracy

HEADER = ("trained", "mean", "lowest", "highest", "less the first, points", "95 % interval", "p")


def accuracies(found: Accuracy) -> str:
    """The table of one measurement, and what was measured."""
    return f"{table(HEADER, list(rows(found)))}\n{what(found)}\n"


def what(found: Accuracy) -> str:
    """What the table shows, in a sentence or two."""
    return (
        f"`{found.experiment}`, {counted(found.epochs, 'epoch')}, {len(found.seeds)} seeds each, "
        f"{found.side_by_side} at a time where side by side, scored once, after the last epoch, on "
        f"{found.total:,} {found.split} images. Differences are seed by seed; p is that of a "
        "paired t-test."
    )


def rows(found: Accuracy) -> Iterator[tuple[str, ...]]:
    """A row for each way: mean and spread in %, the difference in percentage points."""
    first = found.correct[found.against]
    points = 100 / found.total
    for way, correct in found.correct.items():
        mean, deviation = statistics.mean(correct), statistics.stdev(correct)
        shown = [percent(number, found.total) for number in (mean, min(correct), max(correct))]
        shown[0] += f" ± {spread(deviation, found.total)}"
        difference = paired([a - b for a, b in zip(correct, first, strict=True)])
        if way == found.against or difference is None or difference.interval is None:
            yield (way, *shown, "", "", "")
            continue
        low, high = (f"{points * end:+.3f}" for end in difference.interval)
        p = "-" if difference.p is None else f"{difference.p:.2g}"
        yield (way, *shown, f"{points * difference.mean:+.3f}", f"{low} to {high}", p)
