from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mnist_models.schema import SchemaError, differences, read


def nested(levels: int) -> Any:
    """A table in a table in a table, and so on."""
    return {"a": nested(levels - 1)} if levels else 0


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    rows: list[list[int]]
    table: dict[str, int]
    flag: bool | None
    free: Any


GOOD: dict[str, Any] = {
    "name": "n",
    "inner": {"value": 1},
    "rows": [[1], []],
    "table": {"a": 1},
    "flag": None,
    "free": [{"x": 1}],
}


def test_a_table_that_fits_is_read() -> None:
    outer = read(Outer, GOOD)
    assert outer == Outer("n", Inner(1.0), [[1], []], {"a": 1}, None, [{"x": 1}])
    assert isinstance(outer.inner.value, float)
    assert read(Outer, GOOD | {"flag": True}).flag is True
    assert read(Outer, GOOD | {"free": nested(19)}).free == nested(19)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name: found 3, expected text"),
        ({"inner": {"value": "1"}}, "inner.value: found '1', expected a finite number"),
        ({"inner": {"value": float("inf")}}, "inner.value: found inf"),
        ({"inner": {"value": 10**400}}, "inner.value: found 1000"),
        ({"inner": {}}, "inner.value: missing"),
        ({"inner": {"value": 1, "more": 2}}, "inner.more: no such field"),
        ({"rows": [[1], [1.5]]}, r"rows\[1\]\[0\]: found 1.5, expected a whole number"),
        ({"rows": {}}, "rows: found {}, expected a list"),
        ({"table": {"a": None}}, "table.a: found None"),
        ({"table": {"\ud800": 1}}, "table: found '.ud800', expected text"),
        ({"flag": 1}, "flag: found 1, expected true or false"),
        ({"free": [{"x": float("inf")}]}, r"free\[0\].x: found inf, expected a finite number"),
        ({"free": {"x": "\ud800"}}, "free.x: found '.ud800', expected text"),
        ({"free": {"\ud800": 1}}, "free: found '.ud800', expected text"),
        ({"free": nested(600)}, r"free(\.a){20}: nested too deeply, expected at most 20 levels"),
        ({"name": "x" * 9_999, "flag": "y" * 9_999}, r"flag: found 'y{40,60}\.\.\., expected"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        read(Outer, GOOD | change)


def test_no_table_at_all() -> None:
    with pytest.raises(SchemaError, match="the record: found 3, expected a table"):
        read(Outer, 3)


def test_differences_name_each_field_by_its_path() -> None:
    found = {"seed": 0, "recipe": {"epochs": 2, "rate": 0.1}, "extra": 1}
    expected = {"seed": 0, "recipe": {"epochs": 3, "rate": 0.1}, "split": "test"}
    assert list(differences(found, expected)) == [
        "recipe.epochs is 2, expected 3",
        "split is None, expected 'test'",
        "extra is 1, expected None",
    ]
    assert list(differences(found, found)) == []
