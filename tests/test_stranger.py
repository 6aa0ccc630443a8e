"""Loading in this process: files that are harmless but, most of them, wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_models.models import attempt
from mnist_models.stranger import NotLoadedError, load

NET = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))
"""


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    modules = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    assert {name: sys.modules[name] for name in modules} == modules


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def load_file(path: Path | str, name: str = "Net") -> nn.Module:
    return load({"kind": "file", "where": str(path), "name": name})


@pytest.mark.parametrize(
    "name",
    [
        "model.py",
        "my-model.py",
        "my model.py",
        "mod\u00e8le \u6a21\u578b.py",
        "model.v2.py",
        "7.py",
        "a:b.py",
        "random.py",
        "torch.py",
        "torchvision.py",
        "queue.py",
        "mnist_models.py",
        "class.py",
        "a:b/model.py",
        "an odd folder/model.py",
    ],
)
def test_any_file_name(name: str, tmp_path: Path) -> None:
    write(tmp_path, {name: NET})
    assert isinstance(load_file(tmp_path / name), nn.Sequential)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Net", NET),
        ("build", f"{NET}\ndef build(width=3): return Net()"),
        ("build", f"{NET}\nbuild = lambda *layers, **options: Net()"),
        ("net", f"{NET}\nnet = Net()"),
        ("Nets.Small", f"{NET}\nclass Nets:\n    Small = Net"),
        ("part", f"{NET}\nimport functools; part = functools.partial(nn.Linear, 784, 10)"),
        ("scripted", f"{NET}\nscripted = nn.ModuleList([Net()])"),
        ("Net", "from dataclasses import dataclass\n@dataclass\nclass C:\n    x: 'int' = 1" + NET),
        ("Net", NET + "if __name__ == '__main__': raise SystemExit('trained')"),
        ("Net", "import sys; assert len(sys.argv) == 1" + NET),
    ],
)
def test_what_may_be_named(name: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, {"model.py": text})
    assert isinstance(load_file(tmp_path / "model.py", name), nn.Module)


