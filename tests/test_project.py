from __future__ import annotations

from pathlib import Path

import pytest

from mnist_models.project import ProjectError, colab_url, slug

from .endless import DEEP, pipe, within


def project(tmp_path: Path, text: str) -> Path:
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/some-one/a.repo_2",
        "https://github.com/some-one/a.repo_2/",
        "https://github.com/some-one/a.repo_2.git",
    ],
)
def test_slug_is_read_from_the_project_urls(tmp_path: Path, address: str) -> None:
    root = project(tmp_path, f'[project.urls]\nRepository = "{address}"\n')
    assert slug(root) == "some-one/a.repo_2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read"),
        ("[project]\nurls = 3\n", "cannot read"),
        ("[project.urls\n", "cannot read"),
        ('[project.urls]\nRepository = "https://example.org/a/b"\n', "expected https://github"),
        (
            '[project.urls]\nRepository = "https://github.com/{owner}/b"\n',
            "expected https://github",
        ),
        ('[project.urls]\nRepository = "https://github.com/a/b/c"\n', "expected https://github"),
        ("[project.urls]\nRepository = 3\n", "expected https://github"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        slug(project(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="cannot read"):
        slug(tmp_path)


def test_a_nest_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="cannot read"):
        slug(project(tmp_path, f"a = {DEEP}"))
    pipe(tmp_path / "pyproject.toml")
    with within(), pytest.raises(ProjectError, match=r"cannot read .*: it is no regular file"):
        slug(tmp_path)


def test_colab_opens_the_notebook_of_that_repository() -> None:
    address = colab_url("a/b", "walkthrough.ipynb")
    assert address.endswith("/github/a/b/blob/main/notebooks/walkthrough.ipynb")
    assert address.startswith("https://colab.research.google.com/")
