"""One notebook as a pair: the source in jupytext's py:percent, the outputs as ipynb."""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from mnist_models import files
from mnist_models.models import EXPERIMENTS, Experiment
from mnist_models.notebooks import COMMAND, FOLDER, NotebookError
from mnist_models.plural import counted
from mnist_models.record import Record, canonical

KEY = "mnist_models"  # of the digests, in the metadata of the ipynb
SYSTEMS = "systems"  # whose records are shown: in the header of the source, and in the ipynb
_MARKER = re.compile(r"^# %%.*$", re.M)


@dataclass(frozen=True)
class Cell:
    """One cell of a source.

    Attributes:
        kind: ``"code"`` or ``"markdown"``.
        text: its content.
        line: of its marker in the file, from 1.
        generated: ``"button"``, ``"setup"`` or "".
    """

    kind: str
    text: str
    line: int
    generated: str


@dataclass(frozen=True)
class Source:
    """A notebook's source.

    Attributes:
        name: of the notebook.
        cells: in order.
        systems: those whose records it shows, by name.
    """

    name: str
    cells: tuple[Cell, ...]
    systems: tuple[str, ...]

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        """Those of its systems, in registry order."""
        return tuple(e for e in EXPERIMENTS.values() if e.system.name in self.systems)

    @property
    def digest(self) -> str:
        """The sha256 of the code, prose and generated cells aside: what decides the outputs."""
        return _sha256([cell.text for cell in self.cells if _counts(cell)])


def _counts(cell: Cell) -> bool:
    return cell.kind == "code" and not cell.generated


