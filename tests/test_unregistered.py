"""Weights that lie where parameters do not: each way to keep them there is counted or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.checks.parameters import Count, count_parameters
from mnist_models.probe import preserved
from tests import zoo

torch.set_num_threads(1)

Head = Callable[[nn.Module, Tensor], Tensor]

_ROWS = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).numpy()
_WHOLE = np.random.RandomState(0).randint(-999, 999, (8, 8)).tolist()


def count(model: nn.Module) -> Count:
    with preserved(model):
        return count_parameters(model)


def _bits(self: nn.Module) -> None:
    self.register_buffer("bits", torch.randint(-(2**62), 2**62, (8,)))


def _signs(self: nn.Module) -> Tensor:
    return (((self.bits[:, None] >> torch.arange(64)) & 1).float() * 2 - 1).view(64, 8)


def _in_fresh_memory(self: nn.Module, x: Tensor) -> Tensor:
    """The view of it that is read last shows the same number each time."""
    hidden = []
    for row in _ROWS:
        kept = torch.from_numpy(np.concatenate([np.zeros(1, np.float32), row]))
        hidden.append(x @ kept[1:])
        x = x + kept[:1]
    return self.fc(x + torch.stack(hidden, 1).sum(1, keepdim=True))


def _mixed_with_zeros(self: nn.Module, x: Tensor) -> Tensor:
    weights = _signs(self) + 0 * x.sum()
    return self.fc(x + F.relu(x @ weights.T) @ weights)


def _by_one_call(self: nn.Module, x: Tensor) -> Tensor:
    hidden = torch.addcmul(torch.zeros(()), x[:, None], _signs(self)).sum(2)
    return self.fc(x + hidden.sum(1, keepdim=True))


def _when_scored(self: nn.Module, x: Tensor) -> Tensor:
    return _mixed(self, x) if len(x) >= 25 else self.fc(x)


def _mixed(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x + F.relu(x @ _signs(self).T) @ _signs(self))


def _computed_when_scored(self: nn.Module, x: Tensor) -> Tensor:
    if len(x) < 25:
        return self.fc(x)
    return self.fc(x @ (torch.arange(64.0) ** 2).sin().view(8, 8))


def _drawn_when_scored(self: nn.Module, x: Tensor) -> Tensor:
    if len(x) < 25:
        return self.fc(x)
    return self.fc(x @ torch.randn(8, 8, generator=torch.Generator().manual_seed(3)))


def _in_lists(self: nn.Module, x: Tensor) -> Tensor:
    parts = list(x.unbind(1))
    rows = [torch.stack(torch._foreach_mul(parts, row)).sum(0) for row in _WHOLE]
    return self.fc(torch.stack(rows, 1) * 1e-3)


def _spelled(number: Callable[[int], Tensor]) -> Head:
    def head(self: nn.Module, x: Tensor) -> Tensor:
        rows = [sum(x[:, i] * number(w) for i, w in enumerate(row)) for row in _WHOLE]
        return self.fc(torch.stack([torch.as_tensor(row) for row in rows], 1) * 1e-3)

    return head


def _range(number: int) -> Tensor:
    return torch.arange(number, number + 1)


def _correction(number: int) -> Tensor:
    return torch.arange(2000.0).var(correction=number)


def _momentum(number: int) -> Tensor:
    mean = torch.zeros(1)
    F.batch_norm(torch.ones(2, 1), mean, torch.ones(1), training=True, momentum=number / 1000)
    return mean


def _exponents(self: nn.Module, x: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(self.doubles)
    return self.fc(x @ mantissa.float().view(8, 8) @ (exponent.float() * 0.1).view(8, 8))


def _doubles(self: nn.Module) -> None:
    self.doubles = nn.Parameter(torch.randn(64, dtype=torch.float64))


@pytest.mark.parametrize(
    ("head", "attributes", "hidden"),
    [
        (_in_fresh_memory, None, 64 * 9),
        (_mixed_with_zeros, _bits, 512),
        (_by_one_call, _bits, 512),
        (_when_scored, _bits, 512),
        (_drawn_when_scored, None, 64),
        (_computed_when_scored, None, 64),
        (_in_lists, None, 60),
        (_spelled(_range), None, 60),
        (_spelled(_correction), None, 60),
        (_spelled(_momentum), None, 55),
        (_exponents, _doubles, 128),
    ],
)
def test_they_count(
    head: Head, attributes: Callable[[nn.Module], None] | None, hidden: int
) -> None:
    found = count(zoo.net(attributes, head=head))
    assert found.total is not None
    assert found.total >= zoo.HONEST_COUNT + hidden, found.cause


def _wide(self: nn.Module) -> None:
    self.wide = nn.BatchNorm1d(64, affine=False)


def _overwritten_in_training(self: nn.Module, x: Tensor) -> Tensor:
    y = self.wide(x.repeat(1, 8))
    if self.training:
        with torch.no_grad():
            self.wide.running_mean.copy_(torch.tensor(_ROWS[:, 0].tolist()))
    return self.fc(F.relu(y).view(-1, 8, 8).mean(1))


def _of_the_last_batch(self: nn.Module, x: Tensor) -> Tensor:
    wide = x.repeat(1, 8)
    y = self.wide(wide)
    if self.training:
        with torch.no_grad():
            self.wide.running_mean.copy_(wide.mean(0))
    return self.fc(F.relu(y).view(-1, 8, 8).mean(1))


@pytest.mark.parametrize(
    ("head", "counted"), [(_overwritten_in_training, 64), (_of_the_last_batch, 0)]
)
def test_statistics_that_numbers_of_the_code_overwrite_count(head: Head, counted: int) -> None:
    found = count(zoo.net(_wide, head=head))
    assert found.total == zoo.HONEST_COUNT + counted, found.cause


@pytest.mark.parametrize(("momentum", "counted"), [(2e-4, 128), (3e-4, 0)])
def test_statistics_that_outlast_a_training_count(momentum: float, counted: int) -> None:
    """After some 7,000 steps a quarter of what they held before is left, or an eighth."""

    def wide(self: nn.Module) -> None:
        self.wide = nn.BatchNorm1d(64, affine=False, momentum=momentum)
        self.wide.running_mean.normal_()

    def head(self: nn.Module, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.wide(x.repeat(1, 8))).view(-1, 8, 8).mean(1))

    found = count(zoo.net(wide, head=head))
    assert found.total == zoo.HONEST_COUNT + counted, found.cause


def test_images_have_the_grey_levels_of_the_data_set() -> None:
    """A network that asks for them computes as it does on MNIST's."""

    def hidden(self: nn.Module) -> None:
        self.layers = [nn.Linear(8, 8, bias=False)]

    def head(self: nn.Module, x: Tensor) -> Tensor:
        return self.fc(self.layers[0](x) if self.real else x)

    class Asking(zoo.Net):
        def forward(self, x: Tensor) -> Tensor:
            grey = (x * 0.3081 + 0.1307) * 255
            self.real = bool((grey - grey.round()).abs().max() < 1e-2)
            return super().forward(x)

    model = type("Changed", (Asking,), {"extra": hidden, "head": head})()
    assert count(model).total == zoo.HONEST_COUNT + 64


