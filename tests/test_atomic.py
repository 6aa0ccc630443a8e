from __future__ import annotations

import errno
import os
import pickle
import stat
from pathlib import Path

import pytest

from mnist_models.atomic import NotWrittenError, make_folder, write_atomically, writing


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type] - that is the point
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"content")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_a_full_disk_is_said_with_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # names no file

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotWrittenError) as caught:
        write_atomically(path, b"new")
    said = f"{path} cannot be written: the disk is full; make room there, or choose another path"
    assert str(caught.value) == said
    assert str(pickle.loads(pickle.dumps(caught.value))) == said  # as from a worker
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path / "file", "a file is there where a folder is expected"),
        (tmp_path / "file" / "in" / "it", "a part of the path is a file"),
        (tmp_path / ("x" * 300), "the name is too long"),
        (Path("/proc/none"), "no file or folder can be made there"),
    ):
        with pytest.raises(NotWrittenError, match=f"{path} .*: {said}.*; choose another --out"):
            make_folder(path, "--out")
    with pytest.raises(NotWrittenError, match="first"), writing(tmp_path), writing(Path("first")):
        raise PermissionError(errno.EACCES, "Permission denied")
