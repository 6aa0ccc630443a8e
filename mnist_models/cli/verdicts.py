"""What a verdict leaves for GitHub: a summary, outputs, annotations, badges."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from mnist_models.atomic import make_folder, write_atomically
from mnist_models.badges import Badge
from mnist_models.checks.result import CheckResult
from mnist_models.cli.actions import annotate, escape, markdown_table, summarise, write_outputs
from mnist_models.isolation import Outcome
from mnist_models.tables import reasons, verdict

_MARKS = {True: "pass", False: "FAIL", None: "unknown"}
_WORDS = {True: "true", False: "false", None: "unknown"}
_HEADER = ("", "check", "measured", "limit", "unit", "found")


def report_outcome(outcome: Outcome, title: str) -> None:
    """Write the summary, the outputs and the annotations of ``check TARGET``.

    Args:
        outcome: what was found.
        title: of the assignment.
    """
    file, line = _definition(outcome.target)
    if outcome.cause:
        said = f"could not be checked: {outcome.cause}"
        summarise(f"### {escape(outcome.target)}\n\n{escape(said)}")
        annotate(said, title="check", file=file, line=line)
    else:
        summarise_checks(f"{outcome.target} {verdict(outcome.checks, title)}", outcome.checks)
    for check, said in reasons(outcome.checks):
        annotate(said, title=check.name, file=file, line=line)
    field = outcome.measurements["receptive_field"]["before_pooling"]
    parameters = outcome.measurements["parameters"]
    write_outputs(
        {
            "passed": _WORDS[outcome.passed],
            "parameters": "" if parameters is None else str(parameters),
            "receptive-field": "" if field is None else str(field),
            "json": json.dumps(outcome.to_dict(), allow_nan=False),
        }
    )


def summarise_checks(heading: str, checks: Sequence[CheckResult]) -> None:
    """Add a table of checks to the summary of the job."""
    rows = [
        (_MARKS[c.passed], c.name, _value(c.measured), c.limit or "-", c.unit, c.cause)
        for c in checks
    ]
    summarise(f"### {escape(heading)}\n\n{markdown_table(_HEADER, rows)}")


def write_badges(outcome: Outcome, folder: Path) -> list[Path]:
    """Write a badge for each check, and one for all of them, as SVG and JSON; gives the files.

    Raises:
        OSError: the folder or a file in it cannot be written.
    """
    said = {True: "passing", False: "failing", None: "unknown"}
    whole = Badge("check", outcome.assignment, said[outcome.passed], outcome.passed)
    make_folder(folder)
    badges = (whole, *map(check_badge, outcome.checks))
    texts = {folder / name: text for badge in badges for name, text in badge.files().items()}
    for path, text in texts.items():
        write_atomically(path, text.encode())
    return list(texts)


def check_badge(check: CheckResult) -> Badge:
    """The badge of one check: ``parameters | 7,892 < 8,000``."""
    name = re.sub(r"[^a-z0-9-]", "-", check.name.lower())  # the name of a file, wherever it is from
    if check.passed is None:
        message = "unknown"
    elif isinstance(check.measured, str) or check.limit is None:
        message = _value(check.measured)
    else:
        but = " " if check.passed else ", not "
        message = f"{_value(check.measured)}{but}{check.limit}"
    return Badge(name, check.name.replace("-", " "), message, check.passed)


def _value(measured: float | str | None) -> str:
    if isinstance(measured, int | float):
        return f"{measured:,}"
    return "-" if measured is None else measured


def _definition(target: str) -> tuple[str | None, int | None]:
    """The file of a target, and the line that defines it as far as the text says: nothing runs."""
    path, _, name = target.rpartition(":")
    if not path.endswith(".py") or not Path(path).is_file():
        return None, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the file's own making
            body = ast.parse(Path(path).read_bytes()).body
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return path, None
    lines = {
        node.name: node.lineno for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    return path, lines.get(name.split(".")[0])
