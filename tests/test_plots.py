"""The plots: what they draw is what the records say, and nothing in them collides."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mnist_models.assignment import CARD
from mnist_models.figures import FigureError
from mnist_models.figures.catalogue import OWN
from mnist_models.figures.plots import accuracy_against_parameters, confusion, curves
from mnist_models.figures.plotted import PUBLISHED, curves_table
from mnist_models.figures.style import svg_bytes
from mnist_models.models import EXPERIMENTS
from mnist_models.record import Record
from mnist_models.report.status import accuracy
from mnist_models.statistics import SeedsError, aggregate

from .test_checks_record import run

REPOSITORY = Path(__file__).resolve().parent.parent
LARGEST = 200_000  # bytes


def group(name: str, *runs: Sequence[int]) -> list[Record]:
    """Records of an experiment, one for each seed, that answered so many images."""
    network = EXPERIMENTS[name].build()
    count = sum(parameter.numel() for parameter in network.parameters())
    return [
        replace(run(list(correct)), experiment=name, seed=seed, parameters=count)
        for seed, correct in enumerate(runs)
    ]


def rising(end: int, epochs: int = 15) -> list[int]:
    return [round(end - 900 / 2**epoch) for epoch in range(epochs)]


def everything() -> dict[str, list[Record]]:
    """Three seeds of every experiment, crowded as accuracies are."""
    return {
        name: group(name, *(rising(9_890 + 5 * number + 3 * seed) for seed in range(3)))
        for number, name in enumerate(EXPERIMENTS)
    }


@pytest.fixture(scope="module")
def full() -> dict[str, list[Record]]:
    return everything()


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """What is written in a figure, and where, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    hidden = {label for axes in figure.axes for label in undrawn(axes)}
    found = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text() and text not in hidden:
            found.append((text.get_text(), text.get_window_extent(canvas.get_renderer())))
    return found


