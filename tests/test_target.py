from __future__ import annotations

import re
from pathlib import Path

import pytest

from mnist_models.target import place

TWO = b"""
from torch import nn
import torch.utils.data as data
class Images(data.Dataset): ...
class Block(nn.Module): ...
class Net(Block):
    pattern = "\\d"
def build(): ...
"""


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("steps-6", ("experiment", "steps-6", "")),
        ("there.py:Net", ("file", "there.py", "Net")),
        ("a:b.py:Net.inner", ("file", "a:b.py", "Net.inner")),
        ("package.models:Net", ("module", "package.models", "Net")),
        ("folder:Net", ("module", "folder", "Net")),
    ],
)
def test_what_a_target_means(
    target: str, meant: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for file in ("there.py", "a:b.py", "folder/__init__.py"):
        Path(file).touch()
    assert tuple(place(target).values()) == meant


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("nowhere/model.py:Net", "there is no file 'nowhere/model.py'; expected path/to/model.py"),
        ("model.py:Net", "there is no file 'model.py'"),
        ("my model:Net", "there is no file 'my model'"),
        ("there.py", "'there.py' does not say which network is meant; add its name, as in path/to"),
        ("nowhere/model.py", "there is no file 'nowhere/model.py'"),
        ("there.py:", "'there.py:' does not say which network is meant"),
        ("there.py:2", "'there.py:2' does not say which network is meant"),
        ("./a:b.py", "'./a:b.py' does not say which network is meant"),
        (
            "there.py:Net()",
            "'there.py:Net()' is a call; expected a name that takes no arguments: th",
        ),
        ("there.py:Net(8)", "'there.py:Net(8)' is a call"),
        ("text.txt:Net", "text.txt is not Python; expected a file whose name ends in .py"),
        ("text.txt", "text.txt is not Python"),
        ("a b.ipynb", "a b.ipynb is not Python; expected a file whose name ends in .py; jupytext"),
        ("folder:Net", "folder is a folder; name a file in it, as in folder/model.py:Net"),
        ("./folder", "folder is a folder"),
        ("folder.py:Net", "folder.py is a folder"),
        ("folder.py", "'folder.py' does not say which network is meant"),
        ("a\0b.py:Net", "there is no file 'a\\x00b.py'"),
        ("/nowhere/a:b.py", "there is no file '/nowhere/a:b.py'"),
        (f"{'long' * 2_000}.py:Net", ""),  # Python 3.14 says there is none, older ones why
    ],
)
def test_what_is_no_target(
    target: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there.py", "text.txt", "a:b.py", "a b.ipynb"):
        Path(name).touch()
    for name in ("folder", "folder.py"):
        Path(name).mkdir()
    with pytest.raises(ValueError, match=f"^{re.escape(cause)}"):
        place(target)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (TWO, "two.py:Net or two.py:Block"),
        (TWO.replace(b"\n", b"\r\n"), "two.py:Net or two.py:Block"),
        (b"class Net(nn.Module): ...", "two.py:Net"),
        (b"class Net: ...", "path/to/model.py:Net"),
        (b"class Net(nn.Module): \0", "path/to/model.py:Net"),
        (b"class Net(nn.Module):", "path/to/model.py:Net"),
        (b"class Net(nn.Module): ...\n" + b"#" * (1 << 20), "path/to/model.py:Net"),
        (b"x = " + b"(" * 5_000, "path/to/model.py:Net"),
    ],
    ids=range(8),
)
def test_the_networks_of_a_file_are_named(
    text: bytes, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.py").write_bytes(text)
    with pytest.raises(ValueError, match=f"add its name, as in {names}$"):
        place("two.py")
    many = b"".join(b"class Net%d(nn.Module): ...\n" % number for number in range(9))
    Path("two.py").write_bytes(many)
    with pytest.raises(ValueError, match=r"two\.py:Net8 or .*Net4 \(of 9 that it has\)$"):
        place("two.py")
