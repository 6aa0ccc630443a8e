from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from mnist_models.bench.contenders import ALL
from mnist_models.figures import FigureError, style
from mnist_models.figures.catalogue import catalogue
from mnist_models.figures.style import svg_bytes
from mnist_models.figures.timing import timing
from mnist_models.timings import Bench, Spread

from .test_plots import LARGEST, texts
from .test_repository import imports
from .test_timings import bench_of


def everyone(device: str) -> Bench:
    """A measurement of all contenders and floors, with times as far apart as they are."""
    names = [c.name for c in ALL] + ["steps-6: arithmetic floor", "frontier-8k: arithmetic floor"]
    seconds = {name: Spread.of([3.0 + 9 * n, 4.0 + 9 * n]) for n, name in enumerate(names)}
    ends = {c.name: Spread.of([15 * s for s in seconds[c.name].rounds]) for c in ALL if c.trains}
    return replace(bench_of(device), seconds_per_epoch=seconds, to_the_end=ends)


def test_it_shows_medians_and_spreads() -> None:
    epoch, end = timing([bench_of()]).axes
    spreads = [[float(x) for x in line.get_xdata()] for line in epoch.lines[::2]]
    assert spreads == [[10, 12], [40, 42], [8, 12]]
    assert [float(line.get_xdata()[0]) for line in epoch.lines[1::2]] == [11, 41, 10]
    colours = [line.get_color() for line in epoch.lines[1::2]]
    assert colours == [style.BLUE, style.ORANGE, style.GREEN]
    assert [float(line.get_xdata()[0]) for line in end.lines[1::2]] == [
        195.375,
        645.375,
    ]  # no floor
    assert epoch.get_xlabel() == "seconds an epoch"
    assert end.get_xlabel() == "seconds to the end of 15 epochs"


def test_a_row_for_the_newest_measurement_of_each_device() -> None:
    figure = timing([bench_of(), bench_of("cuda: some")])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["cpu: some, 2 threads", "", "cuda: some", ""]
    again = timing([everyone("cpu: some, 2 threads"), bench_of("cuda: some"), bench_of()])
    assert [axes.get_title(loc="left") for axes in again.axes] == titles
    assert len(again.axes[0].get_yticks()) == len(bench_of().seconds_per_epoch)
    with pytest.raises(FigureError, match="found no measurement"):
        timing([])


def test_nothing_collides_and_nothing_is_cut_off() -> None:
    figure = timing([everyone("cpu: AMD EPYC of some long name, 2 threads"), everyone("cuda: H")])
    found = texts(figure)
    for text, box in found:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y1 <= figure.bbox.height, text
    for (text, box), (other, its_box) in combinations(found, 2):
        assert not box.padded(-1).overlaps(its_box), (text, other)


def test_it_is_the_same_file_every_time() -> None:
    first, second = (svg_bytes(timing([bench_of()]), "What it shows.") for _ in range(2))
    assert first == second
    assert len(first) < LARGEST


def test_what_draws_it_is_counted() -> None:
    (picture,) = [p for p in catalogue({}, [bench_of()]) if p.file == "timing.svg"]
    drawing = {name for name in imports()["mnist_models.figures.timing"] if ".figures." in name}
    files = {f"figures/{name.rpartition('.')[2]}.py" for name in drawing} | {"figures/timing.py"}
    assert files - {"figures/plotted.py"} == set(picture.sources)
    other = replace(bench_of(), seconds_per_epoch={"steps-6: this loop": Spread.of([1.0])})
    (changed,) = [p for p in catalogue({}, [other]) if p.file == "timing.svg"]
    assert changed.digest != picture.digest
