"""Markdown as text: tables, marked blocks, and where two texts differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mnist_models.plain import sanitise

_FORGERIES = {  # outside what is generated: what one would read instead of it
    re.compile(r"<!--+\s*(generated\b|end\b)", re.I): (
        "looks like the mark of a generated part and is none"
    ),
    re.compile(r"<details\b|<template\b|<[a-z]+\s[^>]*\b(?:hidden|style)\b", re.I): (
        "may hide what it stands around"
    ),
}
_BLOCK = re.compile(
    r"(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL
)
# What begins a link, a picture, a tag, code, emphasis or a formula; a name of hardware has @ and ()
# too, which alone begin nothing.
_MARKUP = re.compile(r"[\\`*_\[\]<>&~|!$]|:(?=//)|(?<=www)\.|(?<=\S)@(?=\S)", re.I)


class ReportError(Exception):
    """A file whose generated parts cannot be written."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what would end a cell or its line, or begin a tag, is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def shown(text: str) -> str:
    """What somebody else's file says, in one line of Markdown that shows it and does nothing."""
    words = " ".join(sanitise(text).split())
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", words)


def _cell(text: str) -> str:
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(text.split()).replace("|", "&#124;"))


def render(text: str, generated: Mapping[str, str], name: str = "README.md") -> str:
    """The text of the file `name` with the body of each of its marked blocks replaced.

    Raises:
        ReportError: it marks a block that is not known, lacks one, or has something that looks
            like one, or hides what follows.
    """
    marked = [match["name"] for match in _BLOCK.finditer(text)]
    if sorted(marked) != sorted(generated):
        raise ReportError(
            f"{name}: found the blocks {', '.join(sorted(marked)) or 'none'}; expected each of "
            f"{', '.join(sorted(generated))} once, between <!-- generated: NAME --> and "
            "<!-- end -->; restore the lines that are missing"
        )
    rest = _BLOCK.sub("\n", text)
    for pattern, what in _FORGERIES.items():
        if match := pattern.search(rest):
            raise ReportError(f"{name}: {match[0]!r} {what}; take it out")
    return _BLOCK.sub(lambda match: f"{match[1]}{generated[match['name']]}{match[4]}", text)


def stale_line(text: str, expected: str) -> int | None:
    """The first line, from 1, in which the two texts differ; None where they do not."""
    if text == expected:
        return None
    lines, others = text.split("\n"), expected.split("\n")
    for number, (found, wanted) in enumerate(zip(lines, others, strict=False), start=1):
        if found != wanted:
            return number
    return min(len(lines), len(others)) + 1
