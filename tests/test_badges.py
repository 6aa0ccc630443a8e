from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_models.badges import RESULTS, RUN_BADGES, Badge, BadgeError, run_badge

SVG = "{http://www.w3.org/2000/svg}"


def texts(badge: Badge) -> list[str]:
    """What the picture says: label and message, each drawn twice for the shadow."""
    root = ElementTree.fromstring(badge.svg().encode())
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_shows_label_and_message_and_says_them() -> None:
    badge = Badge("parameters", "parameters", "7,892 < 8,000", True)
    assert texts(badge) == ["parameters", "parameters", "7,892 < 8,000", "7,892 < 8,000"]
    root = ElementTree.fromstring(badge.svg().encode())
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == badge.text == "parameters: 7,892 < 8,000 (pass)"
    assert root.get("role") == "img"
    assert set(badge.files()) == {"parameters.svg", "parameters.json"}


@pytest.mark.parametrize(
    ("passed", "channel"), [(True, "green"), (False, "red"), (None, "grey")], ids=str
)
def test_colour_follows_the_verdict(passed: bool | None, channel: str) -> None:
    badge = Badge("x", "x", "y", passed)
    colour = json.loads(badge.endpoint())["color"]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (0, 2, 4))
    largest = "grey" if red == green == blue else "red" if red > green else "green"
    assert largest == channel
    assert f'fill="#{colour}"' in badge.svg()


@given(st.text(), st.text())
def test_is_valid_xml_and_json_whatever_the_text(label: str, message: str) -> None:
    badge = Badge("x", label, message, None)
    assert len(texts(badge)) == 4
    table = json.loads(badge.endpoint())
    assert table["schemaVersion"] == 1
    assert (table["label"], table["message"]) == (label, message)
    badge.svg().encode("utf-8")
    badge.endpoint().encode("utf-8")


def test_markup_is_text() -> None:
    badge = Badge("x", "</text><script>", '&lt;{{ value }}"', False)
    assert texts(badge)[0] == "</text><script>"
    assert "<script>" not in badge.svg()


def test_the_same_badge_has_the_same_bytes() -> None:
    badge = Badge("x", "x", "y", True)
    assert badge.svg() == badge.svg() == Badge("x", "x", "y", True).svg()


@pytest.mark.parametrize("name", RUN_BADGES)
def test_run_badges(name: str) -> None:
    found = {result: run_badge(name, result).passed for result in RESULTS}
    assert found == {
        "success": True,
        "failure": False,
        "cancelled": None,
        "skipped": None,
        "unknown": None,
    }


def test_unknown_run_badges_are_refused() -> None:
    with pytest.raises(BadgeError, match="no run badge 'accuracy'; expected one of tests"):
        run_badge("accuracy", "success")
    with pytest.raises(BadgeError, match="no result 'ok'; expected one of success"):
        run_badge("tests", "ok")
