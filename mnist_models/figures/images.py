"""Pictures that show digits: they need the data set.

Everything is laid out on one sheet whose unit is a pixel of MNIST, so that each of them becomes
the same square of whole pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mnist_models.augment import augment
from mnist_models.data import Dataset
from mnist_models.figures import FigureError, style
from mnist_models.figures.catalogue import OWN, Picture, Records
from mnist_models.figures.plotted import (
    EACH,
    GROWTH_IMAGE,
    ORIGINALS,
    SEED,
    SHOWN,
    VARIANTS,
    Table,
    growth_table,
    misses_table,
)
from mnist_models.models import EXPERIMENTS, Experiment
from mnist_models.recipe import Recipe
from mnist_models.record import Record

SIDE = 28  # pixels of an image
_SHEET = 336  # MNIST pixels across a picture: five dots each in the file
_STEP = 32  # from one digit to the next
_COLUMNS = 10
_LEFT = (_SHEET - (_COLUMNS - 1) * _STEP - SIDE) // 2
_TOP = 20  # below the title
_FIELDS = 5  # panels in a row
_ZOOM = 1.4  # a MNIST pixel is seven dots there


def draw(picture: Picture, records: Records, data: Dataset) -> Figure:
    """Draw a picture of the catalogue that shows digits.

    Args:
        picture: which.
        records: those that the catalogue was made from.
        data: MNIST with its test set.

    Raises:
        FigureError: no such picture, or the records were scored on other images.
        SeedsError: the records are no fair sample of one experiment.
    """
    own = EXPERIMENTS[OWN]
    match picture.file:
        case "samples.png":
            return samples(data)
        case "receptive-field.png":
            return growing_field(data.held_out.images[GROWTH_IMAGE], own)
        case "augmented.png":
            return augmented(data, own.recipe)
        case "misclassified.png":
            return misclassified(records[OWN], data)
    raise FigureError(f"no picture of digits {picture.file!r}; see the catalogue")


def samples(data: Dataset) -> Figure:
    """The first held-out images of each digit, a column for each digit."""
    split, name = data.held_out, {"mnist": "MNIST", "digits": "scikit-learn's digits"}[data.name]
    with style.look():
        title = f"{name}: the first {data.split} images of each digit"
        figure, axes = _sheet(EACH * _STEP + _TOP + 12, title)
        for digit in range(10):
            found = torch.nonzero(split.labels == digit).flatten()[:EACH].tolist()
            x = _LEFT + digit * _STEP
            _text(axes, x + SIDE / 2, _TOP + 4, str(digit), fontweight="bold", fontsize=11)
            for row, index in enumerate(found):
                _digit(axes, split.images[index], x, _TOP + 10 + row * _STEP)
    return figure


def augmented(data: Dataset, recipe: Recipe) -> Figure:
    """Training images as they are, and as the recipe's augmentation varies them.

    The random numbers are the same every time; torch's own generator is left as it was.

    Raises:
        FigureError: the recipe augments nothing.
    """
    if not recipe.augmentation:
        raise FigureError("found a recipe without augmentation, expected one with")
    images = data.train.images[list(ORIGINALS)].cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        variants = augment(images.repeat_interleave(VARIANTS, 0), recipe.augmentation)[:, 0]
    kinds = ", ".join(type(transform).__name__.lower() for transform in recipe.augmentation)
    with style.look():
        figure, axes = _sheet(
            len(images) * _STEP + _TOP + 12,
            f"Training images, and what augmentation makes of them ({kinds})",
        )
        gap = 6  # keeps the originals apart
        left = _LEFT - gap // 2
        _text(axes, left + SIDE / 2, _TOP + 4, "original")
        _text(axes, left + _STEP + gap, _TOP + 4, "drawn anew in every epoch", ha="left")
        for row, image in enumerate(images):
            y = _TOP + 10 + row * _STEP
            _digit(axes, image, left, y, edge=style.INK)
            for column, variant in enumerate(variants[row * VARIANTS : (row + 1) * VARIANTS]):
                _digit(axes, variant * 255, left + gap + (column + 1) * _STEP, y)
    return figure


def misclassified(records: Sequence[Record], data: Dataset) -> Figure:
    """The digits that the final epochs of one experiment got wrong, those most seeds missed first.

    Below each stand its true label and how many of the seeds missed it.

    Raises:
        FigureError: the records were not scored on these images, or missed none.
        SeedsError: the records are no fair sample of one experiment.
    """
    table = misses_table(records)
    for name, md5 in table["md5"].items():
        if data.md5[name] != md5:
            raise FigureError(
                f"{name}: found a data set with md5 {data.md5[name]}, the records of "
                f"{table['experiment']} were scored on {md5}"
            )
    missed = table["missed"][:SHOWN]
    if not missed:
        raise FigureError(f"{table['experiment']} misclassified nothing: there is nothing to show")
    with style.look():
        rows = -(-len(missed) // _COLUMNS)
        height = _STEP + 10
        figure, axes = _sheet(_TOP + 2 + rows * height, _missed_title(table, len(missed)))
        for number, (index, seeds) in enumerate(missed):
            x = _LEFT + number % _COLUMNS * _STEP
            y = _TOP + number // _COLUMNS * height
            _digit(axes, data.held_out.images[index], x, y)
            truth = int(data.held_out.labels[index])
            _text(axes, x, y + SIDE + 4.5, str(truth), ha="left", fontweight="bold", fontsize=11)
            share = f"{seeds} of {table['seeds']}"
            _text(axes, x + SIDE, y + SIDE + 4.5, share, ha="right", color=style.MUTED)
    return figure


def _missed_title(table: Table, shown: int) -> str:
    count, seeds = len(table["missed"]), table["seeds"]
    some = f"{shown} of {count}" if shown < count else f"all {count}"
    each = f"how many of {seeds} seeds missed it" if seeds > 1 else "the seed that missed it"
    return f"{table['experiment']}, {some} misclassified digits: truth, and {each}"


def growing_field(image: Tensor, experiment: Experiment) -> Figure:
    """What one value at the centre of each layer's output sees of a digit.

    A field may reach beyond the image, into the padding around it.

    Args:
        image: uint8 ``(28, 28)``.
        experiment: whose network is measured, layer by layer.
    """
    layers = growth_table(experiment)["layers"]
    widest = max(layer["field"] for layer in layers)
    zoom = min(_ZOOM, 0.95 * _SHEET / _FIELDS / widest)  # so that no square leaves its place
    rows = [layers[start : start + _FIELDS] for start in range(0, len(layers), _FIELDS)]
    heights = [zoom * max(SIDE, *(layer["field"] for layer in row)) for row in rows]
    with style.look():
        title = f"{experiment.name}: the receptive field grows over a digit, layer by layer"
        figure, axes = _sheet(round(_TOP + sum(heights) + 22 * len(rows)), title)
        top = float(_TOP)
        for row, height in zip(rows, heights, strict=True):
            for number, layer in enumerate(row):
                x, y = _SHEET * (number + 0.5) / _FIELDS, top + height / 2
                _digit(axes, image, x - zoom * SIDE / 2, y - zoom * SIDE / 2, zoom=zoom)
                _square(axes, x, y, zoom * layer["field"])
                _text(axes, x, top + height + 6, _layer_name(layer), fontweight="bold")
                size = f"{layer['field']} x {layer['field']} pixels"
                _text(axes, x, top + height + 13, size, color=style.MUTED)
            top += height + 22
    return figure


def _square(axes: Axes, x: float, y: float, side: float) -> None:
    """A tinted square with its centre at x, y."""
    corner = (x - side / 2, y - side / 2)
    colour = style.ORANGE
    axes.add_patch(Rectangle(corner, side, side, facecolor=colour, alpha=0.18, zorder=4))
    axes.add_patch(
        Rectangle(corner, side, side, facecolor="none", edgecolor=colour, linewidth=1.8, zorder=5)
    )


def _layer_name(layer: Table) -> str:
    names = {"conv2d": "convolution", "max_pool2d": "max-pool", "avg_pool2d": "average pool"}
    name = names.get(layer["operation"], layer["operation"])
    if layer["kernel"] is None:
        return "global average"
    return f"{name} {layer['kernel'][0]}x{layer['kernel'][1]}"


def _sheet(height: int, title: str) -> tuple[Figure, Axes]:
    """A figure of `height` MNIST pixels with its title, and axes that cover it."""
    figure = Figure(figsize=(style.WIDTH, style.WIDTH * height / _SHEET))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, _SHEET), ylim=(height, 0))
    axes.set_axis_off()
    _text(axes, _LEFT, 9, title, ha="left", fontweight="bold", fontsize=11.5)
    return figure, axes


def _text(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    axes.text(x, y, text, **({"ha": "center", "va": "center"} | options))


def _digit(
    axes: Axes, image: Tensor, x: float, y: float, *, edge: str = style.FAINT, zoom: float = 1.0
) -> None:
    """Dark on white, its upper left corner at x, y."""
    side = SIDE * zoom
    axes.imshow(
        np.asarray(image.cpu()),
        cmap="gray_r",
        vmin=0,
        vmax=255,
        extent=(x, x + side, y + side, y),
        aspect="auto",
        interpolation="nearest",
    )
    axes.add_patch(
        Rectangle((x, y), side, side, facecolor="none", edgecolor=edge, linewidth=0.8, zorder=3)
    )
