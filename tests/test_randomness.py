from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_models.randomness import default_generator, seed_global_generators, seed_of


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 99), st.integers(0, 99))
def test_places_have_seeds_of_their_own(first: int, second: int, epoch: int, step: int) -> None:
    assert 0 <= seed_of(first, epoch, step) < 2**63
    assert seed_of(first, epoch, step) == seed_of(first, epoch, step)
    assert (seed_of(first, epoch, step) == seed_of(second, epoch, step)) is (first == second)
    assert seed_of(first, epoch, step) != seed_of(first, epoch, "order")
    assert seed_of(1, 23) != seed_of(12, 3)


@pytest.mark.parametrize(
    "kind",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ),
    ],
)
def test_the_default_generator_is_what_draws_on_a_device(kind: str) -> None:
    device = torch.device(kind)

    def drawn() -> list[float]:
        return torch.rand(4, device=device).tolist()

    torch.manual_seed(5)
    expected = drawn()
    default_generator(device).manual_seed(6)
    assert drawn() != expected
    default_generator(device).manual_seed(5)
    assert drawn() == expected


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(3).tolist(), random.random, lambda: np.random.rand(3).tolist()],
    ids=["torch", "random", "numpy"],
)
def test_every_global_generator_is_seeded(draw: Callable[[], object]) -> None:
    seed_global_generators(3)
    first, second = draw(), draw()
    seed_global_generators(4)
    assert draw() not in (first, second)
    seed_global_generators(3)
    assert (draw(), draw()) == (first, second)
