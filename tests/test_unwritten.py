"""Memory that is written in parts is no way round torch; what appears in it unwritten is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.checks.parameters import Count, count_parameters
from mnist_models.probe import preserved
from tests import zoo

torch.set_num_threads(1)


def count(model: nn.Module) -> Count:
    with preserved(model):
        return count_parameters(model)


def _disturb(x: Tensor) -> None:
    """Leave something of the image where the next tensor of this size will be."""
    for _ in range(4):
        (x * 3).add_(1)


def _halves(_self: nn.Module, x: Tensor) -> Tensor:
    _disturb(x)
    y = torch.empty_like(x)
    y[:, :4], y[:, 4:] = x[:, :4], x[:, 4:]
    return y


def _constant_first(_self: nn.Module, x: Tensor) -> Tensor:
    _disturb(x)
    y = torch.empty_like(x)
    y[:, :4] = 0
    y[:, 4:] = x[:, 4:]
    return y


def _by_index(_self: nn.Module, x: Tensor) -> Tensor:
    _disturb(x)
    y = torch.empty_like(x)
    y[:, torch.arange(0, 8, 2)] = x[:, :4]
    y[:, torch.arange(1, 8, 2)] = x[:, 4:]
    return y


def _constant_by_index(_self: nn.Module, x: Tensor) -> Tensor:
    _disturb(x)
    y = torch.empty_like(x)
    y[:, torch.arange(0, 8, 2)] = torch.zeros(4)
    y[:, torch.arange(1, 8, 2)] = torch.ones(4)
    return x + y


def _copied_before_written(_self: nn.Module, x: Tensor) -> Tensor:
    _disturb(x)
    y = torch.empty_like(x)
    y[:, :2] = y[:, 2:4]
    y[:, :4], y[:, 4:] = 0, 1
    return x + y


def _circular(_self: nn.Module, x: Tensor) -> Tensor:
    return F.pad(x[:, :, None], (1, 1), mode="circular")[..., 1]


def _circular_constant(_self: nn.Module, x: Tensor) -> Tensor:
    _disturb(x)
    return x + F.pad(torch.zeros(1, 1, 6), (1, 1), mode="circular")[0]


def _without_a_dimension(_self: nn.Module, x: Tensor) -> Tensor:
    return x * torch.empty(()).fill_(2)


HONEST = (
    _halves,
    _constant_first,
    _by_index,
    _constant_by_index,
    _copied_before_written,
    _circular,
    _circular_constant,
    _without_a_dimension,
)


@pytest.mark.parametrize("change", HONEST)
def test_memory_written_in_parts_counts_exactly(change: Callable[..., Tensor]) -> None:
    model = zoo.net(head=lambda s, x: s.fc(change(s, x)))
    found = count(model)
    assert found.total == zoo.HONEST_COUNT, found.cause


def test_a_stored_number_that_fills_memory_counts() -> None:
    stored = torch.tensor(2.0)
    found = count(zoo.net(head=lambda s, x: s.fc(x * torch.empty(()).fill_(stored))))
    assert found.total == zoo.HONEST_COUNT + 1, found.cause


def _written_unseen(_self: nn.Module, x: Tensor) -> Tensor:
    y = torch.empty(8)
    y.numpy()[:] = x.mean().item()
    return x + y


def _written_unseen_beside_features(_self: nn.Module, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    array = y.numpy()
    y[:, :4] = x[:, :4]
    array[:, 4:] = x.mean().item()
    return y


def _written_unseen_and_copied(_self: nn.Module, x: Tensor) -> Tensor:
    y, z = torch.empty_like(x), torch.empty_like(x)
    y.numpy()[:] = x.mean().item()
    z[:] = y
    return x + z


def _written_unseen_between_indices(_self: nn.Module, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    y.numpy()[:] = x.mean().item()
    y[:, torch.arange(0, 8, 2)] = x[:, :4]
    return y


def _added_to_what_was_there(_self: nn.Module, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    y.numpy()[:] = x.mean().item()
    y += x
    return y


def _written_over_unseen(_self: nn.Module, x: Tensor) -> Tensor:
    y = torch.empty_like(x).fill_(1)
    y.numpy()[:] = x.mean().item()
    return x * y


CHEATS = (
    _written_unseen,
    _written_unseen_beside_features,
    _written_unseen_and_copied,
    _written_unseen_between_indices,
    _added_to_what_was_there,
    _written_over_unseen,
)


@pytest.mark.parametrize("change", CHEATS)
def test_what_appears_in_memory_unwritten_is_noticed(change: Callable[..., Tensor]) -> None:
    model = zoo.net(head=lambda s, x: s.fc(change(s, x)))
    found = count(model)
    assert found.total is None, found
    assert "outside torch" in found.cause


@pytest.mark.parametrize("rest", [True, False])
def test_logits_that_nothing_wrote_are_noticed(rest: bool) -> None:
    def head(self: nn.Module, x: Tensor) -> Tensor:
        y = torch.empty(x.shape[0], 10)
        array = y.numpy()
        y[:, :5] = self.fc(x)[:, :5]
        if rest:
            y[:, 5:] = self.fc(x)[:, 5:]
        else:
            array[:, 5:] = x.mean().item()
        return y

    found = count(zoo.net(head=head))
    assert (found.total == zoo.HONEST_COUNT) if rest else "logits" in found.cause, found
