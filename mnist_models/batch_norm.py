"""BatchNorm in training on a CPU, where maps have few channels.

torch takes channels-last maps a pixel at a time, which is few numbers then, and its threads add up
in sums that share a line of the cache. Here the pixels of an image are one row, which is read from
end to end; what belongs to the channels is repeated along it. It also rounds less: torch adds one
number after the other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LINE = 16  # channels: a line of the cache, with which torch is as fast
_MANY = 1 << 16  # numbers in a batch of maps: with fewer, the calls take longer than what they do


def quicken(model: nn.Module) -> None:
    """Have its BatchNorms of few channels compute by rows in training, in place.

    They stay torch's, with the same parameters and statistics. Where they are called on anything
    but large maps, channels-last, in whole precision, on a CPU, torch computes as before.
    """
    for norm in model.modules():
        if type(norm) is nn.BatchNorm2d and norm.num_features < _LINE:
            # A record is about the classes of its network: they stay as they are.
            norm.forward = partial(_forward, norm)  # type: ignore[method-assign] # of this one alone


def as_torch(model: nn.Module) -> None:
    """Take back what `quicken` did, in place."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            vars(norm).pop("forward", None)


def _forward(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """``(B, C, H, W) -> (B, C, H, W)``, as torch within rounding."""
    mean, variance, seen = norm.running_mean, norm.running_var, norm.num_batches_tracked
    momentum = norm.momentum  # None: torch's word for the mean over all batches
    if mean is None or variance is None or seen is None or momentum is None:
        return nn.BatchNorm2d.forward(norm, maps)
    if not norm.training or not _pays(maps):
        return nn.BatchNorm2d.forward(norm, maps)
    normal: Tensor
    normal, of_batch, variance_of_batch = _ByRows.apply(maps, norm.weight, norm.bias, norm.eps)
    count = maps.numel() // norm.num_features
    with torch.no_grad():
        seen.add_(1)
        mean.lerp_(of_batch, momentum)
        variance.lerp_(variance_of_batch * (count / (count - 1)), momentum)
    return normal


def _pays(maps: Tensor) -> bool:
    on_cpu = maps.device.type == "cpu" and maps.dtype in (torch.float32, torch.float64)
    laid_out = maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last)
    return on_cpu and laid_out and maps.numel() >= _MANY


class _ByRows(torch.autograd.Function):
    """Maps, scale or None, shift or None, eps -> normalised maps, mean and variance of the batch.

    ``(B, C, H, W)`` channels-last, ``(C,)`` -> the same, ``(C,)``, ``(C,)``.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels, rows = maps.shape[1], _rows(maps)
        count = maps.numel() // channels
        mean = _sums(rows, channels).div_(count)
        result = torch.empty_like(maps)  # no view, which no layer behind could change in place
        written = torch.sub(rows, _along(mean, rows), out=_rows(result))
        variance = _sums(written.square(), channels).div_(count)
        deviation = (variance + eps).rsqrt_()
        scale = deviation if weight is None else deviation * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        torch.addcmul(_along(shift, rows), rows, _along(scale, rows), out=written)
        ctx.save_for_backward(maps, mean, deviation, scale)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        maps, mean, deviation, scale = ctx.saved_tensors
        channels, rows = maps.shape[1], _rows(maps)
        given = _rows(gradient.contiguous(memory_format=torch.channels_last))
        result = torch.empty_like(maps)
        work = torch.mul(given, rows, out=_rows(result))
        total = _sums(given, channels)
        along = (_sums(work, channels) - mean * total) * deviation  # with the normalised maps
        count = maps.numel() // channels
        slope = along * deviation * scale / -count
        level = total * scale / -count - slope * mean
        torch.addcmul(_along(level, rows), given, _along(scale, rows), out=work)
        work.addcmul_(rows, _along(slope, rows))
        wants = ctx.needs_input_grad
        return result, along if wants[1] else None, total if wants[2] else None, None


def _rows(maps: Tensor) -> Tensor:
    """``(B, C, H, W)`` channels-last -> ``(B, H * W * C)``, the same memory."""
    return maps.permute(0, 2, 3, 1).view(len(maps), -1)


def _sums(rows: Tensor, channels: int) -> Tensor:
    """``(C,)``: over images, then over pixels."""
    return rows.sum(0).view(-1, channels).sum(0)


def _along(values: Tensor, rows: Tensor) -> Tensor:
    """``(C,)`` repeated to the length of a row."""
    return values.repeat(rows.shape[1] // len(values))
