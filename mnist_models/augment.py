"""Augmentation of a whole batch at once, every image with parameters of its own.

Each transform equals torchvision's on 8-bit PIL images at the same parameters, pixel by pixel
(the bilinear affine, torchvision's on tensors within one grey level):
the published systems augment that way, and each of their steps rounds to whole grey levels.
For each there is a function that draws the parameters from torch's global generator of the
device and one that applies them. Nothing here waits for the device.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_models.recipe import Affine, CropResize, Elastic, Jitter, Rotation, Transform

SIDE = 28  # pixels
_BITS = 16  # after the point, in the fixed-point coordinates that Pillow uses for affine maps
_ONE = 1 << _BITS  # one pixel
_PADDED = 1 + SIDE + 2  # black columns left and right; blending reads one pixel further right
_WEIGHT = 1 << 22  # one, in the fixed-point weights that Pillow resizes with


class Motion(NamedTuple):
    """Parameters of an affine map about the image centre, each ``(B,)``.

    Attributes:
        angle: degrees, clockwise.
        shift_x: pixels to the right, whole numbers as torchvision draws them.
        shift_y: pixels downwards, likewise.
        scale: factor.
        shear: degrees, parallel to the x axis.
    """

    angle: Tensor
    shift_x: Tensor
    shift_y: Tensor
    scale: Tensor
    shear: Tensor


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
            chosen = draw_crop(transform, count, device)
            if images.device.type != "cpu":  # the number of chosen ones is unknown to the host
                return torch.where(chosen[:, None, None], crop(images, transform.size), images)
            images = images.clone()
            images[chosen] = crop(images[chosen], transform.size)
            return images
        case Elastic():
            return warp(images, draw_field(transform, count, device))


def draw_rotation(rotation: Rotation, count: int, device: torch.device) -> Tensor:
    """Degrees counter-clockwise ``(count,)``, float32, uniform within the limit."""
    return _uniform(-rotation.degrees, rotation.degrees, count, device)


def draw_motion(affine: Affine, count: int, device: torch.device) -> Motion:
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


def draw_field(elastic: Elastic, count: int, device: torch.device) -> Tensor:
    """Where each pixel is taken from, relative to its place: pixels, ``(count, 2, 28, 28)``, x, y.

    Normal random numbers, blurred along either axis by weights whose squares sum to one, so that
    the field is as strong at the border as within.
    """
    places = torch.arange(SIDE, device=device, dtype=torch.float32)
    weights = (-0.5 * ((places[:, None] - places) / elastic.smoothness) ** 2).exp()
    weights = F.normalize(weights, dim=1)
    field = torch.randn((count, 2, SIDE, SIDE), device=device, dtype=torch.float32)
    return (weights @ field @ weights.T).mul_(elastic.displacement)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise about the centre, nearest pixel, black outside.

    uint8 ``(B, 28, 28)`` and degrees ``(B,)`` -> uint8 ``(B, 28, 28)``; equals
    ``torchvision.transforms.functional.rotate`` on PIL images.
    """
    none = torch.zeros_like(degrees)
    return move(images, Motion(-degrees, none, none, torch.ones_like(degrees), none))


def move(
    images: Tensor, motion: Motion, interpolation: Literal["nearest", "bilinear"] = "nearest"
) -> Tensor:
    """Shear, scale, rotate about the centre, then shift; black outside.

    uint8 ``(B, 28, 28)`` -> uint8 ``(B, 28, 28)``. Nearest equals
    ``torchvision.transforms.functional.affine`` on PIL images. Bilinear equals it on tensors,
    within one grey level: there the outermost pixels blend with the black around them.
    """
    return _sampled(images, *_sources(motion), interpolation)


