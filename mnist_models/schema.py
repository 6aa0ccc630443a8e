"""JSON tables field by field: read into a dataclass, or compared; what is wrong is named."""

from __future__ import annotations

import functools
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")
_DEEPEST = 20  # of what may be anything; a recipe has four levels, and Python ends at some hundreds
_SURROGATE = re.compile("[\ud800-\udfff]")


class SchemaError(ValueError):
    """A table that does not fit: which field, what was found, what was expected."""


def read(kind: type[T], table: Any, where: str = "") -> T:
    """Build a `kind` from the table, exactly: no field missing, none unknown, types strict.

    Raises:
        SchemaError: naming the field.
    """
    value: T = _read(kind, table, where)
    return value


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """What two tables differ in, one sentence for each field; fields of fields by dotted names."""
    for name in dict(expected) | dict(found):
        one, other = found.get(name), expected.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from (f"{name}.{text}" for text in differences(one, other))
        elif one != other:
            yield f"{name} is {one!r}, expected {other!r}"


def _read(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin in (list, dict):
        return _read_container(origin, typing.get_args(kind), value, where)
    if origin in (typing.Union, types.UnionType):  # only `... | None` is used
        inner = next(option for option in typing.get_args(kind) if option is not type(None))
        return None if value is None else _read(inner, value, where)
    if kind is Any:
        _refuse_odd(value, where)
    else:
        _expect(_is(kind, value), _NAMES[kind], value, where)
    return float(value) if kind is float else value


_NAMES = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false"}


def _is(kind: type, value: Any) -> bool:
    if isinstance(value, bool):  # Python counts it as an int
        return kind is bool
    if kind is float:
        try:
            return isinstance(value, int | float) and math.isfinite(float(value))
        except OverflowError:  # a whole number beyond any float
            return False
    if kind is str:  # half a surrogate pair cannot be written to any file
        return isinstance(value, str) and not _SURROGATE.search(value)
    return isinstance(value, kind)


def _refuse_odd(value: Any, where: str, depth: int = 1) -> None:
    """What may be anything is JSON all the same: 1e999 is infinite once it is read."""
    if depth > _DEEPEST:
        raise SchemaError(f"{where}: nested too deeply, expected at most {_DEEPEST} levels")
    if isinstance(value, float | str):
        _expect(_is(type(value), value), _NAMES[type(value)], value, where)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_odd(item, f"{where}[{i}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _expect(_is(str, key), _NAMES[str], key, where)
            _refuse_odd(item, f"{where}.{key}", depth + 1)


def _read_container(origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if origin is list:
        _expect(isinstance(value, list), "a list", value, where)
        return [_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    _expect(isinstance(value, dict), "a table", value, where)
    for key in value:
        _expect(_is(str, key), _NAMES[str], key, where)
    return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), "a table", value, where)
    hints = _hints(kind)
    known = {field.name for field in fields(kind)}
    prefix = f"{where}." if where else ""
    if missing := sorted(known - value.keys()):
        raise SchemaError(f"{prefix}{missing[0]}: missing")
    if unknown := sorted(value.keys() - known):
        raise SchemaError(f"{prefix}{unknown[0]}: no such field in a {kind.__name__.lower()}")
    read = {name: _read(hints[name], value[name], prefix + name) for name in known}
    try:
        return kind(**read)
    except SchemaError as error:  # of a dataclass that looks at its fields together
        raise SchemaError(f"{prefix}{error}") from error


@functools.cache  # a record has its epochs' types by the dozen, and there are hundreds of records
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _expect(holds: bool, expected: str, value: Any, where: str) -> None:
    if not holds:
        found = repr(value)
        found = found if len(found) <= 60 else found[:57] + "..."
        raise SchemaError(f"{where or 'the record'}: found {found}, expected {expected}")
