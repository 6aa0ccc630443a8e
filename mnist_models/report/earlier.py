"""The text of what `bench` measured on the same device before: its ratios, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mnist_models.report.markdown import shown, table
from mnist_models.tables import digits
from mnist_models.timings import Choices, Measurement, Ratio, Spread, Timings

Ratios = dict[str, Spread]


def earlier(timings: Timings) -> str:
    """The median ratios of all measurements, for each device that has several of a kind."""
    texts = [
        *_by_device(timings.benches, "ratio", lambda bench: dict(bench.ratios)),
        *_by_device(timings.choices, "time over as built", _choices),
    ]
    return "\n".join(texts) or "Not measured twice on any device yet.\n"


def _by_device(
    found: Sequence[Measurement], header: str, ratios: Callable[[Measurement], Ratios]
) -> list[str]:
    devices = dict.fromkeys(one.provenance.device for one in found)
    groups = [[one for one in found if one.provenance.device == device] for device in devices]
    return [
        f"**{shown(group[0].provenance.device)}**\n\n{_side_by_side(group, header, ratios)}"
        for group in groups
        if len(group) > 1
    ]


def _side_by_side(
    group: Sequence[Measurement], header: str, ratios: Callable[[Measurement], Ratios]
) -> str:
    columns = [ratios(one) for one in group]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, *(_cell(column.get(name)) for column in columns)) for name in names]
    return table((header, *(shown(one.provenance.finished[:16]) for one in group)), rows)


def _cell(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    broken = isinstance(ratio, Ratio) and ratio.passed is False
    return f"**{digits(ratio.median)}, broken**" if broken else digits(ratio.median)


def _choices(choices: Choices) -> Ratios:
    return {
        f"{choice.experiment}: {choice.variant}": choice.ratio
        for choice in choices.choices
        if choice.variant != choice.against
    }
