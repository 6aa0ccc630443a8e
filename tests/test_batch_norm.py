"""BatchNorm by rows gives what torch's gives, and is used where it pays alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mnist_models.batch_norm import _ByRows, quicken
from mnist_models.models import EXPERIMENTS
from mnist_models.provenance import model_digest
from mnist_models.run import start

ROUNDING = 1e-4  # of a value: float32, sums of 13,000 numbers; a wrong term shows as 1e-2 or more
SHAPE = (64, 10, 16, 13)  # large enough to be taken by rows


def images(channels: int = 10, dtype: torch.dtype = torch.float32) -> Tensor:
    maps = torch.randn(SHAPE[0], channels, *SHAPE[2:], dtype=dtype)
    # Channels of means and spreads of their own: exchanged ones would show.
    places = torch.arange(channels, dtype=dtype).view(-1, 1, 1)
    return (maps * (1 + places) + places).contiguous(memory_format=torch.channels_last)


def pair(channels: int = 10, **options: Any) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    """Torch's own layer, and the same quickened."""
    plain = nn.BatchNorm2d(channels, **options)
    if plain.affine:
        nn.init.uniform_(plain.weight, -2, 2)
        nn.init.uniform_(plain.bias, -2, 2)
    quick = copy.deepcopy(plain)
    quicken(quick)
    return plain, quick


def by_rows(norm: nn.BatchNorm2d, maps: Tensor) -> bool:
    return "ByRows" in str(norm(maps.detach().requires_grad_()).grad_fn)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("channels", [5, 8, 10, 15])
def test_gives_what_torch_gives(channels: int, affine: bool, threads: int) -> None:
    """Maps, gradients, and statistics over two steps."""
    torch.manual_seed(channels)
    plain, quick = pair(channels, affine=affine, momentum=0.3, eps=1e-3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(2):
            maps = images(channels)
            weights = torch.randn_like(maps)
            ends = []
            for norm in (plain, quick):
                own = maps.clone().requires_grad_()
                normal = norm(own)
                assert ("ByRows" in str(normal.grad_fn)) is (norm is quick)
                assert normal.is_contiguous(memory_format=torch.channels_last)
                loss = (normal * weights).sum() + normal.pow(3).sum()
                gradients = torch.autograd.grad(loss, [own, *norm.parameters()])
                ends.append([normal.detach(), *gradients])
            for found, expected in zip(*ends[::-1], strict=True):
                size = expected.abs().max().item()
                torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING * size)
            # A variance that is not corrected for its mean is lower by 7e-5 of itself.
            for found, expected in zip(quick.buffers(), plain.buffers(), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("affine", [True, False])
def test_its_gradient_is_that_of_what_it_computes(affine: bool) -> None:
    torch.manual_seed(0)
    maps = images(3, torch.float64)[:2, :, :3, :2].contiguous(memory_format=torch.channels_last)
    scales = [torch.randn(3, dtype=torch.float64).requires_grad_() for _ in range(2)]
    ends = (maps.requires_grad_(), *(scales if affine else (None, None)), 1e-3)
    assert torch.autograd.gradcheck(lambda *given: _ByRows.apply(*given)[0], ends)


def test_it_rounds_little() -> None:
    """Of maps after a ReLU, as they are; torch, which adds number by number, is off by 1e-3."""
    torch.manual_seed(0)
    maps = torch.randn(64, 8, 26, 26).relu().contiguous(memory_format=torch.channels_last)
    plain, quick = pair(8, affine=False)
    torch.testing.assert_close(
        quick(maps).double(), plain.double()(maps.double()), rtol=0, atol=1e-5
    )


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-100, 100), spread=st.floats(0.01, 100), seed=st.integers(0, 9))
def test_its_maps_are_normal_whatever_comes_in(shift: float, spread: float, seed: int) -> None:
    torch.manual_seed(seed)
    maps = (torch.randn(SHAPE) * spread + shift).contiguous(memory_format=torch.channels_last)
    norm = nn.BatchNorm2d(SHAPE[1], affine=False, eps=0)
    quicken(norm)
    assert by_rows(norm, maps)
    normal = norm(maps).double()
    rounding = 1e-6 * (1 + abs(shift) / spread)  # of float32, as a share of the spread
    assert normal.mean((0, 2, 3)).abs().max() < 20 * rounding
    assert (normal.var((0, 2, 3), correction=0) - 1).abs().max() < 20 * rounding


