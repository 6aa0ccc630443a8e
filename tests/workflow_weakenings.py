"""What would let a workflow pass where it should fail, found in the file alone.

What is allowed is listed, not what is forbidden: a new key, condition or variable has to be
written down here too, where a reviewer sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .workflow_runner import load

KEYS = {
    "workflow": {"name", "run-name", "on", "concurrency", "permissions", "env", "jobs"},
    "job": {
        *("name", "needs", "if", "runs-on", "timeout-minutes", "permissions", "outputs", "env"),
        *("strategy", "steps"),
    },
    "step": {"name", "id", "if", "uses", "with", "env", "run"},
}
TRIGGERS: dict[str, dict[str, Any]] = {  # without their inputs and outputs
    "ci.yml": {"push": {"branches": ["**"]}, "pull_request": {}},
    "check.yml": {"workflow_call": {}},
    "train-gpu.yml": {"workflow_dispatch": {}},
}
JOBS = {
    "ci.yml": {"lint", "test", "notebooks", "verify", "report", "publish"},
    "check.yml": {"check"},
    "train-gpu.yml": {"train", "propose"},
}
CONDITIONS = {  # place -> condition; a step that has none runs unless one before it failed
    "ci.yml: notebooks: Execute": "${{ !cancelled() }}",
    "ci.yml: report: Every verdict is the one expected": "${{ !cancelled() }}",
    "ci.yml: publish": (
        "${{ always() && github.event_name == 'push' && github.ref == format('refs/heads/{0}', "
        "github.event.repository.default_branch) }}"
    ),
    "train-gpu.yml: train: Hand them over": (
        "${{ !cancelled() && steps.train.outcome == 'success' }}"
    ),
    "action.yml: Badges": "${{ !cancelled() }}",
}
_INDEX = {"PIP_EXTRA_INDEX_URL": "https://download.pytorch.org/whl/cpu"}
_ASKED = {"EXPERIMENT": "${{ inputs.experiment }}", "SEEDS": "${{ inputs.seeds }}"}
VARIABLES = {
    "ci.yml": _INDEX,
    "ci.yml: test": {"REQUIRE_MNIST": "1"},
    "ci.yml: publish: Publish the badges of this run": {
        "TESTS": "${{ needs.test.result }}",
        "NOTEBOOKS": "${{ needs.notebooks.result }}",
        "VERIFY": "${{ needs.verify.result }}",
    },
    "train-gpu.yml: train": {"DEVICE": "cuda"},
    "train-gpu.yml: train: Train": _ASKED,
    "train-gpu.yml: propose: Propose the records, the weights and the report": {
        "GH_TOKEN": "${{ github.token }}",
        **_ASKED,
    },
    "action.yml: Install": {"PYTHON": "${{ steps.python.outputs.python-path }}", **_INDEX},
    "action.yml: Check": {
        "FOLDER": "${{ steps.install.outputs.folder }}",
        "MODEL": "${{ inputs.model }}",
        "ASSIGNMENT": "${{ inputs.assignment }}",
    },
}
GATES = {  # the commands whose status decides, whole
    "ci.yml: test: Test": "python -m pytest tests/",
    "ci.yml: notebooks: The outputs are those of these sources and records": (
        "python -m mnist_models notebooks --check"
    ),
    "ci.yml: notebooks: Execute": "python -m pytest --nbmake notebooks/",
    "ci.yml: verify: Score the published weights again": "python -m mnist_models verify",
    "ci.yml: report: Everything generated is as it would be written now": (
        "python -m mnist_models report --check"
    ),
    "ci.yml: report: Every verdict is the one expected": "python -m mnist_models check --all",
    "train-gpu.yml: train: Score the weights again": "python -m mnist_models verify",
    "action.yml: Check": (
        '"$FOLDER/venv/bin/python" -P -m mnist_models check '
        '--assignment="$ASSIGNMENT" --badges="$FOLDER/badges" -- "$MODEL"'
    ),
    "ci.yml: publish: Publish the badges of this run": (
        "python -m mnist_models publish "
        '--tests "$TESTS" --notebooks "$NOTEBOOKS" --verify "$VERIFY" '
        '--commit "$GITHUB_SHA" --branch "$GITHUB_REF_NAME"'
    ),
}
_GATE = re.compile(r"pytest|mnist_models (check|verify|publish|\w+ --check)")
# What hides that a command failed: bash -e ends at one that does, unless something follows it.
_HIDDEN = re.compile(
    r"\|\||(?<!\|)\|(?!\|)|\bset \+|\bexit\b|;\s*(true|:)|&\s*$|\btrap\b|^\s*!|\bif\b", re.M
)
# A file that a later step's shell or Python would read, and tools replaced.
_CARRIED = re.compile(r"GITHUB_ENV|GITHUB_PATH|BASH_ENV|\balias\b|PYTEST_ADDOPTS")
_ALLOWED = {'echo "$RUNNER_TEMP/venv/bin" >> "$GITHUB_PATH"'}  # the environment it just made


def weakenings(path: Path) -> list[str]:
    """What a workflow, or the action, has that is not written down here; and what it lacks."""
    table = load(path)
    name = path.name
    found: list[str] = []
    if name == "action.yml":
        steps = {name: table["runs"]["steps"]}
        allowed = KEYS["step"] | {"shell"}
        found += _unknown(name, table, {"name", "description", "inputs", "outputs", "runs"})
        found += _unknown(f"{name}: runs", table["runs"], {"using", "steps"})
        conditions: dict[str, str] = {}
        variables: dict[str, Any] = {}
    else:
        jobs = table["jobs"]
        steps = {f"{name}: {job}": content["steps"] for job, content in jobs.items()}
        allowed = KEYS["step"]
        found += _unknown(name, table, KEYS["workflow"])
        found += _triggers(name, table["on"])
        if jobs.keys() != JOBS[name]:
            found.append(f"{name}: jobs {sorted(jobs)}")
        for job, content in jobs.items():
            found += _unknown(f"{name}: {job}", content, KEYS["job"])
            matrix = content.get("strategy", {})
            if set(matrix) - {"fail-fast", "matrix"} or set(matrix.get("matrix", {})) - {"python"}:
                found.append(f"{name}: {job}: strategy {matrix}")
        conditions = {f"{name}: {job}": c["if"] for job, c in jobs.items() if "if" in c}
        variables = {f"{name}: {job}": c["env"] for job, c in jobs.items() if "env" in c}
        variables |= {name: table["env"]} if "env" in table else {}
    for place, listed in steps.items():
        for step in listed:
            here = f"{place}: {step.get('name')}"
            found += _unknown(here, step, allowed)
            found += (
                [f"{here}: shell {step['shell']}"] if step.get("shell", "bash") != "bash" else []
            )
            found += _checkout(here, step)
            found += _script(here, step.get("run", ""))
            conditions |= {here: step["if"]} if "if" in step else {}
            variables |= {here: step["env"]} if "env" in step else {}
    found += _other("if", name, conditions, CONDITIONS)
    found += _other("env", name, variables, VARIABLES)
    scripts = {
        f"{p}: {s.get('name')}": s["run"]
        for p, listed in steps.items()
        for s in listed
        if "run" in s
    }
    gates = {place: script for place, script in scripts.items() if _GATE.search(script)}
    return found + list(_other("run", name, gates, GATES))


def _unknown(place: str, table: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    yield from (f"{place}: {key}" for key in table if key not in known)


def _triggers(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    own = {"inputs", "outputs"}
    found = {
        event: {key: value for key, value in (filters or {}).items() if key not in own}
        for event, filters in table.items()
    }
    if found != TRIGGERS[name]:
        yield f"{name}: on {found}, expected {TRIGGERS[name]}"


def _checkout(place: str, step: Mapping[str, Any]) -> Iterator[str]:
    """What is checked out is what the event is about; of the checks, their default branch."""
    if step.get("uses", "").startswith("actions/checkout@"):
        options = {k: v for k, v in step["with"].items() if k != "persist-credentials"}
        checks = place.endswith(": Check out the checks") and {"repository", "ref", "path"}
        if options.keys() != (checks or set()) or options.get("ref", "main") != "main":
            yield f"{place}: checks out {options}"


def _script(place: str, script: str) -> Iterator[str]:
    for line in map(str.strip, script.splitlines()):
        if line not in _ALLOWED and (_HIDDEN.search(line) or _CARRIED.search(line)):
            yield f"{place}: {line}"


def _other(
    what: str, name: str, found: Mapping[str, Any], expected: Mapping[str, Any]
) -> Iterator[str]:
    wanted = {k: v for k, v in expected.items() if k == name or k.startswith(f"{name}: ")}
    for place in found.keys() | wanted.keys():
        if found.get(place) != wanted.get(place):
            yield f"{place}: {what} {found.get(place)}, expected {wanted.get(place)}"
