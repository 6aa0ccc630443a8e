"""MNIST's four raw IDX files: found, checked byte for byte, downloaded where missing.

Only raw files are read: ``torchvision.datasets.MNIST`` would first unpickle
``MNIST/processed/*.pt`` where there is one. From torchvision come the layout and the addresses
of the mirrors; its downloader has no time limit and falls back from https to http, so the
fetching is done here. The user's files are never changed or replaced.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import stat
import time
import urllib.request
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from mnist_models.files import refusal
from mnist_models.plural import counted

MIRRORS: tuple[str, ...] = ()  # asked instead of torchvision's where there are any
_ROUNDS = 2  # over all mirrors
_TIMEOUT = 10.0  # seconds without an answer, or without a further byte
_PATIENCE = 30.0  # seconds of failures for one file, after which no mirror is asked any more
_SLOWEST = 600.0  # seconds for one file: the largest has 10 MB, so that is 16 KB/s
_CHUNK = 1 << 16  # bytes


def _mirrors() -> tuple[str, ...]:
    from torchvision.datasets import MNIST  # noqa: PLC0415 - takes seconds; only a download needs it

    return MIRRORS or tuple(MNIST.mirrors)


class DataError(Exception):
    """No usable data set: which file, what was found, what was expected, what to do."""


class DownloadError(DataError):
    """Files are missing and no mirror delivered them."""


@dataclass(frozen=True)
class RawFile:
    """A canonical file, uncompressed.

    Attributes:
        name: file name.
        size: bytes.
        md5: of the whole content.
        item: shape of one image or label; the header holds a magic number and one count per
            axis, 4 bytes each.
    """

    name: str
    size: int
    md5: str
    item: tuple[int, ...]

    def tensor(self, content: bytes) -> Tensor:
        """The canonical content as uint8 ``(N, *item)``."""
        header = 4 * (2 + len(self.item))
        flat = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header)
        return flat.view(-1, *self.item)


TRAIN_FILES = (
    RawFile("train-images-idx3-ubyte", 47_040_016, "6bbc9ace898e44ae57da46a324031adb", (28, 28)),
    RawFile("train-labels-idx1-ubyte", 60_008, "a25bea736e30d166cdddb491f175f624", ()),
)
TEST_FILES = (
    RawFile("t10k-images-idx3-ubyte", 7_840_016, "2646ac647ad5339dbf082846283269ea", (28, 28)),
    RawFile("t10k-labels-idx1-ubyte", 10_008, "27ae3e4e09519cfbb04c329615203637", ()),
)


def find_root(data_root: Path | None = None) -> Path:
    """The folder that holds the data set: the argument, else MNIST_ROOT, else ``data``.

    ``data`` lies in the repository, or in the working directory if the package is installed
    elsewhere; it alone need not exist.

    Raises:
        DataError: a folder was named and is none.
    """
    variable = os.environ.get("MNIST_ROOT")
    if data_root is None and not variable:
        repository = Path(__file__).resolve().parent.parent
        return (repository if (repository / "pyproject.toml").is_file() else Path.cwd()) / "data"
    root, source = (data_root, "--data-root") if data_root else (Path(variable or ""), "MNIST_ROOT")
    try:
        root = root.expanduser()
    except RuntimeError as error:  # no such user
        raise DataError(f"{root} (from {source}): {error}; correct the path") from None
    if not root.is_dir():
        found = "no folder" if root.exists() else "nothing"
        raise DataError(
            f"{root} (from {source}): found {found}, expected the folder that holds MNIST/raw; "
            "correct the path, or create the folder to download MNIST into it"
        )
    return root


def read_raw(root: Path, files: tuple[RawFile, ...], progress: bool = False) -> list[Tensor]:
    """The files' data, uint8 ``(N, *item)`` each, from below `root` or else downloaded into it.

    Looked for in ``MNIST/raw`` and in `root` itself, plain before ``.gz``.

    Raises:
        DownloadError: a file is missing and no mirror delivered it.
        DataError: a file is damaged or unreadable, or a downloaded one cannot be stored.
    """
    contents: dict[str, bytes] = {}
    for file in files:  # all that is there, first: damage must not hide behind an outage
        path = _find(root, file.name)
        if path is not None:
            contents[file.name] = _read(path, file)
    for file in files:
        if file.name not in contents:
            contents[file.name] = _download(root, file, progress)
    return [file.tensor(contents[file.name]) for file in files]


def _find(root: Path, name: str) -> Path | None:
    for folder in (root / "MNIST" / "raw", root):
        for path in (folder / name, folder / f"{name}.gz"):
            try:
                path.lstat()  # a link into nothing is there, and wrong
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise _damaged(path, f"cannot be read: {error.strerror}") from error
            return path
    return None


def _read(path: Path, file: RawFile) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _damaged(path, "found no regular file", file)
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}", file) from error
    if path.suffix == ".gz":
        try:
            content = _unpack(content, file)
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(path, f"cannot be decompressed: {error}", file) from error
    if problem := _problem(content, file):
        raise _damaged(path, problem, file)
    return content


def _damaged(path: Path, problem: str, file: RawFile | None = None) -> DataError:
    expected = f", expected {file.size:,} bytes with md5 {file.md5}" if file else ""
    return DataError(
        f"{path}: {problem}{expected}; move it away and run again to download it, or point "
        "--data-root or MNIST_ROOT at a folder with the canonical files"
    )


def _unpack(packed: bytes, file: RawFile) -> bytes:
    with gzip.GzipFile(fileobj=BytesIO(packed)) as stream:
        return stream.read(file.size + 1)  # one more byte than right is wrong enough


def _problem(content: bytes, file: RawFile) -> str | None:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 == file.md5:
        return None
    other = [known.name for known in TRAIN_FILES + TEST_FILES if known.md5 == md5]
    hint = f" (that is {other[0]})" if other else ""
    return f"found {counted(len(content), 'byte')} with md5 {md5}{hint}"


def _download(root: Path, file: RawFile, progress: bool) -> bytes:
    errors: list[str] = []
    give_up = time.monotonic() + _PATIENCE
    for mirror in _mirrors() * _ROUNDS:
        if time.monotonic() > give_up:
            break
        try:
            content = _unpack(_fetch(f"{mirror}{file.name}.gz", file, progress), file)
            problem = _problem(content, file)
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        if problem is None:
            _store(root / "MNIST" / "raw" / file.name, content)
            return content
        errors.append(f"{mirror} ({problem})")
    raise DownloadError(
        f"{file.name} is neither in {root / 'MNIST' / 'raw'} nor in {root}, plain or .gz, and no "
        f"mirror delivered it: {'; '.join(dict.fromkeys(errors))}. Point --data-root or "
        "MNIST_ROOT at a folder that holds MNIST/raw"
    )


def _fetch(url: str, file: RawFile, progress: bool) -> bytes:
    deadline = time.monotonic() + _SLOWEST
    received = bytearray()
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
        tqdm(
            total=response.length, desc=file.name, unit="B", unit_scale=True, disable=not progress
        ) as bar,
    ):
        while chunk := response.read1(_CHUNK):  # read() would wait for the last byte of many
            received += chunk
            bar.update(len(chunk))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(received):,} bytes in {_SLOWEST:.0f} s")
            if len(received) > file.size:
                raise OSError(f"more than {file.size:,} bytes, and packed at that")
    return bytes(received)


def _store(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            part.replace(path)  # in one step, so that nobody ever reads half a file
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{path}: downloaded, but cannot be stored: {refusal(error)}; make room, or the "
            "folder writable, or point --data-root or MNIST_ROOT at one that is"
        ) from error
