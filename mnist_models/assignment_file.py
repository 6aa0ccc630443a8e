"""Assignments from TOML files, so that a course can have its own rules."""

from __future__ import annotations

import tomllib
import unicodedata
from dataclasses import fields
from pathlib import Path
from typing import Any

from mnist_models.assignment import ASSIGNMENTS, Assignment, AssignmentError, Limit
from mnist_models.files import read_whole, refusal

_MOST = 1 << 20  # bytes of a TOML file, whose ten keys take a few hundred

_CHOICES: dict[str, tuple[str, ...]] = {
    "batch_norm": ("once", "each-block"),
    "dropout": ("once", "each-block"),
    "head": ("gap", "gap-or-fc"),
}
_LIMITS = ("parameters", "receptive_field", "epochs", "accuracy")


def read_assignment(path: Path) -> Assignment:
    """Read an assignment from a TOML file whose keys are the fields of `Assignment`.

    Raises:
        AssignmentError: no such file, no TOML, an unknown key, or a value of the wrong form, or a
            name or title that a known assignment has.
    """
    try:
        text = read_whole(path, _MOST).decode("utf-8-sig")  # Notepad begins a file with a mark
        table = tomllib.loads(text)
    except OSError as error:
        raise AssignmentError(
            f"cannot read the assignment {path}: {refusal(error)}; expected a TOML file, or one of "
            f"{', '.join(ASSIGNMENTS)}"
        ) from error
    except UnicodeDecodeError as error:
        raise AssignmentError(f"cannot read the assignment {path}: {error}") from error
    except RecursionError:
        raise AssignmentError(f"{path} is not valid TOML: brackets within brackets") from None
    except ValueError as error:  # a number of too many digits, too
        raise AssignmentError(f"{path} is not valid TOML: {error}") from error
    known = {field.name for field in fields(Assignment)}
    if unknown := sorted(set(table) - known):
        raise AssignmentError(
            f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}"
        )
    values = {key: _value(path, key, value) for key, value in table.items()}
    values.setdefault("name", path.stem)
    values.setdefault("title", values["name"])
    assignment = Assignment(**values)
    if assignment.consistent_epochs is not None and assignment.accuracy is None:
        raise AssignmentError(
            f"{path}: consistent_epochs = {assignment.consistent_epochs} without accuracy; "
            "say which accuracy those epochs have to keep"
        )
    if all(getattr(assignment, key) is None for key in known - {"name", "title"}):
        raise AssignmentError(f"{path} sets no limit at all, so that everything would pass it")
    _refuse_taken(path, assignment)
    return assignment


def _refuse_taken(path: Path, assignment: Assignment) -> None:
    """A verdict tells an assignment by its name or title: those of the known ones are theirs."""
    taken = {_bare(text) for known in ASSIGNMENTS.values() for text in (known.name, known.title)}
    for key in ("name", "title"):
        text = getattr(assignment, key)
        if _bare(text) in taken or not _bare(text):
            found = "says nothing" if not _bare(text) else "is that of an assignment known here"
            raise AssignmentError(
                f"{path}: {key} = {text!r} {found}; choose another, such as name = 'my-course'"
            )


def _bare(text: str) -> str:
    """Letters and digits alone, as they look: neither case nor hyphens tell two names apart."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _value(path: Path, key: str, value: Any) -> Any:
    if key in _LIMITS:
        if not isinstance(value, str):
            raise AssignmentError(
                f"{path}: {key} = {value!r}; expected a quoted limit, such as '< 8000'"
            )
        if "%" in value and key != "accuracy":
            raise AssignmentError(f"{path}: {key} = {value!r}; only accuracy is a percentage")
        try:
            return Limit.parse(value)
        except AssignmentError as error:
            raise AssignmentError(f"{path}: {key}: {error}") from error
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise AssignmentError(
                f"{path}: {key} = {value!r}; expected one of {', '.join(_CHOICES[key])}"
            )
        return value
    if key == "consistent_epochs":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise AssignmentError(f"{path}: {key} = {value!r}; expected a whole number from 1")
        return value
    if not isinstance(value, str):
        raise AssignmentError(f"{path}: {key} = {value!r}; expected text")
    return value


def find_assignment(text: str) -> Assignment:
    """The assignment of that name, or the one in that TOML file.

    Raises:
        AssignmentError: neither a known name nor a readable TOML file.
    """
    if text in ASSIGNMENTS:
        return ASSIGNMENTS[text]
    if text.endswith(".toml"):
        return read_assignment(Path(text))
    raise AssignmentError(
        f"no assignment {text!r}; expected one of {', '.join(ASSIGNMENTS)}, or a .toml file"
    )
