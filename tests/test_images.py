"""The pictures of digits: each shows the very images it says it shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnist_models.data import Dataset
from mnist_models.figures import FigureError
from mnist_models.figures.catalogue import OWN, Picture, catalogue
from mnist_models.figures.images import augmented, draw, growing_field, misclassified, samples
from mnist_models.figures.plotted import EACH, SHOWN, growth_table
from mnist_models.figures.style import png_bytes
from mnist_models.models import EXPERIMENTS
from mnist_models.receptive_field import receptive_fields
from mnist_models.record import Record

from .test_plots import LARGEST, group


def tiles(figure: Figure) -> list[torch.Tensor]:
    """The digits in a figure, in the order drawn."""
    (axes,) = figure.axes
    return [torch.tensor(np.asarray(image.get_array())) for image in axes.images]


def words(figure: Figure) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


def wrong(data: Dataset, *missed: list[int]) -> list[Record]:
    """Records scored on `data`, each of which misclassified those images."""
    records = group(OWN, *([9_000] for _ in missed))
    return [
        replace(record, misclassified=indices, data=replace(record.data, md5=data.md5))
        for record, indices in zip(records, missed, strict=True)
    ]


def test_samples_are_the_first_of_each_digit(digits: Dataset) -> None:
    figure = samples(digits)
    assert words(figure)[0] == "scikit-learn's digits: the first test images of each digit"
    shown = tiles(figure)
    assert len(shown) == 10 * EACH
    of_three = digits.held_out.images[digits.held_out.labels == 3]
    for number in range(EACH):
        assert torch.equal(shown[3 * EACH + number], of_three[number])


def test_augmented_stands_beside_the_original(digits: Dataset) -> None:
    recipe = EXPERIMENTS[OWN].recipe
    before = torch.random.get_rng_state()
    shown = tiles(augmented(digits, recipe))
    assert torch.equal(torch.random.get_rng_state(), before)
    original, *variants = shown[:10]
    assert torch.equal(original, digits.train.images[7])
    assert all(not torch.equal(variant, original) for variant in variants)
    assert all(float(variant.max()) > 200 for variant in variants)  # grey levels, not shares
    torch.rand(1)  # whatever was drawn before
    again = tiles(augmented(digits, recipe))
    assert all(torch.equal(a, b) for a, b in zip(shown, again, strict=True))
    with pytest.raises(FigureError, match="without augmentation"):
        augmented(digits, replace(recipe, augmentation=()))


def test_misclassified_shows_first_what_most_seeds_missed(digits: Dataset) -> None:
    figure = misclassified(wrong(digits, [1, 4, 7], [4, 9], [4, 7]), digits)
    expected = [4, 7, 1, 9]
    shown = tiles(figure)
    assert len(shown) == len(expected)
    for tile, index in zip(shown, expected, strict=True):
        assert torch.equal(tile, digits.held_out.images[index])
    title, *rest = words(figure)
    assert title.startswith("frontier-8k, all 4 misclassified digits")
    labels = [str(int(digits.held_out.labels[index])) for index in expected]
    shares = ["3 of 3", "2 of 3", "1 of 3", "1 of 3"]
    assert rest == [word for pair in zip(labels, shares, strict=True) for word in pair]


def test_misclassified_says_how_many_it_leaves_out(digits: Dataset) -> None:
    figure = misclassified(wrong(digits, list(range(SHOWN + 5))), digits)
    assert len(tiles(figure)) == SHOWN
    assert words(figure)[0].startswith(f"frontier-8k, {SHOWN} of {SHOWN + 5} misclassified")


def test_records_of_other_images_are_refused(digits: Dataset) -> None:
    with pytest.raises(FigureError, match="were scored on 240610fa"):
        misclassified(group(OWN, [9_000]), digits)
    with pytest.raises(FigureError, match="misclassified nothing"):
        misclassified(wrong(digits, []), digits)


@pytest.mark.parametrize("name", [OWN, "steps-6", "era-v3"])
def test_the_fields_drawn_are_those_measured(digits: Dataset, name: str) -> None:
    experiment = EXPERIMENTS[name]
    fields = [layer["field"] for layer in growth_table(experiment)["layers"]]
    assert fields == sorted(set(fields))
    measured = receptive_fields(experiment.build())
    assert {measured.before_pooling, measured.output} <= set(fields)
    figure = growing_field(digits.held_out.images[0], experiment)
    (axes,) = figure.axes
    squares = [
        p for p in axes.patches if isinstance(p, Rectangle) and p.get_fill() and p.get_alpha()
    ]
    side = axes.images[0].get_extent()[1] - axes.images[0].get_extent()[0]
    drawn = [28 * square.get_width() / side for square in squares]
    assert drawn == pytest.approx(fields)
    for field, tile in zip(fields, tiles(figure), strict=True):
        assert f"{field} x {field} pixels" in words(figure)
        assert torch.equal(tile, digits.held_out.images[0])
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    for square in squares:
        x, y = square.get_xy()
        assert x > 0
        assert y > 0
        assert x + square.get_width() < width
        assert y + square.get_height() < height


def test_every_picture_of_the_catalogue_is_drawn_and_small(mnist: Dataset) -> None:
    records = {OWN: wrong(mnist, list(range(90)), list(range(30, 60)))}
    pictures = [picture for picture in catalogue(records) if picture.needs_data]
    assert len(pictures) == 4
    for picture in pictures:
        content = png_bytes(draw(picture, records, mnist))
        assert content.startswith(b"\x89PNG")
        assert len(content) < LARGEST
    with pytest.raises(FigureError, match=r"no picture of digits 'a\.png'"):
        draw(Picture("a.png", "", {}, ()), records, mnist)
