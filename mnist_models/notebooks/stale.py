"""Which notebooks are not those of a run of their sources on the published records.

Executes nothing and needs no data set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nbformat

from mnist_models.atomic import write_atomically
from mnist_models.files import MOST_HERE, read_whole
from mnist_models.notebooks import COMMAND, FOLDER
from mnist_models.notebooks.colab import generated, regenerate
from mnist_models.notebooks.pair import (
    KEY,
    Source,
    as_bytes,
    assemble,
    code_outputs,
    find_names,
    output_path,
    outputs_digest,
    read_outputs,
    read_source,
    shown,
)
from mnist_models.plural import counted
from mnist_models.project import slug
from mnist_models.record import Record

LARGEST = 1_000_000  # bytes of a notebook: larger ones are slow to read where they are shown
# An absolute path: of a machine, and with it the name of a user.
_PATH = re.compile(r"(?:^|[\s\"'(=\[<])((?:/[\w.@+-]+){2,}|[A-Za-z]:\\\w+|~/\w+)", re.M)


@dataclass(frozen=True)
class Problem:
    """Why a notebook is not as a run would leave it.

    Attributes:
        file: relative to the repository.
        line: of a source, from 1; None where it is no source.
        cell: of an ipynb, from 1; None where it is about the whole file.
        reason: what is wrong.
        command: what mends it.
    """

    file: str
    line: int | None
    cell: int | None
    reason: str
    command: str

    def __str__(self) -> str:
        line = "" if self.line is None else f":{self.line}"
        cell = "" if self.cell is None else f" cell {self.cell}:"
        return f"{self.file}{line}:{cell} {self.reason}; run: {self.command}"


def problems(root: Path, records: Mapping[str, Sequence[Record]]) -> list[Problem]:
    """What is stale in the notebooks of the repository at `root`, given its published records.

    Raises:
        NotebookError: a file is damaged, or there is none.
        ProjectError: pyproject.toml names no repository.
    """
    names = find_names(root)
    found = [problem for name in names for problem in _notebook_problems(root, name, records)]
    for path in sorted((root / FOLDER).glob("*.ipynb")):
        if path.stem not in names:
            file = f"{FOLDER}/{path.name}"
            found.append(Problem(file, None, None, "has no source beside it", f"git rm -f {file}"))
    return found


def _notebook_problems(
    root: Path, name: str, records: Mapping[str, Sequence[Record]]
) -> Iterator[Problem]:
    source = read_source(root, name)
    for cell in source.cells:
        if cell.generated and cell.text != generated(slug(root), name)[cell.generated]:
            reason = f"the generated cell {cell.generated} is not as the repository's address asks"
            yield Problem(f"{FOLDER}/{name}.py", cell.line, None, reason, f"{COMMAND} --refresh")
    file, run = f"{FOLDER}/{name}.ipynb", f"{COMMAND} {name}"
    if not output_path(root, name).exists():
        yield Problem(file, None, None, "is missing", run)
        return
    notebook = read_outputs(root, name)
    same_code = notebook.metadata.get(KEY, {}).get("code") == source.digest
    for number, reason in _differences(source, notebook):
        command = f"{COMMAND} --refresh" if same_code else run
        yield Problem(file, None, number, reason, command)
    for number, reason in output_faults(notebook):
        yield Problem(file, None, number, reason, run)
    for reason in _stale_digests(notebook, shown(source, records)):
        yield Problem(file, None, None, reason, run)
    size = output_path(root, name).stat().st_size
    if size > LARGEST:
        reason = f"has {size:,} bytes, more than {LARGEST:,}; show fewer or smaller figures"
        yield Problem(file, None, None, reason, run)


def _differences(
    source: Source, notebook: nbformat.NotebookNode
) -> Iterator[tuple[int | None, str]]:
    """The first cell in which the two files of a pair differ."""
    pairs = zip_longest(source.cells, notebook.cells)
    for number, (wanted, found) in enumerate(pairs, start=1):
        cells = f"of {FOLDER}/{source.name}.py"
        if wanted is None or found is None:
            here, there = len(notebook.cells), len(source.cells)
            yield None, f"it has {counted(here, 'cell')}, which differs from the {there} {cells}"
            return
        if (wanted.kind, wanted.text) != (found.cell_type, found.source):
            yield number, f"differs from the cell {cells} at line {wanted.line}"
            return


def output_faults(notebook: nbformat.NotebookNode) -> Iterator[tuple[int | None, str]]:
    """What must not be published in the outputs, with the number of the cell from 1."""
    if not any(code_outputs(notebook)):
        yield None, "has no outputs"
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            yield number, "was not executed"
        for output in cell.outputs:
            if output.output_type == "error":
                yield number, f"its output holds an error: {output.ename}: {output.evalue}"
            if output.output_type == "stream" and output.name == "stderr":
                first = output.text.strip().split("\n")[0]
                yield number, f"its output holds a warning: {first}"
            path = _PATH.search(_text(output))
            if path is not None:
                yield number, f"its output holds a path of a machine: {path[1]}"


def _text(output: Any) -> str:
    """What an output says in words; a picture says none."""
    if output.output_type == "stream":
        return str(output.text)
    data = output.get("data", {})
    return "\n".join(str(data[kind]) for kind in data if kind.startswith("text/"))


def _stale_digests(notebook: nbformat.NotebookNode, wanted: Mapping[str, Any]) -> Iterator[str]:
    table = notebook.metadata.get(KEY, {})
    if table.get("code") != wanted["code"]:
        yield "its outputs are of another source"
    found, records = table.get("records") or {}, wanted["records"]
    for name in sorted(found.keys() | records.keys()):
        if name not in found:
            yield f"its outputs do not show the record {name}, which was added"
        elif name not in records:
            yield f"its outputs show the record {name}, which is not published"
        elif found[name] != records[name]:
            yield f"its outputs show another record {name} than the one published"
    if table.get("experiments") != wanted["experiments"]:
        yield "what is registered of the experiments it shows has changed since it ran"
    if table.get("outputs") != outputs_digest(code_outputs(notebook)):
        yield "its outputs were edited after the run"


def refresh(root: Path, name: str) -> list[str]:
    """Write what needs no run: the generated cells, and prose changed in the source.

    The outputs are kept, and their digests with them.

    Returns:
        the files written, relative to `root`.

    Raises:
        NotebookError: a file is damaged.
        ProjectError: pyproject.toml names no repository.
    """
    written = [f"{FOLDER}/{name}.py"] if regenerate(root, name) else []
    source = read_source(root, name)
    path = output_path(root, name)
    if not path.exists():
        return written
    notebook = read_outputs(root, name)
    table = notebook.metadata.get(KEY, {})
    outputs = code_outputs(notebook)
    if table.get("code") != source.digest or len(outputs) != sum(
        cell.kind == "code" for cell in source.cells
    ):
        return written  # only a run can mend it
    kept = {key: table.get(key) for key in ("code", "records", "experiments")}
    made = assemble(source, outputs, kept)
    made.metadata[KEY]["outputs"] = table.get("outputs")  # an edited output stays one
    content = as_bytes(made)
    if content != read_whole(path, MOST_HERE):
        write_atomically(path, content)
        written.append(f"{FOLDER}/{name}.ipynb")
    return written
