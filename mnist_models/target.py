"""What a user names to be checked: an experiment, or a network in a file or a module."""

from __future__ import annotations

import ast
import os
import warnings
from pathlib import Path

from mnist_models.files import read_whole, refusal

_NAMED = 5  # networks of a file that an error lists, at most
_LARGEST = 1 << 20  # bytes of a file that is looked into for them


def place(target: str) -> dict[str, str]:
    """What a target means: ``kind`` ("experiment", "file", "module"), ``where`` and ``name``.

    Raises:
        ValueError: it means nothing; says what to give instead.
    """
    where, colon, name = target.rpartition(":")
    named = all(part.isidentifier() for part in name.split("."))
    named = named and bool(colon) and not name.endswith(".py")  # a colon in the file's own name
    if colon and name.endswith(")") and "(" in name:
        plain = f"{where}:{name.partition('(')[0]}"
        raise ValueError(f"{target!r} is a call; expected a name that takes no arguments: {plain}")
    path = Path(where if named else target)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:
        raise ValueError(f"{target!r} cannot be looked up: {refusal(error)}") from None
    dotted = named and all(part.isidentifier() for part in where.split("."))
    package = dotted and (path / "__init__.py").is_file()
    if is_folder and not package and (named or os.sep in target):
        raise ValueError(f"{path} is a folder; name a file in it, as in {path / 'model.py'}:Net")
    if is_file and path.suffix != ".py":
        raise ValueError(_no_python(path))
    if not named:
        if is_file or path.suffix == ".py" or colon or os.sep in target:
            raise ValueError(_unnamed(target, path))
        return {"kind": "experiment", "where": target, "name": ""}
    if not is_file and (path.suffix == ".py" or not dotted):
        raise ValueError(f"there is no file {where!r}; expected path/to/model.py:Net")
    return {"kind": "file" if is_file else "module", "where": where, "name": name}


def _no_python(path: Path) -> str:
    said = f"{path} is not Python; expected a file whose name ends in .py"
    if path.suffix != ".ipynb":
        return said
    return f"{said}; jupytext --to py {path.name!r} makes one of a notebook"


def _unnamed(target: str, path: Path) -> str:
    """The error about a target without the name of a network."""
    if path.suffix == ".py" and not path.exists():
        return f"there is no file {target!r}; expected path/to/model.py:Net"
    found = [f"{target}:{name}" for name in _networks(path)] or ["path/to/model.py:Net"]
    names = " or ".join(found[:_NAMED])
    if len(found) > _NAMED:
        names += f" (of {len(found)} that it has)"
    return f"{target!r} does not say which network is meant; add its name, as in {names}"


def _networks(path: Path) -> list[str]:
    """The classes of a file that look like networks, the last first; the file is not run."""
    try:
        with warnings.catch_warnings(action="ignore"):  # such as of an escape in a text
            lines = ast.parse(read_whole(path, _LARGEST)).body
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    found: list[str] = []
    for line in lines:
        if isinstance(line, ast.ClassDef):
            bases = map(ast.unparse, line.bases)
            if any(base.endswith("Module") or base in found for base in bases):
                found.insert(0, line.name)
    return found
