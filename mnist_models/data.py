"""The data set as tensors on the device: MNIST, or a stand-in where it is not to be had."""

from __future__ import annotations

import functools
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mnist_models.assignment import TEST_MD5
from mnist_models.digits import read_digits
from mnist_models.idx import (
    TEST_FILES,
    TRAIN_FILES,
    DataError,
    DownloadError,
    find_root,
    read_raw,
)

__all__ = [
    "MEAN",
    "STD",
    "TEST_MD5",
    "DataError",
    "Dataset",
    "Device",
    "DigitsWarning",
    "DownloadError",
    "Source",
    "Split",
    "hold_out",
    "load",
    "load_source",
    "normalise",
    "tensor_md5",
]

MEAN = 0.1307  # of all training pixels in [0, 1]; every published system normalises by these
STD = 0.3081

VALIDATION_PER_CLASS = 500  # 5,000 images in all
DIGITS_TEST_PER_CLASS = 36  # 360 of 1,797 images, a fifth: fewer would say little
DIGITS_VALIDATION_PER_CLASS = 14  # 140 of the 1,437 left, a tenth
_SPLIT_SEED = 0


class DigitsWarning(UserWarning):
    """scikit-learn's digits stand in for MNIST: no accuracy compares with a published one."""


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, 28, 28), and their labels, int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on a device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """What a run trains on and what it is scored on.

    Attributes:
        name: which data set.
        split: what `held_out` is.
        train: the images trained on.
        held_out: the images scored; never those trained on.
        md5: `tensor_md5` of ``train_images``, ``train_labels``, ``held_out_images`` and
            ``held_out_labels``.
    """

    name: Literal["mnist", "digits"]
    split: Literal["test", "validation"]
    train: Split
    held_out: Split
    md5: dict[str, str]

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set on a device."""
        train, held_out = self.train.to(device), self.held_out.to(device)
        return Dataset(self.name, self.split, train, held_out, self.md5)


Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Source:
    """What every worker process loads for itself: the arguments of `load`."""

    dataset: Literal["mnist", "digits"]
    root: Path | None  # None: the worker's own MNIST_ROOT
    validation: bool
    device: Device


@functools.lru_cache(maxsize=1)  # a worker is asked for the same one again and again
def load_source(source: Source) -> Dataset:
    """The data set of a source; where its device is ``auto``, on a GPU if there is one.

    Raises:
        DataError: as `load`.
    """
    device = source.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return load(source.dataset, source.root, source.validation, device)


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 28, 28) -> float32 (B, 1, 28, 28), by `MEAN` and `STD`."""
    return images.unsqueeze(1).to(torch.float32).div_(255).sub_(MEAN).div_(STD)


def tensor_md5(tensor: Tensor) -> str:
    """md5 of a tensor's elements in order, little-endian whatever the machine."""
    array = tensor.contiguous().cpu().numpy()
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.md5(little.data, usedforsecurity=False).hexdigest()


def load(
    dataset: Literal["auto", "mnist", "digits"] = "auto",
    data_root: Path | None = None,
    validation: bool = False,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Dataset:
    """Read the data set, checking every byte; download MNIST where files are missing.

    The files are looked for in ``MNIST/raw`` of one folder, or directly in it, plain or with
    ``.gz``: `data_root`, else the environment variable MNIST_ROOT, else ``data`` in the
    repository (or in the working directory, if the package is installed elsewhere). Missing
    files are downloaded into that folder; a folder named by the user must exist.

    Args:
        dataset: ``"auto"`` is MNIST, or scikit-learn's digits with a `DigitsWarning` where
            MNIST is neither there nor to be had; damaged files are an error all the same.
        data_root: the folder, torchvision's ``root``.
        validation: hold out a fixed slice of the training set, the same number of each digit
            (5,000 images of MNIST, the last ones), and leave the test set unread.
        device: where the tensors go.
        progress: show a progress bar on standard error while downloading.

    Raises:
        DataError: a file is damaged, unreadable or missing and not to be had.
    """
    if dataset not in ("auto", "mnist", "digits"):
        raise DataError(f"no data set {dataset!r}; expected auto, mnist or digits")
    if dataset == "digits":
        return _load_digits(validation).to(device)
    try:
        return _load_mnist(find_root(data_root), validation, progress).to(device)
    except DownloadError as error:
        if dataset == "mnist":
            raise
        message = f"scikit-learn's digits stand in for MNIST, which is not to be had: {error}"
        warnings.warn(message, DigitsWarning, stacklevel=2)
        return _load_digits(validation).to(device)


def hold_out(split: Split, per_class: int, *, drawn: bool = True) -> tuple[Split, Split]:
    """What is left, and `per_class` images of each label: drawn once and for all, or the last.

    Both keep the order of `split`. NumPy promises the stream of its RandomState for ever;
    torch's generators give no such promise.
    """
    labels = split.labels.cpu().numpy()
    places = np.arange(len(labels))
    order = np.random.RandomState(_SPLIT_SEED).permutation(places) if drawn else places[::-1]
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        held[order[labels[order] == label][:per_class]] = True
    mask = torch.from_numpy(held)
    return Split(split.images[~mask], split.labels[~mask]), Split(
        split.images[mask], split.labels[mask]
    )


def _dataset(
    name: Literal["mnist", "digits"], validation: bool, train: Split, held_out: Split
) -> Dataset:
    md5 = {
        "train_images": tensor_md5(train.images),
        "train_labels": tensor_md5(train.labels),
        "held_out_images": tensor_md5(held_out.images),
        "held_out_labels": tensor_md5(held_out.labels),
    }
    return Dataset(name, "validation" if validation else "test", train, held_out, md5)


def _load_digits(validation: bool) -> Dataset:
    try:
        images, labels = read_digits()
    except ModuleNotFoundError as error:
        raise DataError(f"the digits come with scikit-learn ({error}): install it") from error
    train, held_out = hold_out(Split(images, labels), DIGITS_TEST_PER_CLASS)
    if validation:
        train, held_out = hold_out(train, DIGITS_VALIDATION_PER_CLASS)
    return _dataset("digits", validation, train, held_out)


def _load_mnist(root: Path, validation: bool, progress: bool) -> Dataset:
    files = TRAIN_FILES if validation else TRAIN_FILES + TEST_FILES
    tensors = read_raw(root, files, progress)
    train = Split(tensors[0], tensors[1].long())
    if validation:
        # MNIST's training images lie in the order of their writers: the last ones are by people
        # who wrote next to none of the others, as the test images are.
        left, held = hold_out(train, VALIDATION_PER_CLASS, drawn=False)
        return _dataset("mnist", validation, left, held)
    return _dataset("mnist", validation, train, Split(tensors[2], tensors[3].long()))
