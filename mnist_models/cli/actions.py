"""What GitHub Actions reads: annotations, a step's outputs, a job's summary.

Each function does nothing where the environment says that no runner listens. Text that a
stranger's model chose forges nothing: no command, no output, no row of a table.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mnist_models.atomic import writing
from mnist_models.plain import one_line, sanitise

# Whatever Markdown or HTML gives a meaning to; a dot before a letter could make www.x a link.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>&#|!~$@:]|\.(?=[A-Za-z])")
_OUTPUT = re.compile(r"[a-z][a-z0-9-]*")


def annotate(
    message: str, *, title: str = "", file: Path | str | None = None, line: int | None = None
) -> None:
    """Mark a failure at a file and line, in the log and in the changes of a pull request.

    To stderr, to which a runner listens too, so that stdout stays what ``--json`` promises.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    where = {"file": _relative(file) if file else "", "line": str(line or ""), "title": title}
    given = ",".join(f"{name}={_property(text)}" for name, text in where.items() if text)
    print(f"::error {given}::{_data(message)}", file=sys.stderr, flush=True)


def disarmed(text: str) -> str:
    """Text for the log, no line of which is a command: to a runner that is ``::`` at the start
    of a line, white space aside, and ``##[`` anywhere."""
    return re.sub(r"^(\s*):(?=:)", r"\1: ", text.replace("##[", "## ["), flags=re.MULTILINE)


def plain(text: object) -> str:
    """One line for the log, of what a file or an argument had a part in: it forges no other."""
    return disarmed(one_line(str(text)))


def write_outputs(values: Mapping[str, str]) -> None:
    """Set outputs of this step.

    Raises:
        ValueError: a name that is none.
        OSError: the runner's file cannot be written.
    """
    for name, value in values.items():
        if not _OUTPUT.fullmatch(name):
            raise ValueError(f"{name!r} cannot be an output; expected such as receptive-field")
        end = f"end-{secrets.token_hex(16)}"  # which no value can foresee
        _append("GITHUB_OUTPUT", f"{name}<<{end}\n{value}\n{end}\n")


def summarise(markdown: str) -> None:
    """Add to the summary of this job.

    Raises:
        OSError: the runner's file cannot be written.
    """
    _append("GITHUB_STEP_SUMMARY", markdown.rstrip("\n") + "\n\n")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table of plain text, whatever the cells hold."""
    lines = [[escape(str(value)) for value in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escape(text: str) -> str:
    """One line of Markdown that shows the text and nothing else."""
    words = " ".join(sanitise(text).split())
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", words)


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if path:
        with (
            writing(Path(path), variable),
            Path(path).open("a", encoding="utf-8", newline="\n") as f,
        ):
            f.write(text)


def _data(text: str) -> str:
    text = sanitise(text).replace("%", "%25")
    return text.replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _relative(file: Path | str) -> str:
    """The path as the runner's checkout has it."""
    root = Path(os.environ.get("GITHUB_WORKSPACE") or ".").resolve()
    path = Path(file).resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(file)
