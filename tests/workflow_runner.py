"""Runs the steps of a workflow's job in a clone, as GitHub's runner would, as far as they go here.

``run:`` steps run as they are, in order, in bash, with their environment. What cannot run here is
listed, not hidden: an action of GitHub's is checked against `ACTIONS` and stands for what it
leaves behind; an installation is written down and uses the environment at hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .expressions import EXPRESSION, Open, fill, holds

ACTIONS = {  # the commit that each is pinned to, and its version
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "actions/upload-artifact": ("bbbca2ddaa5d8feaa63e36b76fdaad77386f024f", "v7.0.0"),
    "actions/cache": ("27d5ce7f107fe9357f9df03efb73ab90386fccae", "v5.0.5"),
}
_PYTHON = """#!/bin/sh
# The environment at hand, instead of one that is made and filled from the network.
here=$(dirname "$0")
safe=
if [ "$1" = "-P" ]; then safe=-P; shift; fi
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit; fi
if [ "$1 $2 $3" = "-m pip install" ]; then shift 3; exec "{real}" "{install}" "$here" "$@"; fi
if [ -f "$here/package" ]; then PYTHONPATH=$(cat "$here/package"); export PYTHONPATH; fi
exec "{real}" $safe "$@"
"""
_INSTALL = """
import json, os, pathlib, sys
here, *arguments = sys.argv[1:]
with open({log!r}, "a") as file:
    file.write(json.dumps([os.environ.get("PIP_EXTRA_INDEX_URL"), *arguments]) + "\\n")
for flag, value in zip(arguments, arguments[1:]):
    if flag in ("-r", "-c"):
        assert pathlib.Path(value).is_file(), value
if not arguments[-2].startswith("-r"):
    assert pathlib.Path(arguments[-1], "pyproject.toml").is_file(), arguments[-1]
    pathlib.Path(here, "package").write_text(arguments[-1])
