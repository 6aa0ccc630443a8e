"""The notebooks: pairs of a source ``NAME.py`` and, with its outputs, ``NAME.ipynb``.

`pair` reads them and makes what is generated in them, `execute` runs a source and writes its
outputs, `stale` says which outputs are no longer those of a run.
"""

from __future__ import annotations

FOLDER = "notebooks"
COMMAND = "python -m mnist_models notebooks"
QUICK = "NOTEBOOK_QUICK"  # environment variable: notebooks train and score little, and say so


class NotebookError(Exception):
    """A notebook that cannot be read or run: which file and line, what was found, what to do."""


class CellError(NotebookError):
    """A cell of a notebook raised, such as an assertion that does not hold."""
