"""What all figures share: paper, ink, colours, sizes, and how they become bytes.

No pyplot and no settings of the user's: the same figure on every machine. The paper is opaque,
so that a page in dark mode shows it as it is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

WIDTH = 8.75  # inches: 840 pixels on a page, as wide as a README is shown
PAPER, INK, MUTED, FAINT = "#fcfcfa", "#1f2328", "#59636e", "#d7dce1"
# Okabe and Ito's, told apart with any colour vision; dark enough on paper
BLUE, ORANGE, GREEN, PINK, BROWN = "#0072b2", "#d55e00", "#007a59", "#b3478f", "#8a5a00"
_TITLE = 0.38  # inches at the top
_PNG_DPI = 192  # two pixels of the picture for one of the page
_LOOK = {
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": "#ffffff",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "svg.hashsalt": "mnist-models",  # the same names inside the file every time
    "svg.fonttype": "path",  # the same letters whatever fonts the reader has
}


@contextmanager
def look() -> Iterator[None]:
    """matplotlib's own settings and this project's, for as long as a figure is made."""
    with matplotlib.style.context(["default", _LOOK]):
        yield


def new_figure(height: float) -> Figure:
    """An empty figure, `WIDTH` x `height` inches, whose parts keep clear of each other."""
    free = 1 - _TITLE / height  # the layout leaves the title's room free
    margins = ConstrainedLayoutEngine(rect=(0.012, 0.012, 0.976, free - 0.012))
    return Figure(figsize=(WIDTH, height), layout=margins)


def title(figure: Figure, text: str) -> None:
    """A bold line at the upper left."""
    top = 1 - 0.13 / figure.get_figheight()
    figure.suptitle(text, x=0.02, y=top, ha="left", va="top", fontsize=11.5, fontweight="bold")


def settle(figure: Figure) -> None:
    """Lay the figure out once and for all, each panel on round numbers.

    The solver's last digits differ from run to run, and the names inside an SVG are made from
    them.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position().bounds
        axes.set_position((round(left, 4), round(bottom, 4), round(width, 4), round(height, 4)))


def svg_bytes(figure: Figure, alt: str) -> bytes:
    """The figure as SVG; `alt` is what a screen reader says of it."""
    with look():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    head, opening, body = buffer.getvalue().decode().partition("<svg ")
    attributes, bracket, rest = body.partition(">")
    text = f'{head}{opening}role="img" {attributes}{bracket}\n <title>{escape(alt)}</title>{rest}'
    return "\n".join(line.strip() for line in text.splitlines()).encode() + b"\n"


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, two pixels for one of the page."""
    with look():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()
