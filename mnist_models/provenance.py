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


# What decides the result of torch's own layers, and of a planned network. Named one by one: how
# torch prints a layer and what else it keeps in it changes from version to version, and a digest
# must not.
_OPTIONS = (
    *("in_channels", "out_channels", "in_features", "out_features", "num_features"),
    *("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "ceil_mode"),
    *("count_include_pad", "output_size", "start_dim", "end_dim", "eps", "momentum", "affine"),
    *("track_running_stats", "p", "negative_slope", "num_parameters", "scale_factor", "mode"),
    *("num_groups", "normalized_shape", "dim", "upscale_factor", "downscale_factor"),
    *("plan", "order", "residual"),  # of `models.funnel.Funnel`
)


def model_digest(model: nn.Module) -> str:
    """The sha256 over what the network is, its weights aside; the same for all versions of torch.

    That is, for each of its modules, its class and the options of torch's layers; the names and
    shapes of its state; and the code of those of its classes that this package defines, comments
    and docstrings aside: editing a comment leaves it as it is, editing a forward does not.
    """
    lines = [
        f"{name} {type(module).__name__} "
        + ", ".join(
            f"{option}={getattr(module, option)}" for option in _OPTIONS if hasattr(module, option)
        )
        for name, module in model.named_modules()
    ]
    lines += [f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items()]
    kinds = {type(module) for module in model.modules()}
    lines += sorted(_code(kind) for kind in kinds if kind.__module__.split(".")[0] == __package__)
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _code(kind: type) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def environment(device: torch.device) -> str:
    """What, beside recipe, seed and data, decides the bits of a result."""
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    return f"{device_name(device)}; {versions}; package {package_digest()}"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__}


def provenance(device: torch.device, environments: list[str]) -> Provenance:
    """The provenance of a run that ends now on `device`, having run in these environments."""
    top = _git("rev-parse", "--show-toplevel")
    inside = top is not None and Path(top).resolve() == _PACKAGE.parent.resolve()
    commit = _git("rev-parse", "HEAD") if inside else None  # else that of another project
    changes = _git("status", "--porcelain", "--", ".")
    return Provenance(
        package_digest=package_digest(),
        commit=commit or None,
        modified=None if not commit else bool(changes),
        versions=_versions(),
        device=device_name(device),
        threads=torch.get_num_threads(),
        environments=environments,
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
