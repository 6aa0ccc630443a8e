"""The cells of a notebook that are generated from the repository's slug.

They are the button that opens it in Colab, and the cell that sets it up there. Neither counts in
the digest of the source, so that a fork that changes its slug need not run anything again.
"""

from __future__ import annotations

import re
from pathlib import Path

from mnist_models.atomic import write_atomically
from mnist_models.notebooks import COMMAND, FOLDER
from mnist_models.notebooks.pair import read_text, source_path
from mnist_models.project import colab_url, slug

_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
_GENERATED = re.compile(
    r'^(# %%[^\n]*generated="(?P<kind>button|setup)"[^\n]*\n).*?(?=^# %%|\Z)', re.M | re.DOTALL
)
_SETUP = """\
# Written by `{command} --refresh`: sets up Colab, and does nothing elsewhere
# but find the package of this clone where none is installed.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if "google.colab" in sys.modules and not Path("../mnist_models").is_dir():
    name = "{name}"
    address = "https://github.com/{slug}"
    if not Path(name).is_dir():
        subprocess.run(["git", "clone", "-q", "--depth=1", address, name], check=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"./{{name}}"], check=True)
    os.chdir(f"{{name}}/{folder}")
if importlib.util.find_spec("mnist_models") is None:
    sys.path.insert(0, str(Path.cwd().parent))"""


def generated(slug: str, name: str) -> dict[str, str]:
    """The text of a notebook's generated cells, by kind."""
    address = colab_url(slug, f"{name}.ipynb")
    button = f"[![Open in Colab][badge]][colab]\n\n[badge]: {_BADGE}\n[colab]: {address}"
    setup = _SETUP.format(command=COMMAND, slug=slug, name=slug.split("/")[1], folder=FOLDER)
    return {"button": button, "setup": setup}


def regenerate(root: Path, name: str) -> bool:
    """Write a source's generated cells anew; returns whether that changed it.

    Raises:
        NotebookError: the source cannot be read.
        ProjectError: pyproject.toml names no repository.
    """
    path = source_path(root, name)
    text = read_text(path)
    wanted = generated(slug(root), name)

    def replaced(match: re.Match[str]) -> str:
        lines = wanted[match["kind"]].split("\n")
        if match["kind"] == "button":
            lines = [f"# {line}".rstrip() for line in lines]
        return match[1] + "\n".join(lines) + "\n\n"

    done = _GENERATED.sub(replaced, text)
    if done != text:
        write_atomically(path, done.encode())
    return done != text
