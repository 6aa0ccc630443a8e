from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_models.cli import main
from mnist_models.record import FILE_NAME, Record, find_records
from mnist_models.report import ReportError, blocks, published, render, stale_line

from .test_checks_record import run
from .test_record import edit

REPOSITORY = Path(__file__).resolve().parent.parent


def own(*runs: Sequence[int]) -> dict[str, list[Record]]:
    group = [
        replace(run(list(correct)), experiment="frontier-8k", seed=seed)
        for seed, correct in enumerate(runs)
    ]
    return {"frontier-8k": group}


GOOD = [9_000] * 12 + [9_945, 9_950, 9_960]
DIPPED = [9_000] * 12 + [9_939, 9_950, 9_950]


def test_status_shows_limit_value_and_verdict() -> None:
    rows = blocks(own(GOOD, GOOD))["status"].splitlines()
    assert len(rows) == 2 + 8  # a row per requirement of the card
    assert "| parameters | < 8,000 | 7,846 parameters | pass |" in rows
    assert "| receptive field | >= 20 | 32 pixels | pass |" in rows
    accuracy = "99.60 % ± 0.00, minimum 99.60 %, n = 2"
    assert f"| accuracy, final epoch | >= 99.40 % | {accuracy} | pass |" in rows
    assert "| 2 of 2 seeds | pass |" in rows[-1]
    assert all(row.endswith("| pass |") for row in rows[2:])


def test_one_bad_seed_turns_the_row() -> None:
    rows = blocks(own(GOOD, DIPPED, GOOD))["status"].splitlines()
    assert rows[-1].endswith("| 2 of 3 seeds | **FAIL** |")
    assert rows[-2].endswith("| pass |")
    rows = blocks(own(GOOD, [9_990] * 14 + [9_939]))["status"].splitlines()
    assert rows[-2].endswith("| **FAIL** |")
    assert rows[-3].endswith("| pass |")
    rows = blocks(own([*GOOD, 9_960]))["status"].splitlines()
    assert "| epochs | <= 15 | 16 epochs | **FAIL** |" in rows


def test_without_records_nothing_passes() -> None:
    rows = blocks({})["status"].splitlines()
    assert [row.endswith("| unknown |") for row in rows[2:]] == [False] * 5 + [True] * 3


def test_records_are_listed() -> None:
    text = blocks(own(GOOD, DIPPED))["records"]
    assert "| `frontier-8k` | 1 | 2 | 15 | 9,939, 9,950, 9,950 | 99.50 % |" in text
    assert len(text.splitlines()) == 4


def test_render_replaces_the_marked_blocks_alone() -> None:
    text = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n"
    done = render(text, {"x": "new\n"})
    assert done == "a\n<!-- generated: x -->\nnew\n<!-- end -->\nb\n"
    assert render(done, {"x": "new\n"}) == done
    for generated in ({}, {"y": ""}, {"x": "", "y": ""}):
        with pytest.raises(ReportError, match="found the blocks"):
            render(text, generated)


def test_stale_line() -> None:
    assert stale_line("a\nb\n", "a\nb\n") is None
    assert stale_line("a\nb\n", "a\nc\n") == 2
    assert stale_line("a\n", "a\nc\n") == 2


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    shutil.copytree(REPOSITORY / "records", tmp_path / "records")
    return tmp_path


def test_readme_is_as_generated(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--check", "--root", str(copy)]) == 0
    before = (copy / "README.md").read_text()
    assert main(["report", "--root", str(copy)]) == 0
    assert (copy / "README.md").read_text() == before


def test_any_generated_number_is_guarded(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "README.md"
    text = path.read_text()
    start = text.index("<!-- generated: status -->")
    number = text.index("7,846", start)
    path.write_text(text[:number] + "7,845" + text[number + 5 :])
    assert main(["report", "--check", "--root", str(copy)]) == 1
    line = text[:number].count("\n") + 1
    errors = capsys.readouterr().err
    assert f"README.md:{line}: differs" in errors
    assert "python -m mnist_models report" in errors
    assert main(["report", "--root", str(copy)]) == 0
    assert path.read_text() == text


def test_a_record_removed_or_damaged_shows(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = find_records(copy / "records")[-1]
    shutil.rmtree(last)
    assert main(["report", "--check", "--root", str(copy)]) == 1
    other = find_records(copy / "records")[-1] / FILE_NAME
    other.write_text("{")
    assert main(["report", "--check", "--root", str(copy)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_only_the_test_set_is_published(tmp_path: Path) -> None:
    source = find_records(REPOSITORY / "records")[0]
    shutil.copytree(source, tmp_path / "a")
    assert sum(map(len, published(tmp_path).values())) == 1
    for number, change in enumerate([{"name": "digits"}, {"split": "validation"}]):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        edit(folder, lambda table, change=change: table["data"].update(change))
    assert sum(map(len, published(tmp_path).values())) == 1


def test_published_is_in_registry_order() -> None:
    found = published(REPOSITORY / "records")
    assert list(found) == ["frontier-8k", "steps-6", "attempt-3"]
    assert [record.seed for record in found["frontier-8k"]] == [0, 1, 2]
