"""Next to nothing around a kernel is not seen; kernels computed honestly see what they did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from mnist_models.receptive_field import receptive_fields

torch.set_num_threads(1)


class Computed(nn.Module):
    """A convolution, then one whose kernel is computed from a parameter in the forward."""

    def __init__(
        self, side: int, kernel: Callable[[Tensor], Tensor], use: Callable[..., Tensor] = F.conv2d
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.weight = nn.Parameter(torch.randn(4, 4, side, side))
        self.kernel, self.use = kernel, use
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.use(self.first(x), self.kernel(self.weight)).mean((2, 3)))


def _ring(weight: Tensor) -> Tensor:
    """The kernel amid next to nothing."""
    return F.pad(weight, (3, 3, 3, 3), value=1e-20)


def _ring_by_slices(weight: Tensor) -> Tensor:
    wide = torch.full((4, 4, 9, 9), 1e-7)
    wide[..., 3:6, 3:6] = weight
    return wide


def _patches(x: Tensor, kernel: Tensor) -> Tensor:
    side = kernel.shape[-1]
    rows = F.unfold(x, side, stride=3).transpose(1, 2) @ kernel.flatten(1).t()
    return rows.transpose(1, 2).unflatten(2, ((x.shape[2] - side) // 3 + 1, -1))


def _weighted_patches(x: Tensor, kernel: Tensor) -> Tensor:
    side = kernel.shape[-1]
    patches = F.unfold(x, side, stride=3).unflatten(2, ((x.shape[2] - side) // 3 + 1, -1))
    patches = patches.unflatten(1, (4, -1))
    return (patches * kernel[0].view(4, -1, 1, 1)).sum(2)


def _overwritten(x: Tensor, kernel: Tensor) -> Tensor:
    y = F.conv2d(x, kernel)
    kernel.data.fill_(1)  # hides what it was, also from autograd
    return y


FAINT_KERNELS: dict[str, Callable[[], nn.Module]] = {
    "padded": lambda: Computed(3, _ring),
    "written by slices": lambda: Computed(3, _ring_by_slices),
    "scaled": lambda: Computed(3, lambda w: _ring(w) * 100),
    "transposed": lambda: Computed(3, _ring, F.conv_transpose2d),
    "product": lambda: Computed(3, _ring_by_slices, _patches),
    "elementwise": lambda: Computed(3, _ring, _weighted_patches),
    "hidden afterwards": lambda: Computed(3, _ring, _overwritten),
}


@pytest.mark.parametrize("name", FAINT_KERNELS)
def test_next_to_nothing_around_a_kernel_widens_nothing(name: str) -> None:
    found = receptive_fields(FAINT_KERNELS[name]())
    assert found.before_pooling in {None, 5}, found


def _blueprint(weight: Tensor) -> Tensor:
    """One spatial kernel for all channels of an output, scaled."""
    return weight[:, :1] * weight.mean((2, 3), keepdim=True)


def _chequered(weight: Tensor) -> Tensor:
    mask = torch.arange(25).view(5, 5) % 2 == 0
    return weight * mask


def _standardised(weight: Tensor) -> Tensor:
    return (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)


HONEST_KERNELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "plain": (lambda: Computed(5, lambda w: w), 7),
    "standardised": (lambda: Computed(5, _standardised), 7),
    "normalised": (lambda: Computed(5, lambda w: F.normalize(w.flatten(1)).view_as(w)), 7),
    "blueprint": (lambda: Computed(5, _blueprint), 7),
    "masked": (lambda: Computed(5, _chequered), 7),
    "pruned": (lambda: Computed(5, lambda w: w * (w.abs() > w.abs().mean() / 2)), 7),
    "enlarged": (lambda: Computed(3, lambda w: F.interpolate(w, size=(5, 5), mode="bilinear")), 7),
    "product": (lambda: Computed(5, lambda w: w * 2, _patches), 7),
    "elementwise": (lambda: Computed(5, lambda w: w * 2, _weighted_patches), 7),
    "hidden afterwards": (lambda: Computed(5, lambda w: w * 2, _overwritten), 7),
    "weight norm": (lambda: _parametrised(parametrizations.weight_norm), 7),
    "spectral norm": (lambda: _parametrised(parametrizations.spectral_norm), 7),
}


def _parametrised(change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    layers = nn.Conv2d(1, 4, 3), change(nn.Conv2d(4, 4, 5)), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 10))


@pytest.mark.parametrize("name", HONEST_KERNELS)
def test_kernels_that_are_computed_see_what_they_are_wide(name: str) -> None:
    make, before = HONEST_KERNELS[name]
    found = receptive_fields(make())
    assert found.before_pooling == before, found


class Stored(nn.Module):
    """A wide kernel that training does not change, next to nothing around its middle."""

    def __init__(self, keep: Callable[[nn.Module, Tensor], None], faint: float = 1e-20) -> None:
        super().__init__()
        kernel = torch.full((1, 1, 19, 19), faint)
        kernel[0, 0, 9, 9] = 1
        keep(self, kernel)
        self.first, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel if hasattr(self, "kernel") else self.parametrizations.weight
        return self.fc(self.first(F.conv2d(x, kernel, padding=9)).mean((2, 3)))


def _frozen(self: nn.Module, kernel: Tensor) -> None:
    self.kernel = nn.Parameter(kernel, requires_grad=False)


def _buffered(self: nn.Module, kernel: Tensor) -> None:
    self.register_buffer("kernel", kernel)


def _loose(self: nn.Module, kernel: Tensor) -> None:
    self.kernel = kernel


def _named_as_parametrized(self: nn.Module, kernel: Tensor) -> None:
    self.parametrizations = nn.Conv2d(1, 1, 19, bias=False)
    self.parametrizations.weight.data = kernel


class Blurred(nn.Module):
    """One kernel for all channels, with faint corners."""

    def __init__(self) -> None:
        super().__init__()
        line = torch.exp(-(torch.arange(-3.0, 4) ** 2) / 1.5)
        self.register_buffer("kernel", line[:, None] * line)
        self.first, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(4, 1, 7, 7)
        return self.fc(F.conv2d(self.first(x), kernel, groups=4).mean((2, 3)))


def test_a_blur_that_all_channels_share_is_seen() -> None:
    model = Blurred()
    before = model.kernel.clone()
    assert (before < 1e-3 * before.max()).any()
    assert receptive_fields(model).before_pooling == 9
    assert torch.equal(before, model.kernel)


@pytest.mark.parametrize("keep", [_frozen, _buffered, _loose, _named_as_parametrized])
def test_next_to_nothing_in_a_stored_kernel_is_not_seen(
    keep: Callable[[nn.Module, Tensor], None],
) -> None:
    model = Stored(keep)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    found = receptive_fields(model)
    assert found.before_pooling is None
    assert "recurrence 21x21, a gradient over 3x3 pixels" in found.cause
    assert all(map(torch.equal, before, model.state_dict().values()))
    assert receptive_fields(Stored(keep, faint=0.1)).before_pooling == 21
