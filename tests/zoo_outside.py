"""Cheats that compute where the trace does not look, and their honest twins."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo import attribute, net, same

_HIDDEN = torch.randn(8, 400), torch.randn(400, 8)


@torch.library.custom_op("zoo::hidden_layers", mutates_args=())
def hidden_layers(x: Tensor) -> Tensor:
    return torch.relu(x @ _HIDDEN[0]) @ _HIDDEN[1]


@torch.library.custom_op("zoo::batch_norm", mutates_args=())
def batch_norm_by_name(input: Tensor, running_mean: Tensor, training: bool) -> Tensor:  # noqa: A002 - the name in torch
    return input.clone()


@torch.library.custom_op("zoo::native_dropout", mutates_args=())
def dropout_by_name(input: Tensor, p: float, train: bool) -> tuple[Tensor, Tensor]:  # noqa: A002 - the name in torch
    return input.clone(), torch.rand_like(input) > p


def _in_a_thread(self: nn.Module, x: Tensor) -> Tensor:
    x = x.clone()

    def write() -> None:
        x.data.copy_(torch.relu(x.data.float() @ _HIDDEN[0]) @ _HIDDEN[1])

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    return self.fc(x)


def _rewritten(self: nn.Module, x: Tensor) -> Tensor:
    """A weight that is one number times ones, says what is recorded."""
    weight = self.fc.bias[:8, None] * torch.ones(8, 8)
    weight.detach().numpy()[...] = _HIDDEN[0][:, :8].numpy()
    return self.fc(x @ weight)


def _exchanged(self: nn.Module, x: Tensor) -> Tensor:
    """One registered weight, another content in every layer."""
    weight = self.fc.weight.detach()
    kept = weight.numpy().copy()
    for layer in range(4):
        weight.numpy()[...] = _HIDDEN[1][10 * layer : 10 * layer + 10].numpy()
        x = x + (x @ weight.T) @ weight
    weight.numpy()[...] = kept
    return self.fc(x)


class Computes(Tensor):
    """Looks like one number; adding it is a network."""

    @staticmethod
    def __new__(cls, number: Tensor) -> Computes:
        return Tensor._make_wrapper_subclass(cls, number.shape, dtype=number.dtype)  # type: ignore[attr-defined, no-any-return] # torch's

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.add.Tensor:
            return torch.relu(args[0] @ _HIDDEN[0]) @ _HIDDEN[1]
        return func(*[torch.ones(1) if isinstance(a, Computes) else a for a in args])


def _in_place(self: nn.Module, x: Tensor) -> Tensor:
    x = x.clone()
    x.mul_(2).add_(x)
    x[:, :4] += 1
    x[:, 4:] = x[:, :4]
    return self.fc(x * x)


class Early(nn.Module):
    """Changes the image before the first operation that is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        with torch.utils._python_dispatch._disable_current_modes():
            x.data.copy_(x.data.flip(3).cumsum(3) * 0.1)
        answer: Tensor = self.net(x)
        return answer


# What the parameters of these are is unknown.
UNSEEN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "custom operation": (
        lambda: net(head=lambda s, x: s.fc(hidden_layers(x))),
        "zoo::hidden_layers is no operation of torch",
    ),
    "a weight that NumPy writes": (lambda: net(head=_rewritten), "outside the recorded operations"),
    "a registered weight exchanged": (
        lambda: net(head=_exchanged),
        "outside the recorded operations",
    ),
    "the image, before all": (Early, "outside the recorded operations"),
    "a class of tensors": (
        lambda: net(head=lambda s, x: s.fc(x + Computes(torch.ones(1)))),
        "a tensor of Computes computes by operations of its own",
    ),
    "another thread": (lambda: net(head=_in_a_thread), "outside the recorded operations"),
    "another thread, in training": (
        lambda: net(head=lambda s, x: _in_a_thread(s, x) if s.training else s.fc(x)),
        "outside the recorded operations",
    ),
}


def _frozen_statistics(self: nn.Module) -> None:
    self.bn = nn.BatchNorm1d(80, affine=False, momentum=0.0)
    self.bn.running_mean.normal_()


