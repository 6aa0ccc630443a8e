"""What the notebooks run: short where they are tested, in full where they are published."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mnist_models.assignment import TEST_MD5
from mnist_models.data import Dataset, Split, tensor_md5
from mnist_models.evaluate import Rescored, rescore
from mnist_models.models import Experiment
from mnist_models.notebooks import QUICK
from mnist_models.probe import digits, run
from mnist_models.record import Record, folder_of

_QUICK_EPOCHS = 2
_QUICK_TRAIN = 6_000  # images: two epochs of them take seconds, and reach 90 % and more
_QUICK_HELD_OUT = 2_000  # images
_QUICK_COMPARED = 10_000  # training images


class LessonError(Exception):
    """A notebook that does not stand in a clone of the repository."""


def is_quick() -> bool:
    """Whether the environment variable NOTEBOOK_QUICK asks for a short run."""
    return os.environ.get(QUICK, "0") not in {"", "0"}


def find_root() -> Path:
    """The repository that the working directory lies in, else the one that holds the package.

    Raises:
        LessonError: neither holds records.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parent.parent):
        if (folder / "records").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise LessonError(
        "found no folder with records and pyproject.toml from the working directory upwards; "
        "run the notebook in a clone of the repository"
    )


def is_mnist(data: Dataset) -> bool:
    """Whether what is scored is MNIST's test set, by the md5 of its tensors."""
    return TEST_MD5.items() <= data.md5.items()


def lesson_run(experiment: Experiment, data: Dataset) -> tuple[Experiment, Dataset]:
    """What a notebook trains: all of it, or with `is_quick` a few epochs on a few images.

    The data set comes back on the GPU where there is one.

    The short run is scored on other images than the test set, by its md5, so that no check on a
    record can take it for the real one.
    """
    data = data.to("cuda" if torch.cuda.is_available() else "cpu")
    if not is_quick():
        return experiment, data
    epochs = min(_QUICK_EPOCHS, experiment.recipe.epochs)
    recipe = replace(experiment.recipe, epochs=epochs, plain_epochs=1)
    train, held_out = _first(data.train, _QUICK_TRAIN), _first(data.held_out, _QUICK_HELD_OUT)
    md5 = {
        "train_images": tensor_md5(train.images),
        "train_labels": tensor_md5(train.labels),
        "held_out_images": tensor_md5(held_out.images),
        "held_out_labels": tensor_md5(held_out.labels),
    }
    return replace(experiment, recipe=recipe), replace(
        data, train=train, held_out=held_out, md5=md5
    )


def _first(split: Split, images: int) -> Split:
    return Split(split.images[:images], split.labels[:images])


@dataclass(frozen=True)
class Again:
    """The stored weights of the final epoch of one record, scored again."""

    experiment: str
    seed: int
    result: Rescored


def score_again(
    root: Path, records: Mapping[str, Sequence[Record]], names: Iterable[str], data: Dataset
) -> list[Again]:
    """Score the final weights of the named experiments' records again.

    All seeds, or with `is_quick` the first alone; none where the data set is not MNIST, on
    which the records were scored.

    Raises:
        RecordError: weights are missing, swapped or damaged.
    """
    if not is_mnist(data):
        return []
    found = []
    for name in names:
        for record in records.get(name, ())[: 1 if is_quick() else None]:
            folder = _folder(root, record)
            score = rescore(folder, record, record.weights[-1], data)
            final = record.final
            result = Rescored(final.epoch, final.test_correct, score.correct, score.total)
            found.append(Again(name, record.seed, result))
    return found


def score_on_training(root: Path, record: Record, data: Dataset) -> tuple[int, int]:
    """Images of the training set that the final weights answer correctly, and how many there are.

    With `is_quick`, of its first 10,000 images.

    Raises:
        RecordError: weights are missing, swapped or damaged.
    """
    train = _first(data.train, _QUICK_COMPARED) if is_quick() else data.train
    seen = replace(data, held_out=train)
    score = rescore(_folder(root, record), record, record.weights[-1], seen)
    return score.correct, score.total


def _folder(root: Path, record: Record) -> Path:
    place = (record.data.name, record.data.split, record.experiment, record.seed)
    return folder_of(root / "records", *place)


def operations(experiment: Experiment) -> set[str]:
    """The operations that its network executes on an image in evaluation mode, as torch names
    them: ``relu``, ``native_batch_norm``, ``max_pool2d_with_indices``, ...
    """
    model = experiment.build().eval()
    return {node.name for node in run(model, digits(2, seed=1)).nodes}


def changes(before: Experiment, after: Experiment) -> dict[str, tuple[object, object]]:
    """What differs between two experiments: ``network``, and fields of the recipe."""
    one, other = before.recipe.to_dict(), after.recipe.to_dict()
    found = {key: (one[key], other[key]) for key in one if one[key] != other[key]}
    if before.build is not after.build:
        found["network"] = (_called(before), _called(after))
    return found


def _called(experiment: Experiment) -> str:
    return getattr(experiment.build, "__name__", "another network")
