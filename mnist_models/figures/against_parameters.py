"""The plot of accuracy against parameters, from records and the registry alone."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mnist_models.figures import FigureError, style
from mnist_models.figures.plotted import Table, parameters_table
from mnist_models.models import EXPERIMENTS
from mnist_models.record import Record

_MARKS = (  # shape, colour, size in points: one for each system, in the registry's order
    ("*", style.INK, 17.0),
    ("s", style.BLUE, 11.5),
    ("o", style.ORANGE, 12.5),
    ("D", style.GREEN, 9.5),
    ("H", style.PINK, 13.0),
    ("^", style.BROWN, 12.0),
)
_BESIDE = 0.017  # natural logarithm of parameters between experiments of as many parameters
_APART = 1.3  # factor between neighbours at which the axis is broken
_SMALL = 5_000  # parameters: networks below stand in a panel of their own
_SIDE = 0.55  # width of that panel, as a share of the others'
_DOTTED = (0, (1, 2))
_ACCURACIES = (90, 95, 97, 98, 98.5, 99, 99.2, 99.3, 99.4, 99.5, 99.6, 99.7, 99.8, 99.9)
_PARAMETERS = (
    *(500, 1_000, 2_000, 4_000),
    *(6_000, 7_000, 8_000, 9_000, 10_000, 12_000, 15_000, 20_000),
)


def accuracy_against_parameters(records: Mapping[str, Sequence[Record]]) -> Figure:
    """All experiments with records: final accuracy, mean and standard deviation over seeds.

    A hollow mark is what the document claims, joined to what was measured; crosses are results
    published elsewhere. Experiments of as many parameters stand side by side. The height is the
    logarithm of the error; the axis of parameters is broken where nothing lies.

    Raises:
        FigureError: there are no records.
        SeedsError: the records of an experiment are no fair sample.
    """
    table = parameters_table(records)
    experiments, published = table["experiments"], table["published"]
    if not experiments:
        raise FigureError("found no records, expected those of at least one experiment")
    places = _places(experiments)
    pieces = _pieces([*places.values(), *(point["parameters"] for point in published)])
    with style.look():
        figure = style.new_figure(6.2)
        style.title(figure, "Accuracy against parameters, claimed and measured here")
        widths = [piece.width for piece in pieces if not piece.small]
        if pieces[0].small:
            widths.insert(0, _SIDE * sum(widths) or 1)
        panels = figure.subplots(1, len(pieces), sharey=True, width_ratios=widths, squeeze=False)[0]
        for axes, piece in zip(panels, pieces, strict=True):
            for experiment in experiments:
                if places[experiment["name"]] in piece.counts:
                    _experiment(axes, experiment, places[experiment["name"]])
            within = [point for point in published if point["parameters"] in piece.counts]
            within.sort(key=lambda point: point["parameters"])
            for number, point in enumerate(within):
                _published(axes, point, beside=not piece.small, above=number % 2 == 0)
            _parameter_axis(axes, piece)
        _accuracy_axis(panels, experiments, published)
        figure.legend(*_legend(experiments), loc="outside lower left", ncols=2)
        style.settle(figure)
    return figure


def _places(experiments: Sequence[Table]) -> dict[str, float]:
    """Where each experiment stands: at its parameters, those of as many side by side."""
    groups: dict[int, list[str]] = defaultdict(list)
    for experiment in experiments:
        groups[experiment["parameters"]].append(experiment["name"])
    return {
        name: parameters * math.exp(_BESIDE * (number - (len(names) - 1) / 2))
        for parameters, names in groups.items()
        for number, name in enumerate(names)
    }


@dataclass(frozen=True)
class _Piece:
    """A panel: the counts of parameters in it, ascending."""

    counts: list[float]
    small: bool

    @property
    def width(self) -> float:
        """In the unit of the other panels' widths: the more stands in it, the more room."""
        return 0.2 + 0.045 * len(self.counts)


def _pieces(counts: Sequence[float]) -> list[_Piece]:
    small = sorted(count for count in counts if count < _SMALL)
    pieces: list[list[float]] = []
    for count in sorted(count for count in counts if count >= _SMALL):
        if pieces and count < _APART * pieces[-1][-1]:
            pieces[-1].append(count)
        else:
            pieces.append([count])
    return [_Piece(small, True)] * bool(small) + [_Piece(piece, False) for piece in pieces]


def _mark(experiment: Table) -> tuple[str, str, float]:
    systems = list(dict.fromkeys(e.system.name for e in EXPERIMENTS.values()))
    return _MARKS[systems.index(experiment["system"]) % len(_MARKS)]


def _experiment(axes: Axes, experiment: Table, place: float) -> None:
    _, colour, _ = _mark(experiment)
    wrong = [100 - share for share in _shares(experiment)]
    mean = statistics.mean(wrong)
    if experiment["claim"] is not None:
        claim = 100 - experiment["claim"]
        axes.plot([place, place], [claim, mean], color=colour, linewidth=0.9, alpha=0.7, zorder=2)
        _numbered(axes, (place, claim), experiment, filled=False)
    if len(wrong) > 1:
        axes.errorbar(
            place, mean, statistics.stdev(wrong), color=colour, linewidth=2.2, capsize=4, zorder=3
        )
    _numbered(axes, (place, mean), experiment, filled=True)