def _slow_statistics(self: nn.Module) -> None:
    self.bn = nn.BatchNorm1d(80, affine=False, momentum=0.001)


def _by_statistics(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(self.bn(x.repeat(1, 10)).view(-1, 10, 8).sum(1))


_DRAW = random.Random(0)
_WHOLE = [[_DRAW.randint(100, 9999) for _ in range(8)] for _ in range(8)]
_REAL = [[_DRAW.uniform(2, 99) for _ in range(8)] for _ in range(8)]
_LEVELS = [[_DRAW.randint(1, 20) / 64 for _ in range(12)] for _ in range(12)]


def _sum(x: Tensor, weigh: Callable[[Tensor, int, int], Tensor], size: int = 8) -> Tensor:
    columns = [
        sum((weigh(x[:, i % 8, None], j, i) for i in range(size)), torch.zeros(1))
        for j in range(size)
    ]
    return torch.cat(columns, 1)[:, :8]


def _as_eps(x: Tensor, j: int, i: int) -> Tensor:
    return F.batch_norm(x, x.new_zeros(1), x.new_ones(1), eps=_REAL[j][i])


def _in_a_list(self: nn.Module, x: Tensor) -> Tensor:
    parts = [x[:, i, None] for i in range(8)]
    rows = [sum(torch._foreach_mul(parts, _REAL[j]), torch.zeros(1)) for j in range(8)]
    return self.fc(torch.cat(rows, 1))


def _when_trained(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x @ self.hidden if self.bn1.num_batches_tracked > 1_000 else x)


def _drawn(*shape: int) -> Tensor:
    """Numbers that a formula gives, as good as any."""
    return (torch.arange(float(torch.Size(shape).numel())) * 1.7).sin().reshape(shape)


def _by_signs(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(torch.where(_drawn(8, 8) > 0, x[:, None], -x[:, None]).sum(2))


def _by_lerp(self: nn.Module, x: Tensor) -> Tensor:
    wide = x[:, None].expand(-1, 8, -1)
    return self.fc(torch.lerp(torch.zeros_like(wide), wide, _drawn(8, 8)).sum(2))


def _by_divisors(self: nn.Module, x: Tensor) -> Tensor:
    def one(v: Tensor, j: int, i: int) -> Tensor:
        return F.avg_pool2d(v[:, :, None, None], 1, divisor_override=_WHOLE[j][i]).flatten(1)

    return self.fc(_sum(x, one))


class Cell(nn.Module):
    """A weight by the name of a counter, beside statistics that nothing uses, or a real one."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(1))
        self.register_buffer("num_batches_tracked", torch.tensor(value))


def _cells(values: Tensor) -> Callable[[nn.Module], None]:
    return attribute("cells", lambda: nn.ModuleList(Cell(v) for v in values.tolist()))


def _of_cells(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x @ torch.stack([c.num_batches_tracked for c in self.cells]).view(8, 8).float())


def _of_a_counter(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x * (self.bn1.num_batches_tracked % 7 + 1))


def _counting(start: object) -> Callable[[nn.Module], None]:
    def add(self: nn.Module) -> None:
        _hidden()(self)
        if isinstance(start, Tensor):
            self.register_buffer("calls", start.clone())
        else:
            self.calls = start[0] if isinstance(start, list) else start

    return add


def _after_calls(self: nn.Module, x: Tensor) -> Tensor:
    if self.training:
        self.calls += 1
    return self.fc(x @ self.hidden if self.calls > 1_000 else x)


def _after_new_calls(self: nn.Module, x: Tensor) -> Tensor:
    self.calls = self.calls + 1
    return self.fc(x @ self.hidden if self.calls > 1_000 else x)


def _hidden() -> Callable[[nn.Module], None]:
    return attribute("hidden", lambda: torch.randn(8, 8))


class OnGreyLevels(nn.Module):
    """Has a layer more for images between 0 and 1, as ToTensor gives them."""

    def __init__(self, more: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.net = net(_hidden(), head=lambda s, x: s.fc(x @ s.hidden if self.now else x))
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        self.now = self.more(x)
        return self.net(x)


# Numbers beyond the registered ones that these use.
def _set_for_evaluation(self: nn.Module) -> None:
    self.shadow = Set()


class Set(nn.Module):
    """As a new BatchNorm in training, and something else afterwards, in the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(8))
        self.register_buffer("running_var", torch.ones(8))

    def train(self, mode: bool = True) -> Set:
        self.running_mean.copy_(torch.arange(8.0) * (not mode))
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var)


