"""The stamp in a picture: found again, and sound for the drawing it was made for alone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from mnist_models.figures.stamp import StampError, code_digest, digest_of, read_stamp, stamped

SHOWS, CODE = digest_of({"a": 1}), digest_of({"a": 2})
SVG = (
    b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">\n<path d="M 1 2"/>\n</svg>\n'
)


def png(colour: int = 10, text: str = "") -> bytes:
    buffer = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text("mnist-models", text)
    Image.new("L", (4, 3), colour).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize("drawing", [SVG, png()], ids=["svg", "png"])
def test_a_stamp_is_found_again(drawing: bytes) -> None:
    stamp = read_stamp(stamped(drawing, SHOWS, CODE))
    assert (stamp.shows, stamp.code) == (SHOWS, CODE)
    assert stamp.drawing.startswith("sha256:")
    other = read_stamp(stamped(drawing, CODE, SHOWS))
    assert other.drawing == stamp.drawing  # the drawing alone


def test_a_stamped_png_is_still_one() -> None:
    with Image.open(io.BytesIO(stamped(png(77), SHOWS, CODE))) as image:
        image.load()
        assert image.getpixel((0, 0)) == 77
        assert image.text["mnist-models"].startswith(f"shows {SHOWS}")  # type: ignore[attr-defined] - a PNG's


def test_an_edited_svg_is_found() -> None:
    content = stamped(SVG, SHOWS, CODE)
    assert read_stamp(content.replace(b"\n", b"\r\n")).shows == SHOWS  # as git may check it out
    for edited in (
        content.replace(b"M 1 2", b"M 1 3"),
        content + b" ",
        b" " + content,
        content.replace(b"<path", b"<!-- --><path"),
    ):
        with pytest.raises(StampError, match="edited after it was drawn"):
            read_stamp(edited)


def test_an_edited_png_is_found() -> None:
    words = Image.open(io.BytesIO(stamped(png(), SHOWS, CODE))).text["mnist-models"]  # type: ignore[attr-defined] - a PNG's
    with pytest.raises(StampError, match="edited after it was drawn"):
        read_stamp(png(11, words))


@pytest.mark.parametrize("drawing", [SVG, png()], ids=["svg", "png"])
def test_one_stamp_and_no_more(drawing: bytes) -> None:
    with pytest.raises(StampError, match="found 0 stamps"):
        read_stamp(drawing)
    with pytest.raises(StampError, match="found 2 stamps"):
        read_stamp(stamped(stamped(drawing, SHOWS, CODE), SHOWS, CODE))


@pytest.mark.parametrize("drawing", [SVG, png()], ids=["svg", "png"])
def test_a_file_that_breaks_off_anywhere_is_an_error(drawing: bytes) -> None:
    content = stamped(drawing, SHOWS, CODE)
    for end in range(len(content) - 1):
        with pytest.raises(StampError, match="damaged"):
            read_stamp(content[:end])
    with pytest.raises(StampError):
        read_stamp(content[:-1])


@pytest.mark.parametrize("drawing", [SVG, png()], ids=["svg", "png"])
def test_a_wrong_byte_anywhere_is_an_error(drawing: bytes) -> None:
    content = stamped(drawing, SHOWS, CODE)
    accepted = []
    for place in range(len(content)):
        wrong = bytearray(content)
        wrong[place] ^= 1
        try:
            stamp = read_stamp(bytes(wrong))
        except StampError:
            continue
        accepted.append(place)
        assert (stamp.shows, stamp.code) != (SHOWS, CODE)  # the stamp itself, and it says so
    assert len(accepted) <= 128


def test_what_is_no_picture_is_refused() -> None:
    for content in (b"", b"hello", b"<svg>", b"\x00" * 100):
        with pytest.raises(StampError, match="damaged"):
            read_stamp(content)
    with pytest.raises(StampError, match="neither"):
        stamped(b"hello", SHOWS, CODE)


SOURCE = '''"""A module."""
import os

PI = 3.14


class A:
    """A class."""

    def f(self, x: int = 1, *, y: str = f"{os.name!r:>{4}}") -> str:
        """A method."""
        return f"{x:.2f} and {{" 'more' + y
'''


def digest(folder: Path, text: str) -> str:
    path = folder / "a.py"
    path.write_text(text)
    return code_digest(path)


def test_the_code_counts_and_its_comments_do_not(tmp_path: Path) -> None:
    before = digest(tmp_path, SOURCE)
    for other in (
        SOURCE.replace("3.14", "3.14  # nearly"),
        SOURCE.replace('"""A method."""', '"""Another\n\n        text."""'),
        SOURCE.replace('"""A class."""', ""),
        SOURCE.replace("(self, x: int = 1,", "(\n        self,\n        x: int = 1,\n       "),
        SOURCE.replace("'more'", '"more"').replace("\n\n", "\n\n\n"),
    ):
        assert other != SOURCE
        assert digest(tmp_path, other) == before
    for other in (
        SOURCE.replace("3.14", "3.15"),
        SOURCE.replace("'more'", "'less'"),
        SOURCE.replace("x: int", "z: int"),
        SOURCE.replace(".2f", ".3f"),
        SOURCE + "\nA = None\n",
    ):
        assert digest(tmp_path, other) != before


def test_every_python_gives_the_same_digest(tmp_path: Path) -> None:
    expected = "sha256:dc4b30d495f9b30bbcb77bf14d83317cd28a8dcd91bdf35e662e33717e308113"
    assert digest(tmp_path, SOURCE) == expected
