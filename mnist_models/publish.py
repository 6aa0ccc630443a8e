"""Publish the badges of a CI run: onto the branch that it tested, if that still stands there.

The commit is made beside the working tree and the index, from the tested commit and the six
files alone: whatever else lies modified or staged is neither committed nor touched, and where
nothing is pushed no commit is left on any branch.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnist_models.atomic import make_folder, write_atomically
from mnist_models.badges import RUN_BADGES, run_badge

FOLDER = "badges"
_SECONDS = 120  # of one conversation with the remote
_BOT = "github-actions[bot]"
_EMAIL = "41898282+github-actions[bot]@users.noreply.github.com"
_PLAIN = ("--porcelain", "--no-recurse-submodules", "--no-follow-tags")  # whatever the settings
_ELSEWHERE = {"GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE"}
_ENVIRONMENT = {
    "GIT_NO_REPLACE_OBJECTS": "1",  # the tested commit itself, not one put in its place
    "GIT_AUTHOR_NAME": _BOT,
    "GIT_AUTHOR_EMAIL": _EMAIL,
    "GIT_COMMITTER_NAME": _BOT,
    "GIT_COMMITTER_EMAIL": _EMAIL,
    "GIT_TERMINAL_PROMPT": "0",  # without credentials it fails, and does not wait
    "LC_ALL": "C",
}
ADVICE = (
    "allow it in the repository's Settings > Actions > General > Workflow permissions: Read and "
    "write permissions; where a rule protects the branch, let github-actions[bot] bypass it"
)


class PublishError(Exception):
    """Badges that cannot be published: no repository, no such commit, or a silent remote."""


@dataclass(frozen=True)
class Publication:
    """What became of the badges.

    Attributes:
        state: ``written`` where only the files were asked for; ``unchanged`` where the tested
            commit holds these very badges; ``moved`` where the branch no longer stands at it;
            ``refused`` where the remote turned the push down; else ``pushed``.
        commit: what was pushed, or "".
        cause: one sentence.
    """

    state: Literal["written", "unchanged", "pushed", "moved", "refused"]
    commit: str
    cause: str

    @property
    def passed(self) -> bool:
        """Whether all is well: a branch that moved on is, since its own run will publish."""
        return self.state != "refused"


def run_files(results: Mapping[str, str]) -> dict[str, str]:
    """The text of the six files, by path in the repository.

    Args:
        results: badge -> the result of its job, for each of `RUN_BADGES`.

    Raises:
        BadgeError: a result that no job can have.
    """
    badges = [run_badge(name, results[name]) for name in RUN_BADGES]
    return {f"{FOLDER}/{name}": text for b in badges for name, text in b.files().items()}


def write_files(root: Path, files: Mapping[str, str]) -> None:
    """Write the files below `root`, each whole or not at all."""
    for name, text in files.items():
        make_folder((root / name).parent)
        write_atomically(root / name, text.encode())


def publish(
    root: Path, files: Mapping[str, str], *, commit: str, branch: str, remote: str = "origin"
) -> Publication:
    """Commit the files on top of the tested commit, and push that to the branch.

    Args:
        root: of a clone that has the commit; one of depth 1 will do.
        files: path in the repository -> text.
        commit: the one that was tested, all 40 hexadecimal digits.
        branch: where it stood, without ``refs/heads/``.
        remote: a name of git's, or an address.

    Raises:
        PublishError: an argument git does not take, or a remote that does not answer.
    """
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
        raise PublishError(f"--commit {commit!r}: expected all 40 digits, as git rev-parse gives")
    if branch.startswith("-") or remote.startswith("-"):
        raise PublishError(f"--branch {branch!r}, --remote {remote!r}: neither begins with a dash")
    reference = f"refs/heads/{branch}"
    _git(root, "check-ref-format", reference, cause=f"--branch {branch!r} names no branch")
    absent = "is not in this clone; fetch it first"
    _git(root, "cat-file", "-e", f"{commit}^{{commit}}", cause=f"the commit {commit} {absent}")
    made = _commit(root, files, commit)
    if made is None:
        return Publication("unchanged", "", f"{commit[:12]} holds these very badges")
    if (moved := _moved(root, remote, reference, commit)) is not None:
        return moved
    # The lease does not force anything: the new commit stands on the tested one. It turns the
    # push down unless the branch still is where it was tested, even where it was wound back.
    lease = f"--force-with-lease={reference}:{commit}"
    pushed = _run(root, "push", *_PLAIN, lease, remote, f"{made}:{reference}")
    if pushed.returncode == 0:
        return Publication("pushed", made, f"{made[:12]} is on {branch} of {remote}")
    try:
        moved = _moved(root, remote, reference, commit)  # meanwhile
    except PublishError:
        moved = None  # the words of the push say more
    words = " ".join((pushed.stdout + b" " + pushed.stderr).decode(errors="replace").split())
    return moved or Publication("refused", "", f"{remote} refused the push: {words}; {ADVICE}")


def _moved(root: Path, remote: str, reference: str, commit: str) -> Publication | None:
    """What to say where the branch no longer stands at the commit, or None where it does."""
    cause = f"the remote {remote!r} does not say where {reference} stands"
    listed = _git(root, "ls-remote", remote, reference, cause=cause).splitlines()
    places = {name: place for place, name in (line.split("\t") for line in listed)}
    now = places.get(reference, "nowhere")
    if now == commit:
        return None
    said = f"{reference} moved on from {commit[:12]} to {now[:12]}: nothing is pushed"
    return Publication("moved", "", said)


def _commit(root: Path, files: Mapping[str, str], commit: str) -> str | None:
    """A commit on top of `commit` that differs in the files alone; None if in nothing."""
    failed = "git cannot store the badges"
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}  # not the user's own

        def git(*arguments: str, given: bytes = b"") -> str:
            return _git(root, *arguments, cause=failed, given=given, extra=index).strip()

        git("read-tree", commit)
        for path, text in files.items():
            blob = git("hash-object", "-w", "--stdin", given=text.encode())
            git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
        tree = git("write-tree")
    if tree == git("rev-parse", f"{commit}^{{tree}}"):
        return None
    return git("commit-tree", tree, "-p", commit, "-m", f"Badges of the run that tested {commit}")


def _git(
    root: Path,
    *arguments: str,
    cause: str,
    given: bytes = b"",
    extra: Mapping[str, str] | None = None,
) -> str:
    """What a git command prints; PublishError, with the cause and git's words, if it fails."""
    done = _run(root, *arguments, given=given, extra=extra)
    if done.returncode != 0:
        words = " ".join(done.stderr.decode(errors="replace").split())
        raise PublishError(f"{cause}: {words or 'git says no more'}")
    return done.stdout.decode()


def _inherited() -> dict[str, str]:
    """The environment without what would have git look at another repository than `root`."""
    return {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}


def _run(
    root: Path, *arguments: str, given: bytes = b"", extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            input=given,
            capture_output=True,
            check=False,
            env=_inherited() | _ENVIRONMENT | dict(extra or {}),
            timeout=_SECONDS,
        )
    except FileNotFoundError as error:
        raise PublishError(f"git cannot be run in {root}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise PublishError(f"git {arguments[0]} did not end within {_SECONDS} s") from error
