"""Files that are complete or absent, never half."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mnist_models.files import refusal, remedy


class NotWrittenError(OSError):
    """A file or folder that cannot be written: which one, what is in the way, what to do."""


@contextlib.contextmanager
def writing(path: Path, choice: str = "path") -> Iterator[None]:
    """Name what cannot be written, for the system does not always, and the `choice` to change.

    Raises:
        NotWrittenError: instead of any other OSError.
    """
    try:
        yield
    except NotWrittenError:
        raise
    except FileNotFoundError as error:  # the folder that was to hold it, or /proc
        said = f"{path} cannot be written: no file or folder can be made there"
        raise NotWrittenError(f"{said}; choose another {choice}") from error
    except OSError as error:
        advice = remedy(error, f"choose another {choice}")
        raise NotWrittenError(f"{path} cannot be written: {refusal(error)}; {advice}") from error


def make_folder(path: Path, choice: str = "path") -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        NotWrittenError: it cannot be made.
    """
    with writing(path, choice):
        path.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it.

    Raises:
        NotWrittenError: it cannot be written.
    """
    with writing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)  # mkstemp's 0600 would keep others from reading it
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
