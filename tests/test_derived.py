from __future__ import annotations

import re
from typing import Any

import pytest

from mnist_models.derived import agree, same
from mnist_models.schema import SchemaError


@pytest.mark.parametrize(
    ("found", "expected", "equal"),
    [
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (1e-12, 0.0, True),  # what is left of a difference
        (99.34, 99.341, False),
        (1_000_000.0, 1_000_002.0, False),
        (True, 1, False),
        (1, True, False),
        (None, 0, False),
        (None, None, True),
        ("1", 1, False),
        ("a", "a", True),
        (float("nan"), 1.0, False),
    ],
)
def test_numbers_are_equal_but_for_rounding(found: Any, expected: Any, equal: bool) -> None:
    assert same(found, expected) is equal


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"a": [1, {"b": 2.5}]}, ""),
        ({"a": (1, {"b": 2.5})}, ""),
        ({"a": [1, {"b": 2.6}]}, "x.a[1].b: found 2.6, expected 2.5"),
        ({"a": [1]}, "x.a: found 1 of them, expected 2"),
        ({"a": 3}, "x.a: found 3, expected [1, {"),
        ({}, "x.a: missing"),
        ({"a": [1, {"b": 2.5, "c": 0}]}, "x.a[1].c: follows from nothing"),
        ([], "x: found [], expected {"),
    ],
)
def test_the_first_contradiction_is_named(found: Any, said: str) -> None:
    expected = {"a": [1, {"b": 2.5}]}
    if not said:
        agree(found, expected, "x")
        return
    with pytest.raises(SchemaError, match=re.escape(said)):
        agree(found, expected, "x")
