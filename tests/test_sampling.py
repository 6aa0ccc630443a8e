from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference
from torchvision.transforms.v2.functional import elastic

from mnist_models.augment import (
    Light,
    draw_field,
    draw_motion,
    draw_rotation,
    light,
)
from mnist_models.recipe import Affine, Distortion, Elastic, Rotation
from mnist_models.sampling import SIDE, Motion, distort, enlarge, move, rotate, warp

from .test_augment import COUNT, CPU, STEPS_5, back, grey_difference, noise, pil, strokes


def by_pil(image: Tensor, motion: Motion, index: int) -> Tensor:
    angle, shift_x, shift_y, scale, shear = (float(values[index]) for values in motion)
    shift = [int(shift_x), int(shift_y)]
    return back(reference.affine(pil(image), angle, shift, scale, [shear, 0.0]))


# each function equals torchvision's at the same parameters


def test_rotate_is_torchvisions() -> None:
    torch.manual_seed(1)
    images, degrees = noise(), draw_rotation(Rotation(30.0), COUNT, CPU)
    expected = [
        back(reference.rotate(pil(i), float(d))) for i, d in zip(images, degrees, strict=True)
    ]
    assert torch.equal(rotate(images, degrees), torch.stack(expected))


@pytest.mark.parametrize(
    "affine",
    [
        Affine(15.0),
        Affine(0.0, translate=0.2),
        Affine(0.0, scale=(0.6, 1.7)),
        Affine(0.0, shear=25.0),
        Affine(180.0, 0.3, (0.5, 2.0), 40.0),
        STEPS_5[1],
    ],
)
def test_nearest_move_is_torchvisions(affine: Affine) -> None:
    torch.manual_seed(2)
    images, motion = noise(), draw_motion(affine, COUNT, CPU)
    expected = [by_pil(image, motion, index) for index, image in enumerate(images)]
    assert torch.equal(move(images, motion), torch.stack(expected))