LAYOUTS = {
    "a file beside it": ("model.py", {"layers.py": NET, "model.py": "from layers import Net"}),
    "a package beside it": (
        "model.py",
        {"kit/__init__.py": "", "kit/a.py": NET, "model.py": "from kit.a import Net"},
    ),
    "from the project's root": (
        "elsewhere/src/model.py",
        {"elsewhere/src/layers.py": NET, "elsewhere/src/model.py": "from src.layers import Net"},
    ),
    "relative": (
        "kit/model.py",
        {"kit/__init__.py": "", "kit/a.py": NET, "kit/model.py": "from .a import Net"},
    ),
    "relative, and the package imports it": (
        "kit/model.py",
        {
            "kit/__init__.py": "from kit.model import Net",
            "kit/a.py": NET,
            "kit/model.py": "from .a import Net",
        },
    ),
    "relative without __init__": (
        "kit/model.py",
        {"kit/a.py": NET, "kit/model.py": "from .a import Net"},
    ),
    "two up": (
        "kit/nets/model.py",
        {"kit/a.py": NET, "kit/nets/model.py": "from ..a import Net"},
    ),
    "absolute within its package": (
        "kit/model.py",
        {"kit/__init__.py": "", "kit/a.py": NET, "kit/model.py": "from kit.a import Net"},
    ),
    "a package whose __init__ fails, and is not needed": (
        "kit/model.py",
        {"kit/__init__.py": "1 / 0", "kit/a.py": NET, "kit/model.py": "from a import Net"},
    ),
    "named like a module it imports": (
        "torch.py",
        {"torch.py": "import torch\nassert torch.nn" + NET},
    ),
    "named like a standard module it imports": (
        "wave.py",
        {"wave.py": "import wave\nassert wave.open" + NET},
    ),
    "named like an installed package it imports": (
        "torchgen.py",  # comes with torch
        {"torchgen.py": "import torchgen\nassert torchgen.__path__" + NET},
    ),
    "beside files named like what is imported": (
        "model.py",
        {"model.py": NET, "torch.py": "1 / 0", "random.py": "1 / 0", "mnist_models.py": "1 / 0"},
    ),
    "a symbolic link's": ("link.py", {"far/layers.py": NET, "far/m.py": "from layers import Net"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_imports(layout: str, tmp_path: Path) -> None:
    target, files = LAYOUTS[layout]
    write(tmp_path, files)
    if target == "link.py":
        (tmp_path / target).symlink_to(tmp_path / "far/m.py")
    assert isinstance(load_file(tmp_path / target), nn.Sequential)


def test_relative_path_and_working_folder(tmp_path: Path) -> None:
    write(tmp_path, {"elsewhere/data.txt": "10", "model.py": NET + "open('data.txt').close()"})
    assert isinstance(load_file("../model.py"), nn.Sequential)


def test_module_of_the_working_folder(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"kit/__init__.py": "", "kit/nets.py": NET})
    found = load({"kind": "module", "where": "kit.nets", "name": "Net"})
    assert isinstance(found, nn.Sequential)


def test_experiment() -> None:
    found = load({"kind": "experiment", "where": "attempt-3", "name": ""})
    assert sum(p.numel() for p in found.parameters()) == 6_842
    with pytest.raises(NotLoadedError, match=r"no experiment 'x'; there are .*model\.py:Net"):
        load({"kind": "experiment", "where": "x", "name": ""})


def test_afterwards_the_strangers_folder_shadows_nothing(tmp_path: Path) -> None:
    before = list(sys.path)
    write(tmp_path, {"model.py": f"import sys; sys.path.insert(0, 'mine')\n{NET}"})
    load_file(tmp_path / "model.py")
    assert sys.path[: len(before)] == before
    assert {"mine", str(tmp_path)} <= set(sys.path[len(before) :])


def test_the_same_draw_each_time(tmp_path: Path) -> None:
    write(tmp_path, {"model.py": NET})
    first, second = (load_file(tmp_path / "model.py") for _ in range(2))
    assert torch.equal(first[1].weight, second[1].weight)


def test_stages(tmp_path: Path) -> None:
    write(tmp_path, {"model.py": NET})
    stages: list[str] = []
    load({"kind": "file", "where": str(tmp_path / "model.py"), "name": "Net"}, stages.append)
    assert stages == [f"importing {tmp_path / 'model.py'}", "building Net"]


FAILURES = {
    "attribute": (NET + "class Other(Net): pass", r"has no 'X'; its networks are Net, Other$"),
    "attribute of nothing": ("x = 1", "has no 'X'; it defines no nn.Module class$"),
    "imported classes are not listed": ("from torch.nn import ReLU", "defines no nn.Module"),
    "syntax": ("x = 1\ndef f(:\n", r"model\.py is not valid Python: line 2: invalid syntax"),
    "null byte": ("x = '\0'", "is not valid Python: .*null bytes"),
    "nesting": ("x = " + "(" * 5_000, "is not valid Python: "),
    "syntax beside": ("import beside", r"SyntaxError: [^()]* \(beside\.py, line 1\)$"),
    "missing package": (
        "import no_such_package.x",
        r"the import of .* failed: ModuleNotFoundError: .*\(model\.py, line 1\); "
        "if 'no_such_package' is a package, install it; if it is a file or folder of your own",
    ),
    "missing beside": (
        "from .nothing import X",
        r"line 1\); /.* has no 'nothing': correct the import, add the file, or install the",
    ),
    "missing module of a package": ("import torch.x", "/torch has no 'x': correct the import, add"),
    "missing name": ("from torch import nnn", r"ImportError: cannot .*\(model\.py, line 1\)$"),
    "import": ("\n\n1 / 0", r"import of .*: ZeroDivisionError: .*zero \(model\.py, line 3\)$"),
    "import beside": ("import works", r"ValueError: found here \(works\.py, line 1\)$"),
    "exit": ("import sys; sys.exit(0)", r"SystemExit: 0 .*; put what .* __name__ == '__main__'"),
    "data that is not there": (
        "open('train.csv')",
        r"FileNotFoundError: .*\(model\.py, line 1\); put what runs as a script under if __name__",
    ),
    "training": (
        "import torch\ntorch.ones(2) @ torch.ones(3)",
        r"RuntimeError: .*\(model\.py, line 2\); put what runs as a script under if __name__",
    ),
    "a file in its constructor": (
        NET + "class X(Net):\n    def __init__(self): open('weights.pt')",
        r"FileNotFoundError: [^;]*\(model\.py, line \d+\)$",
    ),
    "colab": (
        "from google.colab import drive",
        r"ModuleNotFoundError: .*; google\.colab is there in Colab alone: leave out the import",
    ),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "odd error": (
        "class E(BaseException):\n    def __str__(self): raise self\nraise E",
        r"failed: E \(model\.py, line 3\)$",
    ),
    "init": (
        "from torch import nn\nclass X(nn.Module):\n    def __init__(self):\n        self.x = y",
        r"building X failed: NameError: name 'y' is not defined \(model\.py, line 4\)$",
    ),
    "within torch": (
        "from torch import nn\nX = lambda: nn.Conv2d(3, 4, 3, groups=2)",
        r"building X failed: ValueError: .*\(model\.py, line 2\)$",
    ),
    "arguments": (
        "class X:\n    def __init__(self, width, *more, depth, name='', **rest): pass",
        "X needs the arguments width, depth; give them defaults, or name a function",
    ),
    "no network": (
        "def X(): return 5",
        r"X\(\) gives an object of type int; expected one nn.Module",
    ),
    "a list": (
        "from torch import nn\nX = lambda: [nn.ReLU(), nn.ReLU()]",
        r"X\(\) gives a list of 2 elements; expected one nn.Module",
    ),
    "a class from a function": (NET + "X = lambda: Net", r"X\(\) gives the class Net; expected"),
    "no builder": ("X = [1, 2, 3]", "X is a list of 3 elements; expected a class, a function or"),
    "plain class": ("class X: pass", r"X\(\) gives an object of type X; expected one nn"),
    "a number": ("X = 5", "X is an object of type int; expected a class, a function or"),
    "a notebook's shell": (
        "import torch\n!pip install torchinfo",
        r"line 2: invalid syntax; lines with !, .*remove them, or put the class into a file",
    ),
    "a notebook's magic": ("%matplotlib inline", r"line 1: invalid syntax; lines with !, % or"),
    "a notebook's answer": ("files = !ls", r"line 1: invalid syntax; lines with !, % or"),
    "a notebook's own": (
        "get_ipython().system('pip install torchinfo')",
        r"NameError: .*\(model\.py, line 1\); lines with !, % or get_ipython\(\) work in",
    ),
    "a remainder": ("x = 7 %\n", r"line 1: invalid syntax$"),
    "another name": ("get_python()", r"NameError: .*\(model\.py, line 1\)$"),
}


@pytest.mark.parametrize("files", [("model.py",), ("model/net.py",), ("model/__init__.py",)])
def test_a_module_of_ones_own_that_lies_elsewhere_is_found(
    files: tuple[str, ...], tmp_path: Path
) -> None:
    """`from model import Net` in a subfolder, run from somewhere else than the repository."""
    write(tmp_path, dict.fromkeys(files, NET) | {"src/use.py": "from model import Net"})
    said = f"'model'.*; run in {tmp_path}, where 'model' lies; if another one is meant, install it"
    with pytest.raises(NotLoadedError, match=said):
        load_file(tmp_path / "src" / "use.py")


@pytest.mark.parametrize("failure", FAILURES)
def test_causes(failure: str, tmp_path: Path) -> None:
    text, cause = FAILURES[failure]
    beside = {"beside.py": "x = = 1", "works.py": "raise ValueError('found here')"}
    write(tmp_path, beside | {"model.py": text})
    with pytest.raises(NotLoadedError, match=cause):
        load_file(tmp_path / "model.py", "X")


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("Net.x", r"model\.py:Net has no 'x'$"),
        ("Net.forward.x", r"model\.py:Net\.forward has no 'x'$"),
        ("Nets.x", r"model\.py has no 'Nets'; its networks are Net$"),
    ],
)
def test_the_part_that_lacks_a_name_is_the_one_named(name: str, cause: str, tmp_path: Path) -> None:
    write(tmp_path, {"model.py": NET})
    with pytest.raises(NotLoadedError, match=cause):
        load_file(tmp_path / "model.py", name)


def test_module_that_is_not_there() -> None:
    with pytest.raises(NotLoadedError, match="'no_such'; if 'no_such' is a package, install it"):
        load({"kind": "module", "where": "no_such.nets", "name": "Net"})


def test_package_named_like_an_imported_one(tmp_path: Path) -> None:
    write(tmp_path, {"torch/__init__.py": "", "torch/model.py": "from . import nn"})
    with pytest.raises(NotLoadedError, match=r"bears the name of the package 'torch'.*rename"):
        load_file(tmp_path / "torch/model.py")


def test_file_of_this_package_is_not_imported_twice() -> None:
    assert attempt.__file__ is not None
    with pytest.raises(NotLoadedError, match=r"has no 'Net'"):
        load_file(attempt.__file__)
    assert sys.modules["mnist_models.models.attempt"] is attempt


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(NotLoadedError, match=r"cannot read .*: there is no such file"):
        load_file(tmp_path / "model.py")
    write(tmp_path, {"model.py": ""})
    (tmp_path / "model.py").write_bytes(b"x = '\xff\xfe'")
    with pytest.raises(NotLoadedError, match="is not valid Python: "):
        load_file(tmp_path / "model.py")
