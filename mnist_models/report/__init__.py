"""Everything in the repository that carries a number: made from models, checks and records alone.

Never trains, and needs no data set. Text, badges and JSON are compared byte for byte.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mnist_models.badges import RESULTS, RUN_BADGES, run_badge
from mnist_models.figures import catalogue
from mnist_models.files import MOST_HERE, NotReadError, read_whole
from mnist_models.models import EXPERIMENTS
from mnist_models.project import slug
from mnist_models.record import Record, RecordError, find_records, load_record
from mnist_models.report.markdown import ReportError, render, stale_line
from mnist_models.report.performance import performance
from mnist_models.report.readme import blocks, index
from mnist_models.report.scale import scale
from mnist_models.report.searches import searches
from mnist_models.report.status import requirements
from mnist_models.timings_file import read_timings

__all__ = ["ReportError", "Stale", "generate", "published", "stale"]

COMMAND = "python -m mnist_models report"
_SCALE = "docs/scale.md"
_SEARCH = "docs/search.md"
_PERFORMANCE = "docs/performance.md"
_SLUGGED = {  # file -> the part of its lines that names the repository
    ".github/workflows/check.yml": re.compile(r"(?<=repository: )\S+(?=\s+# slug$)", re.M),
    "CITATION.cff": re.compile(r"(?<=^repository-code: https://github\.com/)\S+$", re.M),
}


@dataclass(frozen=True)
class Stale:
    """A file that is not what it would be if it were written now.

    Attributes:
        file: relative to the repository.
        line: the first that differs, from 1; None where a file is missing or no text.
        reason: what is wrong with it.
        command: what mends it.
    """

    file: str
    line: int | None
    reason: str
    command: str = COMMAND

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}; run: {self.command}"


def published(root: Path) -> dict[str, list[Record]]:
    """The records below `root` by experiment, seeds ascending, experiments in registry order.

    Only runs scored on MNIST's test set: no table uses the stand-in or the validation slice.

    Raises:
        RecordError: one of them is damaged.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    for folder in find_records(root):
        try:
            record = load_record(folder)
        except RecordError as error:
            advice = "restore it with git, or train that seed again"
            raise RecordError(f"{error}; {advice}") from error
        if (record.data.name, record.data.split) == ("mnist", "test"):
            found[record.experiment].append(record)
    return {
        name: sorted(found[name], key=lambda record: record.seed)
        for name in EXPERIMENTS
        if name in found
    }


def generate(root: Path, records: catalogue.Records) -> dict[str, str]:
    """The text of every generated file of the repository at `root`, by its path below it.

    Args:
        root: of the repository.
        records: those that are `published` there.

    Raises:
        ReportError: a file cannot be read, or its generated parts not found.
        ProjectError: pyproject.toml names no repository.
        SeedsError: seeds are missing.
        TimingsError: the stored timings cannot be read.
    """
    required = requirements(records)
    files = {
        "README.md": render(_read(root / "README.md"), blocks(slug(root), records, required)),
        "records/README.md": index(records),
        _SCALE: render(_read(root / _SCALE), scale(records, root / "docs"), _SCALE),
        _SEARCH: render(_read(root / _SEARCH), searches(root / "docs"), _SEARCH),
        _PERFORMANCE: render(
            _read(root / _PERFORMANCE), performance(read_timings(root)), _PERFORMANCE
        ),
    }
    for requirement in required:
        for name, text in requirement.badge.files().items():
            files[f"badges/{name}"] = text
    return files | _slugged(root)


def stale(root: Path, records: catalogue.Records) -> list[Stale]:
    """What differs from what `generate` gives, and what lies beside it without belonging there.

    Raises:
        ReportError, ProjectError, SeedsError, TimingsError: as `generate`.
    """
    expected = generate(root, records)
    pictures = [
        Stale(problem.file, None, problem.reason, problem.command)
        for problem in catalogue.stale(root, records)
    ]
    return [*_differing(root, expected), *_badges(root, expected), *pictures]


def _differing(root: Path, expected: Mapping[str, str]) -> Iterator[Stale]:
    for name, wanted in expected.items():
        if not (root / name).exists():
            yield Stale(name, None, "is missing")
            continue
        line = stale_line(_read(root / name), wanted)
        if line is not None:
            yield Stale(name, line, "differs from what models, checks and records give")


def _badges(root: Path, expected: Mapping[str, str]) -> Iterator[Stale]:
    """A run badge is what some result of a job gives; nothing else lies in badges/."""
    write = f"python -m mnist_models publish {' '.join(f'--{name} unknown' for name in RUN_BADGES)}"
    run = set()
    for name in RUN_BADGES:
        forms = [run_badge(name, result).files() for result in RESULTS]
        paths = {file: root / "badges" / file for file in forms[0]}
        run |= {f"badges/{file}" for file in paths}
        if missing := [file for file, path in paths.items() if not path.exists()]:
            yield Stale(f"badges/{missing[0]}", None, "is missing", write)
        elif {file: _read(path) for file, path in paths.items()} not in forms:
            reason = f"with badges/{name}.svg it is not what any one result of a CI job gives"
            yield Stale(f"badges/{name}.json", 1, reason, write)
    for found in sorted((root / "badges").glob("*")):
        if (name := f"badges/{found.name}") not in expected and name not in run:
            yield Stale(name, None, "belongs to no requirement", f"git rm -f {name}")


def _read(path: Path) -> str:
    try:  # as it is: no line ending is translated
        return read_whole(path, MOST_HERE, links=False).decode("utf-8")
    except NotReadError as error:
        raise ReportError(f"{path} cannot be read: {error}; restore it with git") from error
    except UnicodeDecodeError as error:
        raise ReportError(f"{path} is no UTF-8 text: {error}; restore it with git") from error


def _slugged(root: Path) -> dict[str, str]:
    """The files that name the repository, with its name as pyproject.toml gives it."""
    files = {}
    for name, pattern in _SLUGGED.items():
        text = _read(root / name)
        if len(pattern.findall(text)) != 1:
            raise ReportError(f"{name}: expected one line that matches {pattern.pattern!r}")
        files[name] = pattern.sub(slug(root), text)
    return files
