"""Badges: one SVG and one shields.io endpoint JSON per measured property.

Pure: text in, text out. Green only on a measured pass, red on a fail, grey when unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import anybadge
from anybadge.templates import get_template

# Dark enough for white text: a contrast of 4.5 or more, which WCAG 2.1 AA asks for.
_COLOURS = {True: "#2e7d32", False: "#c62828", None: "#616161"}
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
RUN_BADGES = ("tests", "notebooks", "verify")  # written by the run that measured them alone
RESULTS: Mapping[str, tuple[bool | None, str]] = {  # what a workflow says of a finished job
    "success": (True, "passing"),
    "failure": (False, "failing"),
    "cancelled": (None, "cancelled"),
    "skipped": (None, "not run"),
    "unknown": (None, "unknown"),
}


class BadgeError(ValueError):
    """A run badge that does not exist, or a result that no job can have."""


@dataclass(frozen=True)
class Badge:
    """One badge.

    Attributes:
        name: of its files, without their suffixes.
        label: what was measured.
        message: what was found, and the limit.
        passed: whether it kept the limit; None where it is not known.
    """

    name: str
    label: str
    message: str
    passed: bool | None

    @property
    def text(self) -> str:
        """What it says, for those who do not see it."""
        verdict = {True: "pass", False: "fail", None: "unknown"}[self.passed]
        return f"{self.label}: {self.message} ({verdict})"

    def svg(self) -> str:
        """The picture: valid XML whatever the text, with a title, the same bytes every time."""
        # The library numbers its masks, so that the same badge would differ from run to run.
        template = get_template("default").replace("{{ mask id }}", "rounded")
        opening = re.compile(r"<svg ([^>]*)>")
        titled = opening.sub(r'<svg \1 role="img"><title>{{ title }}</title>', template, count=1)
        drawn = anybadge.Badge(
            _printable(self.label),
            _printable(self.message),
            default_color=_COLOURS[self.passed],
            template=titled,
        )
        escaped = anybadge.Badge(_printable(self.text), "").encoded_label
        return str(drawn.badge_svg_text).replace("{{ title }}", escaped)

    def endpoint(self) -> str:
        """The JSON that https://shields.io/badges/endpoint-badge reads."""
        table = {
            "schemaVersion": 1,
            "label": self.label,
            "message": self.message,
            "color": _COLOURS[self.passed].removeprefix("#"),
        }
        return json.dumps(table, indent=1, ensure_ascii=False) + "\n"

    def files(self) -> dict[str, str]:
        """Both of its files, by name."""
        return {f"{self.name}.svg": self.svg(), f"{self.name}.json": self.endpoint()}


def run_badge(name: str, result: str) -> Badge:
    """The badge of one part of a CI run, from the result of its job.

    Args:
        name: one of `RUN_BADGES`.
        result: ``success``, ``failure``, ``cancelled``, ``skipped``, or ``unknown``.

    Raises:
        BadgeError: no such badge or result.
    """
    if name not in RUN_BADGES:
        raise BadgeError(f"no run badge {name!r}; expected one of {', '.join(RUN_BADGES)}")
    if result not in RESULTS:
        raise BadgeError(f"{name}: no result {result!r}; expected one of {', '.join(RESULTS)}")
    passed, message = RESULTS[result]
    return Badge(name, name, message, passed)


def _printable(text: str) -> str:
    return _NOT_XML.sub("�", " ".join(text.split()) or "unknown")
