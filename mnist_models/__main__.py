"""``python -m mnist_models``."""

import sys


def run() -> int:
    """Run the command line; Ctrl-C during the seconds of importing torch is no traceback."""
    try:
        from mnist_models.cli import main  # noqa: PLC0415 - this import is what takes the time

        return main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run())
