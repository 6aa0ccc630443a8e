"""Line plots, from records and the registry alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from mnist_models.assignment import IMAGES
from mnist_models.figures import FigureError, style
from mnist_models.figures.against_parameters import accuracy_against_parameters
from mnist_models.figures.plotted import Table, confusion_table, curves_table
from mnist_models.record import Record
from mnist_models.tables import percent, spread

__all__ = ["accuracy_against_parameters", "confusion", "curves"]

_ACCURACIES = (0, 50, 80, 90, 95, 97, 98, 99, 99.5, 99.7, 99.8, 99.9, 99.95, 99.98)  # per cent
_LOWEST = 8.0  # per cent of error: larger ones are shown only where they last
_COLUMNS = 3


def curves(records: Mapping[str, Sequence[Record]], heading: str = "") -> Figure:
    """Training and test accuracy per epoch, a panel for each experiment.

    The line is the mean over the seeds, the band reaches from the lowest to the highest seed.
    The height is the logarithm of the error, so that 99 % and 99.5 % stand as far apart as 98 %
    and 99 %.

    Args:
        records: of each experiment, the records of all its seeds.
        heading: the title.

    Raises:
        FigureError: there are no records.
        SeedsError: the records of an experiment are no fair sample.
    """
    experiments = curves_table(records)["experiments"]
    if not experiments:
        raise FigureError("found no records, expected those of at least one experiment")
    with style.look():
        columns = min(_COLUMNS, len(experiments))
        rows = math.ceil(len(experiments) / columns)
        figure = style.new_figure(3.7 if rows == columns == 1 else 1.05 + 2.3 * rows)
        style.title(figure, heading or "Accuracy per epoch")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        panels = list(grid.flat)
        for axes, experiment in zip(panels, experiments, strict=False):
            _panel(axes, experiment)
        _accuracy_axis(panels[0], experiments)
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        for row in grid:
            row[0].set_ylabel("accuracy")
        _below(panels, len(experiments), columns)
        _legend(figure, panels[len(experiments) :], experiments)
        style.settle(figure)
    return figure


def _panel(axes: Axes, experiment: Table) -> None:
    epochs = np.arange(1, len(experiment["test"][0]) + 1)
    axes.grid(True, which="major")
    for part, colour, line in (("train", style.ORANGE, "--"), ("test", style.BLUE, "-")):
        wrong = _error(experiment, part)
        axes.fill_between(epochs, wrong.min(0), wrong.max(0), color=colour, alpha=0.22, linewidth=0)
        marker = "o" if part == "test" else None
        axes.plot(
            epochs, wrong.mean(0), line, color=colour, linewidth=1.6, marker=marker, markersize=3
        )
    if experiment["limit"] is not None:
        level = 100 * (1 - experiment["limit"] / IMAGES)
        axes.axhline(level, color=style.INK, linewidth=1, linestyle=(0, (1, 2)))
    axes.set_title(experiment["name"], loc="left", fontweight="bold", pad=17)
    axes.text(0, 1.03, _final(experiment), transform=axes.transAxes, color=style.MUTED, fontsize=9)


def _error(experiment: Table, part: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Error in per cent ``(seeds, epochs)``; none at all counts as half an image."""
    total = experiment[f"{part}_total"]
    wrong = total - np.asarray(experiment[part], dtype=np.float64)
    shares: np.ndarray[Any, np.dtype[np.float64]] = 100 * np.maximum(wrong, 0.5) / total
    return shares


def _final(experiment: Table) -> str:
    """As the tables write it: a half is rounded there and here alike."""
    last, total = [run[-1] for run in experiment["test"]], experiment["test_total"]
    deviation = f" ± {spread(statistics.stdev(last), total)}" if len(last) > 1 else ""
    return f"final test {percent(statistics.mean(last), total)}{deviation}, n = {len(last)}"


