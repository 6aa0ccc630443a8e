"""``python -m mnist_models``."""

import os
import sys


def run() -> int:
    """Run the command line; Ctrl-C during the seconds of importing torch is no traceback."""
    try:
        from mnist_models.cli import main  # noqa: PLC0415 - this import is what takes the time

        return main()
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mnist_models"):
            raise
        sys.stderr.write(
            f"error: {error.name} is not installed for {sys.executable}: "
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt, "
            "then run .venv/bin/python -m mnist_models\n"
        )
        return 2


def _leave_out_the_folder() -> None:
    """Import nothing from where the command is given, unless this package lies there.

    Python looks there first, and would take a student's `random.py` for its own.
    """
    first = sys.path[0] if sys.path else ""
    ours = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - pathlib imports more
    if first == os.getcwd() != ours:  # noqa: PTH109 - as above
        del sys.path[0]


if __name__ == "__main__":
    _leave_out_the_folder()
    sys.exit(run())
