"""A fresh clone of this very tree, and a job that runs in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .workflow_runner import Job

REPOSITORY = Path(__file__).resolve().parent.parent
CI, CHECK, TRAIN = (
    REPOSITORY / ".github" / "workflows" / name for name in ("ci.yml", "check.yml", "train-gpu.yml")
)
INSTALL = ["https://download.pytorch.org/whl/cpu", "-r", "requirements.txt"]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "core.excludesFile="]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository that holds the tree as it is here, committed or not."""
    folder = tmp_path_factory.mktemp("remote")
    listed = git(REPOSITORY, "ls-files", "-coz", "--exclude-standard").split("\0")
    git(folder, "init", "-q", "-b", "main", "tree")
    for name in filter(None, listed):
        if (REPOSITORY / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / "tree" / name)
    git(folder / "tree", "add", "--all")
    git(folder / "tree", "commit", "-qm", "The tree")
    git(folder, "clone", "-q", "--bare", "tree", "remote.git")
    return folder / "remote.git"


@pytest.fixture
def clone(remote: Path, tmp_path: Path) -> Path:
    own = tmp_path / "remote.git"  # what this test pushes stays its own
    shutil.copytree(remote, own)
    git(tmp_path, "clone", "-q", str(own), "clone")
    return tmp_path / "clone"


@pytest.fixture
def job(clone: Path, tmp_path: Path, mnist_root: Path) -> Job:
    github = {
        "event_name": "push",
        "ref": "refs/heads/main",
        "ref_name": "main",
        "sha": git(clone, "rev-parse", "HEAD"),
        "token": "",
        "run_id": "7",
        "run_attempt": "1",
        "event": {"repository": {"default_branch": "main"}},
    }
    environment = {
        "MNIST_ROOT": str(mnist_root),  # stands for the cache
        "OMP_NUM_THREADS": "1",
        "NPM_CONFIG_CACHE": os.environ.get("NPM_CONFIG_CACHE") or str(Path.home() / ".npm"),
    }
    return Job(clone, tmp_path / "runner", {"github": github, "inputs": {}}, environment)
