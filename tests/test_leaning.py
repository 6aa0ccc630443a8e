from __future__ import annotations

import pytest

from mnist_models.leaning import TOLERANCE, Leanings, allowed, leaning

from .test_record import make


@pytest.mark.parametrize(
    ("epochs", "images"), [(1, 2), (3, 2), (4, 2), (9, 3), (90, 9.49), (333, 18.25)]
)
def test_chance_adds_up_to_the_root(epochs: int, images: float) -> None:
    assert allowed(epochs) == pytest.approx(images, rel=1e-3)
    assert allowed(epochs) >= TOLERANCE


@pytest.mark.parametrize(
    ("apart", "holds"),
    [
        ({}, True),
        ({4: 2}, True),
        ({2: 2, 3: -2, 4: 2}, True),
        ({2: 1, 3: 1, 4: 1}, False),
        ({2: -1, 3: -1, 4: -1}, False),
        (dict.fromkeys(range(9), 0) | {1: 2, 2: 1}, True),
        (dict.fromkeys(range(9), 0) | {1: 2, 2: 2}, False),
    ],
)
def test_the_sum_is_bounded_on_both_sides(apart: dict[int, int], holds: bool) -> None:
    assert (list(leaning(apart)) == []) is holds


def test_an_experiment_answers_for_its_own_records_alone() -> None:
    found = Leanings()
    assert list(found.problems("steps-6")) == []
    record, _ = make()
    for up in (1, -1, 1, -1):
        found.add(record, {2: up, 3: up, 4: -2 * up})
    assert list(found.problems("steps-6")) == []
    for _ in range(3):
        found.add(record, {4: 2})
    (said, final) = found.problems("steps-6")
    assert said.startswith("all records of steps-6, stored epochs: its 15 counts are 6 images more")
    assert "final epochs: its 7 counts are 6 images more" in final
    assert list(found.problems("steps-3")) == []