COUNTED: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "statistics set for evaluation": (
        lambda: net(_set_for_evaluation, last_norm=lambda s, x: s.shadow(s.bn2(x))),
        16,
    ),
    "running statistics that are never updated": (
        lambda: net(_frozen_statistics, head=_by_statistics),
        160,
    ),
    "whole numbers": (
        lambda: net(
            head=lambda s, x: s.fc(_sum(x, lambda v, j, i: v.new_full((), _WHOLE[j][i]) * v))
        ),
        64,
    ),
    "epsilons": (lambda: net(head=lambda s, x: s.fc(_sum(x, _as_eps))), 64),
    "lists of numbers": (lambda: net(head=_in_a_list), 64),
    "a tensor made of a list": (lambda: net(head=lambda s, x: s.fc(x @ torch.tensor(_REAL))), 64),
    "quantised weights in the code": (
        lambda: net(head=lambda s, x: s.fc(_sum(x, lambda v, j, i: v * _LEVELS[j][i], 12))),
        144,
    ),
    "once it is trained": (lambda: net(_hidden(), head=_when_trained), 64),
    "computed signs": (lambda: net(head=_by_signs), 64),
    "computed weights of a mixture": (lambda: net(head=_by_lerp), 64),
    "computed affine map of a norm": (
        lambda: net(head=lambda s, x: s.fc(F.layer_norm(x, (8,), _drawn(8), _drawn(8) * 2))),
        16,
    ),
    "computed slopes": (lambda: net(head=lambda s, x: s.fc(F.prelu(x - 0.5, _drawn(8)))), 8),
    "divisors": (lambda: net(head=_by_divisors), 64),
    "named as counters": (lambda: net(_cells(torch.randn(64)), head=_of_cells), 64),
    "named as counters, whole numbers": (
        lambda: net(_cells(torch.arange(64)), head=_of_cells),
        128,  # 64-bit integers hold two
    ),
    "a counter of batches as a weight": (lambda: net(head=_of_a_counter), 2),
    "after many calls": (lambda: net(_counting(0), head=_after_calls), 64),
    "after many calls, of a buffer": (
        lambda: net(_counting(torch.zeros(())), head=_after_calls),
        64 + 1,  # the counter decides
    ),
    "after many calls, in a new tensor": (
        lambda: net(_counting([torch.zeros(1)]), head=_after_new_calls),
        64 + 1,
    ),
    "for grey levels": (lambda: OnGreyLevels(lambda x: bool(x.min() > -0.4)), 64),
    "when rounded": (lambda: OnGreyLevels(lambda x: torch.is_autocast_enabled("cpu")), 64),
}


def _conjugates(self: nn.Module, x: Tensor) -> Tensor:
    c = torch.complex(x, x)
    return self.fc((c.conj() * c).real + torch.imag(c.conj()) - torch.imag(c))


def _nearly_rounded(self: nn.Module, x: Tensor) -> Tensor:
    y = x.to(torch.float8_e4m3fn)
    return self.fc(x + y.to(x.dtype) + y.float())


