"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnist_models.cli.options import UsageError, append_to_log, read_log


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