def _accuracy_axis(axes: Axes, experiments: Sequence[Table]) -> None:
    """Accuracies at the logarithm of their errors, the best on top."""
    errors = [_error(experiment, part) for experiment in experiments for part in ("train", "test")]
    limits = [100 * (1 - e["limit"] / IMAGES) for e in experiments if e["limit"] is not None]
    low = min(*(error.min() for error in errors), *limits)
    # A first epoch that has learnt nothing yet leaves the panel: what follows needs the room.
    late = max(error[:, error.shape[1] // 3 :].max() for error in errors)
    high = min(max(error.max() for error in errors), max(_LOWEST, late))
    axes.set_yscale("log")
    axes.set_ylim(high * 1.15, low / 1.2)
    axes.yaxis.set_major_locator(FixedLocator([100 - accuracy for accuracy in _ACCURACIES]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 - error:.4g} %"))


def _below(panels: Sequence[Axes], used: int, columns: int) -> None:
    """Epochs below the lowest panel of each column, and nothing where no panel is."""
    for number, axes in enumerate(panels):
        if number >= used:
            axes.set_axis_off()
        elif number + columns >= used:
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)


def _legend(figure: Figure, free: Sequence[Axes], experiments: Sequence[Table]) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=style.BLUE, linewidth=1.6, marker="o", markersize=3),
        Line2D([], [], color=style.ORANGE, linewidth=1.6, linestyle="--"),
    ]
    labels = ["test images", "training images, as they ran"]
    if any(len(experiment["test"]) > 1 for experiment in experiments):
        labels[0] = "test images, mean over seeds"
        handles.append(Patch(color=style.MUTED, alpha=0.3, linewidth=0))
        labels.append("lowest to highest seed")
    limits = {experiment["limit"] for experiment in experiments} - {None}
    if limits:
        handles.append(Line2D([], [], color=style.INK, linewidth=1, linestyle=(0, (1, 2))))
        shares = " or ".join(f"{100 * limit / IMAGES:.4g} %" for limit in sorted(limits))
        labels.append(f"target, {shares}")
    if free:
        legend = free[0].legend(handles, labels, loc="center left", labelspacing=0.9, fontsize=9.5)
        legend.set_in_layout(False)  # or it would widen its column
    else:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))


def confusion(records: Sequence[Record]) -> Figure:
    """Truth against answer in the final epoch, added up over the seeds of one experiment.

    Raises:
        SeedsError: the records are no fair sample of one experiment.
    """
    table = confusion_table(records)
    counts = np.asarray(table["counts"])
    wrong = counts - np.diag(np.diag(counts))
    with style.look():
        figure = style.new_figure(5.6)
        seeds = f"{table['seeds']} seeds" if table["seeds"] > 1 else "one seed"
        style.title(figure, f"{table['experiment']}: truth and answer, final epoch of {seeds}")
        axes = figure.subplots()
        shades = LinearSegmentedColormap.from_list("", ["#eaf2f8", "#5aa2cf", "#00395c"])
        norm = LogNorm(1, max(2, int(wrong.max())))
        for (truth, answer), count in np.ndenumerate(counts):
            _cell(axes, (truth, answer), int(count), shades(norm(max(1, int(count)))), norm)
        _confusion_axes(axes, counts, wrong)
        style.settle(figure)
    return figure


def _cell(
    axes: Axes, place: tuple[int, int], count: int, shade: tuple[float, ...], norm: LogNorm
) -> None:
    truth, answer = place
    right = truth == answer
    filled: Any = "#e9ecef" if right else shade if count else "#ffffff"
    axes.add_patch(
        Rectangle((answer - 0.5, truth - 0.5), 1, 1, facecolor=filled, edgecolor=style.PAPER)
    )
    dark = not right and count > 0 and norm(count) > 0.45
    if count:
        axes.text(
            answer,
            truth,
            f"{count:,}",
            ha="center",
            va="center",
            color="#ffffff" if dark else style.MUTED if right else style.INK,
            fontweight="normal" if right else "bold",
            fontsize=8.5 if right else 10,
        )


def _confusion_axes(axes: Axes, counts: Any, wrong: Any) -> None:
    axes.set(xlim=(-0.5, 11.6), ylim=(9.5, -0.5), xlabel="answer", ylabel="truth")
    axes.set(xticks=range(10), yticks=range(10))
    axes.xaxis.set_label_coords(5 / 12.1, -0.055)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_facecolor("none")
    for truth in range(10):
        share = 100 * wrong[truth].sum() / counts[truth].sum() if counts[truth].sum() else 0.0
        axes.text(
            9.8, truth, f"{wrong[truth].sum():,} missed, {share:.2f} %", va="center", fontsize=9
        )
