"""Numbers that no run can leave; `test_record` has those that loading refuses by other fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnist_models.contradictions import contradictions
from mnist_models.record import Record, RecordError, load_record, save_record

from .test_record import edit, make

Change = Callable[[Record], Record]


def epoch(**values: Any) -> Change:
    """The second epoch with other values."""

    def change(record: Record) -> Record:
        epochs = list(record.epochs)
        epochs[1] = replace(epochs[1], **values)
        return replace(record, epochs=epochs)

    return change


def origin(**values: Any) -> Change:
    return lambda record: replace(record, provenance=replace(record.provenance, **values))


def seconds(whole: float) -> Change:
    return lambda record: replace(record, timing=replace(record.timing, seconds=whole))


def paces(epoch: float) -> Change:
    """Epochs of so many seconds each."""

    def change(record: Record) -> Record:
        each = [epoch] * len(record.epochs)
        return replace(record, timing=replace(record.timing, epoch_seconds=each))

    return change


def images(train: int) -> Change:
    def change(record: Record) -> Record:
        epochs = [replace(each, train_total=train, train_correct=train) for each in record.epochs]
        return replace(record, epochs=epochs, data=replace(record.data, train_images=train))

    return change


def schedule(**values: Any) -> Change:
    """Rates above the recipe's, by a schedule with these numbers."""

    def change(record: Record) -> Record:
        recipe = record.recipe | {"schedule": {"kind": "Any"} | values}
        return epoch(last_learning_rate=0.2)(replace(record, recipe=recipe))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (epoch(train_loss=-5.0), r"epochs[1]: a loss of -5.0"),
        (epoch(test_loss=-1e-9), r"epochs[1]: a loss of -1e-09"),
        (epoch(learning_rate=1e9), "epochs[1].learning_rate: found 1000000000.0, expected 0 to"),
        (epoch(last_learning_rate=-0.1), "epochs[1].last_learning_rate: found -0.1"),
        (schedule(gamma=0.5, start_divisor=25.0), "epochs[1].last_learning_rate: found 0.2"),
        (images(0), "data: 0 and 100 images"),
        (images(-1), "data: -1 and 100 images"),
        (seconds(-1.0), "timing.seconds: found -1.0, less than the 4.0"),
        (seconds(1e308), "timing: found 1e+308 s, expected at most a year, 31622400 s"),
        (paces(1e307), "timing: found 1e+307 s, expected at most a year"),
        (paces(1e-300), "timing.epoch_seconds: found 1e-300, expected at least 1e-06"),
        (seconds(3.9), "timing.seconds: found 3.9"),
        (origin(package_digest=""), "provenance.package_digest: found ''"),
        (origin(package_digest="sha256:0"), "provenance.package_digest: found 'sha256:0'"),
        (origin(threads=-4), "provenance.threads: found -4"),
        (origin(threads=0), "provenance.threads: found 0"),
        (origin(finished="yesterday"), "provenance.finished: found 'yesterday'"),
        (origin(finished="2026-11-20"), "provenance.finished: found '2026-11-20'"),
        (origin(finished="2026-11-20T09:35:38"), "provenance.finished: found"),
        (
            origin(finished="0001-01-01T00:00:00+23:59"),
            "provenance.finished: found '0001-01-01T00:00:00+23:59', expected a year from 1970 to",
        ),
        (origin(finished="1969-12-31T23:59:59+00:00"), "provenance.finished: found '1969"),
        (
            origin(finished="9999-12-31T23:59:59-23:59"),
            "provenance.finished: found '9999-12-31T23:59:59-23:59', expected a year from 1970 to",
        ),
    ],
)
def test_what_no_run_can_leave(change: Change, said: str) -> None:
    assert next(contradictions(change(make()[0]))).startswith(said)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record,
        epoch(train_loss=0.0, test_loss=0.0, learning_rate=0.0),
        epoch(learning_rate=0.1 + 1e-9),  # as rounding leaves a peak
        schedule(base=1.1),
        schedule(start_divisor=0.5),
        schedule(gamma="unknown"),
        lambda record: epoch(learning_rate=9.0)(replace(record, recipe={})),
        origin(finished="2026-11-20T09:35:38Z"),
        origin(finished="2026-11-20T11:35:38.25+02:00"),
        seconds(4.0 - 1e-9),
        origin(finished="1970-01-01T00:00:00+00:00"),  # a clock that was never set
        origin(finished="2099-01-01T00:00:00+00:00"),
        seconds(100.0),
        seconds(366 * 86_400.0),
        paces(1e-6),
    ],
)
def test_what_a_run_can_leave(change: Change) -> None:
    assert list(contradictions(change(make()[0]))) == []


def test_loading_refuses_it_even_when_signed(tmp_path: Path) -> None:
    save_record(*make(), tmp_path)
    edit(tmp_path, lambda table: table["epochs"][0].update(learning_rate=1e9))
    with pytest.raises(RecordError, match=r"record.json: epochs\[0\].learning_rate: found"):
        load_record(tmp_path)


def test_numbers_beyond_any_float_are_no_traceback(tmp_path: Path) -> None:
    save_record(*make(), tmp_path)
    edit(tmp_path, lambda table: table["recipe"].update(learning_rate=10**400))
    assert load_record(tmp_path).recipe["learning_rate"] == 10**400
    edit(tmp_path, lambda table: table["epochs"][0].update(train_total=10**400))
    with pytest.raises(RecordError, match="image totals"):
        load_record(tmp_path)
