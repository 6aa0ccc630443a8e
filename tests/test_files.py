from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mnist_models.files import NotReadError, in_words, read_text, read_whole

from .endless import huge, pipe, within


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_whole(path, 5) == b"12345"
    with pytest.raises(NotReadError, match="has 5 bytes, and at most 4 are read"):
        read_whole(path, 4)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """Sparse: more than the memory of any machine, and no room on the disk."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(8 << 40)
    with pytest.raises(NotReadError, match="8,796,093,022,208 bytes"):
        read_whole(path, 1 << 20)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, Path(os.devnull)):
        with pytest.raises(NotReadError, match="no regular file"):
            read_whole(path, 100)
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "nothing", 100)


def test_a_link_is_a_file_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    assert read_whole(tmp_path / "link", 1) == b"1"
    assert read_whole(tmp_path / "file", 1, links=False) == b"1"
    with pytest.raises(NotReadError, match="it is a symbolic link; put the file itself there"):
        read_whole(tmp_path / "link", 1, links=False)


def test_a_text_has_newlines_alone(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("ä\r\nb\rc\n".encode())
    assert read_text(path) == path.read_text(encoding="utf-8") == "ä\nb\nc\n"
    for damage in (pipe, huge):
        path.unlink()
        damage(path)
        with within(), pytest.raises(NotReadError):
            read_text(path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOENT, "No such file or directory", "a.md"),
            "a.md: there is no such file or folder; choose another path",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "a.md"),
            "a.md: this user's share of the disk is full; make room there, or choose another path",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "what is printed cannot be written: the disk is full; make room there, or print "
            "elsewhere",
        ),
        (OSError(errno.ECONNREFUSED, "Connection refused"), "[Errno 111] Connection refused"),
        (NotReadError("it is no regular file"), "it is no regular file"),
    ],
)
def test_the_system_is_put_into_words(error: OSError, said: str) -> None:
    assert in_words(error) == said
