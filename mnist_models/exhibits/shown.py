"""What a notebook renders by itself: Markdown and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

from mnist_models.report.markdown import table

NO_RECORD = "no record yet"
_DPI = 110  # pixels per inch: legible, and small enough for a file


@dataclass(frozen=True)
class Markdown:
    """A text that a notebook renders."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Picture:
    """A figure that a notebook shows, as PNG, with a sentence for those who cannot see it."""

    figure: Figure
    text: str

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()

    def __repr__(self) -> str:
        return self.text


def rows_of(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Markdown:
    """A table; numbers with thousands separated, None as a dash."""
    return Markdown(table(header, [[_cell(value) for value in row] for row in rows]))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def findings(texts: Sequence[str]) -> Markdown:
    """Sentences as a list."""
    return Markdown("".join(f"- {text}\n" for text in texts) or "- none")


def settings(values: Mapping[str, Any]) -> Markdown:
    """Names and values, a row each."""
    return rows_of(("", ""), [(name, brief(value)) for name, value in values.items()])


def brief(value: object) -> str:
    """A setting in a few words: a schedule or transform by its kind and numbers."""
    if isinstance(value, list):
        return " + ".join(map(brief, value)) or "none"
    if isinstance(value, Mapping):
        numbers = ", ".join(f"{key} {v}" for key, v in value.items() if key != "kind")
        return f"{value['kind']}({numbers})" if numbers else str(value["kind"])
    return str(value)
