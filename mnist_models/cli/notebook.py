"""The command notebooks."""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from mnist_models.cli.actions import annotate, plain
from mnist_models.cli.options import Commands, declare, say_stopped, show_json
from mnist_models.data import load
from mnist_models.idx import find_root
from mnist_models.notebooks import FOLDER, CellError, NotebookError
from mnist_models.plural import counted
from mnist_models.record import Record
from mnist_models.report import published

_NEEDED = ("jupytext", "nbformat", "nbclient", "ipykernel")


def add_notebooks(commands: Commands) -> None:
    command = declare(
        commands,
        "notebooks",
        run_notebooks,
        "Run the notebooks in full and write them with their outputs. --check runs nothing and "
        "fails where one is stale: out of step with its source, or of other records.",
        "notebooks walkthrough",
    )
    command.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="write and run nothing; fail if anything is stale"
    )
    what.add_argument(
        "--refresh",
        action="store_true",
        help="run nothing; write the generated cells and changed prose, and keep the outputs",
    )
    command.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help=f"folder with {FOLDER} and records (default: here)",
    )
    command.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder that holds MNIST/raw (default: $MNIST_ROOT, then data/ of the repository)",
    )


def run_notebooks(options: argparse.Namespace) -> int:
    _require()
    from mnist_models.notebooks.pair import find_names  # noqa: PLC0415 - needs what is optional

    known = find_names(options.root)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise NotebookError(f"no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    names = list(dict.fromkeys(options.names)) or known
    if options.refresh:
        return _refresh(options, names)
    records = published(options.root / "records")
    return _check(options, names, records) if options.check else _run(options, names, records)


def _require() -> None:
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise NotebookError(
                f"notebooks need {name} ({error}): pip install -r requirements.txt"
            ) from error


def _check(options: argparse.Namespace, names: list[str], records: dict[str, list[Record]]) -> int:
    from mnist_models.notebooks.stale import problems  # noqa: PLC0415 - needs what is optional

    files = {f"{FOLDER}/{name}{suffix}" for name in names for suffix in (".py", ".ipynb")}
    found = problems(options.root, records)
    if options.names:
        found = [problem for problem in found if problem.file in files]
    for problem in found:
        annotate(
            str(problem), title="notebooks", file=options.root / problem.file, line=problem.line
        )
    if options.json:
        show_json({"passed": not found, "problems": [asdict(problem) for problem in found]})
        return 1 if found else 0
    for problem in found:
        print(plain(problem), file=sys.stderr)
    if not found:
        print(f"{counted(len(names), 'notebook')}: what sources and records give")
    return 1 if found else 0


def _refresh(options: argparse.Namespace, names: list[str]) -> int:
    from mnist_models.notebooks.stale import refresh  # noqa: PLC0415 - needs what is optional

    written = [file for name in names for file in refresh(options.root, name)]
    if options.json:
        show_json({"passed": True, "written": written})
    else:
        print("\n".join(f"{file}: written" for file in written) or "nothing to write")
    return 0


def _run(options: argparse.Namespace, names: list[str], records: dict[str, list[Record]]) -> int:
    from mnist_models.notebooks.execute import execute  # noqa: PLC0415 - needs what is optional
    from mnist_models.notebooks.pair import read_source  # noqa: PLC0415 - likewise

    cells = {
        name: sum(cell.kind == "code" for cell in read_source(options.root, name).cells)
        for name in names
    }
    load("mnist", options.data_root, progress=True)  # the published outputs show MNIST
    data_root, written = find_root(options.data_root), []
    failure: CellError | None = None
    with tqdm(total=sum(cells.values()), unit="cell", dynamic_ncols=True) as bar:
        for name in names:
            bar.set_description(name)
            try:
                path = execute(
                    options.root,
                    name,
                    records,
                    data_root=data_root,
                    listener=lambda: bar.update() and None,
                )
            except CellError as error:
                failure = error
                break
            except (KeyboardInterrupt, SystemExit) as stop:  # Ctrl-C, SIGTERM
                bar.close()
                say_stopped(stop, f" in {name}; nothing of this notebook was written")
            written.append({"file": f"{FOLDER}/{path.name}", "bytes": path.stat().st_size})
    if options.json:
        cause = str(failure) if failure else ""
        show_json({"passed": failure is None, "written": written, "cause": cause})
    else:
        for entry in written:
            print(f"{entry['file']}: written, {entry['bytes']:,} bytes")
        if failure:
            said = f"FAIL: {failure}; nothing of this notebook was written"
            print(plain(said), file=sys.stderr)
    return 1 if failure else 0


COMMANDS = (add_notebooks,)
