"""The command report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch

from mnist_models.atomic import make_folder, write_atomically
from mnist_models.cli.actions import annotate, markdown_table, plain, summarise
from mnist_models.cli.options import Commands, declare, show_json
from mnist_models.figures.catalogue import Records, write_plots
from mnist_models.report import Stale, generate, published, stale


def add_report(commands: Commands) -> None:
    command = declare(
        commands,
        "report",
        run_report,
        "Write everything that carries a number from models, checks and records: the generated "
        "parts of the README, the list of records, the badges of the requirements. Needs no data "
        "set.",
        "report --check",
    )
    command.add_argument(
        "--check", action="store_true", help="write nothing; fail if anything is stale"
    )
    command.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="the repository (default: here)",
    )


def run_report(options: argparse.Namespace) -> int:
    torch.set_num_threads(1)  # as for `check --all`
    records = published(options.root / "records")
    found = stale(options.root, records)
    written: list[str] = []
    if not options.check:
        written = _write(options.root, records, found)
        found = [problem for problem in found if problem.file not in written]
    passed = not (options.check and found)
    _tell_github(options.root, found)
    if options.json:
        show_json({"passed": passed, "stale": [asdict(s) for s in found], "written": written})
        return 0 if passed else 1
    for problem in found:
        print(plain(problem), file=sys.stderr)
    for name in written:
        print(f"{name}: written")
    if not found and not written:
        print("everything generated is as it would be written now")
    return 0 if passed else 1


def _tell_github(root: Path, found: list[Stale]) -> None:
    """Mark what is stale at its file and line, and list it in the summary of the job."""
    for problem in found:
        annotate(str(problem), title="report", file=root / problem.file, line=problem.line)
    rows = [
        (problem.file, problem.line or "-", problem.reason, problem.command) for problem in found
    ]
    listed = markdown_table(("stale", "line", "why", "what to run"), rows)
    summarise(f"### Report\n\n{listed if found else 'Everything generated is up to date.'}")


def _write(root: Path, records: Records, found: list[Stale]) -> list[str]:
    """Write the stale files that the report makes; returns their names."""
    texts = generate(root, records)
    names = [problem.file for problem in found if problem.file in texts]
    for name in names:
        make_folder((root / name).parent)
        write_atomically(root / name, texts[name].encode())
    plots = write_plots(root, records)
    names += [path.relative_to(root).as_posix() for path in plots]
    return names + _refresh(root)


def _refresh(root: Path) -> list[str]:
    """Write what the notebooks hold of the repository's address; returns the files written."""
    if find_spec("jupytext") is None:  # of an optional extra; `notebooks --check` asks for it
        return []
    from mnist_models.notebooks.pair import find_names  # noqa: PLC0415 - needs what is optional
    from mnist_models.notebooks.stale import refresh  # noqa: PLC0415 - likewise

    return [file for name in find_names(root) for file in refresh(root, name)]


COMMANDS = (add_report,)
