"""What no run can leave: numbers of a record that contradict each other, or what they measure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import chain

from mnist_models.recorded import Record

_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_YEARS = range(1970, 2100)  # of any clock; which are wrong more often than records are forged
_SHORTEST = 1e-6  # s of an epoch: in less no processor takes up a single image
_LONGEST = 366 * 86_400.0  # s of a run: the networks here train for hours
_ROUNDING = 1e-6  # share; a rate or a sum that was computed in another order


def contradictions(record: Record) -> Iterator[str]:
    """The fields that cannot be, a sentence each, the first of them first."""
    yield from chain(_epoch_problems(record), _result_problems(record), _rate_problems(record))
    yield from chain(_timing_problems(record), _provenance_problems(record))


def _epoch_problems(record: Record) -> Iterator[str]:
    data = record.data
    if min(data.train_images, data.held_out_images) < 1:
        yield f"data: {data.train_images} and {data.held_out_images} images, expected some of both"
    for index, epoch in enumerate(record.epochs):
        totals = (epoch.train_total, epoch.test_total)
        if totals != (data.train_images, data.held_out_images):
            yield f"epochs[{index}]: image totals {totals}, other than those of the data set"
        if not 0 <= epoch.train_correct <= epoch.train_total:
            yield f"epochs[{index}].train_correct: {epoch.train_correct} is impossible"
        if not 0 <= epoch.test_correct <= epoch.test_total:
            yield f"epochs[{index}].test_correct: {epoch.test_correct} is impossible"
        lower = min(epoch.train_loss, epoch.test_loss)
        if lower < 0:  # nor with a margin or smoothed labels, which train_loss includes
            yield f"epochs[{index}]: a loss of {lower}; a cross-entropy is never negative"


def _result_problems(record: Record) -> Iterator[str]:
    final, images = record.final, record.data.held_out_images
    confusion, wrong = record.confusion, record.misclassified
    if [len(row) for row in confusion] != [10] * 10:
        yield "confusion: not 10 rows of 10"
    elif min(map(min, confusion)) < 0 or sum(map(sum, confusion)) != images:
        yield f"confusion: its counts do not add up to {images} images"
    elif sum(confusion[digit][digit] for digit in range(10)) != final.test_correct:
        yield f"confusion: its diagonal is not the {final.test_correct} correct of the last epoch"
    if wrong != sorted(set(wrong)) or (wrong and not 0 <= wrong[0] <= wrong[-1] < images):
        yield "misclassified: not ascending indices of scored images"
    if len(wrong) != final.test_total - final.test_correct:
        missed = final.test_total - final.test_correct
        yield f"misclassified: {len(wrong)} images, the last epoch missed {missed}"


def _rate_problems(record: Record) -> Iterator[str]:
    peak = _peak(record)
    for index, epoch in enumerate(record.epochs):
        for name in ("learning_rate", "last_learning_rate"):
            rate = getattr(epoch, name)
            if rate < 0 or rate * (1 - _ROUNDING) > peak:
                yield f"epochs[{index}].{name}: found {rate}, expected 0 to the recipe's {peak}"


def _peak(record: Record) -> float:
    """The highest learning rate of the recipe; infinite where it does not say.

    All schedules here go down from the recipe's rate, unless a number of theirs says otherwise.
    """
    rate, schedule = record.recipe.get("learning_rate"), record.recipe.get("schedule")
    numbers = schedule if isinstance(schedule, dict) else {}
    factors = [numbers.get(name, 1) for name in ("base", "gamma", "factor")]
    divisor = numbers.get("start_divisor", 1)
    if not all(isinstance(number, int | float) for number in (rate, divisor, *factors)):
        return math.inf
    falls: bool = max(factors) <= 1 <= divisor
    return rate if falls and rate is not None else math.inf


def _timing_problems(record: Record) -> Iterator[str]:
    seconds, whole = record.timing.epoch_seconds, record.timing.seconds
    if len(seconds) != len(record.epochs) or min(seconds, default=0) <= 0:
        yield f"timing.epoch_seconds: found {seconds}, expected one above 0 for each epoch"
    elif min(seconds) < _SHORTEST:
        yield f"timing.epoch_seconds: found {min(seconds)}, expected at least {_SHORTEST}"
    if max(whole, *seconds) > _LONGEST:
        yield f"timing: found {max(whole, *seconds)} s, expected at most a year, {_LONGEST:.0f} s"
    if whole < sum(seconds) * (1 - _ROUNDING):
        yield f"timing.seconds: found {whole}, less than the {sum(seconds)} of its epochs"


def _provenance_problems(record: Record) -> Iterator[str]:
    found = record.provenance
    if not _DIGEST.fullmatch(found.package_digest):
        yield f"provenance.package_digest: found {found.package_digest!r}, expected a sha256"
    if found.threads < 1:
        yield f"provenance.threads: found {found.threads}, expected a whole number from 1"
    try:
        finished = datetime.fromisoformat(found.finished)
    except ValueError:
        finished = datetime.min
    if finished.utcoffset() is None:
        yield (
            f"provenance.finished: found {found.finished!r}, expected a time in ISO 8601 with its "
            "offset, such as 2026-11-20T09:35:38+00:00"
        )
    elif finished.year not in _YEARS:
        yield (
            f"provenance.finished: found {found.finished!r}, expected a year from {_YEARS[0]} to "
            f"{_YEARS[-1]}"
        )
