"""Errors of strangers' code say where they came from and what to do about them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from torch import Tensor, nn

from mnist_models.advice import describe
from mnist_models.assignment import CARD
from mnist_models.checks import CheckResult, check_module
from mnist_models.mode import ModeError, set_mode
from tests import zoo

Forward = Callable[[nn.Module, Tensor], object]


def results(model: nn.Module) -> dict[str, CheckResult]:
    return {result.name: result for result in check_module(model, CARD)[0]}


def written(folder: Path, source: str) -> ModuleType:
    """A stranger's file, imported."""
    file = folder / "net.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("a_stranger_s_net", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        return self.helper(x)

    def helper(self, x):
        {line}
"""


@pytest.mark.parametrize(
    ("line", "cause", "advice"),
    [
        ("return x.view(3, -1, 7)", "RuntimeError: shape", "make the forward pass run on"),
        ("raise RuntimeError('Found no NVIDIA driver on your system.')", "no NVIDIA", "x.device"),
        ("raise AssertionError('Torch not compiled with CUDA enabled')", "CUDA", "x.device"),
        ("raise KeyError", "KeyError (net.py", "make the forward pass run on"),
    ],
)
def test_a_forward_that_fails_names_its_line(
    line: str, cause: str, advice: str, tmp_path: Path
) -> None:
    found = results(written(tmp_path, FILE.format(line=line)).Net())["output-shape"]
    assert found.passed is None
    assert cause in found.cause
    assert found.cause.endswith("(net.py, line 10)")
    assert advice in found.help


def test_a_forward_of_this_package_has_no_line_of_the_stranger_s() -> None:
    found = results(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()))["output-shape"]
    assert found.passed is None
    assert "expected input" in found.cause
    assert ", line" not in found.cause


def test_what_cannot_be_said_is_described_all_the_same() -> None:
    class MuteError(RuntimeError):
        def __str__(self) -> str:
            raise ValueError

    assert describe(MuteError()) == "MuteError"
    assert describe(KeyError()) == "KeyError"
    assert describe(ModeError("do this")) == "do this"


class Trains(zoo.Net):
    """A method of one's own, as students write it."""

    def train(self, loader: object, epochs: int = 1) -> None:  # type: ignore[override] # the slip
        for _image, _label in loader:  # type: ignore[attr-defined] # it is given True
            pass


class Switches(zoo.Net):
    """Overrides the method, and keeps what it is for."""

    def train(self, mode: bool = True) -> Switches:
        super().train(mode)
        return self


def test_a_train_of_one_s_own_is_named() -> None:
    model = Trains()
    for result in results(model).values():
        assert result.passed is None
        assert result.cause.startswith("Trains.train(False) failed (TypeError: ")
        assert "give this method of your own another name" in result.cause
    with pytest.raises(ModeError):
        set_mode(model, training=True)


def test_an_override_that_switches_the_mode_is_none() -> None:
    model = Switches()
    set_mode(model, training=False)
    assert not model.bn1.training
    assert all(result.passed is not None for result in results(model).values())


def _pair(self: nn.Module, x: Tensor) -> object:
    found = zoo.Net.head(self, x)  # type: ignore[arg-type] # is one
    return (found, x) if self.training else found


def test_what_is_no_tensor_in_training_is_said_of_training() -> None:
    found = results(zoo.net(head=_pair))  # type: ignore[arg-type] # returns a pair
    assert found["output-shape"].passed is True
    for name in ("batch-norm", "dropout"):
        assert found[name].passed is None
        assert found[name].cause.startswith("in training mode the forward pass returned a tuple;")
        assert "return the logits alone" in found[name].help


def test_classes_are_no_logits() -> None:
    found = results(zoo.net(head=lambda s, x: s.fc(x).argmax(1)))
    assert found["output-shape"].passed is False
    assert found["batch-norm"].passed is None
    assert (
        "returned torch.int64 numbers; expected one tensor of logits" in found["batch-norm"].cause
    )
