"""Convolutions as a GPU takes them fastest, where cuDNN's own choice is a slow one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Parts of a sum over all pixels, which the product for a weight's gradient takes one by one: a
# few dozen numbers out of a hundred thousand products each leave a GPU idle otherwise.
_PARTS = 16


class StackedConvolution(nn.Module):
    """Convolutions side by side on a GPU: ``(B, K * C, H, W) -> (B, K * D, H', W')``.

    There a grouped convolution of channels-last maps is taken group by group and transformed on
    the way. Where each network has one channel in or a kernel of one pixel, it is one batched
    product instead; others are taken channel by channel.
    """

    def __init__(self, layer: nn.Conv2d, count: int) -> None:
        super().__init__()
        self.count = count
        self.weight = layer.weight
        self.bias = layer.bias
        self.convolve = partial(
            F.conv2d,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
        )
        self.kernel, self.stride, self.padding = layer.kernel_size, layer.stride, layer.padding
        full = layer.groups == count and layer.dilation == (1, 1)
        small = layer.in_channels == count or layer.kernel_size == (1, 1)
        self.products = full and small and not isinstance(layer.padding, str)

    def forward(self, maps: Tensor) -> Tensor:
        """What the grouped convolution gives, channels-last."""
        if self.products:
            return self._products(maps)
        # A weight of one channel counts as channels-last too, by strides that are of no use.
        weight = self.weight.flatten().view(self.weight.shape)
        found = self.convolve(maps.contiguous(), weight, self.bias)
        return found.contiguous(memory_format=torch.channels_last)

    def _products(self, maps: Tensor) -> Tensor:
        patches = _patches(maps, self.kernel, self.stride, self.padding)  # (B, H', W', K * C * P)
        weight = self.weight.reshape(self.count, -1, self.weight[0].numel())
        rows = patches.flatten(0, 2).to(weight.dtype)  # others may have rounded them
        outputs: Tensor = _Products.apply(rows, weight)
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs.view(*patches.shape[:3], -1).movedim(3, 1)


def _patches(maps: Tensor, kernel: Any, stride: Any, padding: Any) -> Tensor:
    """What each output is made of: ``(B, C, H, W) -> (B, H', W', C * pixels of the kernel)``."""
    if any(padding):
        maps = F.pad(maps, (padding[1], padding[1], padding[0], padding[0]))
    found = maps.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
    return found.permute(0, 2, 3, 1, 4, 5).flatten(3)


class _Products(torch.autograd.Function):
    """``(N, K * C)`` by ``(K, D, C)``: ``(N, K * D)``, a product for each of K networks.

    Rows lie with those of all networks side by side and are read and written there: to bring
    the rows of a network together takes longer than the products.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _multiply(rows, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        rows, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        before = _multiply(gradient, weight) if ctx.needs_input_grad[0] else None
        return before, _outer(gradient, rows, len(weight))


def _lanes(rows: Tensor, count: int) -> Tensor:
    """``(N, K * C) -> (K, N, C)``, the same memory."""
    return rows.view(len(rows), count, -1).transpose(0, 1)


def _multiply(rows: Tensor, by: Tensor) -> Tensor:
    """``(N, K * C)`` by ``(K, C, D)``: ``(N, K * D)``."""
    found = rows.new_empty(len(rows), len(by) * by.shape[2])
    torch.bmm(_lanes(rows, len(by)), by, out=_lanes(found, len(by)))
    return found


def _outer(left: Tensor, right: Tensor, count: int) -> Tensor:
    """Sums over the rows: ``(N, K * D)`` and ``(N, K * C)`` give ``(K, D, C)``.

    Every so many rows are a part, which counts as further networks, and the parts are summed.
    """
    parts = math.gcd(len(left), _PARTS)
    apart = [_lanes(each.view(len(each) // parts, -1), parts * count) for each in (left, right)]
    found = torch.bmm(apart[0].mT, apart[1])
    return found.view(parts, count, *found.shape[1:]).sum(0)


class ChannelByChannel(TorchFunctionMode):
    """While it is on, depthwise convolutions that reach over pixels are not left to cuDNN.

    Of channels-last maps cuDNN has a fast one for kernels without gaps alone.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        arguments: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
    ) -> Any:
        """Lay the maps and the weight of such a convolution out channel by channel."""
        if function is F.conv2d and len(arguments) == 7:  # as layers call it
            maps, weight, bias, stride, padding, dilation, groups = arguments
            if groups == maps.shape[1] > 1 and dilation not in (1, (1, 1)):
                # A weight of one channel counts as channels-last too.
                weight = weight.flatten().view(weight.shape)
                arguments = (maps.contiguous(), weight, bias, stride, padding, dilation, groups)
        return function(*arguments, **(keywords or {}))