def _unrounded(self: nn.Module, x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise RuntimeError("expected float32")
    return self.fc(x)


def _skipped(self: nn.Module, x: Tensor) -> Tensor:
    return x if self.training and torch.rand(1) < 0.8 else self.bn2(x)


def _seldom_updated() -> nn.Module:
    """A normalisation that most forwards of training leave out."""
    return net(last_norm=_skipped)


def _brightened(self: nn.Module, x: Tensor) -> Tensor:
    """Each image of training by an amount of its own, drawn outside torch."""
    if not self.training:
        return self.bn1(x)
    amounts = [torch.tensor([random.uniform(0.9, 1.1) for _ in range(8)]) for _ in x]
    return self.bn1(x * torch.stack(amounts)[:, :, None, None])


def _averaged(self: nn.Module) -> None:
    """A moving average of a layer, for evaluation."""
    self.shadow = nn.BatchNorm2d(8, affine=False)


HONEST: dict[str, Callable[[], nn.Module]] = {
    "statistics of a moving average": lambda: net(
        _averaged, last_norm=lambda s, x: s.bn2(x) if s.training else s.bn2(x) + s.shadow(x)
    ),
    "one slope for all": lambda: net(head=lambda s, x: s.fc(F.prelu(x, x.new_full((1,), 0.25)))),
    "chosen by the features": lambda: net(
        head=lambda s, x: s.fc(torch.where(x > 0, x, 0.1 * x).masked_fill(x > 3, 3.0))
    ),
    "numbers of an augmentation": lambda: net(norm=_brightened),
    "hardly varying features": lambda: net(
        norm=lambda s, x: s.bn1(x.sigmoid() * 0.01), last_norm=lambda s, x: s.bn2(x * 1e-4 + 1)
    ),
    "Dropout in evaluation too": lambda: net(drop=lambda s, x: F.dropout(x, 0.1)),
    "Dropout of channels in evaluation too": lambda: net(drop=lambda s, x: F.dropout2d(x, 0.1)),
    "left out of most forwards of training": _seldom_updated,
    "lazy conjugates": lambda: net(head=_conjugates),
    "vmap": lambda: net(head=lambda s, x: s.fc(torch.vmap(torch.addr)(x, x, x).mean(1) + x)),
    "eight bits": lambda: net(head=_nearly_rounded),
    "not to be rounded": lambda: net(norm=lambda s, x: s.bn1(x).to(x.dtype), head=_unrounded),
    "written in place": lambda: net(head=_in_place),
    "slow statistics": lambda: net(_slow_statistics, head=_by_statistics),
    "the same formula again and again": lambda: net(
        head=lambda s, x: s.fc(_sum(x, lambda v, j, i: v * 0.5 + 0.0447 * v * v * 0.797, 8))
    ),
}


def _norm_undone(self: nn.Module, x: Tensor) -> Tensor:
    y = self.bn2(x)
    if self.training:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    else:
        mean, variance = (t[:, None, None] for t in (self.bn2.running_mean, self.bn2.running_var))
    weight, bias = self.bn2.weight[:, None, None], self.bn2.bias[:, None, None]
    return (y - bias) / weight * (variance + self.bn2.eps).sqrt() + mean


NORM_CHEATS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "undone": (lambda: net(norm=same, last_norm=_norm_undone), "is undone"),
    "called so": (
        lambda: net(
            norm=lambda s, x: batch_norm_by_name(x, x.new_zeros(8), s.training), last_norm=same
        ),
        "no batch normalisation runs",
    ),
}


def _drop_undone(self: nn.Module, x: Tensor) -> Tensor:
    if not self.training:
        return x
    y, kept = torch.native_dropout(x, 0.1, True)
    return y * 0.9 + x * ~kept


def _hand_made_undone(self: nn.Module, x: Tensor) -> Tensor:
    if not self.training:
        return x
    kept = (torch.rand_like(x) > 0.1).to(x)
    return x * kept + x * (1 - kept)


def _noisy(self: nn.Module, x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x) if self.training else x


DROPOUT_CHEATS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "undone": (lambda: net(drop=_drop_undone), "does not change the logits"),
    "undone, with noise beside": (
        lambda: net(drop=lambda s, x: _noisy(s, _drop_undone(s, x))),
        "does not change the logits",
    ),
    "undone by hand": (lambda: net(drop=_hand_made_undone), "does not change the logits"),
    "called so": (
        lambda: net(
            drop=lambda s, x: dropout_by_name(x, 0.1, True)[0] if s.training else x  # type: ignore[no-any-return] - custom operations have no types
        ),
        "nothing random",
    ),
}
