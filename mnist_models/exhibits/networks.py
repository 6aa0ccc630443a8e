"""Experiments and their networks, as notebooks show them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from mnist_models.checks.result import CheckResult
from mnist_models.exhibits.shown import NO_RECORD, Markdown, brief, rows_of
from mnist_models.lesson import changes
from mnist_models.models import Experiment
from mnist_models.receptive_field import layer_table
from mnist_models.report.reproduction import Row, claim_text
from mnist_models.report.status import accuracy

_MARKS = {True: "pass", False: "**FAIL**", None: "unknown"}


def field_table(module: nn.Module) -> Markdown:
    """How the receptive field grows, layer by layer."""
    header = (
        "layer",
        "operation",
        "kernel",
        "stride",
        "dilation",
        "jump",
        "map",
        "channels",
        "field",
    )
    return rows_of(
        header,
        [
            (
                row.name,
                row.operation,
                _size(row.kernel),
                _size(row.stride),
                _size(row.dilation),
                row.jump or None,
                _size(row.size),
                row.channels,
                row.receptive_field,
            )
            for row in layer_table(module)
        ],
    )


def _size(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


def check_table(checks: Sequence[CheckResult]) -> Markdown:
    """A row per check: limit, what was measured, verdict."""
    header = ("check", "limit", "measured", "verdict", "what was found")
    return rows_of(
        header,
        [(c.name, c.limit, c.measured, _MARKS[c.passed], c.cause) for c in checks],
    )


def ladder(rows: Sequence[Row]) -> Markdown:
    """Target, result and analysis of every step; the result is that of its records."""
    return Markdown("\n".join(_step(row) for row in rows))


def _step(row: Row) -> str:
    experiment = row.experiment
    result = NO_RECORD if row.found is None else accuracy(row.found)
    claimed = f"; claimed: {claim_text(experiment.claim)}" if experiment.claim else ""
    return (
        f"**`{experiment.name}`**: {row.parameters:,} parameters, receptive field {row.before} / "
        f"{row.after} pixels\n\n"
        f"- Target: {experiment.target}\n"
        f"- Result: {result}{claimed}.\n"
        f"- Analysis: {experiment.analysis}\n"
    )


def change_table(experiments: Sequence[Experiment]) -> Markdown:
    """What each step of a ladder changed against the one before."""
    rows: list[tuple[str, str]] = []
    for before, after in pairwise(experiments):
        found = changes(before, after)
        texts = [f"{key}: {brief(old)} → {brief(new)}" for key, (old, new) in found.items()]
        rows.append((f"`{before.name}` → `{after.name}`", "; ".join(texts) or "nothing"))
    return rows_of(("from → to", "what changed"), rows)
