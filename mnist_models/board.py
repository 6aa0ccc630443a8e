"""The board of a sweep: a folder that is there for as long as the sweep is going on.

Workers that see it show there how far they are, and end their runs when it is gone.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mnist_models.atomic import writing

_NAME = re.compile(r"\.sweep-[0-9a-f]{32}")


@contextlib.contextmanager
def board_in(out: Path) -> Iterator[Path]:
    """A board in the folder, made if need be; those go of sweeps that were killed.

    Raises:
        NotWrittenError: it cannot be written.
    """
    board = out.resolve() / f".sweep-{uuid.uuid4().hex}"
    with contextlib.ExitStack() as held:
        with writing(out, "--out"):
            board.parent.mkdir(parents=True, exist_ok=True)
            # Held before it is there: at no time does another sweep find it without a holder.
            held.enter_context(_holding(board))
            board.mkdir()
        _clear(board)
        yield board


@contextlib.contextmanager
def _holding(board: Path) -> Iterator[None]:
    """Hold a board and remove it at the end; the hold ends with the process, however that ends.

    The lock lies beside the board, since it has to be there first. No other board ever has its
    name, so that whoever waits for a lock that is removed removes nothing of anybody's.

    Raises:
        Timeout: another sweep holds it.
    """
    file = board.with_name(f"{board.name}.lock")
    lock = FileLock(file)
    lock.acquire(timeout=0)
    try:
        yield
    finally:
        shutil.rmtree(board, ignore_errors=True)
        file.unlink(missing_ok=True)
        lock.release()


def _clear(own: Path) -> None:
    """Remove the boards beside `own` that nobody holds any more."""
    for path in own.parent.glob(".sweep-*"):
        if _NAME.fullmatch(path.name) and path.is_dir() and path != own:
            with contextlib.suppress(Timeout, OSError), _holding(path):
                pass  # which removes it; one that cannot be removed is in nobody's way
