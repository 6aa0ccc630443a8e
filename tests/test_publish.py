"""Badges of a run, onto a real remote: a bare repository beside the clone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mnist_models.badges import BadgeError
from mnist_models.cli import main
from mnist_models.publish import PublishError, publish, run_files, write_files

GOOD = dict.fromkeys(("tests", "notebooks", "verify"), "success")
SIX = sorted(f"badges/{name}.{suffix}" for name in GOOD for suffix in ("json", "svg"))


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def commit(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "-qm", f"Change {name}")
    return git(folder, "rev-parse", "HEAD")


@dataclass
class Place:
    remote: Path
    clone: Path
    tested: str
    cause: str = ""

    @property
    def stands(self) -> str:
        """The commit at which the remote's branch stands."""
        return git(self.remote, "rev-parse", "refs/heads/main")

    def hook(self, where: Path, name: str, script: str) -> None:
        path = where / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def publish(self, results: dict[str, str] = GOOD) -> str:
        files = run_files(results)
        found = publish(self.clone, files, commit=self.tested, branch="main")
        self.cause = found.cause
        return found.state


@pytest.fixture
def place(tmp_path: Path) -> Place:
    remote, clone = tmp_path / "remote.git", tmp_path / "clone"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(remote))
    git(tmp_path, "clone", "-q", str(remote), str(clone))
    git(clone, "symbolic-ref", "HEAD", "refs/heads/main")
    commit(clone, "first.txt", "1\n")
    tested = commit(clone, "second.txt", "2\n")
    git(clone, "push", "-q", "origin", "main")
    return Place(remote, clone, tested)


def move(place: Place) -> str:
    """Another push lands on the branch."""
    other = place.clone.parent / "other"
    git(place.clone.parent, "clone", "-q", str(place.remote), str(other))
    moved = commit(other, "third.txt", "3\n")
    git(other, "push", "-q", "origin", "main")
    return moved


def test_the_six_files_say_what_the_jobs_gave(tmp_path: Path) -> None:
    files = run_files({"tests": "failure", "notebooks": "success", "verify": "skipped"})
    assert sorted(files) == SIX
    write_files(tmp_path, files)
    colours = {}
    for path in sorted((tmp_path / "badges").glob("*.json")):
        table = json.loads(path.read_text())
        colours[table["label"]] = (table["message"], table["color"])
        ET.parse(path.with_suffix(".svg"))
    assert colours["tests"] == ("failing", "c62828")
    assert colours["notebooks"] == ("passing", "2e7d32")
    assert colours["verify"] == ("not run", "616161")
    with pytest.raises(BadgeError, match="no result 'green'"):
        run_files(GOOD | {"verify": "green"})


def test_pushes_the_six_files_and_nothing_else(place: Place) -> None:
    (place.clone / "first.txt").write_text("modified\n")
    (place.clone / "staged.txt").write_text("staged\n")
    (place.clone / "loose.txt").write_text("loose\n")
    git(place.clone, "add", "staged.txt")
    before = git(place.clone, "status", "--porcelain")
    assert place.publish() == "pushed"
    assert git(place.remote, "rev-parse", "main^") == place.tested
    changed = git(place.remote, "diff", "--name-only", place.tested, "main")
    assert changed.splitlines() == SIX
    written = git(place.remote, "show", "main:badges/tests.json")
    assert json.loads(written)["message"] == "passing"
    assert git(place.remote, "log", "-1", "--format=%an %s", "main") == (
        f"github-actions[bot] Badges of the run that tested {place.tested}"
    )
    assert git(place.clone, "status", "--porcelain") == before  # nor is anything of it touched
    assert git(place.clone, "rev-parse", "HEAD") == place.tested


def test_settings_of_git_change_nothing(place: Place) -> None:
    for key, value in (("push.recurseSubmodules", "only"), ("push.followTags", "true")):
        git(place.clone, "config", key, value)
    git(place.clone, "tag", "-a", "mine", "-m", "mine")
    evil = commit(place.clone, "evil.txt", "evil\n")
    git(place.clone, "replace", place.tested, evil)
    assert place.publish() == "pushed"
    changed = git(place.remote, "diff", "--name-only", place.tested, "main")
    assert changed.splitlines() == SIX
    assert git(place.remote, "tag") == ""


