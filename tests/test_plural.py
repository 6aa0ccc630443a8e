"""Numbers with their nouns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mnist_models.plural import counted, singular

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "records/README.md", "docs/performance.md", "docs/scale.md", "docs/search.md"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 records"), (1, "1 record"), (2, "2 records"), (1069, "1,069 records")],
)
def test_one_is_no_plural(number: int, text: str) -> None:
    assert counted(number, "record") == text


def test_a_device_of_one_thread_is_said_so() -> None:
    """Records are signed, so that they keep the name that they were given."""
    assert singular("cpu: some, 1 threads") == "cpu: some, 1 thread"
    assert singular("cpu: some, 11 threads") == "cpu: some, 11 threads"
    assert singular("cuda: some, 1 threadsafe") == "cuda: some, 1 threadsafe"


@pytest.mark.parametrize("page", PAGES)
def test_no_page_has_one_of_several(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    words = "arms|cores|epochs|images|pairs|records|rounds|runs|steps|threads|workers"
    assert re.findall(rf"(?<![\d.,-])1 (?:{words})\b", text) == []
    assert re.findall(r"\bof 1 seeds", text) == []
