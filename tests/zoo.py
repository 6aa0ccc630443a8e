"""Small models, honest and cheating, for the tests of the checks. All return (B, 10)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

HONEST_COUNT = 9 * 8 + 16 + 8 * 8 * 9 + 16 + 80 + 10


class Net(nn.Module):
    """An honest net whose steps the others replace: two convolutions, a GAP, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)
        self.extra()

    def extra(self) -> None:
        """Further attributes."""

    def norm(self, x: Tensor) -> Tensor:
        return self.bn1(x)

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.1, self.training)

    def last_norm(self, x: Tensor) -> Tensor:
        return self.bn2(x)

    def last_drop(self, x: Tensor) -> Tensor:
        return self.drop(x)

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(F.relu(self.conv1(x))))
        x = F.max_pool2d(x, 2)
        x = self.last_drop(self.last_norm(F.relu(self.conv2(x))))
        return self.head(self.pool(x))


def net(
    attributes: Callable[[nn.Module], None] | None = None,
    **steps: Callable[..., Tensor],
) -> nn.Module:
    """A `Net` with some of its steps replaced by functions of (self, x)."""
    members: dict[str, object] = dict(steps)
    if attributes is not None:
        members["extra"] = attributes
    made = type("Changed", (Net,), members)()
    assert isinstance(made, nn.Module)
    return made


def same(_self: nn.Module, x: Tensor) -> Tensor:
    return x


def attribute(name: str, make: Callable[[], object]) -> Callable[[nn.Module], None]:
    """Sets one attribute."""
    return lambda self: setattr(self, name, make())


# --- parameters: (model, elements that must be counted) -------------------------------------


def _buffer(self: nn.Module) -> None:
    self.register_buffer("hidden", torch.randn(8, 8))


def _listed_layer(self: nn.Module) -> None:
    self.layers = [nn.Linear(8, 8, bias=False)]


def _tied(self: nn.Module) -> None:
    self.again = nn.Linear(8, 10)
    self.again.weight, self.again.bias = self.fc.weight, self.fc.bias


def _alias(self: nn.Module) -> None:
    self.view = nn.Parameter(self.conv2.weight.data[:4])


def _statistics(self: nn.Module) -> None:
    self.register_buffer("means", torch.randn(64))
    self.register_buffer("ones", torch.ones(64))


def _read_out(self: nn.Module, x: Tensor) -> Tensor:
    blank = x.new_zeros(1, 64, 1)
    weight = F.batch_norm(blank, self.means, self.ones, training=False)
    return self.fc(x @ weight.reshape(8, 8))


def _faint_read_out(self: nn.Module, x: Tensor) -> Tensor:
    faint = (x[:1, :1] * 1e-9).expand(1, 64)
    weight = F.batch_norm(faint, self.means, self.ones, training=False)
    return self.fc(x @ weight.reshape(8, 8))


def _updated_read_out(self: nn.Module, x: Tensor) -> Tensor:
    faint = (x[:2, :1] * 1e-9).repeat(2, 64)
    weight = F.batch_norm(faint, self.means, self.ones, training=self.training)
    return self.fc(x @ weight[0].reshape(8, 8))


def _bn_statistics_as_weight(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x * self.bn1.running_var)


_CLOSURE = torch.randn(8, 8)
_SPELLED = [round(0.37 * (n + 1) ** 0.5, 3) for n in range(64)]


