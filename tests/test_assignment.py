from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_models.assignment import (
    ASSIGNMENTS,
    CARD,
    AssignmentError,
    Limit,
)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("< 8000", Limit("<", 8_000)),
        ("<8,000", Limit("<", 8_000)),
        (" <= 8_000 ", Limit("<=", 8_000)),
        ("> 20", Limit(">", 20)),
        (">= 99.4 %", Limit(">=", 9_940)),
        (">= 99.41%", Limit(">=", 9_941)),
    ],
)
def test_limit_is_read(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        *("", "8000", "< many", "== 3", "< -1", ">= 101 %", ">= 99.401 % of it", "< 0.5"),
        "< " + "9" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_limit_is_refused(text: str) -> None:
    with pytest.raises(AssignmentError) as caught:
        Limit.parse(text)
    assert len(str(caught.value)) < 200


@given(st.sampled_from(["<", "<=", ">", ">="]), st.integers(0, 10**9), st.integers(0, 10**9))
def test_limit_compares_as_it_reads(relation: str, bound: int, measured: int) -> None:
    limit = Limit.parse(f"{relation} {bound:,}")
    assert Limit.parse(str(limit)) == limit
    expected = {"<": measured < bound, ">": measured > bound}
    expected |= {"<=": measured <= bound, ">=": measured >= bound}
    assert limit.holds(measured) is expected[relation]


def test_card_is_the_one_of_this_project() -> None:
    assert str(CARD.parameters) == "< 8,000"
    assert str(CARD.receptive_field) == ">= 20"
    assert str(CARD.epochs) == "<= 15"
    assert str(CARD.accuracy) == ">= 9,940"
    assert CARD.consistent_epochs == 3
    assert (CARD.batch_norm, CARD.dropout, CARD.head) == ("once", "once", "gap")


@pytest.mark.parametrize(("name", "limit"), [("4k", 4_000), ("2k", 2_000), ("1k", 1_000)])
def test_a_smaller_card_asks_for_the_same_layers(name: str, limit: int) -> None:
    smaller = ASSIGNMENTS[f"card-{name}"]
    assert str(smaller.parameters) == f"< {limit:,}"
    same = ("batch_norm", "dropout", "head", "receptive_field", "epochs")
    assert [getattr(smaller, key) for key in same] == [getattr(CARD, key) for key in same]
    assert (smaller.accuracy, smaller.consistent_epochs) == (None, None)


def test_every_document_has_an_assignment() -> None:
    assert list(ASSIGNMENTS) == [
        "card",
        "card-4k",
        "card-2k",
        "card-1k",
        "era-v1-blocks",
        "era-v1-steps",
        "era-v3",
        "eva4",
        "attempt",
    ]
