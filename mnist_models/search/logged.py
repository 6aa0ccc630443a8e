"""A stored log of a study as it is read: what follows from its counts is computed again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_models.derived import agree
from mnist_models.schema import SchemaError
from mnist_models.search.arm import Arm
from mnist_models.search.log import log


def refuse_typed(found: Mapping[str, Any]) -> None:
    """Compare a table of `log` with the one that its own counts give.

    Counts, losses and causes are what was measured: they follow from nothing here.

    Raises:
        SchemaError: naming the field, what was found and what was expected.
        TypeError, KeyError, AttributeError, ValueError: it is no such table.
    """
    question, rows = found["question"], found["arms"]
    for place, row in enumerate(rows):
        _refuse_other_counts(row, question["seeds"], f"arms[{place}]")
    arms = [_arm(row) for row in sorted(rows, key=lambda row: int(row["arm"]))]
    if not arms:
        raise SchemaError("arms: found none, expected one or more")
    expected = log(found["study"], question, arms)
    stored = [dict(row) for row in rows]
    for one, other in zip(stored, expected["arms"], strict=True):
        if "loss" not in one:  # of a study from before losses were kept
            del other["loss"]
        if arms[0].number != 0:  # the log was written while the first arm was not finished
            other["difference"] = one["difference"]
    agree(found["pooled_epochs"], expected["pooled_epochs"], "pooled_epochs")
    agree(stored, expected["arms"], "arms")
    agree(found["settings"], expected["settings"], "settings")
    _refuse_other_parameters(question["recipe"], rows)


def _arm(row: Mapping[str, Any]) -> Arm:
    correct = {int(seed): right for seed, right in row["correct"].items()}
    loss = row.get("loss")
    return Arm(
        number=row["arm"],
        values=row["values"],
        state=row["state"],
        parameters=row["parameters"],
        correct=correct,
        total=row["total"],
        loss={} if loss is None else {0: loss},  # its mean alone is stored
        cause=row["cause"],
    )


def _refuse_other_counts(row: Mapping[str, Any], seeds: list[int], where: str) -> None:
    for seed, right in row["correct"].items():
        if int(seed) not in seeds:
            raise SchemaError(f"{where}.correct: found seed {seed}, expected one of {seeds}")
        if not 0 <= right <= row["total"]:
            raise SchemaError(
                f"{where}.correct.{seed}: found {right}, expected from 0 to {row['total']}"
            )


def _refuse_other_parameters(recipe: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> None:
    """Arms that differ in their recipes alone have the same network."""
    known: dict[str, int] = {}
    for place, row in enumerate(rows):
        settings = {k: v for k, v in row["values"].items() if k.partition(".")[0] not in recipe}
        if row["parameters"] is not None:
            first = known.setdefault(str(sorted(settings.items())), row["parameters"])
            agree(row["parameters"], first, f"arms[{place}].parameters")
