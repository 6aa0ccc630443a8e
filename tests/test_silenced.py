"""A Dropout that drops all is named by every check, not the layers before and behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.assignment import CARD
from mnist_models.checks import check_module
from mnist_models.checks.result import CheckResult
from tests import zoo

NAMED = ("batch-norm", "dropout", "global-average-pooling")


def results(model: nn.Module) -> dict[str, CheckResult]:
    return {result.name: result for result in check_module(model, CARD)[0]}


@pytest.mark.parametrize(
    ("drop", "where"),
    [
        (lambda s, x: F.dropout(x, s.training), "mul (operation"),
        (lambda s, x: s.all(x), "all"),
        (lambda s, x: x * 0 if s.training else x, "mul (operation"),
    ],
)
def test_all_that_is_dropped_is_named(drop: Callable[..., Tensor], where: str) -> None:
    found = results(zoo.net(zoo.attribute("all", lambda: nn.Dropout(1.0)), last_drop=drop))
    for name in NAMED:
        assert found[name].passed is False
        assert found[name].cause.startswith(f"in training {where}")
        assert found[name].cause.endswith("makes all features zero")
        assert "F.dropout(x, 0.1, training=self.training)" in found[name].help


@pytest.mark.parametrize(
    "make",
    [
        lambda: zoo.net(drop=zoo.same, last_drop=zoo.same),
        lambda: zoo.net(drop=zoo.same, last_drop=lambda s, x: x + 0 * x),  # not all there is
        lambda: zoo.net(last_drop=zoo.same, head=lambda s, x: torch.ones(len(x), 10)),
    ],
)
def test_where_the_image_gets_through_no_zero_is_blamed(make: Callable[[], nn.Module]) -> None:
    found = results(make())
    assert found["dropout"].passed is not True
    assert not any("makes all features zero" in result.cause for result in found.values())
