"""All pictures of the repository: what each shows, what draws it, and whether it is up to date.

Needs no data set, those that show digits included: what they show is named by the md5 of the
images and by their indices.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_models.assignment import TEST_MD5
from mnist_models.atomic import make_folder, write_atomically
from mnist_models.figures.plotted import (
    EACH,
    GROWTH_IMAGE,
    ORIGINALS,
    SEED,
    SHOWN,
    VARIANTS,
    augmentation_table,
    confusion_table,
    curves_table,
    growth_table,
    misses_table,
    parameters_table,
    timing_table,
)
from mnist_models.figures.stamp import StampError, code_digest, digest_of, read_stamp, stamped
from mnist_models.files import MOST_HERE, NotReadError, read_whole
from mnist_models.models import EXPERIMENTS, System
from mnist_models.record import Record
from mnist_models.timings import Bench
from mnist_models.timings_file import read_timings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path("docs") / "figures"  # below the root of the repository
OWN = "frontier-8k"  # this project's own model
_PACKAGE = Path(__file__).parent.parent
_PLOTS = ("figures/plots.py", "figures/style.py")
_IMAGES = ("figures/images.py", "figures/style.py")
Records = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Picture:
    """One picture of the repository.

    Attributes:
        file: its name below ``docs/figures``; the suffix says how it is written.
        alt: one sentence for those who do not see it.
        shows: everything that it shows, JSON-ready.
        sources: the files of the package that draw it.
        draw: draws it; None where that needs the data set, see `images`.
    """

    file: str
    alt: str
    shows: Mapping[str, Any]
    sources: tuple[str, ...]
    draw: Callable[[], Figure] | None = field(default=None, compare=False)

    @property
    def needs_data(self) -> bool:
        """Whether it shows digits."""
        return self.draw is None

    @property
    def command(self) -> str:
        """What draws it again."""
        return f"python -m mnist_models {'figures' if self.needs_data else 'report'}"

    @property
    def digest(self) -> str:
        """The sha256 of what it shows."""
        return digest_of({"file": self.file, "alt": self.alt, "shows": self.shows})

    @property
    def code(self) -> str:
        """The sha256 of the code that draws it."""
        return code_digest(*(_PACKAGE / source for source in self.sources))


@dataclass(frozen=True)
class Problem:
    """A file below ``docs/figures`` that is not as it should be.

    Attributes:
        file: its path from the root of the repository.
        reason: what was found.
        command: what mends it.
    """

    file: str
    reason: str
    command: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}; run: {self.command}"


def catalogue(records: Records, benches: Sequence[Bench] = ()) -> list[Picture]:
    """All pictures that these records, the registry, the data set and these timings give.

    Raises:
        SeedsError: the records of an experiment are no fair sample.
    """
    timed = timing_picture(benches)
    return [*_plots(records), *([timed] if timed else []), *_images(records)]


def timing_picture(benches: Sequence[Bench]) -> Picture | None:
    """The picture of what was timed, shown in docs/performance.md; None where nothing was."""
    if not benches:
        return None
    return Picture(
        "timing.svg",
        "Seconds of an epoch and of a whole training by this loop, by what one would run instead "
        "and by the floors, median over rounds with a line from the lowest to the highest.",
        timing_table(benches),
        ("figures/timing.py", "figures/style.py"),
        lambda: _draw_timing(benches),
    )


def _plots(records: Records) -> Iterator[Picture]:
    known = {name: records[name] for name in EXPERIMENTS if name in records}
    for system in dict.fromkeys(experiment.system for experiment in EXPERIMENTS.values()):
        ladder = {name: known[name] for name in known if EXPERIMENTS[name].system == system}
        if ladder:
            yield _curves(system, ladder)
    if OWN in records:
        yield Picture(
            "confusion.svg",
            f"Confusion matrix of {OWN} in the final epoch, added up over its seeds: a row for "
            "each true digit, a column for each answer.",
            confusion_table(records[OWN]),
            _PLOTS,
            lambda: _draw_confusion(records[OWN]),
        )
    if known:
        yield Picture(
            "accuracy-against-parameters.svg",
            "Accuracy in the final epoch against the number of parameters, measured and claimed, "
            "for every experiment with records, beside results published elsewhere.",
            parameters_table(known),
            ("figures/against_parameters.py", "figures/style.py"),
            lambda: _draw_parameters(known),
        )


def _curves(system: System, ladder: Records) -> Picture:
    heading = f"{system.title}: accuracy per epoch"
    return Picture(
        f"curves-{system.name}.svg",
        f"Training and test accuracy per epoch, mean over seeds with a band from the lowest to the "
        f"highest: {', '.join(ladder)}.",
        curves_table(ladder) | {"heading": heading},
        _PLOTS,
        lambda: _draw_curves(ladder, heading),
    )


def _draw_timing(benches: Sequence[Bench]) -> Figure:
    from mnist_models.figures.timing import timing  # noqa: PLC0415 - matplotlib

    return timing(benches)


def _draw_confusion(records: Sequence[Record]) -> Figure:
    from mnist_models.figures.plots import confusion  # noqa: PLC0415 - matplotlib

    return confusion(records)


def _draw_parameters(records: Records) -> Figure:
    from mnist_models.figures.plots import accuracy_against_parameters  # noqa: PLC0415 - matplotlib

    return accuracy_against_parameters(records)


def _draw_curves(records: Records, heading: str) -> Figure:
    from mnist_models.figures.plots import curves  # noqa: PLC0415 - matplotlib

    return curves(records, heading)


def _images(records: Records) -> Iterator[Picture]:
    yield Picture(
        "samples.png",
        "Sample digits of the MNIST test set, a column for each digit from zero to nine.",
        {"md5": TEST_MD5, "first_of_each_digit": EACH},
        _IMAGES,
    )
    yield Picture(
        "receptive-field.png",
        f"The receptive field of {OWN} over a handwritten digit, a panel for each layer after "
        "which it is larger.",
        {"md5": TEST_MD5, "index": GROWTH_IMAGE} | growth_table(EXPERIMENTS[OWN]),
        _IMAGES,
    )
    if OWN not in records:
        return
    own = records[OWN]
    train = {name: md5 for name, md5 in own[0].data.md5.items() if name == "train_images"}
    draws = {"indices": list(ORIGINALS), "variants": VARIANTS, "seed": SEED}
    yield Picture(
        "augmented.png",
        f"Training digits, each beside variants that the augmentation of {OWN} draws of it.",
        {"md5": train} | draws | augmentation_table(EXPERIMENTS[OWN].recipe),
        ("augment.py", *_IMAGES),
    )
    misses = misses_table(own)
    if misses["missed"]:
        yield Picture(
            "misclassified.png",
            f"Test digits that {OWN} misclassified in the final epoch, those that most seeds "
            "missed first, each with its true label and the number of seeds that missed it.",
            misses | {"shown": SHOWN},
            _IMAGES,
        )


def stale(root: Path, records: Records) -> list[Problem]:
    """Every picture below `root` that is missing, damaged, edited or out of date, and strays.

    Raises:
        SeedsError: the records of an experiment are no fair sample.
        TimingsError: the stored timings cannot be read.
        OSError: a file cannot be read.
    """
    pictures = catalogue(records, read_timings(root).benches)
    problems = [
        Problem((FOLDER / picture.file).as_posix(), reason, picture.command)
        for picture in pictures
        if (reason := flaw(root, picture))
    ]
    return problems + _strays(root, {picture.file for picture in pictures})


def flaw(root: Path, picture: Picture) -> str:
    """What is wrong with the file of a picture, in words; empty where nothing is.

    Raises:
        OSError: it cannot be read.
    """
    try:
        stamp = read_stamp(read_whole(root / FOLDER / picture.file, MOST_HERE))
    except FileNotFoundError:
        return "it is missing"
    except (StampError, NotReadError) as error:
        return str(error)
    if stamp.shows != picture.digest:
        return "it shows other than what models and records give"
    if stamp.code != picture.code:
        return f"the code that draws it has changed since ({', '.join(picture.sources)})"
    return ""


def _strays(root: Path, expected: set[str]) -> list[Problem]:
    folder = root / FOLDER
    found = [path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink()]
    return [
        Problem(
            path.relative_to(root).as_posix(),
            "no model and no record gives this picture",
            f"rm {shlex.quote(path.relative_to(root).as_posix())}",
        )
        for path in found
        if path.relative_to(folder).as_posix() not in expected and not path.name.startswith(".")
    ]


def write_plots(root: Path, records: Records) -> list[Path]:
    """Draw those pictures without digits that are not as they should be; returns their paths.

    Raises:
        SeedsError: the records of an experiment are no fair sample.
        TimingsError: the stored timings cannot be read.
        OSError: a file cannot be read or written.
    """
    return [
        write(root, picture, picture.draw())
        for picture in catalogue(records, read_timings(root).benches)
        if picture.draw is not None and flaw(root, picture)
    ]


def write(root: Path, picture: Picture, figure: Figure) -> Path:
    """Write a drawn picture below `root`, with its stamp; returns its path.

    Raises:
        OSError: it cannot be written.
    """
    from mnist_models.figures.style import png_bytes, svg_bytes  # noqa: PLC0415 - matplotlib

    path = root / FOLDER / picture.file
    drawing = png_bytes(figure) if path.suffix == ".png" else svg_bytes(figure, picture.alt)
    make_folder(path.parent)
    write_atomically(path, stamped(drawing, picture.digest, picture.code))
    return path