def _seeded(self: nn.Module, x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return self.fc(x @ torch.randn(8, 8, generator=generator))


def _reseeded(self: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(3)
    return self.fc(x @ torch.randn(8, 8))


def _waves(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x @ (torch.arange(64.0) * 1.7).sin().reshape(8, 8))


def _mixed_waves(self: nn.Module, x: Tensor) -> Tensor:
    weight = self.fc.weight + torch.linspace(-1, 1, 80).reshape(10, 8)
    return F.linear(x, weight, self.fc.bias)


def _lazily(self: nn.Module, x: Tensor) -> Tensor:
    if not hasattr(self, "kept"):
        self.kept = torch.randn(8, 8)
    return self.fc(x @ self.kept)


def _small_view(self: nn.Module) -> None:
    self.small = nn.Parameter(torch.randn(64)[:1])


class Exchanges(Net):
    """Uses a hidden layer in evaluation mode only."""

    def extra(self) -> None:
        self.hidden = [nn.Linear(8, 8)]

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x if self.training else self.hidden[0](x))


def _statistics_difference(self: nn.Module, x: Tensor) -> Tensor:
    wide = x.repeat(1, 8)
    read = F.batch_norm(wide, self.means, self.ones) - F.batch_norm(wide, 0 * self.ones, self.ones)
    return self.fc(x @ read[:1].reshape(8, 8))


def _codebook(self: nn.Module) -> None:
    self.codes = torch.randint(0, 80, (8, 8))


def _elementwise(self: nn.Module, x: Tensor) -> Tensor:
    weight = (torch.arange(64.0) * 1.7).sin().reshape(8, 8)
    return self.fc((x[:, None] * weight).sum(2))


class Chooses(Net):
    """Uses a hidden layer where the checks might not look."""

    def __init__(self, where: Callable[[nn.Module, Tensor], bool]) -> None:
        super().__init__()
        self.where = where

    def extra(self) -> None:
        self.hidden = [nn.Linear(8, 8)]

    def head(self, x: Tensor) -> Tensor:
        return self.fc(self.hidden[0](x) if self.where(self, x) else x)


def _signs_of_bits(self: nn.Module, x: Tensor) -> Tensor:
    bits = (self.bits[:, None] >> torch.arange(8)) & 1
    return self.fc(x @ (bits.float() * 2 - 1))


def _two_halves(self: nn.Module, x: Tensor) -> Tensor:
    coarse = (self.packed * 64).round() / 64
    return self.fc(x @ torch.cat([coarse, (self.packed - coarse) * 64], 1))


PARAMETER_CHEATS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "buffer": (lambda: net(_buffer, head=lambda s, x: s.fc(x @ s.hidden)), 64),
    "unused parameter": (lambda: net(attribute("idle", lambda: nn.Linear(8, 8))), 72),
    "frozen parameter": (
        lambda: net(attribute("idle", lambda: nn.Parameter(torch.ones(5), requires_grad=False))),
        5,
    ),
    "plain attribute": (
        lambda: net(
            attribute("hidden", lambda: torch.randn(8, 8)), head=lambda s, x: s.fc(x @ s.hidden)
        ),
        64,
    ),
    "module in a list": (lambda: net(_listed_layer, head=lambda s, x: s.fc(s.layers[0](x))), 64),
    "closure": (lambda: net(head=lambda s, x: s.fc(x @ _CLOSURE)), 64),
    "running statistics of nothing": (lambda: net(_statistics, head=_read_out), 128),
    "running statistics of next to nothing": (lambda: net(_statistics, head=_faint_read_out), 128),
    "running statistics of next to nothing, updated": (
        lambda: net(_statistics, head=_updated_read_out),
        128,
    ),
    "many choices": (
        lambda: net(
            attribute("table", lambda: torch.randint(0, 8, (160,))),
            head=lambda s, x: s.fc(x[:, s.table].view(-1, 8, 20).sum(2)),
        ),
        320,  # 64-bit integers hold two
    ),
    "running statistics as weights": (lambda: net(head=_bn_statistics_as_weight), 8),
    "tensor from a list": (
        lambda: net(head=lambda s, x: s.fc(x @ torch.tensor(_SPELLED).reshape(8, 8))),
        64,
    ),
    "tensor from numpy": (
        lambda: net(
            attribute("array", lambda: np.ones((8, 8), np.float32)),
            head=lambda s, x: s.fc(x @ torch.from_numpy(s.array)),
        ),
        64,
    ),
    "literals": (
        lambda: net(head=lambda s, x: s.fc(sum(w * x.roll(i, 1) for i, w in enumerate(_SPELLED)))),
        64,
    ),
    "seeded generator": (lambda: net(head=_seeded), 64),
    "seed in forward": (lambda: net(head=_reseeded), 64),
    "layer made in forward": (
        lambda: net(head=lambda s, x: s.fc(nn.Linear(8, 8, bias=False)(x))),
        64,
    ),
    "computed weights": (lambda: net(head=_waves), 64),
    "computed weights, elementwise": (lambda: net(head=_elementwise), 64),
    "computed part of weights": (lambda: net(head=_mixed_waves), 80),
    "made lazily": (lambda: net(head=_lazily), 64),
    "two numbers in one": (
        lambda: net(
            attribute("wide", lambda: nn.Parameter(torch.randn(8, 4, dtype=torch.float64))),
            head=lambda s, x: s.fc((x + s.wide.sum().float()) @ (s.wide.view(torch.float32) % 1)),
        ),
        64,
    ),
    "bytes in integers": (
        lambda: net(
            attribute("packed", lambda: torch.randint(0, 99, (8,))),
            head=lambda s, x: s.fc(x @ s.packed.view(torch.int8).view(8, 8).float()),
        ),
        64,
    ),
    "beyond a parameter's view": (
        lambda: net(_small_view, head=lambda s, x: s.fc(x @ s.small.as_strided((8, 8), (8, 1)))),
        64,
    ),
    "layers exchanged by train": (Exchanges, 72),
    "sparse": (
        lambda: net(
            attribute("sparse", lambda: torch.ones(8, 8).to_sparse()),
            head=lambda s, x: s.fc((s.sparse @ x.T).T),
        ),
        64,
    ),
    "difference of statistics": (
        lambda: net(_statistics, head=_statistics_difference),
        128,
    ),
    "table into a codebook": (
        lambda: net(_codebook, head=lambda s, x: s.fc(x @ s.fc.weight.flatten()[s.codes])),
        128,  # 64-bit integers hold two
    ),
    "signs from bits": (
        lambda: net(attribute("bits", lambda: torch.randint(0, 99, (8,))), head=_signs_of_bits),
        16 + 56 + 8,  # integers, the signs beyond their number, the shifts
    ),
    "two halves of a number": (
        lambda: net(attribute("packed", lambda: nn.Parameter(torch.randn(8, 4))), head=_two_halves),
        64,
    ),
    "in large batches": (lambda: Chooses(lambda s, x: x.shape[0] > 100), 72),
    "in batches as records are scored": (lambda: Chooses(lambda s, x: x.shape[0] == 25), 72),
    "in batches as many tests score": (lambda: Chooses(lambda s, x: x.shape[0] == 100), 72),
    "in inference mode": (lambda: Chooses(lambda s, x: torch.is_inference_mode_enabled()), 72),
    "in training without gradients": (
        lambda: Chooses(lambda s, x: s.training and not torch.is_grad_enabled()),
        72,
    ),
    "in evaluation with gradients": (
        lambda: Chooses(lambda s, x: torch.is_grad_enabled() and not s.training),
        72,
    ),
}


