"""Augmentation of a whole batch at once, every image with parameters of its own.

Each transform equals torchvision's on 8-bit PIL images at the same parameters, pixel by pixel
(bilinear ones, torchvision's on tensors within one grey level): the published systems augment that
way, and each of their steps rounds to whole grey levels. Distortion is this project's own.
For each there is a function that draws the parameters from torch's global generator of the
device and one that applies them. Nothing here waits for the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_models.recipe import (
    Affine,
    CropResize,
    Distortion,
    Elastic,
    Jitter,
    Rotation,
    Transform,
)
from mnist_models.sampling import SIDE, Motion, distort, move, rotate, warp

_WEIGHT = 1 << 22  # one, in the fixed-point weights that Pillow resizes with


class Light(NamedTuple):
    """Parameters of a jitter, each ``(B,)``: two factors, and which of them comes first."""

    brightness: Tensor
    contrast: Tensor
    brightness_first: Tensor


def augment(images: Tensor, transforms: tuple[Transform, ...]) -> Tensor:
    """uint8 ``(B, 28, 28)`` -> float32 ``(B, 1, 28, 28)`` in [0, 1], not normalised.

    The transforms run in the given order, as in ``torchvision.transforms.Compose`` followed
    by ``ToTensor``.

    Raises:
        ValueError: the images are not uint8 ``(B, 28, 28)``.
    """
    if images.dtype != torch.uint8 or images.shape[1:] != (SIDE, SIDE):
        found = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"found images {found}, expected torch.uint8 (B, {SIDE}, {SIDE})")
    for transform in transforms:
        images = _transform(images, transform)
    return images.unsqueeze(1).to(torch.float32).div_(255)


def _transform(images: Tensor, transform: Transform) -> Tensor:
    count, device = len(images), images.device
    match transform:
        case Rotation():
            return rotate(images, draw_rotation(transform, count, device))
        case Affine():
            return move(images, draw_motion(transform, count, device), transform.interpolation)
        case Jitter():
            return light(images, draw_light(transform, count, device))
        case CropResize():
            return _cropped(images, draw_crop(transform, count, device), transform.size)
        case Elastic():
            return warp(images, draw_field(transform, count, device))
        case Distortion():
            motion = draw_motion(transform, count, device)
            return distort(images, motion, draw_field(transform, count, device))


def _cropped(images: Tensor, chosen: Tensor, size: int) -> Tensor:
    if images.device.type != "cpu":  # the number of chosen ones is unknown to the host
        return torch.where(chosen[:, None, None], crop(images, size), images)
    images = images.clone()
    images[chosen] = crop(images[chosen], size)
    return images


def draw_rotation(rotation: Rotation, count: int, device: torch.device) -> Tensor:
    """Degrees counter-clockwise ``(count,)``, float32, uniform within the limit."""
    return _uniform(-rotation.degrees, rotation.degrees, count, device)


def draw_motion(affine: Affine | Distortion, count: int, device: torch.device) -> Motion:
    """What ``RandomAffine.get_params`` draws, shifts rounded to whole pixels, float32."""
    limit = affine.translate * SIDE
    return Motion(
        angle=_uniform(-affine.degrees, affine.degrees, count, device),
        shift_x=_uniform(-limit, limit, count, device).round_(),
        shift_y=_uniform(-limit, limit, count, device).round_(),
        scale=_uniform(*affine.scale, count, device),
        shear=_uniform(-affine.shear, affine.shear, count, device),
    )


def draw_light(jitter: Jitter, count: int, device: torch.device) -> Light:
    """What ``ColorJitter`` draws; the order of the two steps, too, is drawn per image."""
    return Light(
        brightness=_around_one(jitter.brightness, count, device),
        contrast=_around_one(jitter.contrast, count, device),
        brightness_first=torch.rand(count, device=device) < 0.5,
    )


def draw_crop(transform: CropResize, count: int, device: torch.device) -> Tensor:
    """Which images are cropped, bool ``(count,)``."""
    return torch.rand(count, device=device) < transform.probability


def draw_field(elastic: Elastic | Distortion, count: int, device: torch.device) -> Tensor:
    """Where each pixel is taken from, relative to its place: pixels, ``(count, 2, 28, 28)``, x, y.

    Normal random numbers, blurred along either axis by weights whose squares sum to one, so that
    the field is as strong at the border as within.
    """
    places = torch.arange(SIDE, device=device, dtype=torch.float32)
    weights = (-0.5 * ((places[:, None] - places) / elastic.smoothness) ** 2).exp()
    weights = F.normalize(weights, dim=1)
    field = torch.randn((count, 2, SIDE, SIDE), device=device, dtype=torch.float32)
    return (weights @ field @ weights.T).mul_(elastic.displacement)


def light(images: Tensor, light: Light) -> Tensor:
    """Brightness and contrast, uint8 ``(B, 28, 28)`` -> uint8 ``(B, 28, 28)``.

    Equals ``adjust_brightness`` and ``adjust_contrast`` of torchvision on PIL images. Brightness
    blends with black, contrast with the image's own mean grey, so that contrast alone can lift
    the background.
    """
    first = torch.where(light.brightness_first, light.brightness, light.contrast)
    second = torch.where(light.brightness_first, light.contrast, light.brightness)
    levels = _blend(images.to(torch.float32), first, ~light.brightness_first).floor_()
    return _blend(levels, second, light.brightness_first).to(torch.uint8)


def crop(images: Tensor, size: int) -> Tensor:
    """The centre, size x size, enlarged to the full image: uint8 ``(B, 28, 28)`` to the same.

    Equals ``center_crop`` and a bilinear ``resize`` of torchvision on PIL images.

    Raises:
        ValueError: `size` is not within 1 .. 28.
    """
    if not 1 <= size <= SIDE:
        raise ValueError(f"found a crop of {size} pixels, expected 1 to {SIDE}")
    start = round((SIDE - size) / 2)  # torchvision's rounding
    centre = images[:, start : start + size, start : start + size].to(torch.float64)
    unit = torch.eye(size, dtype=torch.float64, device=images.device)[None]
    weights = F.interpolate(unit, SIDE, mode="linear", align_corners=False)[0]  # (size, SIDE)
    # Pillow's weights are whole numbers too, and it rounds after either axis
    weights = weights.mul_(_WEIGHT).round_()
    rows = (centre @ weights).div_(_WEIGHT).add_(0.5).floor_()
    return (weights.T @ rows).div_(_WEIGHT).add_(0.5).to(torch.uint8)


def _blend(levels: Tensor, factor: Tensor, with_mean: Tensor) -> Tensor:
    """Pillow's blend of a flat grey, the image's mean or black, and the image; in place.

    Grey levels 0 .. 255, float32 ``(B, 28, 28)``, to be cut off to whole ones, as Pillow does.
    """
    pixels = SIDE * SIDE  # whole sums and a division that floors: rounded alike on any device
    mean = levels.sum((1, 2)).add_(pixels // 2).div_(pixels, rounding_mode="floor")
    grey = torch.where(with_mean, mean, 0.0)[:, None, None]
    return levels.sub_(grey).mul_(factor[:, None, None]).add_(grey).clamp_(0, 255)


def _uniform(low: float, high: float, count: int, device: torch.device) -> Tensor:
    return torch.empty(count, device=device).uniform_(low, high)


def _around_one(width: float, count: int, device: torch.device) -> Tensor:
    return _uniform(max(0.0, 1 - width), 1 + width, count, device)
