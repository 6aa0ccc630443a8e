"""Convolutions laid out for a GPU, where they compute the same on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from mnist_models.blocks import AtrousConv2d
from mnist_models.gpu_convolution import ChannelByChannel, StackedConvolution

# float64 rounds at 2e-16 and a sum of some hundred products multiplies that by as much; a wrong
# element shows as about 1.
TIGHT = 1e-11


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 1, "padding": 1},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "padding": (0, 1), "stride": (1, 2)},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "padding": "same"},
    ],
)
@pytest.mark.parametrize(("inputs", "groups"), [(1, 1), (4, 1), (3, 3)])
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("batch", [1, 5, 32])  # whose sums over pixels have 1 to 16 parts
def test_gives_what_the_convolution_gives(
    batch: int, inputs: int, groups: int, options: dict[str, Any], bias: bool
) -> None:
    """Maps and gradients, in the layout of maps that the layers behind it expect."""
    grouped = nn.Conv2d(2 * inputs, 6, groups=2 * groups, bias=bias, **options)
    grouped = grouped.to(memory_format=torch.channels_last)
    layer = StackedConvolution(grouped, 2)
    assert dict(layer.named_parameters()).keys() == dict(grouped.named_parameters()).keys()
    maps = torch.randn(batch, 2 * inputs, 7, 6).to(memory_format=torch.channels_last)
    maps.requires_grad_()
    found, expected = layer(maps), grouped(maps)
    torch.testing.assert_close(found, expected, rtol=TIGHT, atol=TIGHT)
    assert found.is_contiguous(memory_format=torch.channels_last)
    ends = (maps, *grouped.parameters())
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), ends),
        torch.autograd.grad(expected.square().sum(), ends),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=TIGHT, atol=1e-9)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(2, 4, 1, groups=2), True),
        (nn.Conv2d(2, 4, 3, groups=2), True),  # one channel each
        (nn.Conv2d(4, 4, 3, groups=2), False),
        (nn.Conv2d(4, 4, 3, groups=4, dilation=2), False),
        (nn.Conv2d(2, 4, 3, groups=2, dilation=2), False),
    ],
)
def test_small_ones_are_products(layer: nn.Conv2d, expected: bool) -> None:
    assert StackedConvolution(layer, 2).products is expected


def test_images_get_no_gradient_that_nobody_asked_for() -> None:
    layer = StackedConvolution(nn.Conv2d(2, 4, 3, groups=2), 2)
    layer(torch.randn(3, 2, 5, 5)).sum().backward()
    assert layer.weight.grad is not None


def test_rounded_maps_are_taken_as_the_weights_are() -> None:
    layer = StackedConvolution(nn.Conv2d(4, 6, 1, groups=2), 2)
    maps = torch.randn(3, 4, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(maps.bfloat16())
    found.sum().backward()
    torch.testing.assert_close(found, layer(maps), rtol=0.02, atol=0.02)  # bfloat16: 8 bits


class Watched(TorchFunctionMode):
    """Notes how the maps of each convolution lie."""

    def __init__(self) -> None:
        super().__init__()
        self.planar: list[bool] = []

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        if function is F.conv2d:
            self.planar.append(arguments[0].is_contiguous() and arguments[1].is_contiguous())
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize(
    ("layer", "moved"),
    [
        (nn.Conv2d(6, 6, 3, groups=6, dilation=2), True),
        (nn.Conv2d(6, 6, 3, groups=6), False),
        (nn.Conv2d(6, 6, 3, dilation=2), False),
        (nn.Conv2d(6, 6, 3, groups=3, dilation=2), False),
    ],
)
def test_depthwise_ones_with_gaps_are_taken_channel_by_channel(
    layer: nn.Conv2d, moved: bool
) -> None:
    layer = layer.to(memory_format=torch.channels_last)
    maps = torch.randn(2, 6, 9, 8).to(memory_format=torch.channels_last)
    expected = layer(maps)
    with Watched() as watched, ChannelByChannel():
        found = layer(maps)
    assert watched.planar == [moved]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("training", "moved"), [(True, False), (False, True)])
def test_atrous_ones_have_gaps_in_evaluation(training: bool, moved: bool) -> None:
    layer = AtrousConv2d(6, 6, 3, groups=6).to(memory_format=torch.channels_last).train(training)
    maps = torch.randn(2, 6, 9, 8).to(memory_format=torch.channels_last)
    with Watched() as watched, ChannelByChannel():
        layer(maps)
    assert watched.planar == [moved]


def test_calls_of_other_forms_pass() -> None:
    maps, weight = torch.randn(2, 6, 9, 8), torch.randn(6, 1, 3, 3)
    with ChannelByChannel():
        found = F.conv2d(maps, weight, groups=6, dilation=2)
    assert torch.equal(found, F.conv2d(maps, weight, groups=6, dilation=2))