class Overrides(Net):
    """Hides its parameters from the usual iterators."""

    def parameters(self, recurse: bool = True):  # type: ignore[no-untyped-def, override] # a cheat
        return iter([self.fc.bias])

    def named_parameters(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def, override] # a cheat
        return iter([("fc.bias", self.fc.bias)])


def _coordinates(self: nn.Module, x: Tensor) -> Tensor:
    grid = torch.linspace(-1, 1, x.shape[-1]).expand(x.shape[0], 1, x.shape[-2], x.shape[-1])
    return torch.cat([x[:, :7], grid + x[:, 7:] * 0.5], 1)


class Normalises(Net):
    def extra(self) -> None:
        self.register_buffer("mean", torch.tensor(0.1307))
        self.register_buffer("std", torch.tensor([0.3081]))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.std)


def _permuted(self: nn.Module) -> None:
    self.register_buffer("order", torch.randperm(8))


def _uniform(self: nn.Module, x: Tensor) -> Tensor:
    return self.bn1(F.conv2d(x, torch.full((8, 1, 3, 3), 1 / 9), padding=1, groups=8))


PARAMETER_HONEST: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "hidden iterators": Overrides,
    "normalises": Normalises,
    "permutes channels": lambda: net(_permuted, norm=lambda s, x: s.bn1(x)[:, s.order]),
    "coordinates": lambda: net(norm=lambda s, x: _coordinates(s, s.bn1(x))),
    "tied layer": lambda: net(_tied, head=lambda s, x: s.fc(x) + s.again(x)),
    "parameter on a parameter's memory": lambda: net(_alias),
    "mean by a uniform kernel": lambda: net(norm=_uniform),
    "cumulative statistics": lambda: net(
        attribute("bn1", lambda: nn.BatchNorm2d(8, momentum=None))
    ),
    "zero-initialised": lambda: _zeroed(Net()),
    "lazy": lambda: net(attribute("fc", lambda: nn.LazyLinear(10))),
    "random slopes": lambda: net(norm=lambda s, x: s.bn1(F.rrelu(x, training=s.training))),
    "quantised weights": lambda: net(
        head=lambda s, x: F.linear(x, (s.fc.weight * 16).round() / 16, s.fc.bias)
    ),
}


