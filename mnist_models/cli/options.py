"""Options that several commands share, and how a command is declared."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch

from mnist_models.assignment import ASSIGNMENTS, CARD, Assignment
from mnist_models.assignment_file import find_assignment
from mnist_models.atomic import make_folder, write_atomically, writing
from mnist_models.data import Dataset, load
from mnist_models.files import read_whole
from mnist_models.models import Experiment

Commands = Any  # argparse's subparsers action, which has no public name
Command = Callable[[argparse.Namespace], int]
_MOST = 64 << 20  # bytes of a log, of which a run adds thousands
MOST_SEEDS = 1000  # months of training: a slip of the finger
# More than any one machine has cores; ten thousands are more than a user may start, and what then
# fails is some library that needs a thread of its own and blames something else.
MOST_THREADS = 1024


class UsageError(ValueError):
    """Arguments that are each sound, but not together."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, where the command itself has said how to go on."""


def say_stopped(stop: KeyboardInterrupt | SystemExit, said: str) -> NoReturn:
    """Say how to go on after Ctrl-C or SIGTERM; the process ends as that would have ended it."""
    print(f"stopped{said}", file=sys.stderr)
    if isinstance(stop, KeyboardInterrupt):
        raise Stopped from stop
    raise stop


def declare(
    commands: Commands, name: str, run: Command, description: str, example: str
) -> argparse.ArgumentParser:
    """Add a command with its help, an example and ``--json``."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=description[0].lower() + description[1:].split(".", maxsplit=1)[0],
        description=description,
        epilog=f"example: python -m mnist_models {example}",
    )
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    return command


def add_assignment(command: argparse.ArgumentParser, *, runs: bool = False) -> None:
    """Add ``--assignment``, which `assignment_of` reads; of `runs`, or of networks alone."""
    default = f"{CARD.name}, but for this project's own models theirs" if runs else CARD.name
    command.add_argument(
        "--assignment",
        metavar="NAME|FILE.toml",
        help=f"one of {', '.join(ASSIGNMENTS)}, or a TOML file (default: {default})",
    )


def assignment_of(options: argparse.Namespace, experiment: Experiment | None = None) -> Assignment:
    """The assignment that the options of `add_assignment` name.

    Where they name none: that of the experiment if it is one of this project's own, else the card.

    Raises:
        AssignmentError: there is none of that name, or the file cannot be read.
    """
    if options.assignment is not None:  # "" is the name of none: a variable that was not set
        return find_assignment(options.assignment)
    return experiment.assignment if experiment and experiment.source is None else CARD


def add_data_root(command: argparse.ArgumentParser) -> None:
    """Add ``--data-root``."""
    command.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder that holds MNIST/raw (default: $MNIST_ROOT, then data/ of the repository)",
    )


def add_data(command: argparse.ArgumentParser) -> None:
    """Add ``--data-root`` and ``--device``."""
    add_data_root(command)
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute (default: cuda where there is one)",
    )


def device_of(options: argparse.Namespace) -> torch.device:
    """The device asked for.

    Raises:
        OSError: cuda was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if options.device == "cuda" and not available:
        raise OSError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return torch.device("cuda" if available and options.device != "cpu" else "cpu")


def load_data(
    options: argparse.Namespace,
    dataset: Literal["auto", "mnist", "digits"],
    *,
    validation: bool = False,
) -> Dataset:
    """The data set on the device that the options name."""
    root, device = options.data_root, device_of(options)
    return load(dataset, root, validation=validation, device=device, progress=True)


def show_json(value: Any) -> None:
    """Print a value as JSON; NaN is refused."""
    # The same JSON, but ``##[`` within a line would be a command to GitHub's runner.
    print(json.dumps(value, indent=1, allow_nan=False).replace("##[", "#\\u0023["))


def add_log(command: argparse.ArgumentParser, what: str, file: str) -> None:
    """Add ``--log``, for `what` was measured and the document beside `file` shows."""
    command.add_argument(
        "--log", type=Path, metavar="FILE", help=f"append {what} to the list in FILE: {file}"
    )


def read_log(path: Path | None) -> list[Any]:
    """What a file of `--log` holds; empty where there is none. Asked before hours of work, too.

    Raises:
        UsageError: the file holds no list.
        NotWrittenError: it cannot be written, or read for that.
    """
    content = b"[]"
    if path is not None:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with writing(path, "--log"), tempfile.TemporaryFile(dir=folder):
            content = read_whole(path, _MOST) if path.exists() else content
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UsageError(f"--log {path}: no JSON ({error}); move it away") from error
    if not isinstance(found, list):
        raise UsageError(f"--log {path}: expected a JSON list in it; move it away")
    return found


def append_to_log(path: Path | None, value: Any) -> None:
    """Append a JSON value to the list in a file, made if need be; nothing without a file.

    Raises:
        UsageError: as `read_log`; the file is left as it is.
    """
    if path is not None:
        text = json.dumps([*read_log(path), value], indent=1, allow_nan=False) + "\n"
        make_folder(path.parent, "--log")
        write_atomically(path, text.encode())


def whole(low: int, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number from `low`, to `most` if there is a limit."""
    expected = f"expected a whole number from {low}{'' if most is None else f' to {most:,}'}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r}: {expected}")
        return number

    return parse


def seeds(text: str, most: int = MOST_SEEDS) -> list[int]:
    """An argparse type: ``0-4``, ``0,3,7``, or both at once, each seed once, in that order."""
    expected = f"{text!r}: expected seeds such as 0-4 or 0,3,7"
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part.strip())
        if match is None:
            raise argparse.ArgumentTypeError(expected)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise argparse.ArgumentTypeError(f"{expected}, and {part.strip()} runs backwards")
        if last - first >= most:
            raise argparse.ArgumentTypeError(f"{expected}, at most {most} of them")
        found += range(first, last + 1)
    if len(found) > most:
        raise argparse.ArgumentTypeError(f"{expected}, at most {most} of them")
    twice = sorted(seed for seed, times in Counter(found).items() if times > 1)
    if twice:
        raise argparse.ArgumentTypeError(f"{expected}, each once; {twice[0]} is there twice")
    return found


def positive(text: str) -> float:
    """An argparse type: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return number
