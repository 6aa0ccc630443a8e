"""Run the checks on a stranger's file in a process of its own, with limits.

The stranger's code runs with the rights of the user who starts it: this is no sandbox against
malice, but a hang, a crash, a flood of text, a leak or a process left behind harms nothing
here, and none of them passes for a verdict.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from mnist_models.advice import AS_A_SCRIPT
from mnist_models.assignment import Assignment
from mnist_models.checks import asked
from mnist_models.checks.result import CheckResult, overall
from mnist_models.plain import one_line, sanitise
from mnist_models.supervision import Ending, supervise
from mnist_models.target import place

_ROOT = str(Path(__file__).parent.parent)
_BOOT = (  # mnist_models as the parent has it, wherever it lies, and no folder left on sys.path
    "import sys; sys.path.insert(0, sys.argv[1]); import mnist_models; del sys.path[0]; "
    "from mnist_models.isolated import main; main(int(sys.argv[2]))"
)
_COMMAND = [sys.executable, "-P", "-X", "faulthandler", "-c", _BOOT, _ROOT]
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",  # the verdict is the same with and without a GPU
    "OMP_NUM_THREADS": "1",  # so that time depends little on what else runs
    "PYTHONDONTWRITEBYTECODE": "1",  # no __pycache__ beside the stranger's file
    "PYTHONIOENCODING": "utf-8:backslashreplace",
    "PYTHONUNBUFFERED": "1",  # the last words before a crash are seen
    "TORCHDYNAMO_DISABLE": "1",  # the checks run compiled modules eagerly: no compiler is needed
}
_RUNNER = ("ACTIONS_", "GITHUB_", "RUNNER_")  # a CI job's tokens, and the files of its outputs
_NOTHING: dict[str, Any] = {
    "parameters": None,
    "receptive_field": {"before_pooling": None, "output": None},
}


@dataclass(frozen=True)
class Outcome:
    """What the checks found in one target, or why they could not run.

    Attributes:
        target: as it was given.
        assignment: name of the assignment.
        passed: False if any check is false, else None if any is null or none could run, else True.
        checks: empty where none could run.
        measurements: ``{"parameters": n, "receptive_field": {"before_pooling": a, "output": b}}``,
            counts and input pixels, each None where it is unknown.
        cause: why no check could run, one sentence, or "".
        output: the last 64 KiB of what the code printed, without control characters. Print it
            behind a prefix: a line of it may still read like a command to a CI runner.
    """

    target: str
    assignment: str
    passed: bool | None
    checks: list[CheckResult]
    measurements: dict[str, Any]
    cause: str
    output: str

    @property
    def exit_status(self) -> int:
        """1 if a check is false, else 2 if one is null or none could run, else 0."""
        return {True: 0, False: 1, None: 2}[self.passed]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table, without the output."""
        return {
            "target": self.target,
            "assignment": self.assignment,
            "passed": self.passed,
            "cause": self.cause,
            "checks": [check.to_dict() for check in self.checks],
            "measurements": self.measurements,
        }


@dataclass(frozen=True)
class Summary:
    """One network described, or why it could not be.

    Attributes:
        target: as it was given.
        layers: torchinfo's summary, as text.
        rows: one table per executed operation that changes the geometry, as in
            `receptive_field.LayerRow`.
        receptive_field: ``{"before_pooling": a, "output": b, "cause": text}``, input pixels.
        cause: why there is no description, one sentence, or "".
        output: what the code printed, as in `Outcome`.
    """

    target: str
    layers: str
    rows: list[dict[str, Any]]
    receptive_field: dict[str, Any]
    cause: str
    output: str

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table, without the output and without torchinfo's text."""
        return {
            "target": self.target,
            "passed": None if self.cause else True,
            "cause": self.cause,
            "layers": self.rows,
            "receptive_field": self.receptive_field,
        }


def check_target(
    target: str, assignment: Assignment, seconds: float = 60.0, memory: int = 4 << 30
) -> Outcome:
    """Check one network against an assignment, in a child process.

    Args:
        target: the name of a registered experiment, ``path/to/model.py:Net``, or
            ``package.module:Net`` importable from the current directory, where ``Net`` is an
            nn.Module, or a class or function that gives one without arguments. A registered
            experiment runs in a child too, so that all verdicts come about alike; where its
            start-up of seconds matters, call `mnist_models.checks.check_module`.
        assignment: the limits.
        seconds: limit on the child's whole life, the import of torch (about 2 to 5 s) included.
        memory: limit in bytes on the resident size of the child and its descendants together,
            torch's own half GiB included; pages that processes share count for each of them.

    A package named ``mnist_models`` beside the stranger's file is not seen: this one wins.
    Everything the code leaves running is killed. Called from the main thread, SIGTERM does so
    too before it ends this process with status 143.
    """

    def read(answer: dict[str, Any], output: str) -> Outcome:
        checks = [_result(row) for row in answer["checks"]]
        _refuse_others(checks, assignment)
        found = answer["measurements"]
        return Outcome(target, assignment.name, overall(checks), checks, found, "", output)

    try:
        return _ask(target, assignment, seconds, memory, read)
    except _NotAnsweredError as error:
        return not_checked(target, assignment.name, str(error), error.output)


