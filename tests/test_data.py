from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import pickle
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import MNIST

from mnist_models import data, idx
from mnist_models.cli import main
from mnist_models.data import DataError, Dataset, DigitsWarning, DownloadError, Split
from mnist_models.digits import read_digits

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
PUBLISHED = Path(__file__).parent.parent / "records" / "mnist-test" / "steps-6" / "seed-0"
ALL = (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)
VALIDATION_MD5 = {  # written down once: the slice must never move
    "train_images": "638aa133ecc60afd15952f1c7f6b1ae0",
    "train_labels": "ea6c28e4796b4bea741ac2778f12f5d5",
    "held_out_images": "12a1d7382cac73fb4124d6e461ccb95d",
    "held_out_labels": "6a9a88f826ab037668007939cf2bac80",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches out: the only mirror is a port of this machine that nobody serves."""
    monkeypatch.setattr(idx, "MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("MNIST_ROOT", raising=False)


def raw(root: Path) -> Path:
    return root / "MNIST" / "raw"


@pytest.fixture
def copy(mnist_root: Path, tmp_path: Path) -> Path:
    """A root of links to the canonical files, to be replaced one by one."""
    raw(tmp_path).mkdir(parents=True)
    for name in ALL:
        (raw(tmp_path) / name).symlink_to(raw(mnist_root) / name)
    return tmp_path


def replace(root: Path, name: str, content: bytes) -> Path:
    path = raw(root) / name
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def canonical(root: Path, name: str) -> bytes:
    return (raw(root) / name).read_bytes()


# the canonical data set


def test_mnist(mnist: Dataset) -> None:
    assert (mnist.name, mnist.split) == ("mnist", "test")
    for split, count in ((mnist.train, 60_000), (mnist.held_out, 10_000)):
        assert len(split) == count
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        assert (split.images.shape, split.labels.shape) == ((count, 28, 28), (count,))
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.held_out.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_mnist_is_what_torchvision_reads(mnist: Dataset, mnist_root: Path) -> None:
    reference = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((data.MEAN,), (data.STD,))]
    )
    theirs = MNIST(str(mnist_root), train=False)
    assert torch.equal(mnist.held_out.images, theirs.data)
    assert torch.equal(mnist.held_out.labels, theirs.targets)
    expected = torch.stack([reference(theirs[index][0]) for index in range(50)])
    assert torch.equal(data.normalise(mnist.held_out.images[:50]), expected)


def test_mean_and_deviation_are_those_of_the_training_images(mnist: Dataset) -> None:
    pixels = mnist.train.images.to(torch.float32).div_(255)
    assert round(float(pixels.mean()), 4) == data.MEAN
    assert round(float(pixels.std()), 4) == data.STD


def test_normalise_makes_a_new_tensor() -> None:
    images = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8)
    before = images.clone()
    out = data.normalise(images)
    assert (out.shape, out.dtype) == ((3, 1, 28, 28), torch.float32)
    assert torch.equal(images, before)


def test_md5_of_the_tensors(mnist: Dataset, mnist_root: Path) -> None:
    assert {key: mnist.md5[key] for key in data.TEST_MD5} == data.TEST_MD5
    images = canonical(mnist_root, TEST_IMAGES)[16:]
    labels = np.frombuffer(canonical(mnist_root, TEST_LABELS)[8:], dtype=np.uint8)
    assert {
        "held_out_images": hashlib.md5(images).hexdigest(),
        "held_out_labels": hashlib.md5(labels.astype("<i8").tobytes()).hexdigest(),
    } == data.TEST_MD5
    assert set(mnist.md5) == set(VALIDATION_MD5)


def test_md5_follows_the_elements_not_the_memory() -> None:
    tensor = torch.arange(12).view(3, 4)
    assert data.tensor_md5(tensor.T) == data.tensor_md5(tensor.T.contiguous())
    assert data.tensor_md5(tensor) != data.tensor_md5(tensor.T)


def test_to_moves_the_tensors_alone(mnist: Dataset) -> None:
    moved = mnist.to("meta")  # a device every machine has
    for split in (moved.train, moved.held_out):
        assert (split.images.device.type, split.labels.device.type) == ("meta", "meta")
    assert (moved.name, moved.split, moved.md5) == (mnist.name, mnist.split, mnist.md5)
    assert data.load("digits", device="meta").train.images.is_meta


# the validation slice


def test_validation_is_a_fixed_balanced_slice(mnist: Dataset, mnist_root: Path) -> None:
    dataset = data.load("mnist", mnist_root, validation=True)
    assert (dataset.name, dataset.split) == ("mnist", "validation")
    assert (len(dataset.train), len(dataset.held_out)) == (55_000, 5_000)
    assert dataset.held_out.labels.bincount().tolist() == [500] * 10
    assert dataset.md5 == VALIDATION_MD5
    both = torch.cat((dataset.train.images, dataset.held_out.images))
    assert int(both.sum(dtype=torch.int64)) == int(mnist.train.images.sum(dtype=torch.int64))


def test_validation_does_not_read_the_test_files(copy: Path) -> None:
    for name in (TEST_IMAGES, TEST_LABELS):
        (raw(copy) / name).unlink()
    assert data.load("mnist", copy, validation=True).md5 == VALIDATION_MD5
    with pytest.raises(DownloadError, match=TEST_IMAGES):
        data.load("mnist", copy)


def test_validation_is_the_last_images_of_each_digit(mnist: Dataset, mnist_root: Path) -> None:
    dataset = data.load("mnist", mnist_root, validation=True)
    for digit in range(10):
        images = mnist.train.images[mnist.train.labels == digit]
        assert torch.equal(images[-500:], dataset.held_out.images[dataset.held_out.labels == digit])


@pytest.mark.parametrize("drawn", [True, False])
def test_hold_out_parts_the_split(drawn: bool) -> None:
    split = Split(torch.arange(300), torch.arange(300) % 3)
    left, held = data.hold_out(split, 20, drawn=drawn)
    assert held.labels.bincount().tolist() == [20] * 3
    assert sorted(left.images.tolist() + held.images.tolist()) == list(range(300))
    for part in (left, held):
        assert torch.equal(part.images % 3, part.labels)
        assert part.images.tolist() == sorted(part.images.tolist())
    assert (held.images.tolist() == list(range(240, 300))) is not drawn
    assert held.images.tolist() != list(range(60))


# the stand-in


def test_digits() -> None:
    dataset = data.load("digits")
    assert (dataset.name, dataset.split) == ("digits", "test")
    assert (len(dataset.train), len(dataset.held_out)) == (1_437, 360)
    assert dataset.held_out.labels.bincount().tolist() == [36] * 10
    images = torch.cat((dataset.train.images, dataset.held_out.images))
    assert (images.dtype, images.shape) == (torch.uint8, (1_797, 28, 28))
    assert not images[:, :4].any()
    assert not images[:, :, -4:].any()
    assert int(images.max()) > 250
    assert dataset.md5 != data.load("digits", validation=True).md5


def test_digits_are_enlarged_not_turned_or_mixed_up() -> None:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second to import

    images, labels = read_digits()
    small = torch.nn.functional.avg_pool2d(images[:, 4:24, 4:24].to(torch.float32), 5)
    theirs = torch.as_tensor(load_digits().images, dtype=torch.float32)[:, None]
    expected = torch.nn.functional.avg_pool2d(theirs, 2).squeeze(1) * 255 / 16
    assert float((small - expected).abs().mean()) < 12  # grey levels of 255
    assert float((small.mT - expected).abs().mean()) > 24
    assert labels.tolist() == load_digits().target.tolist()


def test_digits_validation() -> None:
    dataset = data.load("digits", validation=True)
    assert dataset.split == "validation"
    assert dataset.held_out.labels.bincount().tolist() == [14] * 10
    assert len(dataset.train) == 1_437 - 140


def test_auto_takes_mnist_without_a_word(mnist_root: Path) -> None:
    assert data.load("auto", mnist_root).name == "mnist"  # a warning would be an error


def test_auto_falls_back_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(DigitsWarning, match=r"stand in for MNIST.*127\.0\.0\.1:9") as caught:
        dataset = data.load("auto", tmp_path)
    assert (dataset.name, len(caught)) == ("digits", 1)
    assert list(tmp_path.iterdir()) == []  # a failed download leaves nothing behind


def test_mnist_does_not_fall_back(tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        data.load("mnist", tmp_path)
    for part in (IMAGES, str(raw(tmp_path)), "127.0.0.1:9", "refused", "MNIST_ROOT", "--data-root"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("command", "stands_in"),
    [(["train", "--dataset", "mnist"], True), (["evaluate", str(PUBLISHED)], False)],
)
def test_the_stand_in_is_offered_where_it_can_be_asked_for(
    command: list[str], stands_in: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--data-root", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert "MNIST_ROOT" in errors
    assert ("or use --dataset digits" in errors) is stands_in


def test_unknown_data_set() -> None:
    with pytest.raises(DataError, match="no data set 'cifar'; expected auto, mnist or digits"):
        data.load("cifar")  # type: ignore[arg-type]  # the point of the test


# where the files are looked for


def test_argument_before_variable_before_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Path(idx.__file__).parent.parent
    assert idx.find_root() == repository / "data"
    monkeypatch.setenv("MNIST_ROOT", "")
    assert idx.find_root() == repository / "data"
    (tmp_path / "variable").mkdir()
    (tmp_path / "argument").mkdir()
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "variable"))
    assert idx.find_root() == tmp_path / "variable"
    assert idx.find_root(tmp_path / "argument") == tmp_path / "argument"


def test_data_in_the_working_directory_where_there_is_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "__file__", str(tmp_path / "site-packages" / "package" / "idx.py"))
    monkeypatch.chdir(tmp_path)
    assert idx.find_root() == tmp_path / "data"


@pytest.mark.parametrize("dataset", ["mnist", "auto"])
def test_named_folder_must_exist(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, file = tmp_path / "typo", tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match=rf"{missing} \(from --data-root\): found nothing"):
        data.load(dataset, missing)  # type: ignore[arg-type]  # from parametrize
    with pytest.raises(DataError, match=rf"{file} \(from --data-root\): found no folder"):
        data.load(dataset, file)  # type: ignore[arg-type]  # from parametrize
    monkeypatch.setenv("MNIST_ROOT", str(missing))
    with pytest.raises(DataError, match=rf"{missing} \(from MNIST_ROOT\): found nothing"):
        data.load(dataset)  # type: ignore[arg-type]  # from parametrize
    assert not missing.exists()


def test_files_directly_in_the_folder(mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_ROOT", str(raw(mnist_root)))
    assert data.load("mnist", validation=True).md5 == VALIDATION_MD5


def test_packed_files(copy: Path) -> None:
    for name in (TEST_IMAGES, TEST_LABELS, LABELS):
        content = canonical(copy, name)
        (raw(copy) / name).unlink()
        (raw(copy) / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    dataset = data.load("mnist", copy)
    assert {key: dataset.md5[key] for key in data.TEST_MD5} == data.TEST_MD5


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("unpickled",)


def test_processed_files_are_never_unpickled(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    (copy / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        (copy / "MNIST" / "processed" / name).write_bytes(pickle.dumps(Bomb()))
    assert data.load("mnist", copy, validation=True).md5 == VALIDATION_MD5
    assert not Path("unpickled").exists()


# damage


def truncated(content: bytes) -> bytes:
    return content[:-1]


def altered(content: bytes) -> bytes:
    return content[:5_000] + bytes([content[5_000] ^ 1]) + content[5_001:]


def longer(content: bytes) -> bytes:
    return content + b"\0"


def empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncated, altered, longer, empty])
@pytest.mark.parametrize("name", [LABELS, TEST_IMAGES, TEST_LABELS])
@pytest.mark.parametrize("dataset", ["mnist", "auto"])
def test_damaged_file_is_an_error(
    dataset: str, name: str, damage: Callable[[bytes], bytes], copy: Path
) -> None:
    content = damage(canonical(copy, name))
    path = replace(copy, name, content)
    before = path.stat().st_mtime_ns
    file = next(file for file in idx.TRAIN_FILES + idx.TEST_FILES if file.name == name)
    with pytest.raises(DataError) as caught:
        idx.read_raw(copy, (file,)) if dataset == "mnist" else data.load("auto", copy)
    assert not isinstance(caught.value, DownloadError)
    found = f"found {len(content):,} bytes with md5 {hashlib.md5(content).hexdigest()}"
    for part in (str(path), found, f"{file.size:,}", file.md5, "move it away", "--data-root"):
        assert part in str(caught.value)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, before)


def test_damage_is_reported_though_other_files_are_missing(copy: Path) -> None:
    (raw(copy) / IMAGES).unlink()
    replace(copy, TEST_LABELS, b"")
    with pytest.raises(DataError, match=f"{TEST_LABELS}: found 0 bytes"):
        data.load("auto", copy)


@pytest.mark.parametrize(("name", "other"), [(TEST_IMAGES, IMAGES), (LABELS, TEST_LABELS)])
def test_swapped_files_are_recognised(name: str, other: str, copy: Path, mnist_root: Path) -> None:
    (raw(copy) / name).unlink()
    (raw(copy) / name).symlink_to(raw(mnist_root) / other)
    with pytest.raises(DataError, match=rf"{name}: found .*\(that is {other}\)"):
        data.load("auto", copy)


def test_folder_in_place_of_a_file(copy: Path) -> None:
    (raw(copy) / TEST_IMAGES).unlink()
    (raw(copy) / TEST_IMAGES).mkdir()
    with pytest.raises(DataError, match=f"{TEST_IMAGES}: found no regular file, expected 7,840,01"):
        data.load("auto", copy)


@pytest.mark.parametrize("target", ["nowhere", LABELS], ids=["broken", "loop"])
def test_link_that_leads_nowhere(target: str, copy: Path) -> None:
    (raw(copy) / LABELS).unlink()
    (raw(copy) / LABELS).symlink_to(target)
    with pytest.raises(DataError, match=f"{LABELS}: cannot be read: .*, expected 60,008 bytes"):
        data.load("auto", copy)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to the superuser")
@pytest.mark.parametrize("which", ["file", "folder"])
def test_file_without_permission(which: str, copy: Path) -> None:
    path = replace(copy, LABELS, b"")
    closed = path if which == "file" else path.parent
    closed.chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be read: Permission denied"):
            data.load("auto", copy)
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize("damage", [truncated, empty, bytes.lower], ids=lambda f: f.__name__)
def test_damaged_packed_file_is_an_error(damage: Callable[[bytes], bytes], copy: Path) -> None:
    content = canonical(copy, TEST_LABELS)
    (raw(copy) / TEST_LABELS).unlink()
    packed = damage(gzip.compress(content))
    path = replace(copy, f"{TEST_LABELS}.gz", packed)
    with pytest.raises(DataError, match=f"{TEST_LABELS}.gz: (cannot be decompressed|found)"):
        data.load("auto", copy)
    assert path.read_bytes() == packed


# downloading


Answers = Mapping[str, bytes | int]


class Mirror(http.server.ThreadingHTTPServer):
    """Serves what is in `files`; a number is a status, a missing entry 404.

    The first `failures` answers are 503; `withheld` bytes are promised and not sent.
    """

    def __init__(self, files: Answers) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.failures = 0
        self.withheld = 0
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        failing = len(self.server.asked) <= self.server.failures
        answer = 503 if failing else self.server.files.get(name, 404)
        if isinstance(answer, int):
            self.send_error(answer)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer) + self.server.withheld))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        """Nothing: the tests' output is pytest's."""


@contextmanager
def mirrors(monkeypatch: pytest.MonkeyPatch, *files: Answers) -> Iterator[list[Mirror]]:
    servers = [Mirror(each) for each in files]
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    monkeypatch.setattr(idx, "MIRRORS", tuple(server.address for server in servers))
    try:
        yield servers
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def packed(mnist_root: Path) -> dict[str, bytes]:
    return {
        f"{name}.gz": gzip.compress(canonical(mnist_root, name), 1)
        for name in (LABELS, TEST_IMAGES, TEST_LABELS)
    }


@pytest.fixture
def incomplete(copy: Path) -> Path:
    """A root without the files that `packed` serves."""
    for name in (LABELS, TEST_IMAGES, TEST_LABELS):
        (raw(copy) / name).unlink()
    return copy


def test_missing_files_are_downloaded(
    incomplete: Path,
    packed: dict[str, bytes],
    mnist: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = (raw(incomplete) / IMAGES).lstat().st_mtime_ns
    with mirrors(monkeypatch, packed) as (mirror,):
        assert data.load("auto", incomplete).md5 == mnist.md5
        assert mirror.asked == [f"{name}.gz" for name in ALL[1:]]
        assert data.load("auto", incomplete).md5 == mnist.md5
        assert len(mirror.asked) == 3  # the second time they are there
    assert sorted(path.name for path in raw(incomplete).iterdir()) == sorted(ALL)
    for name in ALL[1:]:
        assert canonical(incomplete, name) == gzip.decompress(packed[f"{name}.gz"])
    assert (raw(incomplete) / IMAGES).lstat().st_mtime_ns == before
    assert capfd.readouterr() == ("", "")


def test_download_makes_the_folders(
    tmp_path: Path, packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirrors(monkeypatch, packed):
        idx.read_raw(tmp_path / "data", idx.TEST_FILES)
    names = sorted(path.name for path in raw(tmp_path / "data").iterdir())
    assert names == [TEST_IMAGES, TEST_LABELS]


def test_progress_is_shown_where_asked(
    incomplete: Path,
    packed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with mirrors(monkeypatch, packed):
        data.load("mnist", incomplete, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert TEST_IMAGES in err
    assert "100%" in err


def wrong(files: dict[str, bytes]) -> Answers:
    return {name: gzip.compress(b"something else") for name in files}


def half(files: dict[str, bytes]) -> Answers:
    return {name: content[: len(content) // 2] for name, content in files.items()}


def page(files: dict[str, bytes]) -> Answers:
    return dict.fromkeys(files, b"<html>please log in</html>")


def endless(files: dict[str, bytes]) -> Answers:
    return dict.fromkeys(files, bytes(1_000_000))


def down(files: dict[str, bytes]) -> Answers:
    return dict.fromkeys(files, 503)


FAILURES = [wrong, half, page, endless, down, lambda files: {}]


@pytest.mark.parametrize("failure", FAILURES)
def test_next_mirror_helps(
    failure: Callable[[dict[str, bytes]], Answers],
    incomplete: Path,
    packed: dict[str, bytes],
    mnist_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mirrors(monkeypatch, failure(packed), packed) as (first, second):
        idx.read_raw(incomplete, idx.TRAIN_FILES[1:])
    assert first.asked == second.asked == [f"{LABELS}.gz"]
    assert canonical(incomplete, LABELS) == canonical(mnist_root, LABELS)


@pytest.mark.parametrize("failure", FAILURES)
def test_no_mirror_helps(
    failure: Callable[[dict[str, bytes]], Answers],
    incomplete: Path,
    packed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mirrors(monkeypatch, failure(packed)) as (mirror,):
        with pytest.raises(DownloadError, match=re.escape(mirror.address)):
            idx.read_raw(incomplete, idx.TRAIN_FILES[1:])
        assert len(mirror.asked) == 2  # two rounds
    assert [path.name for path in raw(incomplete).iterdir()] == [IMAGES]


def test_a_mirror_gets_a_second_chance(
    incomplete: Path, packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirrors(monkeypatch, packed) as (mirror,):
        mirror.failures = 1
        idx.read_raw(incomplete, idx.TRAIN_FILES[1:])
        assert len(mirror.asked) == 2


def test_connection_that_closes_too_early_is_a_failure(
    incomplete: Path, packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed[f"{LABELS}.gz"]
    with mirrors(monkeypatch, {f"{LABELS}.gz": content[:5_000]}, packed) as (first, second):
        first.withheld = len(content) - 5_000
        idx.read_raw(incomplete, idx.TRAIN_FILES[1:])
        assert len(first.asked) == len(second.asked) == 1


def test_silent_mirror_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        monkeypatch.setattr(idx, "MIRRORS", (f"http://127.0.0.1:{silent.getsockname()[1]}/",))
        start = time.monotonic()
        with pytest.raises(DownloadError, match="timed out"):
            data.load("mnist", tmp_path)
        assert time.monotonic() - start < 4  # seconds; two attempts of a tenth


@pytest.mark.parametrize(("patience", "asked"), [(-1.0, 0), (30.0, 2)])
def test_failures_have_an_end(
    patience: float, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "_PATIENCE", patience)
    with mirrors(monkeypatch, {}) as (mirror,):
        with pytest.raises(DownloadError):
            data.load("mnist", tmp_path)
        assert len(mirror.asked) == asked


def test_trickling_mirror_is_given_up(
    incomplete: Path, packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "_SLOWEST", 0.0)
    with mirrors(monkeypatch, packed), pytest.raises(DownloadError, match="bytes in 0 s"):
        idx.read_raw(incomplete, idx.TRAIN_FILES[1:])


def test_folder_that_cannot_be_written(
    tmp_path: Path, packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "MNIST").write_bytes(b"in the way")
    with mirrors(monkeypatch, packed), pytest.raises(DataError, match="cannot be stored") as caught:
        idx.read_raw(tmp_path, idx.TEST_FILES)
    assert not isinstance(caught.value, DownloadError)
    assert (tmp_path / "MNIST").read_bytes() == b"in the way"


def test_nothing_half_written_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / LABELS).mkdir()  # appeared while the file was fetched
    with pytest.raises(DataError, match="cannot be stored"):
        idx._store(tmp_path / LABELS, b"content")
    assert [path.name for path in tmp_path.iterdir()] == [LABELS]


def test_endless_answer_is_cut_off(incomplete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(2_000_000)
    answers = {f"{LABELS}.gz": content}
    with mirrors(monkeypatch, answers), pytest.raises(DownloadError, match="more than 60,008 byte"):
        idx.read_raw(incomplete, idx.TRAIN_FILES[1:])
