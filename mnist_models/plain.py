"""Text that others chose, made safe to show."""

from __future__ import annotations

import re
import unicodedata

_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-_])")
_CUT = " ... "


def sanitise(text: str) -> str:
    """Text that is safe to show: no terminal escapes, control or bidirectional characters."""
    text = _ESCAPE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c)[0] != "C")


def one_line(text: str, most: int = 1_000) -> str:
    """The text sanitised, in one line of at most `most` characters.

    The middle goes: a message begins with what it is about and ends with what to do.
    """
    text = " ".join(sanitise(text).split())
    if len(text) <= most:
        return text
    end = most // 3
    return text[: most - end - len(_CUT)] + _CUT + text[-end:]