def _sha256(value: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def source_path(root: Path, name: str) -> Path:
    """The source of a notebook."""
    return root / FOLDER / f"{name}.py"


def output_path(root: Path, name: str) -> Path:
    """The notebook with its outputs."""
    return root / FOLDER / f"{name}.ipynb"


def find_names(root: Path) -> list[str]:
    """The notebooks of the repository at `root`: those that have a source, sorted.

    Raises:
        NotebookError: there is none.
    """
    paths = sorted((root / FOLDER).glob("*.py"))
    names = [path.stem for path in paths if path.name != "conftest.py"]
    if not names:
        raise NotebookError(f"{root / FOLDER}: found no notebook; expected NAME.py files")
    return names


def read_source(root: Path, name: str) -> Source:
    """Read the source of a notebook.

    Raises:
        NotebookError: missing, damaged, or without its generated cells.
    """
    path = source_path(root, name)
    text = read_text(path)
    try:
        notebook = jupytext.reads(text, fmt="py:percent")
    except Exception as error:  # its YAML header: whatever the parser raises
        raise NotebookError(f"{path}:1: the header cannot be read: {error}") from error
    lines = [text.count("\n", 0, match.start()) + 1 for match in _MARKER.finditer(text)]
    if not lines or len(lines) != len(notebook.cells):
        raise NotebookError(
            f"{path}: found {counted(len(lines), 'cell marker')} for "
            f"{counted(len(notebook.cells), 'cell')}; expected a "
            "jupytext py:percent file whose cells all begin with a line '# %%'"
        )
    cells = tuple(
        Cell(cell.cell_type, cell.source, line, cell.metadata.get("generated", ""))
        for cell, line in zip(notebook.cells, lines, strict=True)
    )
    for cell in cells:
        _refuse_damage(path, cell)
    kinds = [cell.generated for cell in cells if cell.generated]
    if kinds != ["button", "setup"]:
        raise NotebookError(
            f"{path}: found the generated cells {kinds}; expected '# %% [markdown] generated=\""
            "button\"' and then '# %% generated=\"setup\"', once each"
        )
    return Source(name, cells, _systems(path, notebook.metadata.get(SYSTEMS)))


def read_text(path: Path) -> str:
    """The text of a source.

    Raises:
        NotebookError: missing, no file, or no UTF-8.
    """
    try:
        return files.read_text(path)
    except FileNotFoundError:
        raise NotebookError(f"{path} does not exist; a notebook is a pair of .py and .ipynb") from (
            None
        )
    except files.NotReadError as error:
        raise NotebookError(f"{path} cannot be read: {error}; restore it with git") from error
    except UnicodeDecodeError as error:
        raise NotebookError(f"{path} is no UTF-8 text: {error}; restore it with git") from error


def _refuse_damage(path: Path, cell: Cell) -> None:
    if cell.kind != "code":
        return
    try:
        ast.parse(cell.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = cell.line + (getattr(error, "lineno", None) or 0)
        raise NotebookError(f"{path}:{line}: this is no Python: {error}; correct it") from error


def _systems(path: Path, wanted: Any) -> tuple[str, ...]:
    """Those that the header names."""
    known = dict.fromkeys(experiment.system.name for experiment in EXPERIMENTS.values())
    if not isinstance(wanted, list) or not wanted or not all(name in [*known] for name in wanted):
        raise NotebookError(
            f"{path}:1: the header's {SYSTEMS}: is {wanted!r}; expected a list of "
            f"{', '.join(known)}"
        )
    return tuple(wanted)


def shown(source: Source, records: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """Digests of what a notebook shows: the code, the records, and what is registered of them."""
    digests = {
        f"{record.experiment}/seed-{record.seed}": record.digest
        for experiment in source.experiments
        for record in records.get(experiment.name, ())
    }
    return {
        "code": source.digest,
        "records": digests,
        "experiments": _sha256([_described(experiment) for experiment in source.experiments]),
    }


def _described(experiment: Experiment) -> dict[str, Any]:
    """What is registered of an experiment, its network aside, which its records name."""
    table = {key: value for key, value in vars(experiment).items() if key != "build"}
    table |= {"recipe": experiment.recipe.to_dict(), "system": asdict(experiment.system)}
    table |= {"claim": asdict(experiment.claim) if experiment.claim else None}
    table |= {"assignment": repr(experiment.assignment)}
    table |= {key: sorted(table[key]) for key in ("breaks", "breaks_card")}
    plain: dict[str, Any] = json.loads(canonical(table))
    return plain


def assemble(
    source: Source, outputs: Sequence[Sequence[Any]], digests: Mapping[str, Any]
) -> nbformat.NotebookNode:
    """The notebook of a source and of the outputs of its code cells, in order.

    Nothing in it depends on when or where it ran.
    """
    remaining = iter(enumerate(outputs, start=1))
    cells = []
    for number, cell in enumerate(source.cells):
        metadata = {"generated": cell.generated} if cell.generated else {}
        common = {"id": f"cell-{number:02}", "metadata": metadata}
        if cell.kind == "code":
            count, found = next(remaining)
            found = copy.deepcopy(list(found))
            made = nbformat.v4.new_code_cell(cell.text, execution_count=count, outputs=found)
        else:
            made = nbformat.v4.new_markdown_cell(cell.text)
        made.update(common)
        cells.append(made)
    header: dict[str, Any] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "jupytext": {
            "formats": "ipynb,py:percent",
            # so that jupytext, which may write the source from this, keeps its header
            "notebook_metadata_filter": f"{SYSTEMS},-jupytext.text_representation.jupytext_version",
        },
        SYSTEMS: list(source.systems),
        KEY: {**digests, "outputs": outputs_digest(outputs)},
    }
    return nbformat.from_dict(  # type: ignore[no-any-return]  # nbformat is untyped
        {"cells": cells, "metadata": header, "nbformat": 4, "nbformat_minor": 5}
    )


def outputs_digest(outputs: Sequence[Sequence[Any]]) -> str:
    """The sha256 of the outputs of all code cells; shows an edit."""
    return _sha256([list(found) for found in outputs])


def as_bytes(notebook: nbformat.NotebookNode) -> bytes:
    """What is written to the ipynb file."""
    text: str = nbformat.writes(notebook)
    return (text.rstrip("\n") + "\n").encode()


def read_outputs(root: Path, name: str) -> nbformat.NotebookNode:
    """Read and validate a notebook with its outputs.

    Raises:
        NotebookError: missing or damaged.
    """
    path = output_path(root, name)
    mend = f"write it again: {COMMAND} {name}"
    if not path.exists():
        raise NotebookError(f"{path} does not exist; {mend}")
    try:
        notebook = nbformat.reads(files.read_text(path), as_version=4)
        nbformat.validate(notebook)
        _refuse_metadata(notebook.metadata)
    except Exception as error:  # JSON, Unicode, schema: whatever it is, the file is no notebook
        cause = str(error).strip().split("\n")[0]
        raise NotebookError(f"{path} is damaged: {cause}; {mend}") from error
    return notebook  # type: ignore[no-any-return]  # likewise


def _refuse_metadata(metadata: Mapping[str, Any]) -> None:
    """What nbformat leaves free: the digests are a table, those of the records another."""
    table = metadata.get(KEY, {})
    if not isinstance(table, dict) or not isinstance(table.get("records") or {}, dict):
        raise ValueError(f"metadata.{KEY}: found {table!r}, expected a table of digests")


def code_outputs(notebook: nbformat.NotebookNode) -> list[list[Any]]:
    """The outputs of the code cells, in order."""
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
