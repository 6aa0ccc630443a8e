"""The stamp in a picture: digests of what it shows, of the code that drew it, of the drawing.

An SVG carries it as a comment before its closing tag, a PNG as a text chunk before its end. The
drawing's digest covers every other byte of the file, so that any edit shows, and reading it back
decodes nothing. It is compared with the file it stands in alone: two versions of the plotting
library draw other bytes, and both files are sound.
"""

from __future__ import annotations

import ast
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnist_models.record import canonical

_KEYWORD = b"mnist-models"
_WORDS = re.compile(rb"shows (sha256:[0-9a-f]{64}) code (sha256:[0-9a-f]{64}) drawing (\S+)")
_COMMENT = re.compile(rb"<!-- mnist-models ([^>]*) -->\n")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"</svg>"


class StampError(ValueError):
    """A picture without a sound stamp: what was found in the file."""


@dataclass(frozen=True)
class Stamp:
    """Three digests, each ``sha256:`` and 64 hexadecimal digits.

    Attributes:
        shows: of what the picture shows, by `digest_of`.
        code: of the source files that drew it, by `code_digest`.
        drawing: of the file's bytes without the stamp.
    """

    shows: str
    code: str
    drawing: str


def digest_of(shows: Mapping[str, Any]) -> str:
    """The sha256 of a JSON-ready table, in its canonical form."""
    return _sha256(canonical(shows))


def code_digest(*paths: Path) -> str:
    """The sha256 over names and syntax trees of source files.

    Comments, docstrings and layout leave it as it is. The tree is written out here and not by
    `ast.dump` or `ast.unparse`, whose texts change from Python to Python: fields that are empty
    are left out, so that a field which a later Python adds changes nothing either.
    """
    lines = [f"{path.name} {_tree(path.read_bytes())}" for path in paths]
    return _sha256("\n".join(lines).encode())


@lru_cache(maxsize=32)  # a few files draw all the pictures
def _tree(source: bytes) -> str:
    return _written(ast.parse(source))


def _written(node: object) -> str:
    if isinstance(node, list):
        return f"[{' '.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if name != "kind"}
    if isinstance(node, ast.JoinedStr):  # Python 3.12 puts an empty text behind a nested format
        fields["values"] = [part for part in node.values if getattr(part, "value", None) != ""]
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    inner = [f"{name}={_written(value)}" for name, value in fields.items() if _is_something(value)]
    return f"{type(node).__name__}({' '.join(inner)})"


def _is_something(value: object) -> bool:
    return value is not None and value != []


def stamped(drawing: bytes, shows: str, code: str) -> bytes:
    """The file of a picture, SVG or PNG, with its stamp put in.

    Raises:
        StampError: the bytes are neither.
    """
    words = f"shows {shows} code {code} drawing {_sha256(drawing)}".encode()
    if drawing.startswith(_SIGNATURE):
        chunks = list(_chunks(drawing))
        end = len(drawing) - len(chunks[-1])
        return drawing[:end] + _text_chunk(words) + drawing[end:]
    before, closing, after = drawing.rpartition(_END)
    if not closing:
        raise StampError("found neither an SVG nor a PNG")
    return before + b"<!-- mnist-models " + words + b" -->\n" + closing + after


def read_stamp(content: bytes) -> Stamp:
    """The stamp in the bytes of a picture, found to fit the drawing it stands in.

    Raises:
        StampError: no picture, a damaged one, one without a stamp, or one that was edited.
    """
    words, drawing = _split_png(content) if content.startswith(_SIGNATURE) else _split_svg(content)
    match = _WORDS.fullmatch(words)
    if match is None:
        raise StampError("its stamp is damaged")
    stamp = Stamp(*(group.decode() for group in match.groups()))
    if stamp.drawing != _sha256(drawing):
        raise StampError("it was edited after it was drawn")
    return stamp


def _split_svg(content: bytes) -> tuple[bytes, bytes]:
    content = content.replace(b"\r\n", b"\n")  # as git may check it out
    if _END not in content:
        raise StampError("it is damaged: found neither a whole SVG nor a PNG")
    found = list(_COMMENT.finditer(content))
    if len(found) != 1:
        raise StampError(f"found {len(found)} stamps in it, expected one")
    return found[0][1], content[: found[0].start()] + content[found[0].end() :]


def _split_png(content: bytes) -> tuple[bytes, bytes]:
    head = _text_chunk(b"")[4:-4]
    chunks = list(_chunks(content))
    found = [chunk for chunk in chunks if chunk[4:-4].startswith(head)]
    if len(found) != 1:
        raise StampError(f"found {len(found)} stamps in it, expected one")
    rest = b"".join(chunk for chunk in chunks if chunk is not found[0])
    return found[0][4 + len(head) : -4], _SIGNATURE + rest


def _chunks(content: bytes) -> Iterator[bytes]:
    """The chunks of a PNG, each with its length, type and checksum."""
    start, kind = len(_SIGNATURE), b""
    while start < len(content):
        (length,) = struct.unpack(">I", content[start : start + 4].rjust(4, b"\xff"))
        chunk = content[start : start + length + 12]
        kind = chunk[4:8]
        if len(chunk) < length + 12 or struct.pack(">I", zlib.crc32(chunk[4:-4])) != chunk[-4:]:
            raise StampError(f"it is damaged: a PNG that breaks off or is wrong at byte {start:,}")
        yield chunk
        start += len(chunk)
    if kind != b"IEND":
        raise StampError("it is damaged: a PNG without an end")


def _text_chunk(words: bytes) -> bytes:
    body = b"tEXt" + _KEYWORD + b"\0" + words
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
