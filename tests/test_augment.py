from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as reference

from mnist_models.augment import (
    Light,
    augment,
    crop,
    draw_crop,
    draw_field,
    draw_light,
    draw_motion,
    draw_rotation,
    light,
)
from mnist_models.recipe import Affine, CropResize, Distortion, Elastic, Jitter, Rotation, Transform
from mnist_models.sampling import SIDE, rotate

from .conftest import refuse_waiting

CPU = torch.device("cpu")
COUNT = 200
STEPS_5 = (Rotation(7.0), Affine(7.0, 0.1, (0.8, 1.2), 10.0), Jitter(0.4, 0.4))
BLOCKS = (CropResize(22, 0.1), Rotation(7.0))
OWN = (
    Affine(10.0, 0.1, (0.9, 1.1), 10.0, "bilinear"),
    Elastic(0.7, 4.0),
    Distortion(10.0, 0.1, (0.9, 1.1), 10.0, displacement=0.7, smoothness=4.0),
)


def noise(count: int = COUNT, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, SIDE, SIDE), dtype=torch.uint8, generator=generator)


def strokes(count: int = COUNT) -> Tensor:
    """Something like digits: bright in the middle, black for four pixels around."""
    images = noise(count)
    images[:, :4] = images[:, -4:] = 0
    images[:, :, :4] = images[:, :, -4:] = 0
    return images


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.numpy())


def back(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))


def grey_difference(one: Tensor, other: Tensor) -> Tensor:
    return (one.to(torch.int16) - other.to(torch.int16)).abs()


# light and crop equal torchvision's at the same parameters


@pytest.mark.parametrize("jitter", [Jitter(0.4, 0.0), Jitter(0.0, 0.4), Jitter(0.4, 0.4)])
@pytest.mark.parametrize("images", [noise(), strokes()], ids=["noise", "strokes"])
def test_light_is_torchvisions(jitter: Jitter, images: Tensor) -> None:
    torch.manual_seed(4)
    drawn = draw_light(jitter, COUNT, CPU)
    expected = []
    for image, brightness, contrast, first in zip(images, *drawn, strict=True):
        done = pil(image)
        for step in ("brightness", "contrast") if first else ("contrast", "brightness"):
            if step == "brightness":
                done = reference.adjust_brightness(done, float(brightness))
            else:
                done = reference.adjust_contrast(done, float(contrast))
        expected.append(back(done))
    assert torch.equal(light(images, drawn), torch.stack(expected))


def test_order_of_brightness_and_contrast_matters_and_is_drawn() -> None:
    images = noise(2)
    factors = torch.tensor([1.6, 1.6])
    both = light(images[:1].repeat(2, 1, 1), Light(factors, factors, torch.tensor([True, False])))
    assert not torch.equal(both[0], both[1])
    torch.manual_seed(0)
    share = draw_light(Jitter(0.1, 0.1), 4_000, CPU).brightness_first.to(torch.float32).mean()
    assert abs(float(share) - 0.5) < 0.04  # five standard errors


@pytest.mark.parametrize("size", [1, 14, 21, 22, 27, 28])
def test_crop_is_torchvisions(size: int) -> None:
    images = noise(60)
    expected = [
        back(reference.resize(reference.center_crop(pil(i), [size]), [SIDE])) for i in images
    ]
    assert torch.equal(crop(images, size), torch.stack(expected))


@pytest.mark.parametrize("size", [0, 29])
def test_impossible_crop_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"crop of {size} pixels, expected 1 to 28"):
        crop(noise(1), size)


# what is drawn


