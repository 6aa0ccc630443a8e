"""Files from elsewhere, read whole: only what is a file, and only as large as it can be.

And what the system refuses, in words: its own say neither what was expected nor what to do.
"""

from __future__ import annotations

import errno
import io
import stat
from pathlib import Path

from mnist_models.plural import counted

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "this user's share of the disk is full"}
_REFUSALS = _FULL | {
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of the path is a file where a folder is expected",
    errno.EEXIST: "a file is there where a folder is expected",
    errno.EISDIR: "a folder is there where a file is expected",
    errno.EACCES: "this user has no right to it",
    errno.EPERM: "this user has no right to it",
    errno.EROFS: "its disk can only be read",
    errno.ENAMETOOLONG: "the name is too long",
}

MOST_HERE = 64 << 20  # bytes of a file of the repository; the largest of them has a few millions


class NotReadError(OSError):
    """What lies there is no file, or a larger one than is read."""


def read_whole(path: Path, most: int, *, links: bool = True) -> bytes:
    """The content of a regular file of at most `most` bytes.

    A pipe would be waited for without end, a device has no end, and a sparse file of terabytes
    takes no room on the disk but all of the memory. Without `links`, a symbolic link is no file.

    Raises:
        NotReadError: it is none, or larger.
        OSError: it is not there or must not be read; the system's words.
    """
    found = path.stat(follow_symlinks=links)
    if stat.S_ISLNK(found.st_mode):
        raise NotReadError("it is a symbolic link; put the file itself there")
    if not stat.S_ISREG(found.st_mode):
        raise NotReadError("it is no regular file")
    if found.st_size > most:
        raise NotReadError(
            f"it has {counted(found.st_size, 'byte')}, and at most {most:,} are read"
        )
    return path.read_bytes()


def read_text(path: Path) -> str:
    """The text of a file of the repository, UTF-8, its lines ended by newlines alone.

    Raises:
        NotReadError, OSError: as `read_whole`.
        UnicodeDecodeError: it is no UTF-8.
    """
    return io.TextIOWrapper(io.BytesIO(read_whole(path, MOST_HERE)), encoding="utf-8").read()


def refusal(error: OSError) -> str:
    """What the system found in the way, in words."""
    return _REFUSALS.get(error.errno or 0) or error.strerror or str(error)


def remedy(error: OSError, instead: str) -> str:
    """What to do about it: `instead` of a place that cannot be had."""
    return f"make room there, or {instead}" if error.errno in _FULL else instead


def in_words(error: OSError) -> str:
    """The whole message of an error of the system: the file, what was found, what to do."""
    if error.errno not in _REFUSALS:
        return str(error)
    if error.filename is None:  # every file is named; where what is printed goes is not known
        advice = remedy(error, "print elsewhere")
        return f"what is printed cannot be written: {refusal(error)}; {advice}"
    return f"{error.filename}: {refusal(error)}; {remedy(error, 'choose another path')}"
