"""What was measured, as text for people: pure views, no numbers of their own."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence

from mnist_models.checks.result import CheckResult
from mnist_models.plain import one_line

_MARKS = {True: "pass", False: "FAIL", None: "unknown"}


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; numbers to the right, text to the left.

    Of text from elsewhere no cell is more than the line that it stands in.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [
        all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(header))
    ]

    def line(row: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return _MARKS[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def check_table(checks: Sequence[CheckResult]) -> str:
    """A row per check; below it what was found, and what to try where a check did not pass."""
    rows = [
        (_MARKS[check.passed], check.name, _cell(check.measured), check.limit or "-", check.unit)
        for check in checks
    ]
    lines = [table(("", "check", "measured", "limit", "unit"), rows)]
    width = max(60, min(shutil.get_terminal_size().columns, 100))
    for check, text in reasons(checks):
        said = one_line(f"{_MARKS[check.passed]}: {check.name}: {text}")
        lines.append("\n".join(textwrap.wrap(said, width, subsequent_indent="  ")))
    return "\n".join(lines)


def reasons(checks: Sequence[CheckResult]) -> Iterator[tuple[CheckResult, str]]:
    """Each check that did not pass, with what was found and what to try.

    A forward that crashes keeps all checks from measuring: that is told once.
    """
    told: dict[str, str] = {}
    for check in checks:
        if check.passed is True:
            continue
        # The numbers aside: torch's messages quote shapes, and those hold the size of the batch.
        first = told.setdefault(re.sub(r"\d+", "0", check.cause), check.name)
        if check.passed is check.measured is None and first != check.name:
            yield check, f"nothing was measured, see {first} above"
        else:
            yield check, f"{check.cause}. {check.help}".strip()


def verdict(checks: Sequence[CheckResult], title: str) -> str:
    """One line: whether everything asked for held."""
    failed = [check.name for check in checks if check.passed is False]
    unknown = [check.name for check in checks if check.passed is None]
    if failed:
        return f"does not keep {title}: {', '.join(failed)}"
    if unknown:
        return f"not known to keep {title}: {', '.join(unknown)} could not be measured"
    if len(checks) == 1:
        return f"keeps {title}: the one check passes"
    return f"keeps {title}: all {len(checks)} checks pass"


def percent(correct: float, total: int) -> str:
    """A share as text, with two decimals: ``99.55 %``."""
    return f"{100 * correct / total:.2f} %"


def spread(deviation: float, total: int) -> str:
    """A deviation in images as text, in percentage points with two decimals: ``0.08``."""
    return f"{100 * deviation / total:.2f}"


def digits(number: float) -> str:
    """Three digits, or all that stand before the point: ``0.934``, ``16.9``, ``1,069``."""
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:,.0f}"
