"""Load a network from a stranger's file or module, and say in one sentence why it cannot be."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from mnist_models.advice import AS_A_SCRIPT, advice, describe, place
from mnist_models.files import refusal
from mnist_models.models import find_experiment
from mnist_models.plural import counted

_MAGIC = re.compile(r"^\s*[!%]|=\s*[!%]")
_OF_A_NOTEBOOK = (
    "lines with !, % or get_ipython() work in a notebook alone: remove them, or put the class into "
    "a file of its own"
)

# Of a file or a download that is not there, of training, or of a question to the user.
_OF_A_SCRIPT = (OSError, RuntimeError, EOFError)


class NotLoadedError(Exception):
    """The target gives no network; the message is the cause in one sentence."""


def load(request: dict[str, Any], stage: Callable[[str], None] = lambda _: None) -> nn.Module:
    """The network that a request means.

    Args:
        request: ``kind`` ("experiment", "file" or "module"), ``where`` it is, its ``name`` there.
        stage: told what comes next, for a message in case it never ends.

    Changes `sys.path`, `sys.argv` and `sys.modules` as running the file would.

    Raises:
        NotLoadedError: there is none, or the stranger's code failed.
    """
    kind, where, name = request["kind"], request["where"], request["name"]
    torch.manual_seed(0)  # a network that draws its layers gives the same verdict each time
    if kind == "experiment":
        try:
            experiment = find_experiment(where)
        except KeyError as error:
            raise NotLoadedError(
                f"{error}; a file is given as path/to/model.py:Net, a module as package.module:Net"
            ) from None
        module: nn.Module = guard(experiment.build, f"building {where} failed", folder_of(request))
        return module
    stage(f"importing {where}")
    folder = folder_of(request)
    sys.argv, before = [where], list(sys.path)
    found = guard(lambda: _import(kind, where), f"the import of {where} failed", folder, True)
    stage(f"building {name}")
    shown = where
    for part in name.split("."):
        found = _attribute(found, part, shown)
        shown += f".{part}" if shown != where else f":{part}"
    module = _build(found, name, folder)
    # Imports within forward still work, and torch's own late ones find nothing of the stranger's
    sys.path[:] = before + [entry for entry in sys.path if entry not in before]
    return module


def folder_of(request: dict[str, Any]) -> Path:
    """The folder whose files are the stranger's."""
    file = request["kind"] == "file"
    return Path(request["where"]).resolve().parent if file else Path.cwd()


def _import(kind: str, where: str) -> ModuleType:
    if kind == "file":
        return _import_file(Path(where).resolve(), where)
    sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(where)


def _import_file(path: Path, shown: str) -> ModuleType:
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise NotLoadedError(f"cannot read {shown}: {refusal(error)}") from None
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        said = f"{shown} is not valid Python: {line}{error.msg}"
        magic = _MAGIC.search(error.text or "")
        raise NotLoadedError(f"{said}; {_OF_A_NOTEBOOK}" if magic else said) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotLoadedError(f"{shown} is not valid Python: {describe(error)}") from None
    sys.path.append(str(Path.cwd()))  # `from src.layers import ...`, run from the project's root
    if (package := _package(path, tree)) is not None:
        root, dotted = package
        sys.path[:0] = [str(root), str(path.parent)]
        return importlib.import_module(dotted)
    name = re.sub(r"\W", "_", path.stem)
    taken = name in sys.modules or name in sys.stdlib_module_names or _installed(name)
    if taken:  # `import torch` within a file of that name means torch, not the file
        sys.path.append(str(path.parent))
        name = f"_stranger_{name}"
    else:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # it ends in .py: the parent looked
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _package(path: Path, tree: ast.Module) -> tuple[Path, str] | None:
    """The root and dotted name by which a file imports that uses the package it lies in."""
    relative = max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)
    top, names = path.parent, [path.stem]
    while top != top.parent and ((top / "__init__.py").is_file() or len(names) <= relative):
        names.insert(0, top.name)
        top = top.parent
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else _names(node))
    }
    if len(names) == 1 or not (relative or names[0] in imported):
        return None
    loaded = sys.modules.get(names[0])
    folders = [Path(entry).resolve() for entry in getattr(loaded, "__path__", [])]
    if loaded is not None and top / names[0] not in folders:
        raise NotLoadedError(
            f"the folder {top / names[0]} bears the name of the package {names[0]!r}, "
            "which is imported already; rename the folder"
        )
    return top, ".".join(names)


def _names(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]


def _attribute(found: Any, name: str, where: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError:
        pass
    if not isinstance(found, ModuleType):
        raise NotLoadedError(f"{where} has no {name!r}")
    classes = [
        key
        for key, value in list(vars(found).items())
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == found.__name__
    ]
    known = f"its networks are {', '.join(classes)}" if classes else "it defines no nn.Module class"
    raise NotLoadedError(f"{where} has no {name!r}; {known}")


def _build(found: Any, name: str, folder: Path) -> nn.Module:
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise NotLoadedError(
            f"{name} is {_kind(found)}; expected a class, a function or an instance of nn.Module"
        )
    if missing := _required(found):
        raise NotLoadedError(
            f"{name} needs the arguments {', '.join(missing)}; give them defaults, or name a "
            "function without arguments that builds the network"
        )
    built = guard(found, f"building {name} failed", folder)
    if not isinstance(built, nn.Module):
        raise NotLoadedError(f"{name}() gives {_kind(built)}; expected one nn.Module")
    return built


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {counted(len(value), 'element')}"
    return f"an object of type {type(value).__name__}"


def _required(builder: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):
        return []  # no signature to read: calling it will tell
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def guard(action: Callable[[], Any], failed: str, folder: Path, importing: bool = False) -> Any:
    """Run the stranger's code; whatever it raises becomes a cause that names its line."""
    try:
        return action()
    except NotLoadedError:
        raise
    except BaseException as error:  # sys.exit too
        where, advised = place(error), _advice(error, folder)
        if importing and isinstance(error, _OF_A_SCRIPT):
            advised = advised or AS_A_SCRIPT
        said = f"{failed}: {describe(error)}" + (f" ({where})" if where else "")
        raise NotLoadedError(f"{said}; {advised}" if advised else said) from None


def _advice(error: BaseException, folder: Path) -> str:
    """What to do about an error at import, or while the network is built; or ""."""
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        return _missing(error.name, folder)
    if isinstance(error, SystemExit):
        return AS_A_SCRIPT
    if isinstance(error, NameError) and error.name == "get_ipython":
        return _OF_A_NOTEBOOK
    return advice(error)


def _missing(name: str, folder: Path) -> str:
    """What to do about a module that was not found, for a file in the folder."""
    package, _, last = name.rpartition(".")
    if loaded := getattr(sys.modules.get(package), "__path__", None):
        return (
            f"{next(iter(loaded), package)} has no {last!r}: correct the import, add the file, or "
            "install the version of the package that has it"
        )
    top = name.partition(".")[0]
    if top == "google":
        return "google.colab is there in Colab alone: leave out the import, and what uses it"
    for parent in folder.parents:
        with contextlib.suppress(OSError):  # a name that no file can have
            if (parent / f"{top}.py").is_file() or any((parent / top).glob("*.py")):
                return f"run in {parent}, where {top!r} lies; if another one is meant, install it"
    return (
        f"if {top!r} is a package, install it; if it is a file or folder of your own, run in the "
        "folder that it lies in"
    )