def _zeroed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


# --- batch norm -------------------------------------------------------------------------------


def _only(norm: Callable[..., Tensor]) -> Callable[[], nn.Module]:
    return lambda: net(norm=norm, last_norm=same)


class KeepsEvaluating(Net):
    def train(self, mode: bool = True) -> KeepsEvaluating:
        super().train(mode)
        self.bn1.eval()
        self.bn2.eval()
        return self


def _discards(self: nn.Module, x: Tensor) -> Tensor:
    self.bn1(x)
    return x


def _other_norm(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: net(attribute("other", make), norm=lambda s, x: s.other(x), last_norm=same)


def _as_channels(x: Tensor) -> Tensor:
    lined_up = torch.cat(x.split(1), 1)
    return F.batch_norm(lined_up, None, None, training=True).reshape(x.shape)


NORM_CHEATS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "declared": (_only(same), "no batch normalisation runs"),
    "discarded": (_only(_discards), "does not change the logits"),
    "times zero": (_only(lambda s, x: x + 0 * s.bn1(x)), "does not change the logits"),
    "faint": (_only(lambda s, x: x + 1e-9 * s.bn1(x)), "does not change the logits"),
    "cancelled": (_only(lambda s, x: x + s.bn1(x) - s.bn1(x.clone())), "does not change"),
    "kept in evaluation": (KeepsEvaluating, "running statistics in training"),
    "of nothing": (_only(lambda s, x: x + s.bn1(torch.ones_like(x))), "does not depend"),
    "group norm": (_other_norm(lambda: nn.GroupNorm(2, 8)), "GroupNorm"),
    "instance norm": (_other_norm(lambda: nn.InstanceNorm2d(8)), "each sample by itself"),
    "layer norm": (_other_norm(lambda: nn.LayerNorm([8, 26, 26])), "LayerNorm"),
    "in small batches": (
        _only(lambda s, x: s.bn1(x) if len(x) < 100 else x),
        "in small batches only",
    ),
    "training only": (
        _only(lambda s, x: s.bn1(x) if s.training else x),
        "in evaluation",
    ),
    "frozen zero gate": (
        lambda: net(
            attribute("gate", lambda: nn.Parameter(torch.zeros(1), requires_grad=False)),
            norm=lambda s, x: x + s.gate * s.bn1(x),
            last_norm=same,
        ),
        "does not change the logits",
    ),
    "transposed": (
        lambda: net(
            attribute("other", lambda: nn.BatchNorm2d(4)),
            norm=lambda s, x: F.batch_norm(x.transpose(0, 1), None, None, training=True).transpose(
                0, 1
            ),
            last_norm=same,
        ),
        "each sample by itself",
    ),
    "one sample at a time": (
        _only(lambda s, x: torch.cat([s.bn1(sample) for sample in x.split(1)])),
        "each sample by itself",
    ),
    "samples as channels": (_only(lambda s, x: _as_channels(x)), "each sample by itself"),
}

NORM_HONEST: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "functional": _only(
        lambda s, x: F.batch_norm(x, s.bn1.running_mean, s.bn1.running_var, None, None, s.training)
    ),
    "after the pooling": lambda: net(
        attribute("late", lambda: nn.BatchNorm1d(8)),
        norm=same,
        last_norm=same,
        head=lambda s, x: s.fc(s.late(x)),
    ),
    "zero-initialised residual": lambda: net(
        attribute("scale", lambda: nn.Parameter(torch.zeros(1))),
        norm=lambda s, x: x + s.scale * s.bn1(x),
        last_norm=same,
    ),
    "no affine": lambda: net(
        attribute("other", lambda: nn.BatchNorm2d(8, affine=False)),
        norm=lambda s, x: s.other(x),
        last_norm=same,
    ),
    "samples cut out and joined": _only(lambda s, x: s.bn1(torch.cat(x.split(1)))),
    "samples stacked": _only(lambda s, x: s.bn1(torch.stack([sample + 1 for sample in x]))),
}

