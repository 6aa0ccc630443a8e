"""``python -m mnist_models``."""

from mnist_models.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
