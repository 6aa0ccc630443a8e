"""The command report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mnist_models.atomic import write_atomically
from mnist_models.cli.options import Commands, declare, show_json
from mnist_models.report import ReportError, blocks, published, render, stale_line


def add_report(commands: Commands) -> None:
    command = declare(
        commands,
        "report",
        run_report,
        "Write the generated blocks of the README from models, checks and records.",
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
        help="folder with README.md and records (default: here)",
    )


def run_report(options: argparse.Namespace) -> int:
    readme = options.root / "README.md"
    try:
        text = readme.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReportError(f"{readme} is no UTF-8 text: {error}") from error
    expected = render(text, blocks(published(options.root / "records")))
    line = stale_line(text, expected)
    if line is not None and not options.check:
        write_atomically(readme, expected.encode())
    stale = line is not None and options.check
    if options.json:
        show_json({"passed": not stale, "file": str(readme), "line": line})
    elif stale:
        print(
            f"{readme}:{line}: differs from what models and records give; "
            "run: python -m mnist_models report",
            file=sys.stderr,
        )
    else:
        print(f"{readme}: {'as generated' if line is None else 'written'}")
    return 1 if stale else 0


COMMANDS = (add_report,)