def test_bilinear_move_is_torchvisions_within_a_grey_level() -> None:
    torch.manual_seed(3)
    images, motion = noise(), draw_motion(STEPS_5[1], COUNT, CPU)
    expected = []
    for index, image in enumerate(images):
        angle, shift_x, shift_y, scale, shear = (float(values[index]) for values in motion)
        moved = reference.affine(
            image[None].to(torch.float32),
            angle,
            [int(shift_x), int(shift_y)],
            scale,
            [shear, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        expected.append(moved[0].round())
    difference = grey_difference(move(images, motion, "bilinear"), torch.stack(expected))
    assert int(difference.max()) <= 1
    # only ties of the rounding may fall to the other side
    assert float(difference.to(torch.float32).mean()) < 0.02


def test_warp_is_torchvisions_within_a_grey_level() -> None:
    torch.manual_seed(3)
    images, field = noise(), draw_field(Elastic(2.0, 3.0), COUNT, CPU)
    expected = []
    for image, shifts in zip(images, field, strict=True):
        shares = shifts.movedim(0, -1)[None] / (SIDE / 2)  # of half a side, as torchvision has it
        expected.append(elastic(image[None].to(torch.float32), shares)[0].round())
    difference = grey_difference(warp(images, field), torch.stack(expected))
    assert int(difference.max()) <= 1
    assert float(difference.to(torch.float32).mean()) < 0.02


# both at once, from the enlarged image


def still(count: int) -> Motion:
    none = torch.zeros(count)
    return Motion(none, none, none, torch.ones(count), none)


def fine(images: Tensor) -> Tensor:
    """Enlarged, without the frame."""
    return enlarge(images)[:, 1:-2, 1:-2]


def test_enlarging_keeps_the_pixels_and_draws_straight_lines_between() -> None:
    images = noise()
    assert torch.equal(fine(images)[:, ::2, ::2], images.to(torch.float32))
    ramp = (8 * torch.arange(SIDE, dtype=torch.uint8)).expand(1, SIDE, SIDE)
    inside = slice(2, -6)  # the black outside takes part in what lies nearer to the border
    steps = fine(ramp)[:, inside, inside].diff()
    assert torch.allclose(steps, torch.full_like(steps, 4.0))
    assert float(enlarge(images).min()) >= 0
    assert float(enlarge(images).max()) <= 255
    assert float(enlarge(images).sum()) == pytest.approx(float(fine(images).sum()))  # black frame


def test_distort_reads_the_enlarged_image_where_affine_map_and_field_point() -> None:
    torch.manual_seed(3)
    distortion = Distortion(30.0, 0.2, (0.7, 1.4), 20.0, displacement=2.0, smoothness=3.0)
    images = strokes()
    motion = draw_motion(distortion, COUNT, CPU)
    field = draw_field(distortion, COUNT, CPU)
    # by torchvision's matrix and torch's sampling; in pixels about the centre, then in shares
    centre = torch.arange(SIDE) - (SIDE - 1) / 2
    grids = []
    for index, shifts in enumerate(field):
        angle, shift_x, shift_y, scale, shear = (float(values[index]) for values in motion)
        matrix = reference._get_inverse_affine_matrix(
            [0.0, 0.0], angle, [shift_x, shift_y], scale, [shear, 0.0]
        )
        x, y = centre + shifts[0], centre[:, None] + shifts[1]
        a, b, c, d, e, f = matrix
        places = torch.stack((a * x + b * y + c, d * x + e * y + f), -1)
        # 56 places half a pixel apart, of which the first is a pixel: their middle is a quarter on
        grids.append((places - 0.25) / (SIDE / 2))
    expected = F.grid_sample(fine(images)[:, None], torch.stack(grids), align_corners=False)
    difference = grey_difference(distort(images, motion, field), expected[:, 0].round())
    assert int(difference.max()) <= 1
    assert float(difference.to(torch.float32).mean()) < 0.02


def test_distort_by_whole_pixels_is_a_move() -> None:
    images, motion = strokes(), still(COUNT)
    right = torch.zeros(COUNT, 2, SIDE, SIDE)
    right[:, 0] = -3.0  # each pixel from three to the left
    moved = motion._replace(shift_x=torch.full((COUNT,), 3.0))
    assert torch.equal(distort(images, motion, right), move(images, moved))
    assert torch.equal(distort(images, moved, torch.zeros_like(right)), move(images, moved))


def test_distort_blurs_less_than_bilinear_moves() -> None:
    def sharpness(images: Tensor) -> float:
        return float(images.to(torch.float32).diff().square().mean())

    torch.manual_seed(4)
    blocks = noise(COUNT)[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2)
    motion = draw_motion(Affine(8.0, scale=(0.95, 1.05)), COUNT, CPU)
    field = draw_field(Distortion(0, 0, (1, 1), 0, displacement=0.5, smoothness=4), COUNT, CPU)
    found = sharpness(distort(blocks, motion, field)) / sharpness(blocks)
    assert found > 1.2 * sharpness(move(blocks, motion, "bilinear")) / sharpness(blocks)
    assert found > 0.75


# black stays black


@given(
    angle=st.floats(-180, 180),
    shift=st.integers(-SIDE, SIDE),
    scale=st.floats(0.3, 3),
    shear=st.floats(-60, 60),
    brightness=st.floats(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_geometry_and_brightness_leave_black_black(
    angle: float, shift: int, scale: float, shear: float, brightness: float
) -> None:
    images = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    images[1] = 255
    values = (torch.tensor([value, value]) for value in (angle, shift, -shift, scale, shear))
    motion = Motion(*values)
    factor = torch.tensor([brightness, brightness])
    distorted = distort(images, motion, torch.zeros(2, 2, SIDE, SIDE))
    for moved in (move(images, motion), move(images, motion, "bilinear"), distorted):
        same = light(moved, Light(factor, torch.ones(2), torch.tensor([True, False])))
        assert not same[0].any()
        assert not same[1][moved[1] == 0].any()


def test_shrinking_leaves_the_outside_exactly_black() -> None:
    images = torch.full((1, SIDE, SIDE), 255, dtype=torch.uint8)
    none = torch.zeros(1)
    half = Motion(none, none, none, torch.tensor([0.5]), none)
    for interpolation in ("nearest", "bilinear"):
        moved = move(images, half, interpolation)[0]
        assert not moved[:6].any()
        assert not moved[:, -6:].any()
        assert bool((moved[8:20, 8:20] == 255).all())
