"""The commands that need no data set: list, summary, check."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mnist_models.assignment import ASSIGNMENTS, Assignment, AssignmentError
from mnist_models.atomic import make_folder
from mnist_models.cli.actions import disarmed, plain
from mnist_models.cli.expectations import run_check_all
from mnist_models.cli.options import (
    Commands,
    UsageError,
    add_assignment,
    assignment_of,
    declare,
    positive,
    show_json,
)
from mnist_models.cli.verdicts import report_outcome, write_badges
from mnist_models.isolation import check_target, not_checked, summarise_target
from mnist_models.models import EXPERIMENTS
from mnist_models.plural import counted
from mnist_models.tables import check_table, table, verdict

_MEBIBYTE = 1 << 20
_TARGET = "an experiment, path/to/model.py:Net, or package.module:Net"


def add_list(commands: Commands) -> None:
    declare(
        commands,
        "list",
        run_list,
        "List the experiments: the published ones, and this project's own.",
        "list --json",
    )


def run_list(options: argparse.Namespace) -> int:
    rows = [
        {
            "experiment": experiment.name,
            "parameters": sum(p.numel() for p in experiment.build().parameters()),
            "epochs": experiment.recipe.epochs,
            "batch_size": experiment.recipe.batch_size,
            "assignment": experiment.assignment.name,
            "claimed_percent": experiment.claim.percent if experiment.claim else None,
            "source": experiment.source,
            "target": experiment.target,
        }
        for experiment in EXPERIMENTS.values()
    ]
    if options.json:
        show_json(rows)
        return 0
    header = ("experiment", "parameters", "epochs", "batch", "assignment", "claimed %", "source")
    keys = [key for key in rows[0] if key != "target"]
    print(table(header, [[row[key] or "-" for key in keys] for row in rows]))
    print("\nassignments:")
    for assignment in ASSIGNMENTS.values():
        print(f"  {assignment.name}: {assignment.title}: {', '.join(_limits(assignment))}")
    return 0


def _limits(assignment: Assignment) -> list[str]:
    """What it asks, as a TOML file says it."""
    asked = {key: value for key, value in vars(assignment).items() if value is not None}
    return [
        f"{key.replace('_', ' ')} {value}"
        for key, value in asked.items()
        if key not in {"name", "title"}
    ]


def _add_target(command: argparse.ArgumentParser, *, optional: bool = False) -> None:
    command.add_argument("target", nargs="?" if optional else None, help=_TARGET)
    command.add_argument(
        "--time-limit",
        type=positive,
        default=60.0,
        metavar="SECONDS",
        help="on the whole child process that runs the code (default: 60)",
    )
    command.add_argument(
        "--memory-limit",
        type=positive,
        default=4096.0,
        metavar="MIB",
        help="on its resident size (default: 4096)",
    )


def add_summary(commands: Commands) -> None:
    command = declare(
        commands,
        "summary",
        run_summary,
        "Show a network layer by layer: torchinfo's summary, and how the receptive field grows.",
        "summary steps-6",
    )
    _add_target(command)


def run_summary(options: argparse.Namespace) -> int:
    found = summarise_target(
        options.target, options.time_limit, int(options.memory_limit * _MEBIBYTE)
    )
    if options.json:
        show_json(found.to_dict())
    elif found.cause:
        said = f"error: {options.target} could not be summarised: {found.cause}"
        _say(plain(said), error=True)
    else:
        _say(found.layers)
        print()
        _say(_field_table(found.rows))
        before, output = (found.receptive_field[key] for key in ("before_pooling", "output"))
        print(
            f"receptive field: {_pixels(before)} at the input of the global pooling, "
            f"{_pixels(output)} at the output"
        )
        if found.receptive_field["cause"] and None in (before, output):
            _say(plain(found.receptive_field["cause"]))
    _show_output(found.output)
    return 2 if found.cause else 0


def _pixels(field: int | None) -> str:
    return "unknown" if field is None else counted(field, "pixel")


def _field_table(rows: list[dict[str, object]]) -> str:
    def pair(value: object) -> str:
        height, width = value if isinstance(value, list | tuple) else (value, value)
        return f"{height}" if height == width else f"{height}x{width}"

    pairs = ("kernel", "stride", "padding", "dilation")
    header = ("layer", "operation", *pairs, "jump", "size", "channels", "receptive field")
    return table(
        header,
        [
            (
                row["name"] or "-",
                row["operation"],
                *(pair(row[key]) for key in pairs),
                row["jump"] or None,  # after the pooling there are no neighbours
                pair(row["size"]),
                row["channels"],
                row["receptive_field"],
            )
            for row in rows
        ],
    )


def add_check(commands: Commands) -> None:
    command = declare(
        commands,
        "check",
        run_check,
        "Check a network against an assignment, on what it executes. The code runs in a process "
        "of its own. Exit status: 1 if a check fails, 2 if one could not be measured, else 0. "
        "In GitHub Actions it also writes a summary, annotations, and the outputs passed, "
        "parameters, receptive-field and json.",
        "check path/to/model.py:Net --assignment card",
    )
    _add_target(command, optional=True)
    add_assignment(command)
    command.add_argument(
        "--badges", type=Path, metavar="DIR", help="write an SVG and a JSON for each check"
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="instead of TARGET: every experiment against its own assignment and the card; exit "
        "status 1 if a verdict is not the one expected",
    )
    command.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="with --all: this project's own records, which must keep the card too "
        "(default: records)",
    )


def run_check(options: argparse.Namespace) -> int:
    if options.all == (options.target is not None):
        raise UsageError("check needs either TARGET or --all, and not both")
    if options.all and (options.assignment is not None or options.badges):
        raise UsageError("--assignment and --badges belong to check TARGET, not to --all")
    if options.records is not None and not options.all:
        raise UsageError("--records belongs to check --all; evaluate scores a record")
    options.records = options.records or Path("records")
    return run_check_all(options) if options.all else _check_one(options)


def _check_one(options: argparse.Namespace) -> int:
    if options.badges:
        make_folder(options.badges, "--badges")  # or say so before, not after
    try:
        assignment = assignment_of(options)
    except AssignmentError as error:
        outcome, title = not_checked(options.target, options.assignment, str(error)), ""
    else:
        memory = int(options.memory_limit * _MEBIBYTE)
        outcome = check_target(options.target, assignment, options.time_limit, memory)
        title = assignment.title
    if options.json:
        show_json(outcome.to_dict())
    elif outcome.cause:
        said = f"error: {options.target} could not be checked: {outcome.cause}"
        _say(plain(said), error=True)
    else:
        _say(check_table(outcome.checks))
        _say(plain(f"{options.target} {verdict(outcome.checks, title)}"))
        if assignment.epochs or assignment.accuracy:
            print("epochs and accuracy are checked on a record: train and evaluate --assignment")
    _show_output(outcome.output)
    if options.badges:
        for path in write_badges(outcome, options.badges):
            if not options.json:
                print(f"{plain(path)}: written")
    report_outcome(outcome, title)
    return outcome.exit_status


def _show_output(output: str) -> None:
    """What the code printed, behind a prefix, so that no line of it passes for one of ours."""
    for line in output.splitlines():
        _say(f"  | {line}", error=True)


def _say(text: str, *, error: bool = False) -> None:
    """Print what a stranger had a part in."""
    print(disarmed(text), file=sys.stderr if error else sys.stdout)


COMMANDS = (add_list, add_summary, add_check)
