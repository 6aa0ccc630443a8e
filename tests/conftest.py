from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from typing import Literal

import pytest
import torch

from mnist_models import data
from mnist_models.data import Dataset

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what tests start would inherit it
os.environ["OMP_NUM_THREADS"] = "1"  # for the commands that tests start: they share the cores
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST: MNIST_ROOT, else data/. With REQUIRE_MNIST=1 it must."""
    repository = Path(__file__).resolve().parent.parent
    root = Path(os.environ.get("MNIST_ROOT") or repository / "data").resolve()
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        reason = f"no MNIST in {root}: set MNIST_ROOT, or download it into data/"
        if os.environ.get("REQUIRE_MNIST") == "1":
            pytest.fail(f"{reason} (REQUIRE_MNIST=1)")
        pytest.skip(reason)  # most tests need no MNIST
    return root


@pytest.fixture(scope="session")
def mnist(mnist_root: Path) -> Dataset:
    return data.load("mnist", data_root=mnist_root)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The embedded stand-in: real images, small enough to train on within a test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.DigitsWarning)
        return data.load("digits")


@pytest.fixture(scope="session")
def few(digits: Dataset) -> Dataset:
    """200 of the digits to train on, 100 to score: an epoch takes a blink."""
    train = data.Split(digits.train.images[:200], digits.train.labels[:200])
    held_out = data.Split(digits.held_out.images[:100], digits.held_out.labels[:100])
    return data.Dataset("digits", "test", train, held_out, digits.md5)


def refuse_waiting(mode: Literal["error", "default"]) -> None:
    """Whether what waits for the GPU raises from here on; put it back to "default"."""
    with warnings.catch_warnings():  # torch calls it a prototype, and says so each time
        warnings.filterwarnings("ignore", "Synchronization debug mode", UserWarning)
        torch.cuda.set_sync_debug_mode(mode)
