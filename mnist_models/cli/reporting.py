"""The command report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from mnist_models.atomic import write_atomically
from mnist_models.cli.options import Commands, declare, show_json
from mnist_models.report import Stale, generate, stale


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
    found = stale(options.root)
    written: list[str] = []
    if not options.check:
        written = _write(options.root, found)
        found = [problem for problem in found if problem.file not in written]
    passed = not (options.check and found)
    if options.json:
        show_json({"passed": passed, "stale": [asdict(s) for s in found], "written": written})
        return 0 if passed else 1
    for problem in found:
        print(problem, file=sys.stderr)
    for name in written:
        print(f"{name}: written")
    if not found and not written:
        print("everything generated is as it would be written now")
    return 0 if passed else 1


def _write(root: Path, found: list[Stale]) -> list[str]:
    """Write the stale files that the report makes; gives their names."""
    texts = generate(root)
    names = [problem.file for problem in found if problem.file in texts]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(root / name, texts[name].encode())
    return names


COMMANDS = (add_report,)
