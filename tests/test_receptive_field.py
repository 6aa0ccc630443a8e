"""Published receptive fields come out exactly, and two methods agree on drawn networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mnist_models.receptive_field import layer_table, receptive_fields
from mnist_models.receptive_field.geometry import widen
from mnist_models.receptive_field.rules import RULES

torch.set_num_threads(1)


class Table(nn.Module):
    """A net written as in the published tables: c3:8p1s2, mp, ap, then GAP and a linear layer."""

    def __init__(self, layers: str, head: bool = True) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        channels = 1
        for text in layers.split():
            if text == "mp":
                parts.append(nn.MaxPool2d(2))
                continue
            kernel, rest = text[1:].split(":")
            stride = int(rest[-1]) if "s" in rest else 1
            padding = int(rest.split("p")[1][0]) if "p" in rest else 0
            width = int(rest.split("p")[0].split("s")[0])
            parts += [nn.Conv2d(channels, width, int(kernel), stride, padding), nn.ReLU()]
            channels = width
        self.body = nn.Sequential(*parts)
        self.fc = nn.Linear(channels, 10) if head else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


# Channels divided by about four: a receptive field does not depend on them.
PUBLISHED = {
    "blocks-1": ("c3:4 c3:8 c1:2 mp c3:4 c3:8 c1:4 mp c3:8", 24, 28),
    "blocks-2": ("c3:8 c1:2 c3:3 mp c3:4p1 c1:3 c3:3 c3:4 c3:4", 22, 32),
    "steps-1": ("c3:4 c3:8 c1:3 mp c3:4 c3:4 c3:4 c3:4p1", 22, 32),
    "steps-2": ("c3:4 c3:4 mp c1:2 c3:4 c3:6", 14, 28),
    "era-v3": ("c5:8p1 c3:6p1 c3:4p1s2 c3:6p1s2 c3:4p1 c3:10", 29, 45),
    "eva4-final": ("c3:4 c3:4 c1:3 mp c3:3 c1:8 c1:3 c3:3 c1:8 c1:3 c3:4 c3:4", 22, 28),
    "attempt-3": ("c3:3 c3:4 c1:3 mp c3:3 c3:3 c3:4 c3:4", 22, 28),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name: str) -> None:
    layers, before, output = PUBLISHED[name]
    found = receptive_fields(Table(layers))
    assert (found.before_pooling, found.output) == (before, output), found


def test_layer_table() -> None:
    rows = layer_table(Table(PUBLISHED["era-v3"][0]))
    assert [row.receptive_field for row in rows] == [5, 7, 9, 13, 21, 29, 45, 45]
    assert [row.jump for row in rows] == [1, 1, 2, 4, 4, 4, 0, 0]
    assert [row.operation for row in rows] == ["conv2d"] * 6 + ["mean", "linear"]
    first, pooled = rows[0], rows[6]
    assert (first.name, first.kernel, first.padding, first.size) == (
        "body.0",
        (5, 5),
        (1, 1),
        (26, 26),
    )
    assert (first.channels, first.stride, first.dilation) == (8, (1, 1), (1, 1))
    assert (pooled.kernel, pooled.size) == ((5, 5), (1, 1))


class Net(nn.Module):
    """A body, GAP and a linear layer."""

    def __init__(self, body: Callable[[Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.body = body
        self.fc = nn.LazyLinear(10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(*([x, *self.layers])).mean((2, 3)))


def conv(inputs: int, outputs: int, kernel: int | tuple[int, int], **more: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, **more)


def slices(x: Tensor, cut: int) -> Tensor:
    """A copy, written in two parts."""
    y = torch.empty_like(x)
    y[..., :cut], y[..., cut:] = x[..., :cut], x[..., cut:]
    return y


def channels(x: Tensor, wide: Tensor) -> Tensor:
    """Some channels of either."""
    y = torch.empty_like(x)
    y[:, 1:], y[:, :1] = x[:, 1:], wide[:, :1]
    return y


def shifted(x: Tensor) -> Tensor:
    """Some channels a row further down."""
    y = torch.empty_like(x)
    y[:, :2, 1:], y[:, :2, :1], y[:, 2:] = x[:, :2, :-1], 0, x[:, 2:]
    return y


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def restrided(x: Tensor, *strides: int) -> Tensor:
    """The same memory with these strides along height and width."""
    y = x.clone()
    return y.as_strided_(y.shape, (*y.stride()[:2], *strides))


def involution(x: Tensor, weigh: nn.Module) -> Tensor:
    """Patches, weighted as each position asks for: (B, C, 9, H, W)."""
    patches = F.unfold(x, 3, padding=1).unflatten(1, (-1, 9)).unflatten(3, x.shape[2:])
    return weigh(x)[:, None] * patches


UNUSUAL: dict[str, tuple[Callable[[], nn.Module], int | None]] = {
    "narrow kernel": (lambda: Net(lambda x, a: a(x), conv(1, 4, (1, 9))), 1),
    "dilation": (lambda: Net(lambda x, a: a(x), conv(1, 4, 3, dilation=3)), 7),
    "crop": (lambda: Net(lambda x, a: a(x[:, :, 2:-2, 1:]), conv(1, 4, 3)), 3),
    "strided slice": (lambda: Net(lambda x, a: a(x[..., ::2, ::2]), conv(1, 4, 3)), 5),
    "residual": (
        lambda: Net(lambda x, a, b: b(a(x)) + a(x), conv(1, 4, 3), conv(4, 4, 5, padding=2)),
        7,
    ),
    "branches": (
        lambda: Net(
            lambda x, a, b: torch.cat([a(x), b(x)], 1),
            conv(1, 2, 3, padding=1),
            conv(1, 2, 5, padding=2),
        ),
        5,
    ),
    "shared layer": (lambda: Net(lambda x, a, b: b(b(a(x))), conv(1, 4, 3), conv(4, 4, 3)), 7),
    "space to depth": (lambda: Net(lambda x, a: a(F.pixel_unshuffle(x, 2)), conv(4, 4, 3)), 6),
    "space to depth by views": (
        lambda: Net(
            lambda x, a: a(x.view(-1, 14, 2, 14, 2).permute(0, 2, 4, 1, 3).reshape(-1, 4, 14, 14)),
            conv(4, 4, 3),
        ),
        6,
    ),
    "depth to space": (
        lambda: Net(lambda x, a: F.pixel_shuffle(a(x), 2), conv(1, 4, 3)),
        3,
    ),
    "unfold and product": (
        lambda: Net(
            lambda x, a: (
                a(F.unfold(x, 3, stride=2).transpose(1, 2)).transpose(1, 2).reshape(-1, 4, 13, 13)
            ),
            nn.Linear(9, 4),
        ),
        3,
    ),
    "transposed convolution": (
        lambda: Net(lambda x, a: a(x), nn.ConvTranspose2d(1, 4, 3)),
        3,
    ),
    "squeeze and excite": (
        lambda: Net(lambda x, a: a(x) * a(x).mean((2, 3), keepdim=True).sigmoid(), conv(1, 4, 3)),
        3,  # the gate says nothing of where
    ),
    "group norm": (lambda: Net(lambda x, a, b: b(a(x)), conv(1, 4, 3), nn.GroupNorm(2, 4)), 3),
    "instance statistics": (
        lambda: Net(lambda x, a, b: b(a(x)).relu(), conv(1, 4, 3), nn.InstanceNorm2d(4)),
        3,
    ),
    "batch norm": (lambda: Net(lambda x, a, b: b(a(x)), conv(1, 4, 3), nn.BatchNorm2d(4)), 3),
    "average pool": (lambda: Net(lambda x, a: F.avg_pool2d(a(x), 3, 2, 1), conv(1, 4, 3)), 5),
    "roll": (lambda: Net(lambda x, a: a(x) + a(x).roll(1, 2), conv(1, 4, 3)), 3),
    "flip": (lambda: Net(lambda x, a: a(x.flip(3)), conv(1, 4, 3)), 3),
    "reflection": (
        lambda: Net(lambda x, a: a(F.pad(x, (1, 1, 1, 1), mode="reflect")), conv(1, 4, 3)),
        3,
    ),
    "channels last, gated": (
        lambda: Net(
            lambda x, a, b: b(channels_last(a(x)) * F.adaptive_avg_pool2d(channels_last(a(x)), 1)),
            conv(1, 4, 3),
            conv(4, 4, 3),
        ),
        5,
    ),
    "layer norm over channels, gated": (
        lambda: Net(
            lambda x, a, b, c: c(
                (y := b(a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)) * F.adaptive_avg_pool2d(y, 1)
            ),
            conv(1, 4, 3),
            nn.LayerNorm(4),
            conv(4, 4, 3),
        ),
        5,
    ),
    "image pooling, enlarged again": (
        lambda: Net(
            lambda x, a, b: (
                a(x)
                + F.interpolate(
                    b(F.adaptive_avg_pool2d(a(x), 1)), size=a(x).shape[2:], mode="bilinear"
                )
            ),
            conv(1, 4, 3),
            conv(4, 4, 1),
        ),
        3,  # what all positions share says nothing of where
    ),
    "involution": (
        lambda: Net(lambda x, a, b: involution(a(x), b).sum(2), conv(1, 4, 3), nn.Conv2d(4, 9, 1)),
        5,
    ),
    "circular": (
        lambda: Net(lambda x, a: a(x), nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")),
        3,  # of an inner position, as with all padding
    ),
    "circular, deeper": (
        lambda: Net(
            lambda x, a, b: b(F.max_pool2d(a(x), 2)),
            conv(1, 4, 3),
            nn.Conv2d(4, 4, 5, padding=2, padding_mode="circular"),
        ),
        12,
    ),
    "written in halves": (lambda: Net(lambda x, a: a(slices(x, 14)), conv(1, 4, 3)), 3),
    "written in unequal parts": (lambda: Net(lambda x, a: a(slices(x, 3)), conv(1, 4, 3)), 3),
    "written channel by channel": (
        lambda: Net(
            lambda x, a, b: b(channels(a(x), F.avg_pool2d(a(x), 5, 1, 2))),
            conv(1, 4, 3),
            conv(4, 4, 1),
        ),
        7,
    ),
    "shifted by slices": (
        lambda: Net(lambda x, a, b: b(shifted(a(x))), conv(1, 4, 3), conv(4, 4, 1)),
        3,
    ),
    "channels last": (
        lambda: Net(lambda x, a: a(x.to(memory_format=torch.channels_last)), conv(1, 4, 3)),
        3,
    ),
    "split": (
        lambda: Net(
            lambda x, a, b: torch.cat([b(a(x)[:, :2]), a(x)[:, 2:, 1:-1, 1:-1]], 1),
            conv(1, 4, 3),
            conv(2, 2, 3),
        ),
        5,
    ),
    "in place": (
        lambda: Net(lambda x, a, b: b(a(x).add_(1).relu_()), conv(1, 4, 3), conv(4, 4, 3)),
        5,
    ),
    "nearest, then a convolution": (
        lambda: Net(
            lambda x, a, b: b(F.interpolate(a(x), scale_factor=2)), conv(1, 4, 3), conv(4, 4, 5)
        ),
        5,
    ),
    "bilinear": (
        lambda: Net(
            lambda x, a: a(F.interpolate(x, scale_factor=2, mode="bilinear")), conv(1, 4, 5)
        ),
        4,
    ),
    "bilinear to another size": (
        lambda: Net(
            lambda x, a: a(F.interpolate(x, size=(32, 32), mode="bilinear")), conv(1, 4, 9)
        ),
        9,
    ),
    "strided transposed convolution": (
        lambda: Net(
            lambda x, a, b: b(a(x)),
            nn.ConvTranspose2d(1, 4, 3, 2, 1, output_padding=1),
            conv(4, 4, 3),
        ),
        3,
    ),
    "two scales": (
        lambda: Net(
            lambda x, a, b: b(
                torch.cat([a(x), F.interpolate(F.max_pool2d(a(x), 2), scale_factor=2)], 1)
            ),
            conv(1, 4, 3),
            conv(8, 4, 3),
        ),
        6,
    ),
    "gated linear unit": (lambda: Net(lambda x, a: F.glu(a(x), 1), conv(1, 4, 3)), 3),
    "shuffled channels": (lambda: Net(lambda x, a: F.channel_shuffle(a(x), 2), conv(1, 4, 3)), 3),
    "repeated": (lambda: Net(lambda x, a: a(x.repeat(1, 2, 1, 1)), conv(2, 4, 3)), 3),
    "gradient of another function": (
        lambda: Net(lambda x, a: a(x).sign(), conv(1, 4, 3)),
        3,
    ),
    "complex": (lambda: Net(lambda x, a: torch.fft.rfft2(a(x)).abs(), conv(1, 4, 3)), None),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual(name: str) -> None:
    make, before = UNUSUAL[name]
    found = receptive_fields(make())
    assert found.before_pooling == before, found
    if before is None:
        assert "_fft_r2c" in found.cause


@pytest.mark.parametrize(("strides", "field"), [((28, 1), 3), ((1, 28), None), ((27, 1), None)])
def test_other_strides_are_followed_where_the_elements_stay(
    strides: tuple[int, int], field: int | None
) -> None:
    found = receptive_fields(Net(lambda x, a: a(restrided(x, *strides)), conv(1, 4, 3)))
    assert found.before_pooling == field, found
    if field is None:
        assert "no rule for as_strided_" in found.cause


def test_the_output_of_a_map_kept_channels_last_is_known() -> None:
    def body(x: Tensor, a: nn.Module) -> Tensor:
        return F.adaptive_avg_pool2d(channels_last(a(x)), 1)

    assert receptive_fields(Net(body, conv(1, 4, 3))).output == 28


def _frozen() -> nn.Module:
    layer = nn.Conv2d(1, 1, 9, padding=4, bias=False)
    nn.init.dirac_(layer.weight).requires_grad_(False)
    return layer


def split(x: Tensor, cut: int, wide: Tensor) -> Tensor:
    """The columns up to `cut` of a blurred map, then those of the map."""
    y = torch.empty_like(x)
    y[..., :cut], y[..., cut:] = wide[..., :cut], x[..., cut:]
    return y


INFLATED: dict[str, Callable[[], nn.Module]] = {
    "faint branch": lambda: Net(
        lambda x, a: a(x) + 1e-9 * F.avg_pool2d(a(x), 9, 1, 4), conv(1, 4, 3)
    ),
    "faint branch of the image": lambda: Net(
        lambda x, a: a(x + 1e-9 * F.avg_pool2d(x, 9, 1, 4)), conv(1, 4, 3)
    ),
    "faint shift": lambda: Net(lambda x, a: a(x) + 1e-6 * a(x).roll(7, 2), conv(1, 4, 3)),
    "wide kernel of one weight": lambda: Net(lambda x, a, b: a(b(x)), conv(1, 4, 3), _frozen()),
    "border that sees more": lambda: Net(
        lambda x, a, b: b(split(a(x), 2, F.avg_pool2d(a(x), 9, 1, 4))),
        conv(1, 4, 3),
        conv(4, 4, 1),
    ),
    "one weight of an involution": lambda: Net(
        lambda x, a, b, c: c(involution(a(x), b)[:, :, 0]),
        conv(1, 4, 3),
        conv(4, 9, 1),
        conv(4, 4, 1),
    ),
    "maximum that loses": lambda: Net(
        lambda x, a: torch.minimum(a(x), F.max_pool2d(a(x), 5, 1, 2)), conv(1, 4, 3)
    ),
}


@pytest.mark.parametrize("name", INFLATED)
def test_what_does_nothing_widens_nothing(name: str) -> None:
    found = receptive_fields(INFLATED[name]())
    assert found.before_pooling in {None, 3}, found


def test_without_global_pooling_it_is_unknown() -> None:
    found = receptive_fields(nn.Sequential(conv(1, 2, 3), nn.Flatten(), nn.Linear(2 * 676, 10)))
    assert found.before_pooling is None
    assert found.output == 28
    assert "no global average pooling" in found.cause


def test_a_wrong_rule_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = RULES["convolution"]
    monkeypatch.setitem(RULES, "convolution", lambda n, find: widen(right(n, find), [(0, 1, 0)]))
    found = receptive_fields(Table("c3:4 c3:4"))
    assert found.before_pooling is None
    assert "disagree" in found.cause


class Drawn(nn.Module):
    """A network drawn layer by layer; every convolution may be a residual sum."""

    def __init__(self, layers: list[tuple[str, int, int, int, int, bool]]) -> None:
        super().__init__()
        self.parts, self.residual = nn.ModuleList(), []
        channels, side = 1, 28
        for kind, kernel, stride, dilation, padding, residual in layers:
            reach, pad = (kernel - 1) * dilation, padding
            if side + 2 * padding <= reach + stride:
                continue
            if kind == "conv":
                groups = 2 if channels % 2 == 0 and residual else 1
                part: nn.Module = nn.Conv2d(channels, 4, kernel, stride, padding, dilation, groups)
                channels = 4
            elif kind == "max":
                part, pad, reach = nn.MaxPool2d(kernel, stride), 0, kernel - 1
            else:
                part, pad, reach = nn.AvgPool2d(kernel, stride), 0, kernel - 1
            if side <= reach + stride:
                continue
            self.parts.append(part)
            self.residual.append(residual)
            side = (side + 2 * pad - reach - 1) // stride + 1
        self.mix = nn.Conv2d(channels, 4, 1)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        for part, residual in zip(self.parts, self.residual, strict=True):
            y = part(x)
            x = y + x if residual and y.shape == x.shape else F.relu(y)
        return self.fc(self.mix(x).mean((2, 3)))


LAYERS = st.lists(
    st.tuples(
        st.sampled_from(["conv", "conv", "conv", "max", "avg"]),
        st.sampled_from([1, 2, 3, 5]),
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([1, 1, 2]),
        st.sampled_from([0, 1, 2]),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(LAYERS)
def test_both_methods_agree(layers: list[tuple[str, int, int, int, int, bool]]) -> None:
    found = receptive_fields(Drawn(layers))
    assert found.cause == "both methods agree"
    assert found.before_pooling is not None
    assert found.output is not None
    assert found.output >= found.before_pooling


class Copies(nn.Module):
    """Puts copies of the image, moved by up to so many pixels, into one batch."""

    def __init__(self, far: int, kernel: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        self.far = far
        layers = nn.Conv2d(1, 4, kernel), nn.ReLU(), nn.Conv2d(4, 4, kernel), nn.ReLU()
        self.net = nn.Sequential(*layers)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.pad(x, (self.far,) * 4)
        places = range(0, 2 * self.far + 1, 2)
        copies = torch.cat([wide[:, :, i : i + 28, j : j + 28] for i in places for j in places])
        y = self.fc(self.net(copies).mean((2, 3)))
        return y.view(len(places) ** 2, len(x), 10).mean(0)


@pytest.mark.parametrize("far", [0, 2, 4])
def test_copies_in_the_batch_see_no_more_than_each_of_them(far: int) -> None:
    found = receptive_fields(Copies(far))
    assert found.before_pooling == 5, found.cause
    assert receptive_fields(Copies(far, kernel=(1, 3))).before_pooling == 1  # its smaller side


class Recomputed(nn.Module):
    """Its activations are computed again in a backward that no part of it may enter alone."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(checkpoint(self.net, x, use_reentrant=self.reentrant).mean((2, 3)))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_are_seen_through(reentrant: bool) -> None:
    found = receptive_fields(Recomputed(reentrant))
    assert found.before_pooling == 5, found.cause


class Normalised(nn.Module):
    """Each pixel by its own channels, by hand; then enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.first(x), scale_factor=2, mode="nearest-exact")
        variance, mean = torch.var_mean(x, 1, keepdim=True)
        return self.fc(self.last((x - mean) / (variance + 1e-5).sqrt()).mean((2, 3)))


def test_moments_over_channels_and_exact_enlargement_are_followed() -> None:
    found = receptive_fields(Normalised())
    assert found.before_pooling == 4, found.cause
