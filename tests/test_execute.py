"""A run of a notebook that is ended from outside: while its kernel starts, and within a cell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .test_notebooks import REPOSITORY, SOURCE

WAITS = SOURCE + '\n# %%\nimport time\n\nPath("begun").touch()\ntime.sleep(300)\n'
LIMIT = 60  # seconds; none of it should take a tenth


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a notebook that has outputs of an earlier run, and does not end."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "tiny.py").write_text(WAITS)
    (tmp_path / "notebooks" / "tiny.ipynb").write_text("of an earlier run")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < deadline, f"waited {LIMIT} s for {what}"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "status", "within"),
    [(signal.SIGINT, 130, "a cell"), (signal.SIGTERM, 143, "the start")],
)
def test_a_run_that_is_stopped_ends_its_kernel(
    root: Path, mnist_root: Path, number: int, status: int, within: str
) -> None:
    options = ("--root", str(root), "--data-root", str(mnist_root))
    process = subprocess.Popen(
        [sys.executable, "-m", "mnist_models", "notebooks", "tiny", *options],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )
    children = psutil.Process(process.pid).children
    until(lambda: children(recursive=True), "the kernel")
    if within == "a cell":
        until((root / "notebooks" / "begun").exists, "the cell")
    kernels = children(recursive=True)
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == status, err
    assert err.count("\nterminated\n") == (number == signal.SIGTERM)
    assert err.count("stopped in tiny; nothing of this notebook was written\n") == 1
    assert not any(word in err for word in ("Traceback", "Error", "pending")), err
    until(lambda: not any(kernel.is_running() for kernel in kernels), "the kernel's end")
    assert (root / "notebooks" / "tiny.ipynb").read_text() == "of an earlier run"
    names = {path.name for path in (root / "notebooks").iterdir()}
    assert names - {"begun"} == {"tiny.py", "tiny.ipynb"}
