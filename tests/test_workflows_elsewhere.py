"""The workflows that run elsewhere: in a student's repository, and on a runner with a GPU."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from .test_actions import PASSING
from .workflow_clone import INSTALL, REPOSITORY, TRAIN, clone, git, job, remote
from .workflow_runner import Job, load

__all__ = ["clone", "job", "remote"]  # fixtures
pytestmark = pytest.mark.workflows


def student(job: Job, model: str) -> dict[str, Any]:
    """A student's repository with the README's six lines; gives the workflow that they name."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```yaml\n(on: push\n.*?)```", text, re.DOTALL)
    assert len(lines.splitlines()) == 6
    folder = job.workspace.parent / "student"
    folder.mkdir()
    (folder / "six.yml").write_text(lines)
    (folder / "model.py").write_text(model)
    (folder / "mnist_models").mkdir()  # a folder of this name is not taken for the package
    (folder / "mnist_models" / "__init__.py").write_text("raise SystemExit('not this one')\n")
    (six,) = load(folder / "six.yml")["jobs"].values()
    owner, name, path = six["uses"].split("/", 2)
    workflow = load(job.workspace / path.removesuffix("@main"))
    checkout = workflow["jobs"]["check"]["steps"][1]["with"]
    assert (checkout["repository"], checkout["ref"]) == (f"{owner}/{name}", "main")
    inputs = workflow["on"]["workflow_call"]["inputs"]
    assert six["with"].keys() <= inputs.keys()
    job.contexts["inputs"] = {k: v.get("default") for k, v in inputs.items()} | six["with"]
    job.contexts["elsewhere"], job.workspace = job.workspace, folder
    job.environment["GITHUB_WORKSPACE"] = str(folder)
    return workflow


def test_a_student_has_a_model_checked(job: Job) -> None:
    workflow = student(job, PASSING)
    job.run(workflow, "check")
    assert job.result == "success", job.log
    assert job.outputs.keys() == workflow["on"]["workflow_call"]["outputs"].keys()
    assert job.outputs["passed"] == "true"
    assert (job.outputs["parameters"], job.outputs["receptive-field"]) == ("3950", "20")
    assert json.loads(job.outputs["json"])["target"] == "model.py:Net"
    assert "| pass | parameters | 3,950 |" in job.summary
    badges = job.temp / "artifacts" / "model-badges"
    assert json.loads((badges / "parameters.json").read_text())["message"] == "3,950 < 8,000"
    package = str(job.workspace / ".mnist-models")
    assert job.installs == [[INSTALL[0], "-c", f"{package}/constraints.txt", package]]


def test_a_student_whose_model_fails_sees_why(job: Job) -> None:
    workflow = student(job, PASSING.replace("width=10", "width=60"))
    assert job.run(workflow, "check").result == "failure"
    assert job.outputs["passed"] == "false"
    assert "::error file=model.py,line=5,title=parameters::" in job.log
    assert "| FAIL | parameters |" in job.summary
    badges = job.temp / "artifacts" / "model-badges"
    assert json.loads((badges / "parameters.json").read_text())["color"] == "c62828"


GH = """#!/bin/sh
# GitHub's own command, of which no one answers here: it hands over the artifact that the job
# before left, and writes down the pull request that it is asked for.
if [ "$1 $2" = "run download" ]; then cp -R {artifact}/. "$7"; exit; fi
printf '%s\\n' "$@" > {asked}
exit {status}
"""


def trained(job: Job, **inputs: str) -> Job:
    """A run of the training job, on this CPU, with the records of two seeds alone."""
    root = job.workspace / "records" / "mnist-test"
    for folder in root.glob("*/seed-*"):
        if str(folder.relative_to(root)) not in ("frontier-8k/seed-0", "frontier-8k/seed-1"):
            shutil.rmtree(folder)
    workflow = load(TRAIN)
    workflow["jobs"]["train"]["env"]["DEVICE"] = "cpu"
    job.contexts["inputs"] = {"experiment": "frontier-8k", "seeds": "0,1"} | inputs
    job.without = ("Execute the notebooks again",)  # minutes; `notebooks` has tests of its own
    return job.run(workflow, "train")


def proposed(job: Job, tmp_path: Path, status: int) -> Job:
    """A run of the proposing job, in a clone of its own, after the training job."""
    git(tmp_path, "clone", "-q", "remote.git", "second")
    second = Job(
        tmp_path / "second",
        tmp_path / "hosted",
        {"github": job.contexts["github"], "inputs": job.contexts["inputs"]},
        {},
    )
    asked, artifact = tmp_path / "asked", job.temp / "artifacts" / "trained"
    gh = second.temp / "bin" / "gh"
    gh.write_text(GH.format(artifact=artifact, asked=asked, status=status))
    gh.chmod(0o755)
    return second.run(load(TRAIN), "propose")


def test_training_proposes_its_records_and_the_report(job: Job, tmp_path: Path) -> None:
    assert trained(job).result == "success", job.log
    assert job.installs == [[None, *INSTALL[1:]]]  # with CUDA, as torch comes by itself
    assert job.log.count("holds this very run already") == 2  # nothing was trained here
    assert "2 records, 6 stored epochs scored again, 0 problems" in job.log
    assert job.summary.count("### frontier-8k, seed") == 2
    second = proposed(job, tmp_path, 0)
    assert second.result == "success", second.log
    remote = tmp_path / "remote.git"
    branch = "trained/run-7-1"
    assert git(remote, "rev-parse", f"{branch}^") == job.contexts["github"]["sha"]
    changed = git(remote, "diff", "--name-only", "main", branch).splitlines()
    assert {name.split("/")[0] for name in changed} <= set(job.artifact("trained"))
    assert "README.md" in changed
    assert not git(remote, "ls-tree", "-r", branch, "records/mnist-test/steps-6")
    words = (tmp_path / "asked").read_text().splitlines()
    assert words[:6] == ["pr", "create", "--head", branch, "--base", "main"]
    assert "Records of frontier-8k, seeds 0,1" in words


def test_a_pull_request_that_may_not_be_opened_is_said(job: Job, tmp_path: Path) -> None:
    folder = job.temp / "artifacts" / "trained"
    folder.mkdir(parents=True)
    for name in ("README.md", "badges", "docs", "notebooks", "records"):
        source = job.workspace / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    job.contexts["inputs"] = {"experiment": "frontier-8k", "seeds": "0"}
    assert proposed(job, tmp_path, 1).result == "success"  # nothing new: it does not even ask
    assert not (tmp_path / "asked").exists()
    shutil.rmtree(tmp_path / "second")
    shutil.rmtree(tmp_path / "hosted")
    (folder / "README.md").write_text("new\n")
    second = proposed(job, tmp_path, 1)
    assert second.result == "failure"
    assert "::error title=propose::The branch trained/run-7-1 is pushed" in second.log
    assert "Allow GitHub Actions to create and approve pull" in second.log


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"experiment": "--force; touch forged"}, "no experiment '--force; touch forged'"),
        ({"seeds": "0 --force; touch forged"}, "expected seeds such as"),
    ],
)
def test_bad_inputs_train_nothing(job: Job, inputs: dict[str, str], said: str) -> None:
    assert trained(job, **inputs).result == "failure"
    assert job.ran[-1] == "Train"
    assert said in job.log
    assert not (job.workspace / "forged").exists()