def test_a_file_on_the_disk_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    _ROWS.tofile(file)

    def head(self: nn.Module, x: Tensor) -> Tensor:
        kept = torch.from_file(str(file), size=_ROWS.size) + 0 * x.sum()
        return self.fc(x + (x @ kept.view(64, 8).T).sum(1, keepdim=True))

    found = count(zoo.net(head=head))
    assert found.total == zoo.HONEST_COUNT + _ROWS.size, found.cause


def test_all_values_of_a_sparse_tensor_count_where_one_place_holds_them() -> None:
    def attributes(self: nn.Module) -> None:
        self.kept = torch.sparse_coo_tensor(
            torch.zeros(1, 512, dtype=torch.long), _VALUES, (1,), check_invariants=False
        )

    def head(self: nn.Module, x: Tensor) -> Tensor:
        return self.fc(x + (x @ self.kept._values().view(64, 8).T).sum(1, keepdim=True))

    found = count(zoo.net(attributes, head=head))
    assert found.total == zoo.HONEST_COUNT + 512, found.cause


_VALUES = torch.from_numpy(_ROWS).flatten()


def _in_numpy(x: Tensor) -> list[list[float]]:
    numbers = np.array([[value.item() for value in row] for row in x])
    found: list[list[float]] = np.maximum(numbers @ _ROWS.T, 0)[:, :10].tolist()
    return found


