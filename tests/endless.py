"""Files that are none: one that would be waited for without end, one that no memory holds."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

DEEP = "[" * 100_000  # JSON, as far as it goes


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def huge(path: Path) -> None:
    """Sparse: it takes no room on the disk."""
    path.touch()
    os.truncate(path, 8 << 40)


class Late(BaseException):
    """Which no `except Exception` takes for one of its own."""


@contextlib.contextmanager
def within(seconds: int = 10) -> Iterator[None]:
    """A failure instead of a wait without end; for what takes a blink."""

    def late(*_: object) -> NoReturn:
        raise Late(f"this waited for {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again: there may be more to wait for
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
