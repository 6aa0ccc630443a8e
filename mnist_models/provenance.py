"""Where a record comes from: digests of the code, the commit, versions, device."""

from __future__ import annotations

import ast
import hashlib
import inspect
import platform
import subprocess
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from mnist_models.record import Provenance

_PACKAGE = Path(__file__).parent


def package_digest() -> str:
    """The sha256 over names and contents of the package's source files."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return "sha256:" + digest.hexdigest()


def model_digest(model: nn.Module) -> str:
    """The sha256 over what the network is, its weights aside.

    That is its printed structure, the names and shapes of its state, and the code of those of
    its classes that this package defines, comments and docstrings aside: editing a comment
    leaves it as it is, editing what a layer computes does not.
    """
    shapes = [f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items()]
    kinds = {type(module) for module in model.modules()}
    code = sorted(_code(kind) for kind in kinds if kind.__module__.startswith(__package__ or ""))
    return "sha256:" + hashlib.sha256("\n".join([repr(model), *shapes, *code]).encode()).hexdigest()


def _code(kind: type) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def provenance(device: torch.device) -> Provenance:
    """The provenance of a run that ends now on `device`."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", ".")
    return Provenance(
        package_digest=package_digest(),
        commit=commit or None,
        modified=None if not commit else bool(changes),
        versions={"python": platform.python_version(), "torch": torch.__version__},
        device=device_name(device),
        threads=torch.get_num_threads(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def device_name(device: torch.device) -> str:
    """What computes, for people: the GPU's name, or the processor's and its core count."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str | None:
    """What git says of the package's folder, or None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=_PACKAGE,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
