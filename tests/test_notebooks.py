"""The notebooks' machinery on a small pair of its own, and the pairs of the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jupytext
import pytest

from mnist_models.cli import main
from mnist_models.models import EXPERIMENTS
from mnist_models.notebooks import CellError, NotebookError, stale
from mnist_models.notebooks import execute as execution
from mnist_models.notebooks.execute import execute
from mnist_models.notebooks.pair import find_names, read_source
from mnist_models.notebooks.stale import Problem, problems, refresh
from mnist_models.project import slug
from mnist_models.report import published

from .endless import huge, pipe, within
from .test_record import edit

REPOSITORY = Path(__file__).resolve().parent.parent
SLUG = slug(REPOSITORY)
RECORD = Path("records/mnist-test/attempt-3/seed-0")
SOURCE = """# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: systems,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   systems:
#   - attempt
# ---

# %% [markdown] generated="button"

# %% generated="setup"

# %% [markdown]
# # A title
#
# Some prose.

# %%
import os
from pathlib import Path

print("two is", 1 + 1)
assert Path.cwd().name == "notebooks"
assert "NOTEBOOK_QUICK" not in os.environ

# %%
print("three is", 1 + 2)
{"an": "expression"}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one notebook, run once."""
    root = tmp_path_factory.mktemp("repository")
    (root / "notebooks").mkdir()
    (root / "notebooks" / "tiny.py").write_text(SOURCE)
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    shutil.copytree(REPOSITORY / RECORD, root / RECORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTEBOOK_QUICK", "1")  # of the one who tests, not of the published run
        execute(root, "tiny", published(root / "records"))
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    shutil.copytree(written, tmp_path / "copy")
    return tmp_path / "copy"


def found(root: Path) -> list[Problem]:
    return problems(root, published(root / "records"))


def rewrite(root: Path, old: str, new: str) -> None:
    path = root / "notebooks" / "tiny.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def change(root: Path, action: Callable[[Any], object]) -> None:
    path = root / "notebooks" / "tiny.ipynb"
    notebook = json.loads(path.read_text())
    action(notebook)
    path.write_text(json.dumps(notebook))


def code(notebook: Any, number: int) -> Any:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][number]


def test_a_run_leaves_outputs_and_digests_alone(written: Path) -> None:
    text = (written / "notebooks" / "tiny.ipynb").read_text()
    notebook = json.loads(text)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    assert [output["output_type"] for output in outputs] == ["stream", "stream", "display_data"]
    assert outputs[0]["text"] == ["two is 2\n"]
    record = published(written / "records")["attempt-3"][0]
    assert notebook["metadata"]["mnist_models"]["records"] == {"attempt-3/seed-0": record.digest}
    for private in (str(written), sys.prefix, "T1", "timestamp", 'execution": {'):
        assert private not in text
    assert found(written) == []


def test_it_runs_in_this_interpreter_and_twice_alike(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = root / "jupyter" / "kernels" / "python3"  # one that cannot start is found first
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["false"], "display_name": "x"}')
    monkeypatch.setenv("JUPYTER_PATH", str(root / "jupyter"))
    before = (root / "notebooks" / "tiny.ipynb").read_bytes()
    (root / "notebooks" / "tiny.ipynb").write_text("{")  # a damaged one is no obstacle
    calls: list[None] = []
    execute(root, "tiny", published(root / "records"), listener=lambda: calls.append(None))
    assert (root / "notebooks" / "tiny.ipynb").read_bytes() == before
    assert len(calls) == 3


def test_the_button_and_the_setup_come_from_the_slug(root: Path) -> None:
    colab = "https://colab.research.google.com/github/{}/blob/main/notebooks/tiny.ipynb"
    cells = read_source(root, "tiny").cells
    assert colab.format(SLUG) in cells[0].text
    assert f'"https://github.com/{SLUG}"' in cells[1].text
    project = root / "pyproject.toml"
    project.write_text(project.read_text().replace(SLUG, "Ada/digits.v2"))
    stale_cells = found(root)
    assert [(p.file, p.line) for p in stale_cells] == [
        ("notebooks/tiny.py", cells[0].line),
        ("notebooks/tiny.py", cells[1].line),
    ]
    assert all(p.command.endswith("--refresh") for p in stale_cells)
    assert refresh(root, "tiny") == ["notebooks/tiny.py", "notebooks/tiny.ipynb"]
    assert found(root) == []
    assert colab.format("Ada/digits.v2") in (root / "notebooks" / "tiny.ipynb").read_text()
    assert refresh(root, "tiny") == []


def test_changed_prose_needs_no_run(root: Path) -> None:
    rewrite(root, "Some prose", "Better prose")
    (problem,) = found(root)
    assert (problem.file, problem.cell) == ("notebooks/tiny.ipynb", 3)
    assert "at line" in problem.reason
    assert problem.command.endswith("notebooks --refresh")
    refresh(root, "tiny")
    assert found(root) == []
    assert "two is 2" in (root / "notebooks" / "tiny.ipynb").read_text()


def test_changed_code_needs_a_run(root: Path) -> None:
    rewrite(root, "1 + 1", "1 + 1 + 0")
    reasons = [problem.reason for problem in found(root)]
    assert "its outputs are of another source" in reasons
    assert any(reason.startswith("differs from the cell") for reason in reasons)
    assert all(problem.command.endswith("notebooks tiny") for problem in found(root))
    assert refresh(root, "tiny") == []  # it does not pass for mended


def test_a_refresh_makes_no_edited_output_pass(root: Path) -> None:
    change(root, lambda n: code(n, 1)["outputs"][0].update(text=["two is 3\n"]))
    rewrite(root, "Some prose", "Better prose")
    refresh(root, "tiny")
    (problem,) = found(root)
    assert "edited after the run" in problem.reason


def test_jupytext_writes_the_source_as_it_is(root: Path) -> None:
    source = (root / "notebooks" / "tiny.py").read_text()
    notebook = jupytext.read(root / "notebooks" / "tiny.ipynb")
    assert jupytext.writes(notebook, fmt="py:percent") == source


BROKEN: dict[str, tuple[Callable[[Any], object], int | None, str]] = {
    "edited": (
        lambda n: code(n, 1)["outputs"][0].update(text=["two is 3\n"]),
        None,
        "edited after the run",
    ),
    "cleared": (
        lambda n: [cell.update(outputs=[]) for cell in n["cells"] if "outputs" in cell],
        None,
        "has no outputs",
    ),
    "not executed": (lambda n: code(n, 2).update(execution_count=None), 5, "was not executed"),
    "error": (
        lambda n: code(n, 1).update(
            outputs=[{"output_type": "error", "ename": "E", "evalue": "v", "traceback": []}]
        ),
        4,
        "holds an error: E: v",
    ),
    "warning": (
        lambda n: code(n, 1)["outputs"].append(
            {"output_type": "stream", "name": "stderr", "text": ["careful\n"]}
        ),
        4,
        "holds a warning: careful",
    ),
    "path": (
        lambda n: code(n, 1)["outputs"][0].update(text=["see /home/ada/digits\n"]),
        4,
        "path of a machine: /home/ada/digits",
    ),
    "cell gone": (lambda n: n["cells"].pop(), None, "it has 4 cells, which differs from the 5"),
    "source": (lambda n: code(n, 1).update(source=["1"]), 4, "differs from the cell"),
    "no digests": (lambda n: n["metadata"].pop("mnist_models"), None, "of another source"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_run_would_not_leave(root: Path, name: str) -> None:
    action, cell, reason = BROKEN[name]
    change(root, action)
    shown = [problem for problem in found(root) if reason in problem.reason]
    assert [(problem.file, problem.cell) for problem in shown] == [("notebooks/tiny.ipynb", cell)]


def test_records_that_changed_or_came(root: Path) -> None:
    shutil.copytree(root / RECORD, root / RECORD.with_name("seed-1"))
    edit(root / RECORD.with_name("seed-1"), lambda table: table.update(seed=1))
    (problem,) = found(root)
    assert "attempt-3/seed-1, which was added" in problem.reason
    edit(
        root / RECORD, lambda table: table["timing"].update(seconds=table["timing"]["seconds"] + 1)
    )
    assert "another record attempt-3/seed-0" in found(root)[0].reason
    shutil.rmtree(root / RECORD)
    assert "attempt-3/seed-0, which is not published" in found(root)[0].reason


def test_what_is_registered_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = replace(EXPERIMENTS["attempt-3"], analysis="Something else.")
    monkeypatch.setitem(EXPERIMENTS, "attempt-3", changed)
    (problem,) = found(root)
    assert "registered of the experiments" in problem.reason


def test_files_without_their_other_half(root: Path) -> None:
    folder = root / "notebooks"
    shutil.copy(folder / "tiny.ipynb", folder / "stray.ipynb")
    (problem,) = found(root)
    assert problem.file == "notebooks/stray.ipynb"
    (folder / "stray.ipynb").unlink()
    (folder / "tiny.ipynb").unlink()
    (problem,) = found(root)
    assert problem.reason == "is missing"
    (folder / "tiny.py").unlink()
    with pytest.raises(NotebookError, match="found no notebook"):
        found(root)


def test_large_notebooks_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "LARGEST", 1_000)
    (problem,) = found(root)
    assert "more than 1,000" in problem.reason
    monkeypatch.setattr(execution, "LARGEST", 1_000)
    before = (root / "notebooks" / "tiny.ipynb").read_bytes()
    with pytest.raises(NotebookError, match="bytes, more than 1,000"):
        execute(root, "tiny", {})
    assert (root / "notebooks" / "tiny.ipynb").read_bytes() == before


def test_a_cell_that_raises_writes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(root, "1 + 2)", '1 + 2)\nassert 1 > 2, "one is less"')
    line = read_source(root, "tiny").cells[4].line
    before = (root / "notebooks" / "tiny.ipynb").read_bytes()
    with pytest.raises(CellError, match=rf"tiny.py:{line}: the cell raised AssertionError: one is"):
        execute(root, "tiny", {})
    assert (root / "notebooks" / "tiny.ipynb").read_bytes() == before


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("import sys; print(sys.prefix)", "a path of a machine"),
        ("import warnings; warnings.warn('careful')", "holds a warning"),
    ],
)
def test_outputs_that_may_not_be_published(root: Path, cell: str, reason: str) -> None:
    rewrite(root, 'print("two is", 1 + 1)', cell)
    with pytest.raises(NotebookError, match=reason):
        execute(root, "tiny", {})


DAMAGED = {
    "syntax": ("1 + 1)", "1 + )", r":52: this is no Python"),
    "nested": ("1 + 1)", f"{'-' * 100_000}1)", r":48: this is no Python"),
    "no setup": (' generated="setup"', "", r"found the generated cells \['button'\]"),
    "systems": ("- attempt\n", "- attempts\n", "expected a list of frontier, era-v1-blocks"),
    "nested systems": ("- attempt\n", "- [attempt]\n", "expected a list of frontier"),
    "no systems": ("systems:\n", "others:\n", "expected a list of frontier"),
    "header": ("systems:\n", "systems: [[\n", ":1: the header cannot be read"),
    "markers": ("# %% [markdown] generated", "# generated", "expected a jupytext py:percent"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_sources(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, message = DAMAGED[name]
    rewrite(root, old, new)
    with pytest.raises(NotebookError, match=message):
        found(root)
    assert main(["notebooks", "--check", "--root", str(root)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[]", b'{"cells": 3}', b"", b'{"nbformat": 9}']
)
@pytest.mark.parametrize("suffix", ["ipynb", "py"])
def test_damaged_files(
    root: Path, content: bytes, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "notebooks" / f"tiny.{suffix}"
    path.write_bytes(content)
    for option in ("--check", "--refresh"):
        assert main(["notebooks", option, "--root", str(root)]) == 2
        assert f"tiny.{suffix}" in capsys.readouterr().err
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", [pipe, huge])
@pytest.mark.parametrize("suffix", ["ipynb", "py"])
def test_what_never_ends_is_named_and_not_read(
    root: Path, damage: Callable[[Path], None], suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(root / "notebooks" / f"tiny.{suffix}")
    for option in ("--check", "--refresh"):
        with within():
            assert main(["notebooks", option, "--root", str(root)]) == 2
        errors = capsys.readouterr().err
        assert f"tiny.{suffix} " in errors
        assert "it is no regular file" in errors or "bytes, and at most" in errors


@pytest.mark.parametrize("table", ["text", [], None, {"records": "text"}], ids=str)
def test_digests_that_are_none(
    root: Path, table: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "notebooks" / "tiny.ipynb"
    notebook = json.loads(path.read_text())
    notebook["metadata"]["mnist_models"] = table
    path.write_text(json.dumps(notebook))
    for option in ("--check", "--refresh"):
        assert main(["notebooks", option, "--root", str(root)]) == 2
        assert "expected a table of digests" in capsys.readouterr().err


def test_the_command(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["notebooks", "--root", str(root)]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(root))
    assert main([*arguments, "--check"]) == 0
    rewrite(root, "Some prose", "Better prose")
    assert main([*arguments, "--check"]) == 1
    errors = capsys.readouterr().err
    assert "\nnotebooks/tiny.ipynb: cell 3: differs from" in errors
    assert errors.startswith("::error file=notebooks/tiny.ipynb,title=notebooks::")
    assert main([*arguments, "--check", "--json", "tiny"]) == 1
    table = json.loads(capsys.readouterr().out)
    assert (table["passed"], table["problems"][0]["cell"]) == (False, 3)
    assert main([*arguments, "--refresh", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == ["notebooks/tiny.ipynb"]
    assert main([*arguments, "--check", "--json"]) == 0
    assert main([*arguments, "nothing"]) == 2
    assert "no notebook nothing; there are tiny" in capsys.readouterr().err
    (root / "pyproject.toml").write_text("[project]")
    assert main([*arguments, "--check"]) == 2
    assert "Repository" in capsys.readouterr().err


@pytest.mark.usefixtures("mnist")
def test_the_command_runs(root: Path, mnist_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["notebooks", "--root", str(root), "--data-root", str(mnist_root), "--json"]
    rewrite(root, "1 + 1)", '1 + 1, bool(os.environ["MNIST_ROOT"]))')
    assert main(arguments) == 0
    (entry,) = json.loads(capsys.readouterr().out)["written"]
    assert entry["file"] == "notebooks/tiny.ipynb"
    assert "two is 2 True" in (root / "notebooks" / "tiny.ipynb").read_text()
    rewrite(root, "1 + 2)", "1 / 0)")
    assert main(arguments) == 1
    assert "ZeroDivisionError" in json.loads(capsys.readouterr().out)["cause"]
    assert main([*arguments[:3], "--data-root", str(root / "none")]) == 2  # no MNIST, no outputs


def setup_of(root: Path) -> str:
    return read_source(root, "tiny").cells[1].text


def python(code: str, folder: Path, **environment: str) -> str:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_the_setup_finds_the_package_of_the_clone(root: Path, folder: str) -> None:
    code = f"{setup_of(root)}\nimport mnist_models\nprint(mnist_models.__version__)"
    assert python(code, REPOSITORY / folder).strip()


def test_the_setup_clones_in_colab(root: Path, tmp_path: Path) -> None:
    """With git's own redirection of an address, and a pip that says what it was asked."""
    origin = tmp_path / SLUG
    (origin / "notebooks").mkdir(parents=True)
    (origin / "notebooks" / "a.py").touch()
    (origin / "mnist_models").mkdir()
    (origin / "mnist_models" / "__init__.py").write_text("here = True")
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "a"]):
        subprocess.run(["git", *arguments], cwd=origin, check=True)
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$@" >> "$ASKED"\n')
    stub.chmod(0o755)
    colab = tmp_path / "content"
    colab.mkdir()
    head = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    head += f"sys.executable = {str(stub)!r}\n"
    end = "\nimport mnist_models; print(mnist_models.here, Path.cwd())\n"
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "ASKED": str(tmp_path / "asked"),
    }
    code = head + setup_of(root) + end + setup_of(root) + end  # twice: a cell may be run again
    where = f"True {colab}/{origin.name}/notebooks\n"
    for _ in range(2):  # and in a new runtime
        assert python(code, colab, **environment) == where * 2
    assert (tmp_path / "asked").read_text() == f"-m pip install -q ./{origin.name}\n"


def test_the_notebooks_of_the_repository(capsys: pytest.CaptureFixture[str]) -> None:
    systems = {e.system.name.replace("-", "_") for e in EXPERIMENTS.values() if e.source}
    assert set(find_names(REPOSITORY)) == {"walkthrough", *systems}
    assert main(["notebooks", "--check", "--root", str(REPOSITORY)]) == 0, capsys.readouterr().err
    for name in find_names(REPOSITORY):
        source = read_source(REPOSITORY, name)
        assert sum("assert " in cell.text for cell in source.cells if cell.kind == "code") >= 4
        assert not any("def " in cell.text for cell in source.cells if name != "walkthrough")
