"""Checks on a record: epochs, accuracy, consistency, test set.

The final epoch counts, not the best. Where stored weights were scored again, a limit applies
to the lower of the two counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mnist_models.assignment import IMAGES, TEST_MD5, Assignment, Limit
from mnist_models.checks.result import CheckResult
from mnist_models.plural import counted
from mnist_models.record import Record


def check_record(
    record: Record, assignment: Assignment, rescored: Mapping[int, int] | None = None
) -> list[CheckResult]:
    """Hold a record against an assignment.

    Args:
        record: as loaded, so free of contradictions.
        assignment: its limits.
        rescored: epoch -> images correct as measured again, where that was done.
    """
    return list(_checks(record, assignment, rescored or {}))


def is_consistent(
    record: Record, assignment: Assignment, rescored: Mapping[int, int] | None = None
) -> bool:
    """Whether each of the last epochs that the assignment counts kept its accuracy limit.

    Raises:
        ValueError: the assignment asks for no consistency.
    """
    limit, count = assignment.accuracy, assignment.consistent_epochs
    if limit is None or count is None:
        raise ValueError(f"the assignment {assignment.name} asks for no consistency")
    last = record.epochs[-count:]
    correct = [_correct(record, epoch.epoch, rescored or {}) for epoch in last]
    return len(last) == count and all(map(limit.holds, correct))


def _checks(
    record: Record, assignment: Assignment, rescored: Mapping[int, int]
) -> Iterator[CheckResult]:
    on_test_set = _test_set(record)
    if assignment.epochs is not None:
        yield _epochs(record, assignment.epochs)
    if assignment.accuracy is not None:
        yield _accuracy(record, assignment.accuracy, rescored, on_test_set)
    if assignment.accuracy is not None and assignment.consistent_epochs is not None:
        yield _consistency(record, assignment, rescored, on_test_set)
    yield on_test_set


def _epochs(record: Record, limit: Limit) -> CheckResult:
    count = len(record.epochs)
    passed = limit.holds(count)
    return CheckResult(
        name="epochs",
        passed=passed,
        measured=count,
        limit=str(limit),
        unit="epochs",
        cause=f"trained for {counted(count, 'epoch')}",
        help="" if passed else f"Train for {limit} epochs: --epochs, or `epochs` in the recipe.",
    )


def _test_set(record: Record) -> CheckResult:
    data = record.data
    size_fits = data.held_out_images == IMAGES
    md5_fits = all(data.md5.get(name) == md5 for name, md5 in TEST_MD5.items())
    passed = size_fits and md5_fits
    scored = f"scored on {data.held_out_images:,} images of {data.name} ({data.split})"
    found = "with the canonical md5" if md5_fits else "whose md5 is not that of MNIST's test set"
    return CheckResult(
        name="test-set",
        passed=passed,
        measured=data.held_out_images,
        limit=f"{IMAGES:,} images, canonical md5",
        unit="images",
        cause=f"{scored}, {found}",
        help="" if passed else "Train with --dataset mnist and without --val.",
    )


def _correct(record: Record, epoch: int, rescored: Mapping[int, int]) -> int:
    stored = record.epochs[epoch - 1].test_correct
    return min(stored, rescored.get(epoch, stored))


def _accuracy(
    record: Record, limit: Limit, rescored: Mapping[int, int], test_set: CheckResult
) -> CheckResult:
    correct = _correct(record, record.final.epoch, rescored)
    passed = limit.holds(correct) if test_set.passed else None
    cause = f"{correct:,} of {record.final.test_total:,} images correct in the final epoch"
    return CheckResult(
        name="accuracy",
        passed=passed,
        measured=correct,
        limit=str(limit),
        unit="images",
        cause=cause if test_set.passed else f"{cause}, but it was {test_set.cause}",
        help="" if passed else (test_set.help or "The final epoch counts, not the best one."),
    )


def _consistency(
    record: Record, assignment: Assignment, rescored: Mapping[int, int], test_set: CheckResult
) -> CheckResult:
    limit, count = assignment.accuracy, assignment.consistent_epochs
    assert limit is not None  # the caller asks only then
    assert count is not None
    last = [epoch.epoch for epoch in record.epochs[-count:]]
    correct = [_correct(record, epoch, rescored) for epoch in last]
    held = is_consistent(record, assignment, rescored)
    cause = f"the last epochs scored {', '.join(f'{number:,}' for number in correct)}"
    if len(last) < count:
        cause += f"; {count} were asked for"
    if not test_set.passed:
        cause += f", but it was {test_set.cause}"
    passed = held if test_set.passed else None
    where = "the last epoch" if count == 1 else f"each of the last {count} epochs"
    advice = "Let the learning rate fall to zero, or average the weights, so that no epoch dips."
    if len(last) < count:
        advice = f"Train for {count} epochs or more."
    return CheckResult(
        name="consistency",
        passed=passed,
        measured=min(correct),
        limit=f"{limit} in {where}",
        unit="images",
        cause=cause,
        help="" if passed else (test_set.help or advice),
    )