def warp(images: Tensor, field: Tensor) -> Tensor:
    """Take every pixel from where the field points, bilinear, black outside.

    uint8 ``(B, 28, 28)`` and pixels ``(B, 2, 28, 28)`` -> uint8 ``(B, 28, 28)``; equals
    ``torchvision.transforms.v2.functional.elastic`` on tensors, within one grey level.
    """
    x, y = field.mul(_ONE).round_().to(torch.int32).unbind(1)
    centres = torch.arange(SIDE, dtype=torch.int32, device=field.device) * _ONE + _ONE // 2
    return _sampled(images, x + centres, y + centres[:, None], "bilinear")


def _sampled(
    images: Tensor, x: Tensor, y: Tensor, interpolation: Literal["nearest", "bilinear"]
) -> Tensor:
    """The images at these places, int32 ``(B, 28, 28)`` as `_sources` gives them; in place."""
    if interpolation == "bilinear":
        x, y = x.sub_(_ONE // 2), y.sub_(_ONE // 2)  # from pixel borders to pixel centres
    x, y = x.clamp_(-_ONE, SIDE * _ONE), y.clamp_(-_ONE, SIDE * _ONE)  # black borders, all beyond
    first = torch.arange(len(images), dtype=torch.int32, device=images.device) * _PADDED**2
    start = (first + _PADDED + 1)[:, None, None]
    index = (y >> _BITS).mul_(_PADDED).add_(x >> _BITS).add_(start).flatten()
    padded = F.pad(images, (1, 2, 1, 2)).flatten()
    if interpolation == "nearest":
        return padded.index_select(0, index).view_as(images)
    right, below = ((t & (_ONE - 1)).to(torch.float32).div_(_ONE).flatten() for t in (x, y))
    padded = padded.to(torch.float32)
    corners = (padded[step:].index_select(0, index) for step in (0, 1, _PADDED, _PADDED + 1))
    upper_left, upper_right, lower_left, lower_right = corners
    upper = upper_left.lerp_(upper_right, right)
    lower = lower_left.lerp_(lower_right, right)
    return upper.lerp_(lower, below).round_().to(torch.uint8).view_as(images)


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


def _sources(motion: Motion) -> tuple[Tensor, Tensor]:
    """Where each output pixel's centre comes from: x and y, int32 ``(B, 28, 28)``.

    In units of 1/65,536 pixel, from the left and upper border of the image. The inverse of
    torchvision's affine matrix (``_get_inverse_affine_matrix``), rounded as Pillow's
    ``affine_fixed`` does.
    """
    angle, shift_x, shift_y, scale, shear = (values.to(torch.float64) for values in motion)
    sine, cosine = angle.deg2rad().sin(), angle.deg2rad().cos()
    slant = shear.deg2rad().tan()
    x_x, x_y = (cosine - sine * slant) / scale, (cosine * slant + sine) / scale
    y_x, y_y = -sine / scale, cosine / scale
    left, top = 0.5 - SIDE / 2 - shift_x, 0.5 - SIDE / 2 - shift_y  # centre of the first pixel
    x_0 = x_x * left + x_y * top + SIDE / 2
    y_0 = y_x * left + y_y * top + SIDE / 2
    fixed = torch.stack((x_x, x_y, x_0, y_x, y_y, y_0)).mul_(_ONE).add_(0.5).floor_()
    x_x, x_y, x_0, y_x, y_y, y_0 = fixed.to(torch.int32).unsqueeze(2)  # (B, 1) each
    steps = torch.arange(SIDE, dtype=torch.int32, device=angle.device)
    x = (x_y * steps + x_0)[:, :, None] + (x_x * steps)[:, None, :]
    y = (y_y * steps + y_0)[:, :, None] + (y_x * steps)[:, None, :]
    return x, y


def _uniform(low: float, high: float, count: int, device: torch.device) -> Tensor:
    return torch.empty(count, device=device).uniform_(low, high)


def _around_one(width: float, count: int, device: torch.device) -> Tensor:
    return _uniform(max(0.0, 1 - width), 1 + width, count, device)