"""


def load(path: Path) -> dict[str, Any]:
    """A workflow or action; every scalar as text, so that ``on`` stays ``on``."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def read_pairs(path: Path) -> dict[str, str]:
    """A file of ``name=value`` lines and ``name<<end`` blocks, as the runner reads it."""
    found, lines = {}, iter(path.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if match := re.fullmatch(r"([\w-]+)<<(\S+)", line):
            value = []
            while (line := next(lines)) != match[2]:
                value.append(line)
            found[match[1]] = "\n".join(value)
        else:
            name, _, rest = line.partition("=")
            found[name] = rest
    return found


@dataclass
class Job:
    """One run of one job.

    Attributes:
        workspace: the clone.
        temp: the runner's own folder.
        contexts: of expressions.
        environment: of every step.
        without: names of steps that take too long here.
    """

    workspace: Path
    temp: Path
    contexts: dict[str, Any]
    environment: dict[str, str]
    without: tuple[str, ...] = ()
    log: str = ""
    result: str = "success"
    ran: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.temp / "bin").mkdir(parents=True)
        install, python = self.temp / "install.py", self.temp / "bin" / "python"
        install.write_text(_INSTALL.format(log=str(self.temp / "installs")))
        python.write_text(_PYTHON.format(real=sys.executable, install=install))
        python.chmod(0o755)
        at_hand = [self.temp / "bin", Path(sys.executable).parent, *os.get_exec_path()]
        for name in ("env", "path", "summary"):
            (self.temp / name).touch()
        github = {k: v for k, v in self.contexts["github"].items() if isinstance(v, str)}
        self.environment = {
            **{f"GITHUB_{k.upper()}": v for k, v in github.items() if k != "token"},
            "PATH": os.pathsep.join(map(str, at_hand)),
            "HOME": str(self.temp),
            "npm_config_cache": str(Path.home() / ".npm"),  # what was fetched before
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temp),
            **self.environment,
        }
        self.contexts = {
            "runner": {"temp": str(self.temp)},
            "vars": Open(),
            "steps": {},
            **self.contexts,
        }

    @property
    def summary(self) -> str:
        return (self.temp / "summary").read_text(encoding="utf-8")

    @property
    def installs(self) -> list[list[str]]:
        path = self.temp / "installs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def artifact(self, name: str) -> list[str]:
        """What an artifact holds, at its top."""
        return sorted(path.name for path in (self.temp / "artifacts" / name).iterdir())

    def run(self, workflow: dict[str, Any], name: str) -> Job:
        """Run all steps of a job; a step after a failed one runs only if its condition says so."""
        job = workflow["jobs"][name]
        environment = workflow.get("env", {}) | job.get("env", {})
        self.steps(job["steps"], {k: fill(v, self.contexts) for k, v in environment.items()})
        self.outputs = {k: fill(v, self.contexts) for k, v in job.get("outputs", {}).items()}
        return self

    def steps(self, steps: list[dict[str, Any]], outer: dict[str, str]) -> None:
        for step in steps:
            failed = self.result != "success"
            runs = holds(step.get("if", "success()"), self.contexts, failed)
            if not runs or step["name"] in self.without:
                continue
            self.ran.append(step["name"])
            outputs, before, self.result = Open(), self.result, "success"
            if "uses" in step:
                outputs.update(self.use(step))
            else:
                environment = outer | {
                    k: fill(v, self.contexts) for k, v in step.get("env", {}).items()
                }
                outputs.update(self.shell(step["run"], environment))
            if "id" in step:
                known = {"outputs": outputs, "outcome": self.result}
                self.contexts["steps"][step["id"]] = known
            self.result = before if before != "success" else self.result

    def shell(self, script: str, environment: dict[str, str]) -> dict[str, str]:
        """Run a script as ``shell: bash`` does; gives the outputs that it sets."""
        if EXPRESSION.search(script):
            raise ValueError(f"an expression in a script: {script}")
        output = self.temp / "output"
        output.write_text("")
        files = {name: str(self.temp / name.lower()) for name in ("ENV", "PATH", "OUTPUT")}
        environment = self.environment | environment
        environment |= {f"GITHUB_{name}": path for name, path in files.items()}
        environment["GITHUB_STEP_SUMMARY"] = str(self.temp / "summary")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
        )
        self.log += f"$ {script}\n{done.stdout}"
        if done.returncode != 0:
            self.result = "failure"
        more = (self.temp / "path").read_text().splitlines()
        (self.temp / "path").write_text("")
        self.environment["PATH"] = os.pathsep.join([*more[::-1], self.environment["PATH"]])
        self.environment |= read_pairs(self.temp / "env")
        return read_pairs(output)

    def use(self, step: dict[str, Any]) -> dict[str, str]:
        """What an action leaves behind."""
        name, _, commit = step["uses"].partition("@")
        given = {k: fill(v, self.contexts) for k, v in step.get("with", {}).items()}
        if name.startswith("./"):
            return self.composite((self.workspace / name).resolve(), given)
        if commit != ACTIONS[name][0]:
            raise ValueError(f"{step['uses']} is not the pinned {ACTIONS[name][0]}")
        if name == "actions/checkout" and "path" in given:
            shutil.copytree(self.contexts["elsewhere"], self.workspace / given["path"])
        if name == "actions/upload-artifact":
            for path in filter(None, given["path"].splitlines()):
                source = Path(path) if Path(path).is_absolute() else self.workspace / path
                target = self.temp / "artifacts" / given["name"]
                target.mkdir(parents=True, exist_ok=True)
                if Path(path).is_absolute() and source.is_dir():  # alone: its content
                    shutil.copytree(source, target, dirs_exist_ok=True)
                elif source.is_dir():
                    shutil.copytree(source, target / source.name)
                elif source.exists() or given["if-no-files-found"] == "error":
                    shutil.copy(source, target)
        return {"python-path": str(self.temp / "bin" / "python")} if "python" in name else {}

    def composite(self, folder: Path, given: dict[str, str]) -> dict[str, str]:
        action = load(folder / "action.yml")
        unknown = given.keys() - action["inputs"].keys()
        if unknown:
            raise ValueError(f"{folder} has no input {unknown}")
        defaults = {k: v["default"] for k, v in action["inputs"].items() if "default" in v}
        outer = self.contexts
        self.contexts = outer | {"inputs": defaults | given, "steps": {}}
        self.steps(action["runs"]["steps"], {"GITHUB_ACTION_PATH": str(folder)})
        outputs = {k: fill(v["value"], self.contexts) for k, v in action["outputs"].items()}
        self.contexts = outer
        return outputs
