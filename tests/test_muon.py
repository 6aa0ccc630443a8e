from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mnist_models.muon import Muon, bundles, orthogonal, together


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 12), st.integers(2, 40), st.integers(0, 99), st.floats(1e-6, 1e6))
def test_singular_values_are_near_one_and_vectors_the_same(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    matrix = drawn(1, rows, columns, seed=seed)
    left, values, right = torch.linalg.svd(matrix[0], full_matrices=False)
    matrix = (left @ torch.diag(values.clamp_min(0.3)) @ right)[None] * scale
    found = orthogonal(matrix)
    assert found.shape == matrix.shape
    turned = left.T @ found[0] @ right.T
    assert turned.diag().min() > 0.5
    assert turned.diag().max() < 1.3
    assert (turned - turned.diag().diag()).abs().max() < 1e-3
    assert torch.allclose(orthogonal(matrix.mT).mT, found, atol=1e-4)


@pytest.mark.parametrize("padded", [True, False])
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=6),
    st.integers(1, 3),
)
def test_bundles_give_what_each_gives_alone(
    padded: bool, sides: list[tuple[int, int]], lanes: int
) -> None:
    matrices = [drawn(lanes, *each, seed=number) for number, each in enumerate(sides)]
    device = torch.device("cpu")
    made = bundles([each.shape for each in matrices], device, padded=padded)
    assert len(made) <= 2 or not padded
    for matrix, found in zip(matrices, together(matrices, made), strict=True):
        assert torch.allclose(found, orthogonal(matrix), atol=1e-4)


@pytest.mark.parametrize("kernel", [(6, 4, 3, 3), (6, 1, 3, 3), (6, 4, 1, 1)])
def test_the_order_in_memory_does_not_matter(kernel: tuple[int, ...]) -> None:
    """Of the parameter, nor of a gradient that has another."""
    plain = nn.Parameter(drawn(*kernel))
    last = nn.Parameter(drawn(*kernel).to(memory_format=torch.channels_last))
    mixed = nn.Parameter(drawn(*kernel).to(memory_format=torch.channels_last))
    for parameter in (plain, last, mixed):
        optimizer = Muon([parameter], lr=0.1, momentum=0.9, weight_decay=0.1)
        for seed in (1, 2):
            parameter.grad = drawn(*kernel, seed=seed)
            if parameter is last:
                parameter.grad = parameter.grad.to(memory_format=torch.channels_last)
            optimizer.step()
    assert (plain - drawn(*kernel)).abs().max() > 0.01
    assert torch.allclose(plain, last, atol=1e-5)
    assert torch.allclose(plain, mixed, atol=1e-5)


class Calls(TorchDispatchMode):
    """Counts what torch is told to do."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def test_padded_takes_few_calls() -> None:
    """For a GPU, on which each call is a kernel or none, and takes as long whatever its size."""
    shapes = [(1, *each) for each in [(10, 9), (1, 10), (52, 9), (52, 10), (52, 52), (1, 52)]]
    matrices = [drawn(*shape) for shape in shapes]
    counts = []
    for padded in (False, True):
        made = bundles(shapes, torch.device("cpu"), padded=padded)
        with Calls() as calls:
            together(matrices, made)
        counts.append(calls.count)
    assert counts[1] < counts[0] / 2


def test_one_row_is_only_scaled() -> None:
    row = drawn(1, 1, 9)
    assert torch.allclose(orthogonal(row), row / row.norm())


def test_no_gradient_at_all_moves_nothing() -> None:
    assert orthogonal(torch.zeros(2, 3, 4)).abs().max() == 0


def step(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, *gradients: Tensor) -> None:
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()


def test_it_is_torchs_own_on_a_matrix() -> None:
    theirs_kind = getattr(torch.optim, "Muon", None)
    if theirs_kind is None:
        pytest.skip("torch has a Muon of its own from 2.9 on")
    ours, theirs = (nn.Parameter(drawn(12, 30)) for _ in range(2))
    gradients = [drawn(12, 30, seed=seed) for seed in (1, 2, 3)]
    step(Muon([ours], lr=0.1, momentum=0.9, weight_decay=0.1), ours, *gradients)
    own = theirs_kind(
        [theirs], lr=0.1, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    step(own, theirs, *gradients)
    moved = (theirs - drawn(12, 30)).norm()
    assert (ours - theirs).norm() < 0.05 * moved  # theirs is computed in bfloat16


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (6, 1, 3, 3), (6,)])
def test_networks_side_by_side_move_as_they_do_alone(shape: tuple[int, ...]) -> None:
    alone = [nn.Parameter(drawn(*shape, seed=lane)) for lane in range(3)]
    gradients = [[drawn(*shape, seed=10 * lane + n) for n in (1, 2)] for lane in range(3)]
    together = nn.Parameter(torch.cat([each.detach() for each in alone]))
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    step(
        Muon([together], lanes=3, **settings),
        together,
        *map(torch.cat, zip(*gradients, strict=True)),
    )  # type: ignore[arg-type] # by name
    for each, own in zip(alone, gradients, strict=True):
        step(Muon([each], **settings), each, *own)  # type: ignore[arg-type] # by name
    assert torch.allclose(together, torch.cat([each.detach() for each in alone]), atol=1e-5)


def test_what_has_no_gradient_stays() -> None:
    moved, still = nn.Parameter(drawn(3, 3)), nn.Parameter(drawn(3, 3))
    optimizer = Muon([moved, still], lr=0.1, momentum=0.9, weight_decay=0.1)
    step(optimizer, moved, drawn(3, 3, seed=1))
    assert torch.equal(still, drawn(3, 3))
    assert not torch.equal(moved, drawn(3, 3))


def test_it_evaluates_nothing() -> None:
    with pytest.raises(NotImplementedError, match="gradients first"):
        Muon([nn.Parameter(drawn(2))], lr=1, momentum=0, weight_decay=0).step(lambda: 0.0)
