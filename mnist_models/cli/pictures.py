"""The command figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from mnist_models.cli.options import Commands, add_data_root, declare, show_json
from mnist_models.data import DataError, Dataset, DownloadError, load
from mnist_models.figures import FigureError
from mnist_models.figures.catalogue import FOLDER, catalogue, flaw, write
from mnist_models.plural import counted
from mnist_models.report import published


def add_figures(commands: Commands) -> None:
    command = declare(
        commands,
        "figures",
        run_figures,
        "Draw the pictures that show digits, from MNIST and from the records. Those that are as "
        "they should be are left alone.",
        "figures --data-root data",
    )
    command.add_argument(
        "--force", action="store_true", help="draw all of them, whether they changed or not"
    )
    command.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder with records and docs/figures (default: here)",
    )
    add_data_root(command)


def run_figures(options: argparse.Namespace) -> int:
    root: Path = options.root
    if not (root / "records").is_dir():
        raise FigureError(
            f"{root}: found no folder records in it, expected the root of the repository; "
            "go there, or name it with --root"
        )
    records = published(root / "records")
    pictures = [picture for picture in catalogue(records) if picture.needs_data]
    due = [picture for picture in pictures if options.force or flaw(root, picture)]
    written = []
    if due:
        from mnist_models.figures.images import draw  # noqa: PLC0415 - it imports matplotlib

        data = _mnist(options.data_root)
        for picture in tqdm(due, desc="figures", unit="picture", file=sys.stderr):
            written.append(write(root, picture, draw(picture, records, data)))
    if options.json:
        show_json({"passed": True, "written": [str(path) for path in written]})
        return 0
    for path in written:
        print(f"{path}: written")
    if len(pictures) > len(due):
        print(f"{root / FOLDER}: {counted(len(pictures) - len(due), 'picture')} left alone")
    return 0


def _mnist(data_root: Path | None) -> Dataset:
    """MNIST itself: the stand-in's digits are not what the pictures promise."""
    try:
        return load("mnist", data_root, progress=True)
    except DownloadError as error:
        raise DataError(
            "the pictures in the repository show MNIST, which is not to be had, and the embedded "
            f"digits cannot stand in for it: {error}"
        ) from error


COMMANDS = (add_figures,)