def _shares(experiment: Table) -> list[float]:
    """Accuracies in per cent; no error at all, which has no logarithm, counts as half an image."""
    total = experiment["total"]
    return [100 * min(correct, total - 0.5) / total for correct in experiment["correct"]]


def _numbered(axes: Axes, place: tuple[float, float], experiment: Table, *, filled: bool) -> None:
    """A mark with the number of the step of its ladder inside."""
    shape, colour, size = _mark(experiment)
    face = colour if filled else style.PAPER
    axes.plot(*place, shape, color=colour, markerfacecolor=face, markersize=size, mew=1.1, zorder=4)
    axes.annotate(
        _step(experiment),
        place,
        ha="center",
        va="center_baseline",
        fontsize=7.5,
        fontweight="bold",
        color=style.PAPER if filled else colour,
        zorder=5,
    )


def _step(experiment: Table) -> str:
    """What stands inside a mark: ``3`` for steps-3, ``6c`` for steps-6-constant."""
    if sum(e.system.name == experiment["system"] for e in EXPERIMENTS.values()) == 1:
        return ""
    parts = experiment["name"].split("-")[1:]
    return "".join(part if part.isdigit() else part[0] for part in parts)


def _published(axes: Axes, point: Table, *, beside: bool, above: bool) -> None:
    place = (point["parameters"], 100 - point["percent"])
    axes.plot(*place, "P", color=style.MUTED, markersize=9, zorder=4)
    lines = [
        f"{point['parameters']:,}: {point['percent']:g} %",
        *textwrap.wrap(point["chosen"], 13),
    ]
    axes.annotate(
        "\n".join(lines),
        place,
        xytext=(-8, 0) if beside else (0, 9 if above else -9),
        textcoords="offset points",
        ha="right" if beside else "center",
        va="center" if beside else "bottom" if above else "top",
        fontsize=8.5,
        color=style.MUTED,
    )


def _parameter_axis(axes: Axes, piece: _Piece) -> None:
    margin = 1.5 if piece.small else 1.1
    axes.set_xscale("log")
    axes.set_xlim(piece.counts[0] / margin, piece.counts[-1] * margin)
    axes.xaxis.set_major_locator(FixedLocator(_PARAMETERS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.grid(True)
    axes.set_xlabel("parameters")
    for limit in _limits():
        if axes.get_xlim()[0] < limit < axes.get_xlim()[1]:
            axes.axvline(limit, color=style.INK, linewidth=1, linestyle=_DOTTED)


def _limits() -> list[int]:
    """The numbers of parameters below which this project has models of its own."""
    own = [e.assignment.parameters for e in EXPERIMENTS.values() if e.source is None]
    return sorted({limit.value for limit in own if limit is not None})


def _accuracy_axis(
    panels: Sequence[Axes], experiments: Sequence[Table], published: Sequence[Table]
) -> None:
    shares = [share for experiment in experiments for share in _shares(experiment)]
    shares += [e["claim"] for e in experiments if e["claim"] is not None]
    shares += [point["percent"] for point in published]
    axes = panels[0]
    axes.set_yscale("log")
    axes.set_ylim((100 - min(shares)) * 1.3, (100 - max(shares)) / 1.1)
    axes.yaxis.set_major_locator(FixedLocator([100 - share for share in _ACCURACIES]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 - error:.4g} %"))
    axes.set_ylabel("accuracy")
    for other in panels[1:]:
        other.spines["left"].set_linestyle((0, (2, 4)))  # where the axis is broken
        other.tick_params(left=False)


def _legend(experiments: Sequence[Table]) -> tuple[list[Line2D], list[str]]:
    handles, labels = [], []
    for system in dict.fromkeys(experiment["system"] for experiment in experiments):
        steps = [e for e in experiments if e["system"] == system]
        shape, colour, _ = _mark(steps[0])
        handles.append(Line2D([], [], linestyle="", marker=shape, color=colour, markersize=9))
        labels.append(_together(steps))
    for shape, face, label in (
        ("o", style.MUTED, "filled: measured here, mean ± standard deviation over seeds"),
        ("o", style.PAPER, "hollow: claimed by its document"),
        ("P", style.MUTED, "published elsewhere, not measured here"),
    ):
        handles.append(
            Line2D([], [], linestyle="", marker=shape, color=style.MUTED, mfc=face, markersize=8)
        )
        labels.append(label)
    handles.append(Line2D([], [], color=style.INK, linewidth=1, linestyle=_DOTTED))
    *smaller, largest = (f"{limit:,}" for limit in _limits())
    between = f"{', '.join(smaller)} and " if smaller else ""
    labels.append(f"this project's limits: {between}{largest} parameters")
    handles.append(Line2D([], [], linestyle=""))
    labels.append("those of as many parameters stand side by side")
    return handles, labels


def _together(steps: Sequence[Table]) -> str:
    """``steps-1, 2, 6-constant (6c)``: what the numbers inside the marks stand for."""
    names = []
    for number, step in enumerate(steps):
        suffix, short = step["name"].partition("-")[2], _step(step)
        name = suffix if number else step["name"]
        names.append(name if short in ("", suffix) else f"{name} ({short})")
    return ", ".join(names)