def test_another_repository_named_in_the_environment_is_left_alone(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert place.publish() == "pushed"
    monkeypatch.delenv("GIT_DIR")
    assert git(place.remote, "rev-parse", "main^") == place.tested


def test_nothing_changed_makes_no_commit(place: Place) -> None:
    assert place.publish() == "pushed"
    git(place.clone, "pull", "-q", "--ff-only", "origin", "main")
    place.tested = git(place.clone, "rev-parse", "HEAD")
    assert place.publish() == "unchanged"
    assert place.stands == place.tested
    assert place.publish(GOOD | {"tests": "failure"}) == "pushed"


def test_a_branch_that_moved_on_is_left_alone(place: Place) -> None:
    moved = move(place)
    assert place.publish() == "moved"
    assert moved[:12] in place.cause
    assert place.stands == moved
    assert git(place.clone, "rev-parse", "HEAD") == place.tested
    git(place.remote, "update-ref", "-d", "refs/heads/main")
    assert place.publish() == "moved"
    assert "nowhere" in place.cause


@pytest.mark.parametrize("target", ["on", "back"])
def test_a_branch_that_moves_between_the_look_and_the_push(place: Place, target: str) -> None:
    """The hook runs after the push has learnt where the branch stands."""
    moved = move(place) if target == "on" else git(place.clone, "rev-parse", "HEAD^")
    git(place.remote, "update-ref", "refs/heads/main", place.tested)
    script = f"git -C {place.remote} update-ref refs/heads/main {moved}"
    place.hook(place.clone / ".git", "pre-push", script)
    assert place.publish() == "moved"
    assert place.stands == moved


def test_a_branch_wound_back_is_not_wound_forward(place: Place) -> None:
    """Its new commit would follow from the old place: only the lease keeps it out."""
    back = git(place.clone, "rev-parse", "HEAD^")
    shim = place.clone.parent / "bin" / "git"
    shim.parent.mkdir()
    real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout
    shim.write_text(
        f'#!/bin/sh\nif [ "$1" = push ]; then {real.strip()} -C {place.remote} update-ref '
        f'refs/heads/main {back}; fi\nexec {real.strip()} "$@"\n'
    )
    shim.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{shim.parent}:/usr/bin:/bin")
        assert place.publish() == "moved"
    assert place.stands == back


def test_a_refused_push_says_how_to_allow_it(place: Place) -> None:
    place.hook(place.remote, "pre-receive", "echo bots may not push >&2; exit 1")
    assert place.publish() == "refused"
    assert "bots may not push" in place.cause
    assert "Workflow permissions: Read and write" in place.cause
    assert "github-actions[bot]" in place.cause
    assert place.stands == place.tested
    assert git(place.clone, "rev-parse", "HEAD") == place.tested


def test_a_clone_of_depth_one_will_do(place: Place) -> None:
    shallow = place.clone.parent / "shallow"
    address = f"file://{place.remote}"
    git(place.clone.parent, "clone", "-q", "--depth", "1", address, str(shallow))
    found = publish(shallow, run_files(GOOD), commit=place.tested, branch="main")
    assert found.state == "pushed"
    assert git(place.remote, "rev-parse", "main^^") != ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commit": "main"}, "expected all 40 digits"),
        ({"commit": "0" * 40}, "is not in this clone; fetch it first"),
        ({"branch": "a..b"}, "names no branch"),
        ({"branch": "--all"}, "neither begins with a dash"),
        ({"remote": "--upload-pack=x"}, "neither begins with a dash"),
        ({"remote": "nowhere"}, "does not say where refs/heads/main stands"),
    ],
)
def test_bad_arguments_are_refused(place: Place, change: dict[str, str], message: str) -> None:
    arguments = {"commit": place.tested, "branch": "main", "remote": "origin"} | change
    with pytest.raises(PublishError, match=message):
        publish(place.clone, run_files(GOOD), **arguments)
    assert place.stands == place.tested


def test_no_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="not a git repository"):
        publish(tmp_path, run_files(GOOD), commit="1" * 40, branch="main")


Command = Callable[..., int]


@pytest.fixture
def command(place: Place) -> Command:
    def run(*more: str, tests: str = "success") -> int:
        results = ["--tests", tests, "--notebooks", "success", "--verify", "success"]
        try:
            return main(["publish", *results, "--root", str(place.clone), *more])
        except SystemExit as error:
            return int(error.code or 0)

    return run


def test_command(place: Place, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--commit", place.tested, "--branch", "main"]
    assert command(tests="unknown") == 0
    assert command(*where, "--dry-run") == 0
    assert capsys.readouterr().out.count("written: ") == 2
    assert (place.clone / "badges" / "tests.svg").exists()
    assert place.stands == place.tested
    assert command(*where, "--json", tests="failure") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["commit"]) == ("pushed", place.stands)
    assert command(*where) == 0
    assert "moved: refs/heads/main moved on" in capsys.readouterr().out


def test_command_fails_loudly(
    place: Place,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    place.hook(place.remote, "pre-receive", "exit 1")
    assert command("--commit", place.tested, "--branch", "main") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("refused: ")
    assert captured.err.startswith("::error title=publish::origin refused the push")
    assert command("--commit", place.tested) == 2
    assert "belong together" in capsys.readouterr().err
    assert command("--commit", "main", "--branch", "main") == 2
    assert "error: --commit 'main'" in capsys.readouterr().err
    assert command(tests="green") == 2
    assert "invalid choice: 'green'" in capsys.readouterr().err