def spread(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def test_drawn_parameters_fill_their_ranges_and_stay_inside() -> None:
    torch.manual_seed(5)
    motion = draw_motion(STEPS_5[1], 10_000, CPU)
    for values, low, high in (
        (motion.angle, -7.0, 7.0),
        (motion.scale, 0.8, 1.2),
        (motion.shear, -10.0, 10.0),
        (draw_rotation(Rotation(7.0), 10_000, CPU), -7.0, 7.0),
        (draw_light(Jitter(0.4, 0.1), 10_000, CPU).brightness, 0.6, 1.4),
        (draw_light(Jitter(0.4, 0.1), 10_000, CPU).contrast, 0.9, 1.1),
        (draw_light(Jitter(3.0, 0.1), 10_000, CPU).brightness, 0.0, 4.0),
    ):
        least, most = spread(values)
        slack = (high - low) / 500
        assert low - 1e-6 <= least < low + slack
        assert high - slack < most <= high + 1e-6
        assert abs(float(values.mean()) - (low + high) / 2) < 0.02 * (high - low)


@pytest.mark.parametrize("axis", ["shift_x", "shift_y"])
def test_shifts_are_whole_pixels_up_to_the_share_of_the_side(axis: str) -> None:
    torch.manual_seed(6)
    shifts = getattr(draw_motion(Affine(0.0, translate=0.1), 10_000, CPU), axis)
    assert shifts.unique().tolist() == [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]


def test_the_axes_shift_independently() -> None:
    torch.manual_seed(6)
    motion = draw_motion(Affine(0.0, translate=0.1), 1_000, CPU)
    assert not torch.equal(motion.shift_x, motion.shift_y)


@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_share_of_cropped_images(probability: float) -> None:
    torch.manual_seed(7)
    share = float(draw_crop(CropResize(22, probability), 10_000, CPU).to(torch.float32).mean())
    assert abs(share - probability) <= 0.015  # five standard errors


@pytest.mark.parametrize(("displacement", "smoothness"), [(0.5, 4.0), (2.0, 2.0)])
def test_a_field_is_as_strong_and_as_smooth_as_asked(
    displacement: float, smoothness: float
) -> None:
    torch.manual_seed(5)
    field = draw_field(Elastic(displacement, smoothness), 4_000, CPU)
    strength = field.square().mean((0, 1)).sqrt()  # of each pixel, at the border too
    assert strength.min() > 0.9 * displacement
    assert strength.max() < 1.1 * displacement
    centre, beside = field[:, :, 14, 14], field[:, :, 14, 16]
    found = float((centre * beside).mean() / centre.square().mean())
    # two blurs of one Gaussian correlate as a Gaussian of twice the variance
    assert found == pytest.approx(np.exp(-(2.0**2) / (4 * smoothness**2)), abs=0.05)


# the whole


@pytest.mark.parametrize(
    "transforms",
    [(STEPS_5[0],), (STEPS_5[1],), (STEPS_5[2],), (CropResize(22, 0.5),), STEPS_5, BLOCKS, OWN],
)
def test_every_image_has_parameters_of_its_own(transforms: tuple[Transform, ...]) -> None:
    torch.manual_seed(8)
    out = augment(strokes(1).repeat(64, 1, 1), transforms)
    different = len(out.flatten(1).unique(dim=0))
    if transforms == (CropResize(22, 0.5),):
        assert different == 2  # cropped or not
    else:
        assert different > 20  # nearest pixels: small turns coincide


@pytest.mark.parametrize("transforms", [(), STEPS_5, BLOCKS, OWN], ids=str)
def test_shape_type_and_range(transforms: tuple[Transform, ...]) -> None:
    images = noise()
    before = images.clone()
    out = augment(images, transforms)
    assert out.shape == (COUNT, 1, SIDE, SIDE)
    assert out.dtype == torch.float32
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1
    assert torch.equal(images, before)


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("transforms", [(), STEPS_5, BLOCKS, OWN], ids=str)
def test_any_batch_size(transforms: tuple[Transform, ...], count: int) -> None:
    assert augment(noise(count), transforms).shape == (count, 1, SIDE, SIDE)


def test_no_transform_is_to_tensor() -> None:
    images = noise(3)
    expected = torch.stack([reference.to_tensor(pil(image)) for image in images])
    assert torch.equal(augment(images, ()), expected)


@pytest.mark.parametrize("transforms", [STEPS_5, BLOCKS, OWN], ids=str)
def test_the_seed_decides(transforms: tuple[Transform, ...]) -> None:
    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return augment(strokes(), transforms)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_transforms_run_in_their_order() -> None:
    torch.manual_seed(9)
    degrees = draw_rotation(Rotation(7.0), COUNT, CPU)
    drawn = draw_light(Jitter(0.4, 0.4), COUNT, CPU)
    expected = light(rotate(strokes(), degrees), drawn)
    torch.manual_seed(9)
    out = augment(strokes(), (Rotation(7.0), Jitter(0.4, 0.4)))
    assert torch.equal(out.squeeze(1), expected.to(torch.float32).div(255))


def test_only_the_chosen_images_are_cropped() -> None:
    torch.manual_seed(10)
    chosen = draw_crop(CropResize(22, 0.5), COUNT, CPU)
    torch.manual_seed(10)
    out = augment(noise(), (CropResize(22, 0.5),)).squeeze(1)
    expected = torch.where(chosen[:, None, None], crop(noise(), 22), noise())
    assert torch.equal(out, expected.to(torch.float32).div(255))


def test_contrast_lifts_the_background_and_brightness_does_not() -> None:
    images = strokes(1)
    one, less = torch.ones(1), torch.tensor([0.6])
    first = torch.tensor([True])
    assert int(light(images, Light(one, less, first))[0, 0, 0]) > 0
    assert int(light(images, Light(less, one, first))[0, 0, 0]) == 0


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_parameters_of_no_effect_change_nothing(seed: int) -> None:
    images = noise(4, seed)
    moves = (Rotation(0.0), Affine(0.0), Affine(0.0, interpolation="bilinear"))
    none = (*moves, Jitter(), CropResize(22, 0.0), CropResize(28, 1.0))
    assert torch.equal(augment(images, none), augment(images, ()))


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, SIDE, SIDE),
        torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8),
        torch.zeros(2, 32, 32, dtype=torch.uint8),
        torch.zeros(SIDE, SIDE, dtype=torch.uint8),
    ],
)
def test_other_images_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected torch\.uint8 \(B, 28, 28\)"):
        augment(images, ())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("transforms", [STEPS_5, BLOCKS, OWN], ids=str)
def test_on_cuda_without_waiting_for_the_device(transforms: tuple[Transform, ...]) -> None:
    images = strokes().to("cuda")
    augment(images, transforms)
    refuse_waiting("error")
    try:
        out = augment(images, transforms)
    finally:
        refuse_waiting("default")
    assert out.is_cuda
    degrees = torch.linspace(-9, 9, COUNT)
    assert torch.equal(rotate(images, degrees.to("cuda")).cpu(), rotate(images.cpu(), degrees))
    assert torch.equal(crop(images, 22).cpu(), crop(images.cpu(), 22))
