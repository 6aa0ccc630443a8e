"""The command publish."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from mnist_models.badges import RESULTS, RUN_BADGES
from mnist_models.cli.actions import annotate, escape, markdown_table, plain, summarise
from mnist_models.cli.options import Commands, UsageError, declare, show_json
from mnist_models.publish import Publication, publish, run_files, write_files


def add_publish(commands: Commands) -> None:
    command = declare(
        commands,
        "publish",
        run_publish,
        "Write the badges of a CI run from the results of its jobs; with --commit and --branch "
        "also commit them on top of the tested commit and push, if the branch still stands there. "
        "Exit status 1 if the push is refused.",
        "publish --tests success --notebooks success --verify failure",
    )
    for name in RUN_BADGES:
        command.add_argument(
            f"--{name}", required=True, choices=RESULTS, help="the result of this job"
        )
    command.add_argument("--commit", metavar="SHA", help="the commit that was tested")
    command.add_argument("--branch", metavar="NAME", help="the branch on which it stood")
    command.add_argument("--remote", default="origin", help="default: %(default)s")
    command.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="the repository (default: here)",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="write the files alone; neither commit nor push"
    )


def run_publish(options: argparse.Namespace) -> int:
    if (options.commit is None) != (options.branch is None):
        raise UsageError("--commit and --branch belong together: the branch must stand at it")
    results = {name: getattr(options, name) for name in RUN_BADGES}
    files = run_files(results)
    write_files(options.root, files)
    if options.commit is None or options.dry_run:
        found = Publication("written", "", "the files alone were asked for")
    else:
        found = publish(
            options.root,
            files,
            commit=options.commit,
            branch=options.branch,
            remote=options.remote,
        )
    said = f"{found.state}: {found.cause}"
    if options.json:
        show_json({"passed": found.passed, **asdict(found), "files": list(files)})
    else:
        print(plain(said))
    table = markdown_table(("badge", "result"), list(results.items()))
    summarise(f"### Badges\n\n{table}\n{escape(said)}")
    if not found.passed:
        annotate(found.cause, title="publish")
    return 0 if found.passed else 1


COMMANDS = (add_publish,)
