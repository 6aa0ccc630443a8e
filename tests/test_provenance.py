from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from mnist_models import provenance as module
from mnist_models.blocks import Dropout, GlobalAveragePool
from mnist_models.models import EXPERIMENTS
from mnist_models.provenance import device_name, model_digest, package_digest, provenance

SOURCE = '''
import torch
from torch import nn

class Net(nn.Module):
    """A docstring."""

    def forward(self, x):
        # a comment
        return x * 2
'''


def load(path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that counts as one of the package's."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(f"mnist_models.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, loaded)
    spec.loader.exec_module(loaded)
    return loaded


def test_model_digest_sees_what_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(name: str, source: str) -> str:
        return model_digest(load(tmp_path / f"{name}.py", source, monkeypatch).Net())

    plain = digest("plain", SOURCE)
    assert digest("comment", SOURCE.replace("a comment", "another")) == plain
    assert digest("docstring", SOURCE.replace("A docstring.", "Another.")) == plain
    assert digest("changed", SOURCE.replace("x * 2", "x * 3")) != plain


def test_model_digest_ignores_weights_and_sees_structure() -> None:
    def net(p: float = 0.1, stride: int = 1, pool: int = 2, eps: float = 1e-5) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=stride),
            nn.BatchNorm2d(2, eps=eps),
            nn.MaxPool2d(pool),
            Dropout(p),
            GlobalAveragePool(),
        )

    assert model_digest(net()) == model_digest(net())
    assert model_digest(net()) != model_digest(net(p=0.2))
    assert model_digest(net()) != model_digest(net(stride=2))
    assert model_digest(net()) != model_digest(net(pool=3))
    assert model_digest(net()) != model_digest(net(eps=1e-3))
    assert model_digest(net()) == model_digest(net().to(memory_format=torch.channels_last))


def test_registered_networks_have_digests_of_their_own() -> None:
    digests = {name: model_digest(e.build()) for name, e in EXPERIMENTS.items()}
    for group in (["blocks-2", "blocks-3"], ["steps-4", "steps-5", "steps-6", "steps-6-constant"]):
        assert len({digests[name] for name in group}) == 1  # one builder, several recipes
    assert len(set(digests.values())) == len(digests) - 1 - 3 - 2  # eva4-1 to eva4-3 share too


def test_package_digest_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch("sha256:[0-9a-f]{64}", package_digest())
    monkeypatch.setattr(module, "_PACKAGE", tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    first = package_digest()
    (tmp_path / "a.py").write_text("x = 2\n")
    second = package_digest()
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, package_digest()}) == 3


def test_commit_and_modification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(module, "_PACKAGE", package)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = provenance(torch.device("cpu"), ["here"])
    assert (found.commit, found.modified) == (None, None)
    (package / "a.py").write_text("x = 1\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    found = provenance(torch.device("cpu"), ["here"])
    assert re.fullmatch("[0-9a-f]{40}", found.commit or "")
    assert found.modified is False
    (package / "a.py").write_text("x = 2\n")
    assert provenance(torch.device("cpu"), ["here"]).modified is True
    monkeypatch.setattr(module, "_PACKAGE", package / "installed" / "deeper")
    (package / "installed" / "deeper").mkdir(parents=True)
    assert provenance(torch.device("cpu"), ["here"]).commit is None  # another project's


def test_device_and_versions() -> None:
    found = provenance(torch.device("cpu"), ["here"])
    assert found.versions["torch"] == torch.__version__
    assert found.threads == torch.get_num_threads()
    assert device_name(torch.device("cpu")).startswith("cpu: ")
