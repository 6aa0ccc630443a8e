"""Numbers that follow from others in the same file: one that does not was typed by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mnist_models.schema import SchemaError

# Another version of SciPy may round otherwise; nothing is shown with more than six digits.
_SHARE, _ABSOLUTE = 1e-6, 1e-9


def agree(found: Any, expected: Any, where: str) -> None:
    """Compare what is stored with what it follows from, field by field.

    Args:
        found: tables and lists of numbers and text, as JSON has them.
        expected: likewise, as computed now.
        where: the place of `found` in its file, for the message.

    Raises:
        SchemaError: naming the first field that differs, what was found and what was expected.
    """
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        if missing := [key for key in expected if key not in found]:
            raise SchemaError(f"{where}.{missing[0]}: missing")
        if unknown := [key for key in found if key not in expected]:
            raise SchemaError(f"{where}.{unknown[0]}: follows from nothing in the file")
        for key, value in expected.items():
            agree(found[key], value, f"{where}.{key}")
    elif _is_list(found) and _is_list(expected):
        if len(found) != len(expected):
            raise SchemaError(f"{where}: found {len(found)} of them, expected {len(expected)}")
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            agree(one, other, f"{where}[{number}]")
    elif not same(found, expected):
        raise SchemaError(f"{where}: found {found!r}, expected {expected!r}")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def same(found: Any, expected: Any) -> bool:
    """Whether two values are equal, numbers but for rounding."""
    numbers = (int, float)
    if isinstance(found, bool) or isinstance(expected, bool):  # Python counts them as numbers
        return found is expected
    if isinstance(found, numbers) and isinstance(expected, numbers):
        return math.isclose(found, expected, rel_tol=_SHARE, abs_tol=_ABSOLUTE)
    return bool(found == expected)
