"""``python -m mnist_models``."""

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


if __name__ == "__main__":
    sys.exit(run())
