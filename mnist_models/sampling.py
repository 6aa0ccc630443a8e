"""Images read at other places than their pixels: moved, warped, distorted.

Places are whole numbers of parts of a pixel, as Pillow has them; those of an affine map are the
same on every device.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 28  # pixels
_BITS = 16  # after the point, in the fixed-point coordinates that Pillow uses for affine maps
_ONE = 1 << _BITS  # one pixel
_FRAME = (1, 2)  # black, before and behind the pixels: blending reads one pixel further
# Halfway between two pixels: the weight of either, and of the one beyond it. Of the cubic through
# all pixels that Keys calls a = -1: a smaller overshoot (a = -0.5) blurs more.
_NEAR, _FAR = 5 / 8, -1 / 8


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
    return _sampled(_framed(images), *_places(_inverse(motion)), interpolation)


def warp(images: Tensor, field: Tensor) -> Tensor:
    """Take every pixel from where the field points, bilinear, black outside.

    uint8 ``(B, 28, 28)`` and pixels ``(B, 2, 28, 28)`` -> uint8 ``(B, 28, 28)``; equals
    ``torchvision.transforms.v2.functional.elastic`` on tensors, within one grey level.
    """
    x, y = field.mul(_ONE).round_().to(torch.int32).unbind(1)
    centres = torch.arange(SIDE, dtype=torch.int32, device=field.device) * _ONE + _ONE // 2
    return _sampled(_framed(images), x + centres, y + centres[:, None], "bilinear")


def distort(images: Tensor, motion: Motion, field: Tensor) -> Tensor:
    """Move, every pixel from where the field points, sampled once; black outside.

    uint8 ``(B, 28, 28)`` and pixels ``(B, 2, 28, 28)`` -> uint8 ``(B, 28, 28)``: what `move` would
    show at the places that the field names. Places that lie on pixels, or halfway between, are
    read exactly, others are bilinear between these.
    """
    inverse = _inverse(motion)
    x, y = _places(inverse)
    x_x, x_y, _, y_x, y_y, _ = inverse.to(torch.float32)[:, :, None, None]
    field_x, field_y = field.unbind(1)
    x += (x_x * field_x + x_y * field_y).round_().to(torch.int32)
    y += (y_x * field_x + y_y * field_y).round_().to(torch.int32)
    half = _ONE // 2  # from pixel borders to pixel centres, and back
    return _sampled(enlarge(images), 2 * (x - half) + half, 2 * (y - half) + half, "bilinear")


def enlarge(images: Tensor) -> Tensor:
    """uint8 ``(B, 28, 28)`` -> float32 ``(B, 59, 59)``: grey levels, framed as `_sampled` asks.

    Behind each row and column of the image lies one more, halfway to the next.
    """
    own = torch.eye(SIDE, dtype=torch.float32, device=images.device)
    around = F.pad(own, (0, 0, 1, 2))  # black outside
    between = _NEAR * (around[1:-2] + around[2:-1]) + _FAR * (around[:-3] + around[3:])
    weights = F.pad(torch.stack((own, between), 1).flatten(0, 1), (0, 0, *_FRAME))  # (59, 28)
    return (weights @ images.to(torch.float32) @ weights.T).clamp_(0, 255)


def _framed(images: Tensor) -> Tensor:
    return F.pad(images, (*_FRAME, *_FRAME))


def _sampled(
    framed: Tensor, x: Tensor, y: Tensor, interpolation: Literal["nearest", "bilinear"]
) -> Tensor:
    """Framed images ``(B, S, S)`` at these places, int32 ``(B, 28, 28)`` as `_places`; in place.

    Grey levels, whole ones or not -> uint8 ``(B, 28, 28)``.
    """
    wide = framed.shape[1]
    side = wide - sum(_FRAME)
    if interpolation == "bilinear":
        x, y = x.sub_(_ONE // 2), y.sub_(_ONE // 2)  # from pixel borders to pixel centres
    x, y = x.clamp_(-_ONE, side * _ONE), y.clamp_(-_ONE, side * _ONE)  # black borders, all beyond
    first = torch.arange(len(framed), dtype=torch.int32, device=framed.device) * wide**2
    start = (first + wide + 1)[:, None, None]
    index = (y >> _BITS).mul_(wide).add_(x >> _BITS).add_(start).flatten()
    levels = framed.flatten()
    if interpolation == "nearest":
        return levels.index_select(0, index).view_as(x)
    right, below = ((t & (_ONE - 1)).to(torch.float32).div_(_ONE).flatten() for t in (x, y))
    levels = levels.to(torch.float32)
    corners = (levels[step:].index_select(0, index) for step in (0, 1, wide, wide + 1))
    upper_left, upper_right, lower_left, lower_right = corners
    upper = upper_left.lerp_(upper_right, right)
    lower = lower_left.lerp_(lower_right, right)
    return upper.lerp_(lower, below).round_().to(torch.uint8).view_as(x)


def _inverse(motion: Motion) -> Tensor:
    """Where an output pixel comes from, ``(6, B)``: x of x, of y, of none; y of x, of y, of none.

    int32, in units of 1/65,536 pixel. The inverse of torchvision's affine matrix
    (``_get_inverse_affine_matrix``), rounded as Pillow's ``affine_fixed`` does.
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
    return fixed.to(torch.int32)


def _places(inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Where each output pixel's centre comes from: x and y, int32 ``(B, 28, 28)``.

    In units of 1/65,536 pixel, from the left and upper border of the image.
    """
    x_x, x_y, x_0, y_x, y_y, y_0 = inverse.unsqueeze(2)  # (B, 1) each
    steps = torch.arange(SIDE, dtype=torch.int32, device=inverse.device)
    x = (x_y * steps + x_0)[:, :, None] + (x_x * steps)[:, None, :]
    y = (y_y * steps + y_0)[:, :, None] + (y_x * steps)[:, None, :]
    return x, y
