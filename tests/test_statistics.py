from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_models.assignment import ASSIGNMENTS, CARD
from mnist_models.record import Data, Record
from mnist_models.statistics import SeedsError, aggregate

from .test_checks_record import run


def seeds(*finals: int, before: int = 9_950) -> list[Record]:
    return [
        replace(run([9_000] * 12 + [before, before, final]), seed=seed)
        for seed, final in enumerate(finals)
    ]


def test_three_seeds() -> None:
    found = aggregate(seeds(9_950, 9_960, 9_970), CARD)
    assert (found.seeds, found.total, found.mean, found.minimum) == (3, 10_000, 9_960, 9_950)
    assert found.deviation == pytest.approx(10)
    assert found.consistent == 3


def test_the_best_epoch_counts_for_nothing() -> None:
    found = aggregate(seeds(9_930, before=9_999), CARD)
    assert (found.mean, found.deviation, found.consistent) == (9_930, None, 0)


def test_consistency_counts_seeds() -> None:
    records = [*seeds(9_950, 9_950), replace(seeds(9_950, before=9_939)[0], seed=2)]
    assert aggregate(records, CARD).consistent == 2
    assert aggregate(records, ASSIGNMENTS["eva4"]).consistent is None


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 0},
        {"seed": 3},
        {"experiment": "steps-5"},
        {"recipe": {}},
        {"model_digest": "sha256:1"},
        {"data": Data("mnist", "validation", 55_000, 5_000, {})},
    ],
)
def test_no_seed_may_be_left_out_or_mixed_in(change: dict[str, object]) -> None:
    records = seeds(9_950, 9_960)
    with pytest.raises(SeedsError):
        aggregate([records[0], replace(records[1], **change)], CARD)  # type: ignore[arg-type] - a table of mixed types


@given(st.lists(st.integers(9_000, 10_000), min_size=2, max_size=12))
def test_order_does_not_matter(finals: list[int]) -> None:
    records = seeds(*finals)
    found = aggregate(records, CARD)
    assert found == aggregate(records[::-1], CARD)
    assert found.minimum <= found.mean
    assert found.deviation == pytest.approx(statistics.stdev(finals))
