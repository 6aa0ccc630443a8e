from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_models.assignment import (
    ASSIGNMENTS,
    CARD,
    AssignmentError,
    Limit,
    find_assignment,
    read_assignment,
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
