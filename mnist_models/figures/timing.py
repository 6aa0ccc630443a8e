"""The plot of what was timed: seconds of each contender, an epoch and a whole training."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mnist_models.figures import FigureError, style
from mnist_models.figures.plotted import Table, timing_table
from mnist_models.tables import digits
from mnist_models.timings import Bench

_LABELLED = 0.4  # of the axis, beyond the longest time: room for the numbers
_COLOURS = {  # by what trains; all else is what one would run instead
    "this loop": style.BLUE,
    "compute floor": style.GREEN,
    "arithmetic floor": style.GREEN,
}
_LEGEND = (
    (style.BLUE, "this loop"),
    (style.ORANGE, "what one would run instead"),
    (style.GREEN, "floors"),
)
_TICKS = [step * 10.0**power for power in range(-6, 7) for step in (1, 2, 5)]  # seconds
_MOST = 6  # ticks: more would collide


def timing(benches: Sequence[Bench]) -> Figure:
    """Median seconds of each contender, with a line from the lowest to the highest round.

    A row of panels for each device, by its newest measurement: an epoch on the left, a whole
    training on the right, which floors have none of. Seconds are on a logarithmic axis.

    Raises:
        FigureError: there are no measurements.
    """
    table = timing_table(benches)
    if not table["benches"]:
        raise FigureError("found no measurement, expected what bench --json printed")
    with style.look():
        heights = [len(bench["contenders"]) for bench in table["benches"]]
        figure = style.new_figure(1.0 + sum(0.26 * height + 0.75 for height in heights))
        style.title(figure, "Time of a training, by what trains")
        grid = figure.subplots(len(heights), 2, sharey="row", height_ratios=heights, squeeze=False)
        for row, bench in zip(grid, table["benches"], strict=True):
            _panel(row[0], bench, "epoch", "seconds an epoch")
            _panel(row[1], bench, "end", f"seconds to the end of {table['epochs']} epochs")
            row[0].set_title(bench["title"], loc="left", fontweight="bold")
        handles = [Line2D([], [], color=colour, marker="o", linewidth=2) for colour, _ in _LEGEND]
        labels = [label for _, label in _LEGEND]
        figure.legend(handles, labels, loc="outside lower center", ncols=len(_LEGEND))
        style.settle(figure)
    return figure


def _panel(axes: Axes, bench: Table, part: str, label: str) -> None:
    contenders = bench["contenders"]
    found = [contender[part] for contender in contenders if contender[part] is not None]
    axes.set_xscale("log")
    low, high = min(f["lowest"] for f in found) / 1.6, max(f["highest"] for f in found)
    axes.set_xlim(low, high * (high / low) ** _LABELLED)
    for place, contender in enumerate(contenders):
        spread = contender[part]
        if spread is None:
            continue
        colour = _COLOURS.get(contender["name"].partition(": ")[2], style.ORANGE)
        axes.plot([spread["lowest"], spread["highest"]], [place, place], color=colour, linewidth=2)
        axes.plot(spread["median"], place, "o", color=colour, markersize=6)
        axes.annotate(
            digits(spread["median"]),
            (spread["highest"], place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=style.MUTED,
        )
    low, high = axes.get_xlim()
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // _MOST)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,g}"))
    axes.set_ylim(len(contenders) - 0.5, -0.5)
    axes.set_yticks(range(len(contenders)), [contender["name"] for contender in contenders])
    axes.grid(True, axis="x")
    axes.set_xlabel(label)
