"""What holds for every workflow, whatever it runs: rights, pins, limits, and no expression in a
script. Also the evaluator that the other tests of workflows rest on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from .expressions import evaluate, fill, holds
from .workflow_clone import CHECK, CI, REPOSITORY, TRAIN
from .workflow_runner import ACTIONS, load, read_pairs

ACTION = REPOSITORY / ".github" / "actions" / "check" / "action.yml"
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.y*ml"))
FILES = [*WORKFLOWS, ACTION]


def identify(path: Path) -> str:
    return path.name


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return dict(load(path).get("jobs", {}))


def steps(path: Path) -> list[dict[str, Any]]:
    found = [step for job in jobs(path).values() for step in job["steps"]]
    return found or list(load(path)["runs"]["steps"])


def test_these_are_all() -> None:
    assert sorted([CI, CHECK, TRAIN]) == WORKFLOWS
    assert list((REPOSITORY / ".github" / "actions").rglob("action.y*ml")) == [ACTION]


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_actions_are_pinned_by_commit_with_their_version_beside(path: Path) -> None:
    lines = re.findall(r"uses: (.+)", path.read_text())
    assert len(lines) == len([step for step in steps(path) if "uses" in step])
    for line in lines:
        if not line.startswith("./"):
            pinned = re.fullmatch(r"(\S+)@([0-9a-f]{40}) # (v\S+)", line)
            assert pinned, line
            assert pinned.groups()[1:] == ACTIONS[pinned[1]]


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_no_expression_stands_in_a_script(path: Path) -> None:
    assert not [step["name"] for step in steps(path) if "${{" in step.get("run", "")]


def test_no_file_of_the_caller_passes_for_pythons_own() -> None:
    """Beside a student's model.py may lie a pip.py: the action runs every module with -P."""
    runs = [step["run"] for step in steps(ACTION) if "run" in step]
    modules = [line for run in runs for line in run.splitlines() if " -m " in line]
    assert len(modules) == 3
    assert all(" -P -m " in line for line in modules)


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_no_secret_is_named(path: Path) -> None:
    text = path.read_text()
    assert "secrets." not in text
    assert "secrets:" not in text
    assert ("github.token" in text) == (path == TRAIN)  # of `propose`, which opens a pull request


@pytest.mark.parametrize("path", WORKFLOWS, ids=identify)
def test_rights_are_given_job_by_job(path: Path) -> None:
    assert load(path)["permissions"] == {}
    for name, job in jobs(path).items():
        writes = {right for right, level in job["permissions"].items() if level == "write"}
        allowed = {"publish": {"contents"}, "propose": {"contents", "pull-requests"}}
        assert writes == allowed.get(name, set()), name
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == ("true" if writes else "false")


@pytest.mark.parametrize("path", WORKFLOWS, ids=identify)
def test_every_job_times_out(path: Path) -> None:
    assert all(0 < int(job["timeout-minutes"]) <= 720 for job in jobs(path).values())


def test_triggers() -> None:
    assert load(CI)["on"].keys() == {"push", "pull_request"}
    assert load(CHECK)["on"].keys() == {"workflow_call"}
    assert load(TRAIN)["on"].keys() == {"workflow_dispatch"}
    for path in FILES:
        assert "pull_request_target" not in path.read_text()
        assert "workflow_run" not in path.read_text()


def github(event: str, ref: str) -> dict[str, Any]:
    default = {"repository": {"default_branch": "main"}}
    return {"github": {"event_name": event, "ref": ref, "event": default}}


@pytest.mark.parametrize(
    ("event", "ref", "publishes", "supersedes"),
    [
        ("push", "refs/heads/main", True, False),
        ("push", "refs/heads/other", False, True),
        ("pull_request", "refs/pull/1/merge", False, True),
        ("pull_request", "refs/heads/main", False, False),  # a ref that no pull request has
    ],
)
@pytest.mark.parametrize("failed", [False, True])
def test_only_a_push_to_the_default_branch_publishes(
    event: str, ref: str, publishes: bool, supersedes: bool, failed: bool
) -> None:
    workflow, contexts = load(CI), github(event, ref)
    job = workflow["jobs"]["publish"]
    assert fill(job["if"], contexts) == str(publishes)
    assert holds(job["if"], contexts, failed) is publishes  # though others failed
    assert sorted(job["needs"]) == ["notebooks", "test", "verify"]
    assert fill(workflow["concurrency"]["cancel-in-progress"], contexts) == str(supersedes)
    assert fill(workflow["concurrency"]["group"], contexts) == f"ci-{ref}"


