"""The command line: parses, calls, prints. Only this package prints.

Exit status: 0 where all is well, 1 where a check or a comparison failed, 2 where something
could not be measured or the input was bad, 130 after Ctrl-C, 141 where the reader of the output
left, 143 after SIGTERM.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import warnings
from types import FrameType
from typing import NoReturn

from mnist_models.assignment import AssignmentError
from mnist_models.badges import BadgeError
from mnist_models.bench import BenchError
from mnist_models.checkpoint import CheckpointError
from mnist_models.cli import (
    architecture,
    notebook,
    pictures,
    publishing,
    reporting,
    scoring,
    searching,
    sweeping,
    timing,
    training,
)
from mnist_models.cli.actions import annotate, plain
from mnist_models.cli.options import Stopped, UsageError, show_json
from mnist_models.data import DataError
from mnist_models.figures import FigureError
from mnist_models.files import in_words
from mnist_models.job import LockedError, MismatchError
from mnist_models.models import UnknownExperimentError
from mnist_models.models.funnel import PlanError
from mnist_models.notebooks import NotebookError
from mnist_models.project import ProjectError
from mnist_models.publish import PublishError
from mnist_models.record import RecordError
from mnist_models.report import ReportError
from mnist_models.search.space import SpaceError
from mnist_models.search.study import SearchError
from mnist_models.stack import StackError
from mnist_models.statistics import SeedsError
from mnist_models.sweep import SweepError
from mnist_models.timings_file import TimingsError
from mnist_models.train import DivergedError
from mnist_models.workers import WorkersError

_EXPECTED = (
    AssignmentError,
    BadgeError,
    BenchError,
    CheckpointError,
    DataError,
    DivergedError,
    FigureError,
    LockedError,
    MismatchError,
    NotebookError,
    PlanError,
    OSError,  # no permission, disk full
    ProjectError,
    PublishError,
    RecordError,
    ReportError,
    SearchError,
    SeedsError,
    SpaceError,
    StackError,
    SweepError,
    TimingsError,
    UnknownExperimentError,
    UsageError,
    WorkersError,
)


class _Parser(argparse.ArgumentParser):
    """Its errors quote arguments, some of them as they are."""

    def error(self, message: str) -> NoReturn:
        super().error(plain(message))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(  # and with it the parsers of all commands
        prog="python -m mnist_models",
        description="Small MNIST classifiers in which no claim can stand that was not measured.",
        epilog="example: python -m mnist_models check path/to/model.py:Net",
    )
    commands = top.add_subparsers(required=True, metavar="command")
    families = (
        architecture,
        training,
        scoring,
        timing,
        reporting,
        pictures,
        notebook,
        publishing,
        sweeping,
        searching,
    )
    for add in (add for family in families for add in family.COMMANDS):
        add(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status, and prints no traceback for bad input."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    wants_json = bool(getattr(options, "json", False))
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status: int = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as stop:
        if not isinstance(stop, Stopped):
            print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader left, and the verdict with it: never a success
        _end_output()
        return 128 + signal.SIGPIPE
    except _EXPECTED as error:
        said = in_words(error) if isinstance(error, OSError) else str(error)
        try:
            if wants_json:
                show_json({"passed": None, "cause": said})
            sys.stdout.flush()
        except OSError:  # on a full disk that is the error, and Python would add its own at exit
            _end_output()
        print(f"error: {plain(said)}", file=sys.stderr)
        annotate(plain(said), title="error")
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"\nterminated\n")  # print could be interrupted in its own middle
    raise SystemExit(128 + number)


def _end_output() -> None:
    """Send nothing more to a stdout that takes nothing: what is left of it goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {plain(message)}", file=sys.stderr)
