"""Where the repository lives: the one slug from which everything absolute is made."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from mnist_models.files import read_text

BRANCH = "main"
_SLUG = re.compile(r"https://github\.com/([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+?)(?:\.git)?/?")


class ProjectError(ValueError):
    """A repository whose pyproject.toml does not say where it lives."""


def slug(root: Path) -> str:
    """``owner/name`` of the repository at `root`, from [project.urls] of its pyproject.toml.

    Raises:
        ProjectError: the file is missing or damaged, or names no repository on GitHub.
    """
    path = root / "pyproject.toml"
    try:
        table = tomllib.loads(read_text(path))
        address = table["project"]["urls"]["Repository"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ProjectError(f"{path}: cannot read [project.urls] Repository: {error}") from error
    match = _SLUG.fullmatch(str(address))
    if match is None:
        raise ProjectError(
            f"{path}: Repository = {address!r}; expected https://github.com/OWNER/NAME"
        )
    return match[1]


def colab_url(slug: str, notebook: str) -> str:
    """The address that opens a notebook of the repository in Google Colab."""
    return f"https://colab.research.google.com/github/{slug}/blob/{BRANCH}/notebooks/{notebook}"
