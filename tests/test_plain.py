from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_models.plain import one_line, sanitise


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10 %\r20 %\r\n", "10 %\n20 %\n"),
        ("a\b\b\x00\x7f\x9b31m", "a31m"),
        ("\u202egnp.exe\u200b", "gnp.exe"),
        ("\ud800", ""),
        ("tab\tand \u00fcml\u00e4ut \u6a21\n", "tab\tand \u00fcml\u00e4ut \u6a21\n"),
    ],
)
def test_sanitise(text: str, clean: str) -> None:
    assert sanitise(text) == clean


@given(st.text())
def test_sanitised_text_has_no_control_characters(text: str) -> None:
    clean = sanitise(text)
    assert all(c in "\n\t" or not unicodedata.category(c).startswith("C") for c in clean)
    assert sanitise(clean) == clean


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n::error::b\x1b[31m\tc\u2028d", "a ::error::b c d"),
        ("  ", ""),
        ("x" * 30, "x" * 30),
        ("begun" + "x" * 1_000_000 + "ended", "begun" + "x" * 10 + " ... xxxxxended"),
    ],
    ids=lambda text: text[:20],
)
def test_one_line_is_short_and_keeps_both_ends(text: str, line: str) -> None:
    assert one_line(text, 30) == line


@given(st.text(), st.integers(20, 50))
def test_one_line_is_one_of_no_more_than_asked_for(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line.splitlines()) <= 1
    assert len(line) <= most
