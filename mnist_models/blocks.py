"""The few layers that all models are built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16  # a mask element is decided by 16 random bits


class Dropout(nn.Dropout):
    """Drop-in `torch.nn.Dropout` whose mask is cheap to draw on a CPU.

    ``(...) -> (...)``. A mask element takes 16 bits of one 64-bit random word, a quarter of the
    draws that one number an element costs; the elementwise random numbers of the usual Dropout
    take more time than the convolutions of a network this small. The drop probability is
    rounded to a multiple of 2 ** -16, and what is kept is scaled by the rounded probability, so
    that the expectation is exact.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parameter's name in torch
        """Drop and scale in training, pass on in evaluation: ``(...) -> (...)``."""
        if not self.training or self.p == 0:
            return input
        dropped = round(self.p * _LEVELS)
        if dropped == _LEVELS:
            return input * 0
        words = torch.empty(-(-input.numel() // 4), dtype=torch.int64, device=input.device)
        bits = words.random_(-(1 << 63), None).view(torch.int16)[: input.numel()]
        # Compared as float32, which holds 16 bits exactly: torch compares integers ten times
        # slower. int16 counts from -2 ** 15.
        mask = bits.to(torch.float32).ge_(dropped - _LEVELS // 2)
        mask = mask.mul_(_LEVELS / (_LEVELS - dropped)).to(input.dtype)
        # Laid out as the input is, so that the product of a channels-last map reads in order.
        result = input * mask.as_strided(input.shape, _dense_strides(input))
        return input.copy_(result) if self.inplace else result


def _dense_strides(tensor: Tensor) -> tuple[int, ...]:
    """Strides that lay a dense tensor of this shape out in this tensor's order of dimensions."""
    strides = [1] * tensor.dim()
    step = 1
    for dim in sorted(range(tensor.dim()), key=lambda dim: (tensor.stride(dim), -dim)):
        strides[dim] = step
        step *= tensor.size(dim)
    return tuple(strides)


class GlobalAveragePool(nn.Module):
    """The mean over the whole map: ``(B, C, H, W) -> (B, C)``."""

    def forward(self, maps: Tensor) -> Tensor:
        """Average each map: ``(B, C, H, W) -> (B, C)``."""
        return maps.mean((2, 3))


class AtrousMaxPool2d(nn.Module):
    """The maximum of every 2x2 window, not of every second one: ``(B, C, H, W)``, even H and W.

    Where windows of stride 2 begin is arbitrary: there are four grids of them, and a network whose
    maps they halve answers a digit otherwise when it is moved by a pixel. Here evaluation has the
    windows of all four, ``(B, C, H, W)``, between which the `AtrousConv2d` that follow reach over
    one pixel, so that each of their outputs lies on one of the grids. An image in training takes
    one grid, ``(B, C, H / 2, W / 2)``, a quarter of the batch each: all of them in the mean, in a
    quarter of the time. Windows at the lower and right edge may be cut off.

    After Giusti, Ciresan, Masci, Gambardella and Schmidhuber, 2013 (arXiv:1302.1700).
    """

    def forward(self, maps: Tensor) -> Tensor:
        """One grid for each image in training, all in evaluation."""
        if maps.shape[2] % 2 or maps.shape[3] % 2:
            raise ValueError(f"expected maps of even sides to pool, found {tuple(maps.shape[2:])}")
        if not self.training:
            # Channels last: on a CPU, what follows takes half the time so.
            maps = maps.contiguous(memory_format=torch.channels_last)
            return F.max_pool2d(maps, 2, stride=1, padding=1)[:, :, 1:, 1:]
        quarters = maps.tensor_split(4)  # of a batch that was shuffled
        return torch.cat(
            [
                F.max_pool2d(part[:, :, grid // 2 :, grid % 2 :], 2, ceil_mode=True)
                for grid, part in enumerate(quarters)
                if len(part)
            ]
        )


class AtrousConv2d(nn.Conv2d):
    """The convolution behind an `AtrousMaxPool2d`, which reaches as far whatever that gives.

    ``(B, C, H, W) -> (B, D, H', W')``: its dilation is 1 in training and 2 in evaluation.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parameter's name in torch
        """Convolve maps of one grid in training, of four in evaluation."""
        dilation = 1 if self.training else 2
        padding = self.padding if self.training else tuple(2 * int(side) for side in self.padding)
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, dilation, self.groups)


def convolution(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    *,
    padding: int = 0,
    stride: int = 1,
    bias: bool = False,
    dropout: nn.Dropout | nn.Dropout2d | None = None,
    activation: Callable[[], nn.Module] = nn.ReLU,
    order: Literal["conv", "conv-act", "conv-act-norm", "conv-norm-act"] = "conv-act-norm",
) -> nn.Sequential:
    """A convolution and what follows it: ``(B, inputs, H, W) -> (B, outputs, H', W')``.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: side of the kernel, pixels.
        padding: pixels added on each side.
        stride: pixels.
        bias: whether the convolution has one.
        dropout: the layer that comes last, or None.
        activation: makes the activation.
        order: which of activation and BatchNorm follow, and in which order.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias)
    ]
    layers += [
        activation() if part == "act" else nn.BatchNorm2d(outputs) for part in order.split("-")[1:]
    ]
    if dropout is not None:
        layers.append(dropout)
    return nn.Sequential(*layers)