def undrawn(axes: Axes) -> Iterator[Text]:
    """The labels of ticks beyond the ends of an axis."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high or not axes.axison:
                yield tick.label1


def shown(axes: Axes) -> dict[str, list[float]]:
    """The heights of the test curve and of the training curve."""
    test, training = axes.lines[1], axes.lines[0]
    return {"test": list(test.get_ydata()), "training": list(training.get_ydata())}  # type: ignore[arg-type] - arrays


def test_curves_show_the_error_of_every_epoch() -> None:
    records = {"frontier-8k": group("frontier-8k", [9_800, 9_900, 9_950], [9_900, 9_920, 9_970])}
    (axes,) = (axes for axes in curves(records).axes if axes.lines)
    lines = shown(axes)
    assert lines["test"] == pytest.approx([1.5, 0.9, 0.4])
    assert lines["training"] == pytest.approx([100 / 6] * 3)
    band = axes.collections[1].get_paths()[0].vertices
    assert np.asarray(band)[:, 1].min() == pytest.approx(0.3)
    assert np.asarray(band)[:, 1].max() == pytest.approx(2.0)
    low, high = axes.get_ylim()
    assert low > 2
    assert high < 0.3  # the best is on top
    written = [text for text, _ in texts(axes.figure)]  # type: ignore[arg-type] - no subfigure
    assert "final test 99.60 % ± 0.14, n = 2" in written


def test_a_half_is_rounded_as_in_the_tables() -> None:
    runs = group("frontier-1k", [9_886], [9_887])
    (axes,) = (axes for axes in curves({"frontier-1k": runs}).axes if axes.lines)
    written = [text for text, _ in texts(axes.figure)]  # type: ignore[arg-type] - no subfigure
    assert f"final test {accuracy(aggregate(runs, CARD)).partition(',')[0]}, n = 2" in written


def test_curves_have_a_panel_for_each_experiment_of_a_ladder(full: dict[str, list[Record]]) -> None:
    names = [name for name in full if name.startswith("steps")]
    figure = curves({name: full[name] for name in names}, "The ladder")
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title(loc="left") for axes in panels] == names
    assert all(not axes.axison for axes in figure.axes if axes not in panels)  # no empty panel
    texts(figure)  # draws it
    left, middle, right = (axes.get_position() for axes in panels[:3])
    assert middle.x0 - left.x1 == pytest.approx(right.x0 - middle.x1, abs=0.002)


def test_a_first_epoch_that_learnt_nothing_does_not_flatten_the_rest() -> None:
    records = {"steps-2": group("steps-2", [1_000, *rising(9_900, 14)])}
    (axes,) = (axes for axes in curves(records).axes if axes.lines)
    assert axes.get_ylim()[0] < 25


def test_a_perfect_epoch_can_be_shown() -> None:
    records = {"steps-2": group("steps-2", [9_990, 10_000])}
    (axes,) = (axes for axes in curves(records).axes if axes.lines)
    assert shown(axes)["test"][-1] == pytest.approx(0.005)
    assert svg_bytes(accuracy_against_parameters(records), "")


def test_nothing_collides_and_nothing_is_cut_off(full: dict[str, list[Record]]) -> None:
    steps = {name: full[name] for name in full if name.startswith("steps")}
    blocks = {name: full[name] for name in full if name.startswith("blocks")}
    for figure in (
        curves({"frontier-8k": full["frontier-8k"]}, "One experiment"),
        curves(steps, "ERA V1 session 7, in-depth coding practice: accuracy per epoch"),
        curves(blocks, "Three"),
        confusion(full["frontier-8k"]),
        accuracy_against_parameters(full),
    ):
        found = texts(figure)
        width, height = figure.bbox.width, figure.bbox.height
        for text, box in found:
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= width, text
            assert box.y1 <= height, text
        large = [(text, box) for text, box in found if len(text) > 2]  # not those inside marks
        for (text, box), (other, its_box) in combinations(large, 2):
            assert not box.padded(-1).overlaps(its_box), (text, other)


def test_confusion_adds_up_the_seeds() -> None:
    records = group("frontier-8k", [9_900], [9_900])
    figure = confusion(records)
    written = [text for text, _ in texts(figure)]
    counts = [row[:] for row in records[0].confusion]
    assert f"{2 * counts[0][0]:,}" in written
    assert f"{2 * counts[0][1]:,}" in written
    assert (
        f"{2 * sum(counts[0][1:]):,} missed, {100 * counts[0][1] / sum(counts[0]):.2f} %" in written
    )
    assert "frontier-8k: truth and answer, final epoch of 2 seeds" in written


def marks(figure: Figure, *, filled: bool) -> list[tuple[float, float]]:
    """Where the marks of experiments stand: parameters and accuracy in per cent."""
    paper = "#fcfcfa"
    return [
        (float(line.get_xdata()[0]), 100 - float(line.get_ydata()[0]))  # type: ignore[index] - arrays
        for axes in figure.axes
        for line in axes.lines
        if line.get_marker() not in ("None", "P")
        and (line.get_markerfacecolor() != paper) == filled
        and len(line.get_xdata()) == 1  # type: ignore[arg-type] - an array
        and line.get_markersize() > 9
    ]


def test_accuracy_against_parameters_shows_claim_and_measurement() -> None:
    records = {"steps-6": group("steps-6", [9_900], [9_920], [9_940])}
    figure = accuracy_against_parameters(records)
    assert marks(figure, filled=True) == [pytest.approx((7_624, 99.2))]
    assert marks(figure, filled=False) == [pytest.approx((7_624, 99.48))]
    published = [
        (line.get_xdata()[0], 100 - line.get_ydata()[0])  # type: ignore[index] - arrays
        for axes in figure.axes
        for line in axes.lines
        if line.get_marker() == "P"
    ]
    expected = sorted((float(point.parameters), point.percent) for point in PUBLISHED)
    assert sorted(published) == [pytest.approx(point) for point in expected]


def test_all_experiments_stand_in_one_plot(full: dict[str, list[Record]]) -> None:
    figure = accuracy_against_parameters(full)
    assert len(marks(figure, filled=True)) == len(EXPERIMENTS)
    claims = [e for e in EXPERIMENTS.values() if e.claim and e.claim.measured_on == "test"]
    assert len(claims) == 15 - 3
    assert len(marks(figure, filled=False)) == len(claims)
    for x, _ in marks(figure, filled=True):  # each beside its own number of parameters
        nearest = min(abs(x / records[0].parameters - 1) for records in full.values())
        assert nearest < 0.04


def test_systems_are_told_apart_without_colour(full: dict[str, list[Record]]) -> None:
    legends = accuracy_against_parameters(full).legends[0]
    shapes = [handle.get_marker() for handle in legends.legend_handles[:6]]  # type: ignore[union-attr] - lines
    assert len(set(shapes)) == 6


def test_svg_is_small_valid_and_the_same_every_time(full: dict[str, list[Record]]) -> None:
    steps = {name: full[name] for name in full if name.startswith("steps")}
    title = 'a "title" & <more>'
    content = svg_bytes(curves(steps), title)
    assert content == svg_bytes(curves(steps), title)
    assert len(content) < LARGEST
    assert len(svg_bytes(accuracy_against_parameters(full), title)) < LARGEST
    root = ET.fromstring(content)
    assert root.get("role") == "img"
    assert root.findtext("{http://www.w3.org/2000/svg}title") == title
    assert b"<date" not in content
    assert b"#fcfcfa" in content  # opaque: legible on a dark page


def test_panels_stand_on_round_numbers(full: dict[str, list[Record]]) -> None:
    steps = {name: full[name] for name in full if name.startswith("steps")}
    for figure in (curves(steps), confusion(full[OWN]), accuracy_against_parameters(full)):
        for axes in figure.axes:
            bounds = axes.get_position().bounds
            assert bounds == pytest.approx([round(side, 4) for side in bounds], abs=1e-12)


def test_what_is_no_fair_sample_is_refused(full: dict[str, list[Record]]) -> None:
    one = full["frontier-8k"]
    mixed = [one[0], replace(full["steps-1"][0], seed=1)]
    for draw in (curves, accuracy_against_parameters):
        with pytest.raises(FigureError, match="found no records"):
            draw({})
        with pytest.raises(SeedsError):
            draw({"frontier-8k": one[1:]})
    with pytest.raises(SeedsError):
        confusion(mixed)


def test_the_table_of_a_plot_holds_all_that_it_shows(full: dict[str, list[Record]]) -> None:
    table = curves_table({"steps-1": full["steps-1"]})
    changed = [replace(record) for record in full["steps-1"]]
    epoch = replace(changed[0].epochs[3], test_correct=1)
    changed[0] = replace(changed[0], epochs=[*changed[0].epochs[:3], epoch, *changed[0].epochs[4:]])
    assert curves_table({"steps-1": changed}) != table


def test_no_figure_touches_the_state_that_others_share() -> None:
    before = dict(matplotlib.rcParams)
    curves({"steps-2": group("steps-2", [9_900])})
    assert dict(matplotlib.rcParams) == before
    for path in (REPOSITORY / "mnist_models" / "figures").glob("*.py"):
        assert "pyplot" not in path.read_text(encoding="utf-8").replace("No pyplot", ""), path


def test_settings_of_the_user_change_nothing() -> None:
    records = {"steps-2": group("steps-2", [9_900])}
    expected = svg_bytes(curves(records), "")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black"}):
        assert svg_bytes(curves(records), "") == expected