def test_the_test_job_covers_the_supported_versions() -> None:
    job = load(CI)["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert job["strategy"]["fail-fast"] == "false"
    assert job["env"]["REQUIRE_MNIST"] == "1"
    project = (REPOSITORY / "pyproject.toml").read_text()
    for version in job["strategy"]["matrix"]["python"]:
        assert f'"Programming Language :: Python :: {version}"' in project


def test_mnist_is_cached_under_one_key() -> None:
    kept = [step["with"] for step in steps(CI) if "actions/cache@" in step.get("uses", "")]
    assert kept == [{"path": "data", "key": "mnist"}] * 3


def test_ci_run_does_what_the_workflow_does() -> None:
    here = (REPOSITORY / ".ci" / "run").read_text()
    scripts = [
        step["run"]
        for job in ("lint", "notebooks", "verify", "report")
        for step in jobs(CI)[job]["steps"]
        if "run" in step
    ]
    commands = [line for script in scripts for line in script.splitlines()]
    known = [line for line in commands if not re.search(r"pip install|add-matcher|load\('", line)]
    assert len(known) == 9
    for command in known:
        wanted = command.replace(" --output-format=github", "")
        assert re.search(rf"^step (\.venv/bin/)?{re.escape(wanted)}$", here, re.M), command
    assert "pytest tests/ -m workflows" in here


def test_what_is_handed_over_is_what_is_proposed() -> None:
    (given,) = [step["with"] for step in steps(TRAIN) if "upload-artifact" in step.get("uses", "")]
    listed = re.search(r"^paths=\((.*)\)$", (REPOSITORY / ".ci" / "propose").read_text(), re.M)
    assert listed is not None
    assert listed[1].split() == given["path"].split()
    assert load(TRAIN)["jobs"]["train"]["runs-on"][0] == "self-hosted"


def test_the_lock_of_the_lint_names_no_registry() -> None:
    text = (REPOSITORY / ".github" / "lint" / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert text.count('"integrity"') == text.count('"node_modules/')


def test_dependabot_keeps_the_pins_current() -> None:
    updates = load(REPOSITORY / ".github" / "dependabot.yml")["updates"]
    kinds = {update["package-ecosystem"] for update in updates}
    assert kinds >= {"github-actions", "pip"}
    assert all(int(update["cooldown"]["default-days"]) >= 7 for update in updates)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("github.ref == 'x'", False),
        ("github.ref != 'x' && 'it''s'", "it's"),
        ("(always() || nothing.here) && !cancelled()", KeyError),
        ("vars.a || 'b'", "b"),
        ("format('{0}/{1}', 'a', github.ref)", "a/refs/heads/main"),
        ("github.nothing", KeyError),
        ("hashFiles('x')", KeyError),
        ("github.ref < 'x'", ValueError),
        ("(github.ref", ValueError),
        ("'a' 'b'", ValueError),
    ],
)
def test_the_evaluator_knows_what_it_does_not_know(text: str, value: Any) -> None:
    contexts = github("push", "refs/heads/main") | {"vars": {"a": ""}}
    if isinstance(value, type):
        with pytest.raises(value):
            evaluate(text, contexts)
    else:
        assert evaluate(text, contexts) == value


def test_status_decides_what_runs_after_a_failure() -> None:
    contexts = github("push", "refs/heads/main")
    assert not holds("success()", contexts, failed=True)
    assert not holds("${{ github.ref != 'x' }}", contexts, failed=True)
    assert holds("${{ github.ref != 'x' }}", contexts, failed=False)
    assert holds("!cancelled()", contexts, failed=True)
    assert holds("failure()", contexts, failed=True)


def test_pairs_are_read_as_the_runner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "output"
    path.write_text("a=b=c\nd<<end\n1\na=2\nend\ne=\n")
    assert read_pairs(path) == {"a": "b=c", "d": "1\na=2", "e": ""}
