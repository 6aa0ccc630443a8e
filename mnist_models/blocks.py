"""The few layers that all models are built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
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
