"""Files from elsewhere, read whole: only what is a file, and only as large as it can be."""

from __future__ import annotations

import stat
from pathlib import Path


class NotReadError(OSError):
    """What lies there is no file, or a larger one than is read."""


def read_whole(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    A pipe would be waited for without end, a device has no end, and a sparse file of terabytes
    takes no room on the disk but all of the memory.

    Raises:
        NotReadError: it is none, or larger.
        OSError: it is not there or must not be read; the system's words.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise NotReadError("it is no regular file")
    if found.st_size > most:
        raise NotReadError(f"it has {found.st_size:,} bytes, and at most {most:,} are read")
    return path.read_bytes()
