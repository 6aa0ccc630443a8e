"""The checks on a record: each with a record that keeps the limit and ones that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mnist_models.assignment import ASSIGNMENTS, CARD, TEST_MD5, Assignment, Limit
from mnist_models.checks.record import check_record
from mnist_models.checks.result import CheckResult
from mnist_models.record import Data, Epoch, Record

from .test_record import make

GOOD = [9_000] * 12 + [9_940, 9_950, 9_945]


def run(correct: list[int], **data: object) -> Record:
    """A record on the test set, or on `data`, that answered that many images in its epochs."""
    described = {"name": "mnist", "split": "test", "train_images": 60_000}
    described |= {"held_out_images": 10_000, "md5": dict(TEST_MD5)}
    epochs = [
        Epoch(number, 0.1, 0.1, 0.5, 50_000, 60_000, 0.1, count, 10_000)
        for number, count in enumerate(correct, start=1)
    ]
    record, _ = make()
    return replace(record, epochs=epochs, data=Data(**(described | data)))  # type: ignore[arg-type] - a table of mixed types


def results(record: Record, assignment: Assignment = CARD) -> dict[str, CheckResult]:
    return {check.name: check for check in check_record(record, assignment)}


def verdicts(record: Record, assignment: Assignment = CARD) -> dict[str, bool | None]:
    return {name: check.passed for name, check in results(record, assignment).items()}


ALL = {"epochs": True, "accuracy": True, "consistency": True, "test-set": True}


def test_a_good_record_passes() -> None:
    assert verdicts(run(GOOD)) == ALL
    for check in results(run(GOOD)).values():
        assert check.cause
        assert not check.help


@pytest.mark.parametrize(
    ("correct", "failed"),
    [
        ([*GOOD, 9_990], {"epochs"}),
        ([9_990, *GOOD[:11], 9_939, 9_939, 9_939], {"accuracy", "consistency"}),  # the best is not
        ([9_990] * 14 + [9_939], {"accuracy", "consistency"}),
        ([9_990] * 12 + [9_939, 9_990, 9_990], {"consistency"}),
        ([9_990] * 13 + [9_939, 9_990], {"consistency"}),
        ([9_939] * 12 + [9_940] * 3, set()),
        ([9_990, 9_990], {"consistency"}),  # three epochs were asked for
    ],
)
def test_the_last_epochs_count(correct: list[int], failed: set[str]) -> None:
    assert verdicts(run(correct)) == ALL | dict.fromkeys(failed, False)
    for name in failed:
        advice = results(run(correct))[name].help
        assert advice
        assert ("Train for 3 epochs" in advice) is (len(correct) < 3)


@pytest.mark.parametrize(
    "data",
    [
        {"held_out_images": 60_000},
        {"held_out_images": 5_000, "split": "validation"},
        {"name": "digits"},
        {"md5": TEST_MD5 | {"held_out_labels": "0" * 32}},
        {"md5": TEST_MD5 | {"held_out_images": "0" * 32}},
        {"md5": {}},
    ],
)
def test_no_accuracy_stands_on_another_test_set(data: dict[str, object]) -> None:
    record = run([9_990] * 15, **data)
    if data.get("name") == "digits":
        record = replace(record, data=replace(record.data, md5={"held_out_images": "digits"}))
    expected = {"epochs": True, "accuracy": None, "consistency": None, "test-set": False}
    assert verdicts(record) == expected
    assert "scored on" in results(record)["accuracy"].cause


def test_the_lower_of_stored_and_rescored_counts() -> None:
    record = run(GOOD)

    def rescored(table: dict[int, int]) -> dict[str, bool | None]:
        return {check.name: check.passed for check in check_record(record, CARD, table)}

    assert rescored({15: 9_999}) == ALL
    assert rescored({15: 9_939}) == ALL | {"accuracy": False, "consistency": False}
    assert rescored({13: 9_939}) == ALL | {"consistency": False}
    low = run([9_990] * 14 + [9_939])
    checks = {check.name: check.passed for check in check_record(low, CARD, {15: 9_941})}
    assert checks["accuracy"] is False


def test_only_what_is_asked_for_is_checked() -> None:
    assert set(results(run(GOOD), ASSIGNMENTS["eva4"])) == {"epochs", "accuracy", "test-set"}
    assert set(results(run(GOOD), Assignment("n", "n"))) == {"test-set"}
    strict = Assignment("n", "n", epochs=Limit("<", 15))
    assert results(run(GOOD), strict)["epochs"].passed is False