# --- dropout ----------------------------------------------------------------------------------


def _reseeds(self: nn.Module, x: Tensor) -> Tensor:
    if self.training:
        torch.manual_seed(0)
    return F.dropout(x, 0.1, self.training)


def _gaussian(self: nn.Module, x: Tensor) -> Tensor:
    return x * (1 + 0.1 * torch.randn_like(x)) if self.training else x


def _signs(self: nn.Module, x: Tensor) -> Tensor:
    return x * ((torch.rand_like(x) > 0.5) * 2.0 - 1) if self.training else x


def _compensated(self: nn.Module, x: Tensor) -> Tensor:
    y = F.dropout(x, 0.1, self.training)
    return x + y - y.detach()


def _padding_dropped(self: nn.Module, x: Tensor) -> Tensor:
    if not self.training:
        return x
    wide = torch.cat([x, x], 1)
    mask = torch.cat([torch.ones_like(x), (torch.rand_like(x) > 0.2).float()], 1)
    return (wide * mask)[:, : x.shape[1]]


def _weights_dropped(self: nn.Module, x: Tensor) -> Tensor:
    return F.linear(x, F.dropout(self.fc.weight, 0.2, self.training), self.fc.bias)


def _hand_made(self: nn.Module, x: Tensor) -> Tensor:
    return x * (torch.rand_like(x) > 0.1) / 0.9 if self.training else x


def _where(self: nn.Module, x: Tensor) -> Tensor:
    return torch.where(torch.rand_like(x) < 0.1, 0.0, x) if self.training else x


def _masked_in_place(self: nn.Module, x: Tensor) -> Tensor:
    if self.training:
        x = x.clone()
        x[torch.rand_like(x) < 0.05] = 0
    return x


class Undropped(Net):
    """Calls Dropout in evaluation mode only by name."""

    def extra(self) -> None:
        self.dropout = nn.Dropout(0.1)

    def train(self, mode: bool = True) -> Undropped:
        super().train(mode)
        self.dropout.eval()
        return self

    def drop(self, x: Tensor) -> Tensor:
        return self.dropout(x)


def _dropped_away(self: nn.Module, x: Tensor) -> Tensor:
    F.dropout(x, 0.1, self.training)
    return x


DROPOUT_CHEATS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "declared": (
        lambda: net(attribute("dropout", lambda: nn.Dropout(0.1)), drop=same),
        "in training mode; declared, but dropping nothing there: dropout",
    ),
    "p = 0": (lambda: net(drop=lambda s, x: F.dropout(x, 0.0, s.training)), "nothing random"),
    "p = 0.005": (lambda: net(drop=lambda s, x: F.dropout(x, 0.005, s.training)), "0.0050"),
    "small hand-made p": (
        lambda: net(drop=lambda s, x: x * (torch.rand_like(x) > 0.004) if s.training else x),
        "less than 0.01",
    ),
    "kept in evaluation": (Undropped, "nothing random"),
    "discarded": (lambda: net(drop=_dropped_away), "does not change the logits"),
    "times zero": (
        lambda: net(drop=lambda s, x: x + 0 * F.dropout(x, 0.1, s.training)),
        "does not change the logits",
    ),
    "faint": (
        lambda: net(drop=lambda s, x: x + 1e-9 * F.dropout(x, 0.1, s.training)),
        "does not change the logits",
    ),
    "always the same": (lambda: net(drop=_reseeds), "the same elements"),
    "in evaluation too": (lambda: net(drop=lambda s, x: F.dropout(x, 0.1)), "in evaluation"),
    "gaussian noise": (lambda: net(drop=_gaussian), "is no mask of zeros"),
    "weights dropped": (lambda: net(drop=same, head=_weights_dropped), "nothing random"),
    "of what is thrown away": (lambda: net(drop=_padding_dropped), "does not change the logits"),
    "in small batches": (
        lambda: net(drop=lambda s, x: F.dropout(x, 0.1, s.training and len(x) < 100)),
        "in small batches only",
    ),
    "mask of signs": (lambda: net(drop=_signs), "less than 0.01"),
    "compensated": (lambda: net(drop=_compensated), "does not change the logits"),
    "of nothing": (
        lambda: net(drop=lambda s, x: x + F.dropout(torch.ones_like(x) + 0 * x, 0.1, s.training)),
        "does not depend on the image",
    ),
}