def not_checked(target: str, assignment: str, cause: str, output: str = "") -> Outcome:
    """The outcome where no check could run."""
    return Outcome(target, assignment, None, [], _NOTHING, _line(cause), output)


def summarise_target(target: str, seconds: float = 60.0, memory: int = 4 << 30) -> Summary:
    """Describe one network, layer by layer, in a child process; arguments as `check_target`."""

    def read(answer: dict[str, Any], output: str) -> Summary:
        layers, field = sanitise(answer["layers"]), answer["receptive_field"]
        return Summary(target, layers, answer["rows"], field, "", output)

    try:
        return _ask(target, None, seconds, memory, read)
    except _NotAnsweredError as error:
        field = _NOTHING["receptive_field"] | {"cause": ""}
        return Summary(target, "", [], field, _line(str(error)), error.output)


class _NotAnsweredError(Exception):
    """The child gave no answer: why, and what it printed."""

    def __init__(self, cause: str, output: str) -> None:
        super().__init__(cause)
        self.output = output


T = TypeVar("T")


def _ask(
    target: str,
    assignment: Assignment | None,
    seconds: float,
    memory: int,
    read: Callable[[dict[str, Any], str], T],
) -> T:
    """What `read` makes of the child's answer and of what it printed.

    Without an assignment the child summarises.
    """
    output = ""
    try:
        token = secrets.token_hex(16)
        table = None if assignment is None else asdict(assignment)
        request = place(target) | {"assignment": table, "parent": os.getpid(), "token": token}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_RUNNER)}
        environment |= _ENVIRONMENT
        ending = supervise(_COMMAND, json.dumps(request).encode(), environment, seconds, memory)
        output = sanitise(ending.output.decode("utf-8", "replace"))
        return read(_answer(ending, token, seconds, memory), output)
    except ValueError as error:
        raise _NotAnsweredError(str(error), output) from None
    except (KeyError, TypeError):
        raise _NotAnsweredError("the answer of the child process is incomplete", output) from None


def _line(text: str) -> str:
    return one_line(text, 500)  # an exception may quote a whole file


def _answer(ending: Ending, token: str, seconds: float, memory: int) -> dict[str, Any]:
    """The one complete answer that carries the token; ValueError says why there is none."""
    messages = [m for m in map(_message, ending.results.split(b"\n")[:-1]) if m["token"] == token]
    stages = [str(message["stage"]) for message in messages if "stage" in message]
    stage = stages[-1] if stages else "Python and torch were starting"
    answers = [message for message in messages if "stage" not in message]
    if ending.limit == "time":
        said = f"the limit of {seconds:g} s was reached while {stage}"
        raise ValueError(f"{said}; {AS_A_SCRIPT}" if stage.startswith("importing ") else said)
    if ending.limit == "memory":
        raise ValueError(f"the limit of {memory >> 20:,} MiB of memory was passed while {stage}")
    if len(answers) == 1:
        if "cause" in answers[0]:
            raise ValueError(answers[0]["cause"])
        return answers[0]
    if not messages and ending.status > 0:
        raise ValueError("the child process could not start; its output says why")
    if ending.status < 0:
        name = signal.Signals(-ending.status).name
        raise ValueError(f"the process was ended by {name} while {stage}")
    raise ValueError(
        f"the code ended its process (exit status {ending.status}) while {stage}, before the "
        "checks were done"
    )


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line, parse_constant=str)
    except (ValueError, RecursionError):
        message = None
    return message if isinstance(message, dict) and "token" in message else {"token": None}


def _refuse_others(checks: list[CheckResult], assignment: Assignment) -> None:
    """Exactly what was asked for: code that reaches the pipe may leave out what it would fail."""
    found, expected = sorted(check.name for check in checks), sorted(asked(assignment))
    if found != expected:
        raise ValueError(
            f"the answer of the child process holds the checks {', '.join(found) or 'none'}; the "
            f"assignment asks for {', '.join(expected)}, each once"
        )
    if not all(check.passed is None or isinstance(check.passed, bool) for check in checks):
        raise TypeError("a verdict that is none")


def _result(row: dict[str, Any]) -> CheckResult:
    values = {field.name: row[field.name] for field in fields(CheckResult)}
    for key, value in values.items():
        if isinstance(value, str):
            values[key] = _line(value)
    return CheckResult(**values)
