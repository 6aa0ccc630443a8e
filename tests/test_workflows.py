"""The workflows, run: each job's own steps, in a fresh clone of this very tree."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from mnist_models.models import find_experiment

from .workflow_clone import CI, INSTALL, REPOSITORY, clone, git, job, remote
from .workflow_runner import Job, load

__all__ = ["clone", "job", "remote"]  # fixtures

pytestmark = pytest.mark.workflows


def names(workflow: dict[str, Any], job: str) -> list[str]:
    return [step["name"] for step in workflow["jobs"][job]["steps"]]


def keep(clone: Path, *records: str) -> None:
    """Leave these published records alone: all of them take minutes."""
    root = clone / "records" / "mnist-test"
    for folder in root.glob("*/seed-*"):
        if str(folder.relative_to(root)) not in records:
            shutil.rmtree(folder)


def test_lint_passes(job: Job) -> None:
    cache = REPOSITORY / ".mypy_cache"
    if cache.exists():  # else mypy reads torch afresh
        shutil.copytree(cache, job.workspace / ".mypy_cache")
    workflow = load(CI)
    assert job.run(workflow, "lint").result == "success", job.log
    assert job.ran == names(workflow, "lint")
    assert job.installs == [INSTALL]
    assert "::add-matcher::.github/lint/mypy.json" in job.log


def test_lint_marks_file_and_line(job: Job) -> None:
    (job.workspace / "mnist_models" / "new.py").write_text("import os\n\nx: int = ''\n")
    assert job.run(load(CI), "lint").result == "failure"
    assert re.search(r"::error .*file=\S*mnist_models/new\.py,line=1,", job.log)
    (matcher,) = json.loads((job.workspace / ".github/lint/mypy.json").read_text())[
        "problemMatcher"
    ]
    said = job.shell("mypy --no-incremental --follow-imports=skip mnist_models/new.py || true", {})
    assert said == {}
    found = [re.search(matcher["pattern"][0]["regexp"], line) for line in job.log.splitlines()]
    assert ("mnist_models/new.py", "3") in [(m[1], m[2]) for m in found if m]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7", "unpinned-uses"),
        ("fail-fast: false", "fail-fats: false", "Schema validation errors"),
        ("needs.test.result", "needs.tset.result", "is not defined in object type"),
    ],
    ids=["zizmor", "check-jsonschema", "actionlint"],
)
def test_lint_of_the_workflows_finds(job: Job, old: str, new: str, said: str) -> None:
    path = job.workspace / ".github" / "workflows" / "ci.yml"
    path.write_text(path.read_text().replace(old, new, 1))
    job.shell(".ci/lint-workflows", {"GITHUB_ACTIONS": "false"})
    assert job.result == "failure"
    assert said in job.log


SUBSET = (
    "-p no:cacheprovider -k 'test_badges or test_assignment or broken'"
    " --ignore-glob='*/test_[!abn]*'"  # files of other names: to import them takes longer
)


def test_tests_pass_and_fail(job: Job) -> None:
    workflow = load(CI)
    job.contexts["matrix"] = {"python": "3.13"}
    job.environment["PYTEST_ADDOPTS"] = SUBSET
    assert job.run(workflow, "test").result == "success", job.log
    assert job.ran == names(workflow, "test")
    assert job.installs == [INSTALL]
    assert re.search(r"\d+ passed", job.log)
    (job.workspace / "tests" / "test_new.py").write_text("def test_broken():\n    assert False\n")
    assert job.run(workflow, "test").result == "failure"
    assert "::error file=tests/test_new.py,line=2::" in job.log


def test_notebooks(job: Job) -> None:
    workflow = load(CI)
    job.environment["PYTEST_ADDOPTS"] = "-p no:cacheprovider -k attempt"
    assert job.run(workflow, "notebooks").result == "success", job.log
    assert job.ran == names(workflow, "notebooks")
    assert "1 passed" in job.log
    path = job.workspace / "notebooks" / "attempt.py"
    path.write_text(path.read_text() + "\n# %%\nassert False\n")
    job.environment["PYTEST_ADDOPTS"] += " --collect-only"
    assert job.run(workflow, "notebooks").result == "failure"
    assert job.ran == names(workflow, "notebooks") * 2  # stale outputs do not keep it from running


def test_verify_passes_and_marks_a_damaged_record(job: Job) -> None:
    workflow = load(CI)
    keep(job.workspace, "frontier-8k/seed-0")
    assert job.run(workflow, "verify").result == "success", job.log
    assert job.ran == names(workflow, "verify")
    assert "| records/mnist-test/frontier-8k/seed-0 | " in job.summary
    assert job.summary.rstrip().endswith("| pass |")
    weights = next((job.workspace / "records").rglob("epoch-*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert job.run(workflow, "verify").result == "failure"
    record = "records/mnist-test/frontier-8k/seed-0/record.json"
    assert f"::error file={record},line=1,title=verify::" in job.log
    assert job.summary.rstrip().endswith("| FAIL |")


def test_report_passes(job: Job) -> None:
    workflow = load(CI)
    assert job.run(workflow, "report").result == "success", job.log
    assert job.ran == names(workflow, "report")
    assert "verdicts are the ones expected" in job.summary


def test_report_is_red_where_frontier_breaks_the_card_and_what_is_generated_is_stale(
    job: Job,
) -> None:
    models = job.workspace / "mnist_models" / "models"
    path = models / "frontier.py"
    plan = find_experiment("frontier-8k").build().plan
    assert f'"{plan}"' in path.read_text()
    wider = re.sub(r"\d+us", "99us", plan)
    path.write_text(path.read_text().replace(f'"{plan}"', f'"{wider}"'))
    (models / "__init__.py").write_text(
        "from mnist_models.models import frontier\nfrom mnist_models.models.registry import *\n"
        "from mnist_models.models.registry import UnknownExperimentError, find_experiment\n"
    )  # the others would take a minute, and without them nothing generated is up to date
    keep(job.workspace, "frontier-8k/seed-0")
    assert job.run(load(CI), "report").result == "failure"
    assert "::error file=README.md,line=" in job.log
    line = 1 + path.read_text().splitlines().index('    "frontier-8k",')
    said = f"::error file=mnist_models/models/frontier.py,line={line},title=frontier-8k::"
    assert said in job.log
    assert "| FAIL | frontier-8k | card | - | parameters |" in job.summary


def needs(**results: str) -> dict[str, dict[str, str]]:
    found = dict.fromkeys(("test", "notebooks", "verify"), "success") | results
    return {name: {"result": result} for name, result in found.items()}


def stands(job: Job) -> str:
    return git(job.workspace.parent / "remote.git", "rev-parse", "main")


def badge(job: Job, name: str) -> dict[str, str]:
    shown = git(job.workspace.parent / "remote.git", "show", f"main:badges/{name}.json")
    return dict(json.loads(shown))


def test_publish_pushes_what_the_run_measured_once(job: Job) -> None:
    workflow, sha = load(CI), stands(job)
    job.contexts["needs"] = needs(test="failure")
    assert job.run(workflow, "publish").result == "success", job.log
    assert job.ran == names(workflow, "publish")
    assert stands(job) != sha
    assert badge(job, "tests")["message"] == "failing"
    assert badge(job, "tests")["color"] == "c62828"
    assert badge(job, "notebooks")["color"] == "2e7d32"
    git(job.workspace, "reset", "-q", "--hard", sha)
    git(job.workspace, "pull", "-q", "--ff-only")
    job.contexts["github"]["sha"] = job.environment["GITHUB_SHA"] = published = stands(job)
    assert job.run(workflow, "publish").result == "success"
    assert "unchanged: " in job.log
    assert stands(job) == published


def test_publish_that_is_refused_fails_and_says_how_to_allow_it(job: Job) -> None:
    sha = stands(job)
    hook = job.workspace.parent / "remote.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected branch >&2\nexit 1\n")
    hook.chmod(0o755)
    job.contexts["needs"] = needs(verify="failure")
    assert job.run(load(CI), "publish").result == "failure"
    assert "protected branch" in job.log
    assert "Workflow permissions: Read and write" in job.log
    assert "::error title=publish::" in job.log
    assert stands(job) == sha


def test_publish_leaves_a_branch_that_moved_on(job: Job) -> None:
    git(job.workspace.parent, "clone", "-q", "remote.git", "other")
    git(job.workspace.parent / "other", "commit", "-q", "--allow-empty", "-m", "Meanwhile")
    git(job.workspace.parent / "other", "push", "-q")
    moved = stands(job)
    job.contexts["needs"] = needs(test="cancelled", notebooks="skipped")
    assert job.run(load(CI), "publish").result == "success", job.log
    assert "moved on from" in job.log
    assert stands(job) == moved
