"""Options that several commands share."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from mnist_models.assignment import AssignmentError
from mnist_models.atomic import NotWrittenError
from mnist_models.cli.options import UsageError, append_to_log, assignment_of, read_log
from mnist_models.models import EXPERIMENTS


def test_a_log_grows_by_one_value_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "log.json"
    assert read_log(path) == []
    append_to_log(path, {"a": 1})
    append_to_log(path, {"b": 2})
    assert json.loads(path.read_text()) == read_log(path) == [{"a": 1}, {"b": 2}]
    assert [found.name for found in path.parent.iterdir()] == ["log.json"]


def test_without_a_log_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    append_to_log(None, {"a": 1})
    assert read_log(None) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "said"), [("{", "no JSON"), ("{}", "expected a JSON list")])
def test_a_file_that_is_no_log_is_left_as_it_is(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    for attempt in (lambda: read_log(path), lambda: append_to_log(path, {})):
        with pytest.raises(UsageError, match=said):
            attempt()
    assert path.read_text() == text


@pytest.mark.parametrize("log", ["/dev/null", "/proc/none", "/dev/null/log.json"])
def test_a_log_that_cannot_be_written_is_refused_before_hours_of_work(log: str) -> None:
    """Whatever the rights of the user are; and what has no end is not read."""
    with pytest.raises(NotWrittenError, match=f"{log} cannot be written: .*; choose another --log"):
        read_log(Path(log))


@pytest.mark.parametrize(
    ("experiment", "named", "expected"),
    [
        ("frontier-1k", None, "card-1k"),
        ("frontier-8k", None, "card"),
        ("steps-6", None, "card"),  # whatever its document asked for
        ("frontier-1k", "card", "card"),
        (None, None, "card"),
        (None, "card-2k", "card-2k"),
    ],
)
def test_an_own_model_is_held_against_its_own_assignment(
    experiment: str | None, named: str | None, expected: str
) -> None:
    found = assignment_of(
        Namespace(assignment=named), EXPERIMENTS[experiment] if experiment else None
    )
    assert found.name == expected


def test_an_empty_name_is_no_assignment() -> None:
    """What a shell passes where a variable was not set; it would be taken for the card."""
    with pytest.raises(AssignmentError, match="no assignment ''"):
        assignment_of(Namespace(assignment=""))
