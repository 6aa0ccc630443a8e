"""What the repository's own files promise to a reader."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from mnist_models import __version__

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def names(lines: list[str]) -> list[str]:
    """The packages that requirement lines name."""
    found = [re.match(r"[A-Za-z][\w.-]*", line) for line in lines]
    return [match.group().lower().replace("_", "-") for match in found if match]


def requirements() -> list[str]:
    return (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()


def test_the_result_stands_at_the_top() -> None:
    lines = README.splitlines()
    assert lines[2].endswith(".")  # one sentence
    assert any(line.startswith("| `frontier-8k` |") for line in lines[:10])


def test_the_two_commands_set_up_by_themselves() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert [command.rsplit(" && ")[-1] for command in commands] == [
        ".venv/bin/python -m mnist_models train",
        ".venv/bin/python -m pytest tests/",
        ".venv/bin/jupyter lab notebooks/",
    ]
    assert all("pip install -q -r requirements.txt" in command for command in commands)


def test_requirements_cover_the_package_and_are_pinned() -> None:
    listed = names(requirements())
    assert set(names(PROJECT["project"]["dependencies"])) <= set(listed)
    assert "-c constraints.txt" in requirements()
    pinned = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = [line.split("==")[0] for line in pinned if "==" in line]
    assert set(listed) <= set(names(exact))


def test_version_is_one() -> None:
    assert PROJECT["project"]["version"] == __version__
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {__version__}\n" in citation
    assert citation.count("notes: Document 00") == 5


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_relative_links_and_named_files_exist(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("https://"):
            assert (REPOSITORY / target).exists(), target
    for module in re.findall(r"`((?:\w+/)*\w+\.py)`", text):
        assert list(REPOSITORY.glob(f"mnist_models/**/{module}")), module


def test_the_citation_names_the_repository() -> None:
    slug = PROJECT["project"]["urls"]["Repository"]
    assert slug in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")


def imports() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, at its top level or anywhere."""
    package = REPOSITORY / "mnist_models"
    paths = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path
        for path in package.rglob("*.py")
    }
    known = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found[name] |= {inner if inner in known else node.module} & known.keys()
    return found


def test_imports_go_one_way() -> None:
    graphlib.TopologicalSorter(imports()).prepare()  # raises on a cycle


def test_the_report_needs_neither_data_nor_training() -> None:
    graph, seen, todo = imports(), set(), ["mnist_models.report"]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph[name]
    assert "mnist_models.checks" in seen
    assert not seen & {"mnist_models.data", "mnist_models.train", "mnist_models.augment"}


def test_only_the_command_line_prints() -> None:
    for path in (REPOSITORY / "mnist_models").rglob("*.py"):
        if "cli" not in path.parts:
            assert not re.search(r"^\s*print\(", path.read_text(encoding="utf-8"), re.M), path


def test_nothing_is_unpickled() -> None:
    for path in (REPOSITORY / "mnist_models").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"(?<!safetensors\.)\btorch\.(load|save)\(|import pickle|allow_pickle=True", text
        ), path


def test_the_repository_stays_small() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    assert sum(path.stat().st_size for path in files if path.exists()) < 25 << 20
