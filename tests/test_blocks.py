from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_models.blocks import (
    AtrousConv2d,
    AtrousMaxPool2d,
    Dropout,
    GlobalAveragePool,
    convolution,
)

DRAWS = 1 << 22  # the standard error of a probability is then below 2.5e-4


@pytest.mark.parametrize("p", [0.01, 0.05, 0.1, 0.5, 0.9])
def test_probability_and_scale(p: float) -> None:
    torch.manual_seed(0)
    output = Dropout(p).train()(torch.ones(DRAWS))
    dropped = round(p * 2**16) / 2**16
    assert abs(dropped - p) <= 2**-16
    share = (output == 0).double().mean().item()
    assert abs(share - dropped) < 4 * math.sqrt(dropped * (1 - dropped) / DRAWS)
    kept = output[output != 0]
    assert torch.allclose(kept, torch.tensor(1 / (1 - dropped)), rtol=1e-6)


def test_threshold_is_exact_over_all_bit_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every value of 16 bits drawn once, exactly the rounded share is dropped."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.int64)
    monkeypatch.setattr(torch.Tensor, "random_", lambda words, *_: words.copy_(every))
    for p in (0.01, 0.3, 0.5, 2**-16, 1 - 2**-16):
        output = Dropout(p).train()(torch.ones(2**16))
        assert (output == 0).sum() == round(p * 2**16)


def test_elements_and_calls_are_independent() -> None:
    torch.manual_seed(0)
    layer = Dropout(0.5).train()
    first, second = (layer(torch.ones(DRAWS)).ne(0).double() - 0.5 for _ in range(2))
    bound = 4 * 0.25 / math.sqrt(DRAWS)  # four standard errors of a product of two masks
    assert abs((first * second).mean().item()) < bound
    for lag in (1, 2, 3, 4, 5, 64):  # four masks share one random word
        assert abs((first[lag:] * first[:-lag]).mean().item()) < 1.01 * bound


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_is_the_mask(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 5, 7, 2).contiguous(memory_format=memory_format).requires_grad_()
    output = Dropout(0.3).train()(images)
    output.sum().backward()
    assert images.grad is not None
    assert torch.equal(output, images * images.grad)
    assert (images.grad == 0).any()
    assert output.is_contiguous(memory_format=memory_format)


def test_identity_in_evaluation_and_at_zero() -> None:
    images = torch.randn(4, 3)
    assert Dropout(0.5).eval()(images) is images
    assert Dropout(0.0).train()(images) is images


def test_everything_is_dropped_at_one() -> None:
    assert torch.equal(Dropout(1.0).train()(torch.ones(100)), torch.zeros(100))


def test_it_is_a_dropout_in_place_too() -> None:
    layer = Dropout(0.5, inplace=True).train()
    assert isinstance(layer, nn.Dropout)
    images = torch.ones(1000)
    assert layer(images) is images
    assert (images == 0).any()


def test_seed_decides_the_mask() -> None:
    layer, masks = Dropout(0.5).train(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(layer(torch.ones(64)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=4),
    order=st.randoms(use_true_random=False),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_any_layout_keeps_shape_type_and_values(
    shape: list[int], order: object, dtype: torch.dtype
) -> None:
    dims = list(range(len(shape)))
    order.shuffle(dims)  # type: ignore[attr-defined] - hypothesis gives a random.Random
    images = torch.ones(shape, dtype=dtype).permute(dims)
    output = Dropout(0.25).train()(images)
    assert output.shape == images.shape
    assert output.dtype == dtype
    scale = torch.tensor(4 / 3).to(dtype)  # the mask is float32, whatever the input is
    assert ((output == 0) | (output == scale)).all()


def test_global_average_pool_is_the_mean() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert torch.allclose(GlobalAveragePool()(maps), nn.AdaptiveAvgPool2d(1)(maps).flatten(1))


def one_grid(maps: torch.Tensor, grid: int) -> torch.Tensor:
    """The windows of stride 2 that begin at one of the four pixels of the first window."""
    return nn.MaxPool2d(2, ceil_mode=True)(maps[:, :, grid // 2 :, grid % 2 :])


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(2, 6),
    width=st.integers(2, 6),
    kernel=st.sampled_from([1, 3, 5]),
    padded=st.booleans(),
    groups=st.sampled_from([1, 2]),
)
def test_atrous_evaluation_has_the_maps_of_all_four_grids(
    height: int, width: int, kernel: int, padded: bool, groups: int
) -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 2, 2 * height, 2 * width)
    pool = AtrousMaxPool2d().eval()
    padding = kernel // 2 if padded or kernel > min(height, width) else 0
    conv = AtrousConv2d(2, 4, kernel, padding=padding, groups=groups).eval()
    pooled, found = pool(maps), conv(pool(maps))
    assert pooled.shape == maps.shape
    for grid in range(4):
        expected = one_grid(maps, grid)
        assert torch.equal(pooled[:, :, grid // 2 :: 2, grid % 2 :: 2], expected)
        expected = nn.Conv2d.forward(conv, expected)
        part = found[:, :, grid // 2 :: 2, grid % 2 :: 2]
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", range(1, 10))
def test_atrous_training_gives_each_quarter_of_a_batch_one_grid(count: int) -> None:
    maps = torch.randn(count, 2, 6, 8)
    found = AtrousMaxPool2d().train()(maps)
    assert found.shape == (count, 2, 3, 4)
    grids = [
        [grid for grid in range(4) if torch.equal(one[None], one_grid(image[None], grid))]
        for one, image in zip(found, maps, strict=True)
    ]
    assert [len(each) for each in grids] == [1] * count
    shares = [sum(each == [grid] for each in grids) for grid in range(4)]
    assert max(shares) - min(shares) <= 1
    conv = AtrousConv2d(2, 3, 3).train()
    assert torch.equal(conv(found), nn.Conv2d.forward(conv, found))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(5, 6), (6, 5), (13, 13)])
def test_atrous_pooling_refuses_odd_sides(training: bool, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"even sides to pool, found \({size[0]}, {size[1]}\)"):
        AtrousMaxPool2d().train(training)(torch.zeros(1, 1, *size))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("conv", [nn.Conv2d]),
        ("conv-act", [nn.Conv2d, nn.ReLU]),
        ("conv-act-norm", [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]),
        ("conv-norm-act", [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]),
    ],
)
def test_convolution_order(order: str, expected: list[type]) -> None:
    layers = convolution(2, 3, order=order, dropout=Dropout(0.1))  # type: ignore[arg-type] - each is one of the literals
    assert [type(layer) for layer in layers] == [*expected, Dropout]
    assert layers(torch.randn(1, 2, 8, 8)).shape == (1, 3, 6, 6)
