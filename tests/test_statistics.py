from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_models.assignment import ASSIGNMENTS, CARD
from mnist_models.record import Data, Record
from mnist_models.statistics import SeedsError, aggregate, best, compare

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


def test_what_a_chosen_epoch_is_worth() -> None:
    found = best(seeds(9_930, 9_945, 9_999, before=9_950))
    assert found == (3, (9_950 + 9_950 + 9_999) / 3, (20 + 5 + 0) / 3, 9_999, 10_000)
    assert best([]) is None


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


def test_intervals_are_those_of_the_textbook() -> None:
    # n = 3, deviation 10: t(0.975; 2) = 4.303, half a width of 4.303 * 10 / sqrt(3) = 24.84
    found = aggregate(seeds(9_950, 9_960, 9_970), CARD)
    assert found.interval == pytest.approx((9_935.16, 9_984.84), abs=0.01)
    # Wilson, 3 of 3: from 3 / (3 + 1.96 ** 2) to 1
    assert found.share == pytest.approx((0.4385, 1.0), abs=1e-4)
    assert aggregate(seeds(9_950), CARD).interval is None
    assert aggregate(seeds(9_950), ASSIGNMENTS["eva4"]).share is None


def test_the_share_is_of_the_seeds_that_kept_the_limit() -> None:
    records = [*seeds(9_950, 9_950), replace(seeds(9_950, before=9_939)[0], seed=2)]
    low, high = aggregate(records, CARD).share or (0, 0)
    assert 0 < low < 2 / 3 < high < 1


def test_paired_seeds_are_compared_pair_by_pair() -> None:
    found = compare(seeds(9_951, 9_962, 9_973), seeds(9_950, 9_960, 9_970))
    assert found is not None
    # differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.464, two-sided p = 0.0742
    assert (found.seeds, found.total, found.mean) == (3, 10_000, 2)
    assert found.p == pytest.approx(0.0742, abs=1e-4)
    assert found.interval == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert compare([], seeds(9_950)) is None


def test_only_seeds_that_both_have_are_compared() -> None:
    longer = seeds(9_950, 9_960, 9_970)
    found = compare(longer[1:], seeds(9_940))
    assert found is None
    found = compare(longer[:2], longer)
    assert found is not None
    assert (found.seeds, found.mean, found.p) == (2, 0, None)  # no difference: no test of one
    one = compare(longer[:1], seeds(9_940))
    assert one is not None
    assert (one.mean, one.interval, one.p) == (10, None, None)


def test_other_data_are_not_compared() -> None:
    other = replace(seeds(9_950)[0], data=replace(seeds(9_950)[0].data, md5={}))
    with pytest.raises(SeedsError, match="several data sets"):
        compare([other], seeds(9_950))


@given(st.lists(st.integers(9_000, 10_000), min_size=2, max_size=12))
def test_order_does_not_matter(finals: list[int]) -> None:
    records = seeds(*finals)
    found = aggregate(records, CARD)
    assert found == aggregate(records[::-1], CARD)
    assert found.minimum <= found.mean
    assert found.deviation == pytest.approx(statistics.stdev(finals))
