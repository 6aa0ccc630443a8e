"""Contenders in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import platform

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mnist_models.bench import BenchError
from mnist_models.bench.contenders import ALL
from mnist_models.bench.homes import homes
from mnist_models.data import Dataset

from .pages import EVERY, mapped_anew

pytestmark = pytest.mark.sweep  # it starts workers, whose tracker stays as long as this process

OWN = next(contender for contender in ALL if contender.name == "steps-6: this loop")
THEIRS = next(contender for contender in ALL if contender.name == "steps-6: notebook")
CPU = torch.device("cpu")


def settings() -> tuple[int, str, int]:
    """Threads, how processes are started, and what a DataLoader gives that starts one."""
    loader = DataLoader(TensorDataset(torch.ones(3)), num_workers=1)
    images = sum(len(batch) for (batch,) in loader)
    return torch.get_num_threads(), multiprocessing.get_start_method(), images


def test_who_trains_as_train_does_keeps_memory() -> None:
    assert {c.what for c in ALL if c.keeps_memory} == {"this loop", "compute floor"}
    assert {c.what for c in ALL if not c.keeps_memory} == {"notebook", "plain loop"}


def test_each_computes_as_whoever_runs_it_would(few: Dataset) -> None:
    with homes(few, CPU) as both:
        for contender in (OWN, THEIRS):
            expected = (torch.get_num_threads(), multiprocessing.get_start_method(), 3)
            assert both._ask(contender, settings) == expected
            if platform.libc_ver()[0] == "glibc":
                kept = both._ask(contender, mapped_anew) < EVERY / 50
                assert kept is contender.keeps_memory


def test_trains_on_from_epoch_to_epoch(few: Dataset) -> None:
    with homes(few, CPU) as both:
        for contender in (OWN, THEIRS):
            assert both.begin(contender) > 0
            scored = [both.train(contender) for _ in range(16)]  # by its chance, slow in a few
            assert all(seconds > 0 and 0 <= right <= 100 for seconds, right in scored)
            assert max(right for _, right in scored[4:]) > scored[0][1]


def test_a_process_that_dies_is_named(few: Dataset) -> None:
    with homes(few, CPU) as both, pytest.raises(BenchError, match="process of steps-6: this loop"):
        both._ask(OWN, os._exit, 1)
