from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnist_models.files import NotReadError, read_whole


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
