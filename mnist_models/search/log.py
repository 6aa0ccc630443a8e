"""What a study found, as a table: for people, and for docs/search.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mnist_models.search.arm import POOLED, Arm
from mnist_models.search.space import Value
from mnist_models.statistics import paired


def log(name: str, question: Mapping[str, Any], arms: Sequence[Arm]) -> dict[str, Any]:
    """A JSON-ready table of a study: its question, and every arm that ended, best first.

    Args:
        name: of the study.
        question: what it was begun with.
        arms: in the order in which they were asked; the first is what the others are compared to.
    """
    return {
        "study": name,
        "question": dict(question),
        "pooled_epochs": min(POOLED, question["recipe"]["epochs"]),
        "arms": sorted(
            (_row(arm, arms[0]) for arm in arms if arm.state != "waiting"), key=_rank, reverse=True
        ),
        "settings": effects(arms),
    }


def effects(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """For each value of each setting, the mean over the finished arms that had it.

    The arms differ in their other settings too; where those were drawn at random, or all were
    combined with all, they even out.
    """
    groups: dict[tuple[str, Value], list[float]] = {}
    for arm in arms:
        for setting in arm.values.items():
            if arm.mean is not None and arm.state == "finished":
                groups.setdefault(setting, []).append(arm.mean)
    return [
        {
            "setting": name,
            "value": value,
            "arms": len(means),
            "mean": statistics.mean(means),
            "deviation": statistics.stdev(means) if len(means) > 1 else None,
        }
        for (name, value), means in sorted(groups.items(), key=lambda item: item[0][0])
        if not isinstance(value, float)  # drawn from a range: no two arms have the same
    ]


def _rank(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Those that are not finished rest on fewer seeds: they come last."""
    return row["state"] == "finished", row["mean"] or 0.0


def _row(arm: Arm, first: Arm) -> dict[str, Any]:
    scores = [100 * correct / arm.total for correct in arm.correct.values()]
    seeds = sorted(arm.correct.keys() & first.correct.keys()) if arm is not first else []
    difference = paired([arm.correct[seed] - first.correct[seed] for seed in seeds])
    return {
        "arm": arm.number,
        "values": dict(arm.values),
        "state": arm.state,
        "cause": arm.cause,
        "parameters": arm.parameters,
        "seeds": sorted(arm.correct),
        "correct": {str(seed): correct for seed, correct in sorted(arm.correct.items())},
        "total": arm.total,
        "mean": arm.mean,
        "deviation": statistics.stdev(scores) if len(scores) > 1 else None,
        "loss": statistics.mean(arm.loss.values()) if arm.loss else None,
        "difference": difference
        and {
            "seeds": len(seeds),
            "mean": 100 * difference.mean / arm.total,
            "interval": difference.interval
            and [100 * end / arm.total for end in difference.interval],
            "p": difference.p,
        },
    }