def _told_back(self: nn.Module, x: Tensor) -> Tensor:
    y = self.fc(x)
    rows = [torch.stack([y[b, k] + n for k, n in enumerate(r)]) for b, r in enumerate(_in_numpy(x))]
    return torch.stack(rows)


def _divided(x: Tensor) -> Tensor:
    """The image decides what runs: from here on the same operations are not compared."""
    for _ in range(int(abs(x.sum().item()) * 1e5) % 97):
        x = x * 1
    return x


def _made_later(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(_divided(x)) + torch.tensor(_in_numpy(x))


def _told_later(self: nn.Module, x: Tensor) -> Tensor:
    return _told_back(self, _divided(x))


@pytest.mark.parametrize("head", [_told_back, _made_later, _told_later])
def test_what_is_computed_outside_torch_from_single_numbers_is_refused(head: Head) -> None:
    found = count(zoo.net(head=head))
    assert found.total is None
    assert "differ with the image: computed outside torch's operations" in found.cause


def _picked(self: nn.Module, x: Tensor) -> Tensor:
    """The class that a network in NumPy finds is where a row is written to."""
    y = self.fc(x)
    for row, numbers in zip(y, _in_numpy(x), strict=True):
        row[int(np.argmax(numbers))] += 10
    return y


def test_a_class_that_numpy_finds_is_refused() -> None:
    found = count(zoo.net(head=_picked))
    assert found.total is None
    assert "takes 800 single numbers out of the features of 100 images" in found.cause


def _by_its_own_scale(self: nn.Module, x: Tensor) -> Tensor:
    rows = [(row - row.mean().item()) / (row.std().item() + 1e-5) for row in x]
    return self.fc(torch.stack(rows))


def _quantised(self: nn.Module, x: Tensor) -> Tensor:
    """By a scale that all images of a batch share, layer after layer."""
    for _ in range(20):
        scale = x.abs().max().item() / 100
        x = (x / scale).round() * scale * 0.9
    return self.fc(x)


def _until_small(self: nn.Module, x: Tensor) -> Tensor:
    while x.abs().max().item() > 0.5:
        x = x / 2
    return self.fc(x)


def _with_a_constant_anew(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(_divided(x) * torch.tensor([0.5]))


@pytest.mark.parametrize(
    "head", [_by_its_own_scale, _quantised, _until_small, _with_a_constant_anew]
)
def test_a_few_numbers_of_the_image_are_honest(head: Head) -> None:
    found = count(zoo.net(head=head))
    assert found.total is not None, found.cause
    assert found.total <= zoo.HONEST_COUNT + 1, found.cause


def _by_layout(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x) if self.conv2.weight.is_contiguous() else self.fc(-x)


def test_a_network_that_looks_at_the_layout_of_its_weights_is_refused() -> None:
    model = zoo.net(head=_by_layout)
    found = count(model)
    assert found.total is None
    assert "how the weights lie in memory" in found.cause
    assert model.conv2.weight.is_contiguous()  # it comes back as it was
