"""What is dropped is known where chance, or the size of the batch, decides what else runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from mnist_models.checks.dropout import check_dropout
from mnist_models.checks.forwards import Forwards
from mnist_models.checks.result import CheckResult
from mnist_models.probe import preserved, randomise
from tests import zoo

torch.set_num_threads(1)

Step = Callable[[nn.Module, Tensor], Tensor]


def found(model: nn.Module) -> CheckResult:
    with preserved(model):
        randomise(model, seed=1)
        return check_dropout(Forwards(model), "once")


def _dropout(module: nn.Module, x: Tensor) -> Tensor:
    return F.dropout(x, 0.1, module.training)


def _mirrored(module: nn.Module, x: Tensor) -> Tensor:
    """Of all images or none."""
    return x.flip(-1) if module.training and torch.rand(1) < 0.5 else x


def _noisy(module: nn.Module, x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x) if module.training and torch.rand(1) < 0.5 else x


def _shifted(module: nn.Module, x: Tensor) -> Tensor:
    """Each image by itself, so that a larger batch takes more operations."""
    if not module.training:
        return x
    places = torch.randint(-2, 3, (len(x), 2)).tolist()
    return torch.stack([image.roll(place, (1, 2)) for image, place in zip(x, places, strict=True)])


def _in_parts(_module: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([part * 2 for part in x.split(16)])


def _before(change: Step, dropout: Step = _dropout) -> nn.Module:
    return zoo.net(norm=lambda s, x: s.bn1(change(s, x)), drop=dropout)


@pytest.mark.parametrize("change", [_mirrored, _noisy, _shifted, _in_parts])
def test_what_runs_ahead_of_it_hides_none(change: Step) -> None:
    result = found(_before(change))
    assert (result.passed, result.measured) == (True, 2), result.cause


@pytest.mark.parametrize("change", [_mirrored, _shifted])
def test_what_runs_ahead_of_it_excuses_none(change: Step) -> None:
    def always_alike(module: nn.Module, x: Tensor) -> Tensor:
        kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) > 0.1
        return x * kept if module.training else x

    result = found(_before(change, always_alike))
    assert result.passed is False
    assert "nothing random" in result.cause or "the same elements" in result.cause


def _deep(depth: Step) -> nn.Module:
    """A residual branch that may be dropped as a whole, for all images at once."""
    branch = zoo.attribute("branch", lambda: nn.Conv2d(8, 8, 3, padding=1))
    return zoo.net(branch, drop=zoo.same, last_drop=lambda s, x: x + depth(s, s.branch(x)))


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.8])
def test_a_branch_dropped_as_a_whole(probability: float) -> None:
    dropped = StochasticDepth(probability, "batch")
    result = found(_deep(lambda s, x: dropped.train(s.training)(x)))
    assert (result.passed, result.measured) == (True, 1), result.cause


def _seldom_run(module: nn.Module, x: Tensor) -> Tensor:
    return 0 * x if module.training and torch.rand(1) < 0.7 else _dropout(module, x)


def test_a_branch_that_did_not_run_first() -> None:
    result = found(_deep(_seldom_run))
    assert (result.passed, result.measured) == (True, 1), result.cause


def test_a_branch_that_hardly_ever_runs() -> None:
    def seldom(module: nn.Module, x: Tensor) -> Tensor:
        runs = module.training and torch.rand(1) < 0.03
        return F.dropout(x, 0.1, module.training) if runs else x

    result = found(zoo.net(drop=zoo.same, last_drop=seldom))
    assert result.passed is False
    assert "runs in hardly any forward" in result.cause or "nothing random" in result.cause


def test_what_was_dropped_as_a_whole_and_put_back_is_none() -> None:
    def undone(module: nn.Module, x: Tensor) -> Tensor:
        kept = (torch.rand(1) > 0.5).float() if module.training else 1
        return x * kept + x * (1 - kept)

    result = found(_deep(undone))
    assert result.passed is False, result.cause


@pytest.mark.parametrize(("often", "enough"), [(0.2, False), (1.0, True)])
def test_what_drops_now_and_then_drops_so_much_less(often: float, enough: bool) -> None:
    def now_and_then(module: nn.Module, x: Tensor) -> Tensor:
        drops = module.training and float(torch.rand(())) < often
        return F.dropout(x, 0.01, drops)

    assert found(zoo.net(drop=now_and_then)).passed is enough