DROPOUT_HONEST: dict[str, Callable[[], nn.Module]] = {
    "functional": Net,
    "channels": lambda: net(
        attribute("channels", lambda: nn.Dropout2d(0.02)), drop=lambda s, x: s.channels(x)
    ),
    "alpha": lambda: net(
        attribute("alpha", lambda: nn.AlphaDropout(0.05)), drop=lambda s, x: s.alpha(x)
    ),
    "in place": lambda: net(drop=lambda s, x: F.dropout(x.clone(), 0.01, s.training, True)),
    "hand-made": lambda: net(drop=_hand_made),
    "where": lambda: net(drop=_where),
    "assignment": lambda: net(drop=_masked_in_place),
    "before the head": lambda: net(
        drop=same, head=lambda s, x: s.fc(F.dropout(x, 0.2, s.training))
    ),
}

# --- global average pooling -------------------------------------------------------------------


def _flat_head(self: nn.Module) -> None:
    self.flat = nn.Linear(8 * 121, 10)


def _squeeze_excite(self: nn.Module, x: Tensor) -> Tensor:
    return self.flat((x * x.mean((2, 3), keepdim=True).sigmoid()).flatten(1))


def _beside(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x.mean((2, 3))) + self.flat(x.flatten(1))


def _from_vector(spread: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
    def head(self: nn.Module, x: Tensor) -> Tensor:
        return self.fc(spread(self.flat(x.flatten(1))).mean((2, 3)))

    return head


def _flat_features(self: nn.Module) -> None:
    self.flat = nn.Linear(8 * 121, 32)


def _faintly_varied(self: nn.Module, x: Tensor) -> Tensor:
    vector = self.flat(x.flatten(1))[:, :8, None, None]
    return self.fc((vector + 1e-4 * x).mean((2, 3)))


def _little_of_a_map(self: nn.Module, x: Tensor) -> Tensor:
    vector = self.flat(x.flatten(1))[:, :8, None, None]
    return self.fc((vector + 0.05 * (x - x.mean((2, 3), keepdim=True))).mean((2, 3)))


def _context(self: nn.Module, x: Tensor) -> Tensor:
    weights = self.key(x).flatten(2).softmax(-1)
    context = torch.einsum("bcn,bqn->bc", x.flatten(2), weights)
    return (x + 3 * context[:, :, None, None]).mean((2, 3))


def _pinned(vector: Tensor) -> Tensor:
    v = vector[:, :8, None]
    return torch.stack([v + 1, v - 1], 2)


def _cut(self: nn.Module, x: Tensor, then: Callable[[Tensor], Tensor] = torch.clone) -> Tensor:
    cuts = [x[:, :, :5, :5], x[:, :, 5:, :5], x[:, :, :5, 5:], x[:, :, 5:, 5:]]
    return torch.cat([then(cut).mean((2, 3)) for cut in cuts], 1)


def _residual_cut(self: nn.Module, x: Tensor) -> Tensor:
    return self.deep(x) + x[:, :, 1:-1, 1:-1]


def _collapsed(self: nn.Module) -> None:
    self.whole = nn.Conv2d(8, 8, 11)


POOLING_CHEATS: dict[str, Callable[[], nn.Module]] = {
    "flattened": lambda: net(_flat_head, pool=same, head=lambda s, x: s.flat(x.flatten(1))),
    "squeeze and excite alone": lambda: net(_flat_head, pool=same, head=_squeeze_excite),
    "beside another path": lambda: net(_flat_head, pool=same, head=_beside),
    "computed, not used": lambda: net(
        _flat_head, pool=same, head=lambda s, x: s.flat(x.flatten(1)) + 0 * s.fc(x.mean((2, 3)))
    ),
    "leaves 2x2": lambda: net(
        attribute("flat", lambda: nn.Linear(32, 10)),
        pool=lambda s, x: F.adaptive_avg_pool2d(x, 2).flatten(1),
        head=lambda s, x: s.flat(x),
    ),
    "of one position": lambda: net(_collapsed, pool=lambda s, x: s.whole(x).mean((2, 3))),
    "maximum": lambda: net(pool=lambda s, x: x.amax((2, 3))),
    "vector as a map": lambda: net(
        _flat_features, pool=same, head=_from_vector(lambda v: v.view(-1, 8, 2, 2))
    ),
    "vector expanded": lambda: net(
        _flat_features,
        pool=same,
        head=_from_vector(lambda v: v[:, :8, None, None].expand(-1, 8, 3, 3)),
    ),
    "vector interpolated": lambda: net(
        _flat_features,
        pool=same,
        head=_from_vector(
            lambda v: F.interpolate(v[:, :8, None, None], size=(3, 3), mode="bilinear")
        ),
    ),
    "vector, faintly varied": lambda: net(_flat_features, pool=same, head=_faintly_varied),
    "vector and little of a map": lambda: net(_flat_features, pool=same, head=_little_of_a_map),
    "vector plus and minus one": lambda: net(_flat_features, pool=same, head=_from_vector(_pinned)),
    "of cuts": lambda: net(
        attribute("wide", lambda: nn.Linear(32, 10)), pool=_cut, head=lambda s, x: s.wide(x)
    ),
    "of cuts, computed with": lambda: net(
        attribute("wide", lambda: nn.Linear(32, 10)),
        pool=lambda s, x: _cut(s, x, s.bn1),
        head=lambda s, x: s.wide(x),
    ),
    "weighted by position": lambda: net(
        attribute("place", lambda: nn.Parameter(torch.rand(11, 11))),
        pool=lambda s, x: torch.einsum("bchw,hw->bc", x, s.place),
    ),
    "in evaluation only": lambda: net(
        pool=lambda s, x: x.amax((2, 3)) if s.training else x.mean((2, 3))
    ),
    "mean and maximum": lambda: net(pool=lambda s, x: x.mean((2, 3)) + x.amax((2, 3))),
}

POOLING_HONEST: dict[str, Callable[[], nn.Module]] = {
    "mean": Net,
    "with neighbouring channels": lambda: net(
        attribute("few", lambda: nn.Linear(4, 10)),
        pool=lambda s, x: x.unflatten(1, (4, 2)).mean((2, 3, 4)),
        head=lambda s, x: s.few(x),
    ),
    "with channels apart": lambda: net(
        attribute("few", lambda: nn.Linear(4, 10)),
        pool=lambda s, x: F.adaptive_avg_pool3d(x.view(-1, 2, 4, 11, 11).transpose(1, 2), 1),
        head=lambda s, x: s.few(x.flatten(1)),
    ),
    "adaptive": lambda: net(pool=lambda s, x: F.adaptive_avg_pool2d(x, 1).flatten(1)),
    "whole kernel": lambda: net(pool=lambda s, x: F.avg_pool2d(x, 11).flatten(1)),
    "flatten and mean": lambda: net(pool=lambda s, x: x.flatten(2).mean(-1)),
    "two means": lambda: net(pool=lambda s, x: x.mean(3).mean(2)),
    "sum": lambda: net(pool=lambda s, x: x.sum((2, 3)) / 121),
    "einsum": lambda: net(pool=lambda s, x: torch.einsum("bchw->bc", x) / 121),
    "product with ones": lambda: net(
        pool=lambda s, x: (x.flatten(2) @ x.new_full((121, 1), 1 / 121)).flatten(1)
    ),
    "channels last": lambda: net(pool=lambda s, x: x.permute(0, 2, 3, 1).contiguous().mean((1, 2))),
    "in two pieces": lambda: net(
        pool=lambda s, x: torch.cat([x[:, :3].mean((2, 3)), x[:, 3:].mean((2, 3))], 1)
    ),
    "chain": lambda: net(
        pool=lambda s, x: F.avg_pool2d(F.avg_pool2d(x[..., :10, :10], 2), 5).flatten(1)
    ),
    "after the classifier": lambda: net(
        attribute("classify", lambda: nn.Conv2d(8, 10, 1)),
        pool=lambda s, x: s.classify(x).mean((2, 3)),
        head=same,
    ),
    "residual of a cut": lambda: net(
        attribute("deep", lambda: nn.Conv2d(8, 8, 3)), last_drop=_residual_cut
    ),
    "powers": lambda: net(pool=lambda s, x: x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)),
    "global context": lambda: net(attribute("key", lambda: nn.Conv2d(8, 1, 1)), pool=_context),
    "squeeze and excite inside": lambda: net(
        norm=lambda s, x: s.bn1(x) * x.mean((2, 3), keepdim=True).sigmoid()
    ),
}