def test_a_map_of_one_value_stays_finite() -> None:
    _, quick = pair()
    maps = torch.full(SHAPE, 3.0).contiguous(memory_format=torch.channels_last).requires_grad_()
    normal = quick(maps)
    normal.pow(2).sum().backward()
    # Of no spread eps is left, by whose root 3 is divided, and rounded, before it is taken away.
    shift = quick.bias.view(-1, 1, 1).expand_as(normal)
    torch.testing.assert_close(normal, shift, rtol=0, atol=1e-3)
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_no_number_stays_in_its_channel() -> None:
    _, quick = pair()
    maps = images()
    maps[0, 3, 0, 0] = torch.nan
    lost = quick(maps).isnan().any(3).any(2).any(0)
    assert lost.tolist() == [channel == 3 for channel in range(SHAPE[1])]


@pytest.mark.parametrize(
    ("options", "maps"),
    [
        ({"momentum": None}, images()),
        ({"track_running_stats": False}, images()),
        ({}, images()[:4]),
        ({}, images().contiguous()),
        ({}, images().to(torch.bfloat16)),
    ],
    ids=["mean of all batches", "no statistics", "few numbers", "by channels", "half precision"],
)
def test_else_torch_computes(options: dict[str, Any], maps: Tensor) -> None:
    plain, quick = pair(**options)
    assert not by_rows(quick, maps)
    plain(maps)
    assert torch.equal(quick(maps), plain(maps))


def test_in_evaluation_torch_computes() -> None:
    plain, quick = (norm.eval() for norm in pair())
    assert not by_rows(quick, images())
    maps = images()
    assert torch.equal(quick(maps), plain(maps))


@pytest.mark.parametrize("channels", [16, 17, 24])
def test_of_channels_that_torch_takes_as_fast_nothing_changes(channels: int) -> None:
    _, quick = pair(channels)
    assert not by_rows(quick, images(channels))


def test_one_value_a_channel_is_refused_as_by_torch() -> None:
    _, quick = pair()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        quick(torch.ones(1, SHAPE[1], 1, 1))


def test_a_layer_behind_may_work_in_place() -> None:
    torch.manual_seed(0)
    gradients = []
    for norm in pair():
        maps = torch.linspace(-1, 1, 64 * 10 * 16 * 13).view(SHAPE)
        maps = maps.contiguous(memory_format=torch.channels_last).requires_grad_()
        nn.Sequential(norm, nn.ReLU(inplace=True))(maps).square().sum().backward()
        gradients.append(maps.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-3)


def test_a_copy_has_statistics_of_its_own() -> None:
    _, quick = pair()
    copied = copy.deepcopy(quick)
    assert by_rows(copied, images())
    assert quick.num_batches_tracked == 0
    assert copied.num_batches_tracked == 1


@pytest.mark.parametrize("name", ["steps-6", "frontier-8k"])
def test_a_run_is_quickened_and_its_network_stays_the_published_one(name: str) -> None:
    run = start(EXPERIMENTS[name], 0, 64, torch.device("cpu"))
    norms = [norm for norm in run.model.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert any(by_rows(norm.train(), images(norm.num_features)) for norm in norms)
    assert model_digest(run.model) == model_digest(EXPERIMENTS[name].build())
    assert run.model.state_dict().keys() == EXPERIMENTS[name].build().state_dict().keys()
