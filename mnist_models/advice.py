"""What to do about an error of a stranger's code, and where in it the error came from."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from mnist_models.mode import ModeError
from mnist_models.trace import NoLogitsError

AS_A_SCRIPT = "put what runs as a script under if __name__ == '__main__'"
_OURS = Path(__file__).parent
_PYTHONS = Path(sysconfig.get_paths()["stdlib"])
_NO_GPU = ("no nvidia driver", "not compiled with cuda", "no cuda gpus", "cuda is not available")
_ON_THE_CPU = (
    "checks run on the CPU: make tensors on the device of the input (x.device), and leave .cuda() "
    "and 'cuda' to the script that trains"
)


def describe(error: BaseException) -> str:
    """An error in words: its type, unless it is one of ours, and its message."""
    said, kind = _said(error), type(error).__name__
    if isinstance(error, ModeError | NoLogitsError):
        return said
    return f"{kind}: {said}" if said else kind


def _said(error: BaseException) -> str:
    try:
        return str(error).strip()
    except BaseException:  # the stranger's __str__
        return ""


def advice(error: BaseException) -> str:
    """What to do, where the error alone does not say it to those who wrote the code; or ""."""
    said = _said(error).lower()
    return _ON_THE_CPU if any(words in said for words in _NO_GPU) else ""


def advice_on_forward(error: BaseException) -> str:
    """What to do about a forward pass that raised."""
    if isinstance(error, ModeError):
        return ""  # says it itself
    if isinstance(error, NoLogitsError):
        return "return the logits alone from forward: one (B, 10) tensor in both modes"
    general = "make the forward pass run on (B, 1, 28, 28) float images in both modes"
    return advice(error) or general


def place(error: BaseException) -> str:
    """The last line of the stranger's code on the way to an error, as in ``net.py, line 7``."""
    if isinstance(error, SyntaxError):
        return ""  # its message says it
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and not _installed(file):
            return f"{file.name}, line {frame.lineno}"
    return ""


def _installed(file: Path) -> bool:
    return "site-packages" in file.parts or any(map(file.is_relative_to, (_OURS, _PYTHONS)))