# --- unusual honest models: all of the checks pass -------------------------------------------


class Dense(nn.Module):
    """Concatenates its features, normalises before it convolves."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, 5, 9]
        self.convs = nn.ModuleList(nn.Conv2d(width, 4, 3, padding=1) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.head = nn.Linear(13, 10)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.cat([x, F.dropout(conv(F.relu(norm(x))), 0.1, self.training)], 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def separable() -> nn.Module:
    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.Hardswish(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(inplace=True),
            nn.Dropout2d(0.05),
        ]

    return nn.Sequential(
        nn.ZeroPad2d(2),
        *block(1, 8, 1),
        *block(8, 16, 2),
        nn.MaxPool2d(2, ceil_mode=True),
        *block(16, 16, 1),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Conv2d(16, 10, 1),
        nn.Flatten(),
        nn.LogSoftmax(-1),
    )


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 7, 7)
        self.place = nn.Parameter(torch.zeros(1, 16, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)
        self.norm, self.head = nn.BatchNorm1d(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.patches(x).flatten(2).transpose(1, 2) + self.place)
        return self.head(self.norm(x.mean(1)))


def _checkpointed(self: nn.Module, x: Tensor) -> Tensor:
    made = checkpoint(self.bn1, x, use_reentrant=False)
    assert isinstance(made, Tensor)
    return made


def _padded_by_hand(self: nn.Module, x: Tensor) -> Tensor:
    padded = x.new_zeros(x.shape[0], 8, 28, 28)
    padded[:, :, 1:-1, 1:-1] = x
    return self.bn1(padded)


def _shifted(self: nn.Module, x: Tensor) -> Tensor:
    moved = torch.zeros_like(x)
    moved[:, :4, 1:] = x[:, :4, :-1]
    moved[:, 4:] = x[:, 4:]
    return self.bn1(moved)


class Autocast(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


class Ungraded(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.training):
            return super().forward(x)


class Infers(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode(not self.training):
            return super().forward(x)


def squashing() -> nn.Module:
    def block(inputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, 8, 3), nn.Hardsigmoid(), nn.BatchNorm2d(8), nn.Dropout(0.1)]

    blocks = [layer for inputs in (1, 8, 8, 8, 8) for layer in block(inputs)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def _orthogonal() -> nn.Module:
    model = net(attribute("fc", lambda: nn.Linear(8, 10)))
    parametrizations.orthogonal(model.fc, orthogonal_map="householder")
    return model


def _normed() -> nn.Module:
    model = Net()
    parametrizations.weight_norm(model.conv2)
    return model


def _there_and_back(self: nn.Module, x: Tensor) -> Tensor:
    """Views that end where they began, beside a gate: a walk back through them must end."""
    x = self.bn1(x).flatten(1).view_as(x)
    gate = x.view(x.shape).mean((2, 3)).view(-1, 8, 1, 1).flatten(1)[:, :, None, None]
    return x * torch.sigmoid(gate)


HONEST: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "views there and back": (lambda: net(norm=_there_and_back), 8),
    "dense": (Dense, 7),
    "separable": (separable, 15),
    "attention": (Attends, 28),
    "checkpoint": (lambda: net(norm=_checkpointed), 8),
    "padded by hand": (lambda: net(norm=_padded_by_hand), 8),
    "shifted channels": (lambda: net(norm=_shifted), 8),
    "autocast": (Autocast, 8),
    "weight norm": (_normed, 8),
    "evaluation without gradients": (Ungraded, 8),
    "evaluation in inference mode": (Infers, 8),
    "squashing activations": (squashing, 11),
    "orthogonal head": (_orthogonal, 8),
    "a single image loses its batch": (lambda: net(head=lambda s, x: s.fc(x).squeeze()), 8),
    "in a wrapper": (lambda: nn.DataParallel(Net()), 8),
}
