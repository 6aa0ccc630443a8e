from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_models.allocator import keep_memory
from mnist_models.workers import Place, local

from .pages import EVERY, mapped_anew

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.sweep  # it starts workers, whose tracker stays: tests of strangers look for leftovers
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
@pytest.mark.parametrize("keeps", [True, False])
def test_a_worker_keeps_its_memory_unless_it_is_told_not_to(keeps: bool) -> None:
    with local([Place((), 1, keeps_memory=keeps)]) as executor:
        found = executor.submit(mapped_anew).result()
    assert (found < EVERY / 50) is keeps


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_train_keeps_its_memory(tmp_path: Path) -> None:
    command = ["train", "steps-1", "--epochs", "1", "--dataset", "digits", "--out", str(tmp_path)]
    script = "import sys\nfrom mnist_models.cli import main\nfrom tests.pages import mapped_anew\n"
    script += f"assert main({command}) == 0\nprint(mapped_anew(), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert int(done.stderr.splitlines()[-1]) < EVERY / 50


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_memory() is False
