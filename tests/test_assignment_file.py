from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnist_models.assignment import ASSIGNMENTS, AssignmentError, Limit
from mnist_models.assignment_file import find_assignment, read_assignment


def test_a_known_name_is_found() -> None:
    for name, assignment in ASSIGNMENTS.items():
        assert find_assignment(name) is assignment


def test_toml_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "course.toml"
    path.write_text(
        'title = "my course"\nparameters = "< 5000"\nbatch_norm = "once"\nhead = "gap-or-fc"\n'
        'accuracy = ">= 99 %"\nconsistent_epochs = 2\n'
    )
    assignment = find_assignment(str(path))
    assert (assignment.name, assignment.title) == ("course", "my course")
    assert assignment.parameters == Limit("<", 5_000)
    assert assignment.accuracy == Limit(">=", 9_900)
    assert (assignment.dropout, assignment.head) == (None, "gap-or-fc")


def test_a_file_of_windows_notepad_is_read(tmp_path: Path) -> None:
    path = tmp_path / "course.toml"
    path.write_bytes(b'\xef\xbb\xbftitle = "my course"\r\nparameters = "< 5000"\r\n')
    assert read_assignment(path).title == "my course"
    assert read_assignment(path).parameters == Limit("<", 5_000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters = 8000", "quoted limit"),
        ('parameters = "few"', "is no limit"),
        ('paramters = "< 8000"', "unknown key 'paramters'"),
        ('batch_norm = "twice"', "once, each-block"),
        ("batch_norm = true", "once, each-block"),
        ("consistent_epochs = 0", "whole number from 1"),
        ("consistent_epochs = 3", "without accuracy"),
        ('parameters = "<= 99.4 %"', "only accuracy is a percentage"),
        ('parameters = "< 8_,0_0"', "is no limit"),
        ("consistent_epochs = true", "whole number from 1"),
        ("name = 3\n", "expected text"),
        ("parameters = ", "not valid TOML"),
        ("", "no limit at all"),
        ("a=" + "[" * 100_000, "not valid TOML: brackets within brackets"),
        ("parameters = " + "9" * 100_000, "not valid TOML"),
    ],
    ids=lambda text: text[:30],
)
def test_bad_toml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(AssignmentError, match=message):
        read_assignment(path)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssignmentError, match="cannot read"):
        read_assignment(tmp_path / "missing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AssignmentError, match="cannot read"):
        read_assignment(tmp_path / "binary.toml")
    os.mkfifo(tmp_path / "pipe.toml")  # to be refused, and not waited for
    with pytest.raises(AssignmentError, match=r"cannot read .* no regular file"):
        read_assignment(tmp_path / "pipe.toml")
    for name in ("crad", ""):
        with pytest.raises(AssignmentError, match="expected one of card"):
            find_assignment(name)


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("card.toml", "", "name = 'card'"),  # a file without a name has that of the file
        ("mine.toml", 'name = "card"\n', "name = 'card'"),
        ("mine.toml", 'name = "Card 4K"\n', "name = 'Card 4K'"),
        ("mine.toml", 'name = "c\u200bard"\n', "name = 'c"),  # a space that no one sees
        ("mine.toml", 'name = "\uff43ard"\n', "name = "),  # a wide c
        ("mine.toml", 'name = "this project\'s card"\n', "name = "),
        ("mine.toml", 'title = "this project\u2019s  card"\n', "title = "),
        ("mine.toml", 'title = "card"\n', "title = 'card'"),
        ("mine.toml", 'title = "ERA V3 session 6"\n', "title = "),
        ("era-v3.toml", 'title = "ours"\n', "name = 'era-v3'"),
        ("mine.toml", 'title = "-"\n', "title = '-' says nothing"),
    ],
)
def test_no_file_passes_for_a_known_assignment(
    tmp_path: Path, name: str, text: str, key: str
) -> None:
    path = tmp_path / name
    path.write_text(f'{text}parameters = "< 80000"\n', encoding="utf-8")
    with pytest.raises(AssignmentError) as caught:
        find_assignment(str(path))
    assert str(caught.value).startswith(f"{path}: {key}")
    assert str(caught.value).endswith("; choose another, such as name = 'my-course'")


@pytest.mark.parametrize("name", ["cards", "my card", "card-8k", "course"])
def test_other_names_are_free(tmp_path: Path, name: str) -> None:
    path = tmp_path / "card.toml"
    path.write_text(f'name = "{name}"\nparameters = "< 80000"\n')
    assert read_assignment(path).title == name
