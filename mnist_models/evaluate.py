"""Stored weights scored again: what a record says, measured once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from mnist_models.by_heart import learned_by_heart, seen_in_training
from mnist_models.checks.record import check_record
from mnist_models.data import Dataset, Source, load_source
from mnist_models.leaning import TOLERANCE, Leanings, leaning
from mnist_models.models import EXPERIMENTS
from mnist_models.provenance import model_digest
from mnist_models.record import (
    FILE_NAME,
    Record,
    RecordError,
    Weights,
    find_records,
    folder_of,
    load_record,
    load_weights,
)
from mnist_models.recount import batches, calls_in_a_step
from mnist_models.schema import differences
from mnist_models.score import BatchError, Score, score_honestly
from mnist_models.twins import Twins

LOSS_TOLERANCE = 0.01  # share; rounding moves a mean over thousands of images by far less


@dataclass(frozen=True)
class Rescored:
    """One stored epoch, scored again."""

    epoch: int
    stored: int  # images correct, as the record says
    rescored: int  # images correct, measured now
    total: int

    @property
    def agrees(self) -> bool:
        """Whether the two counts differ by no more than rounding can explain."""
        return abs(self.stored - self.rescored) <= TOLERANCE


@dataclass(frozen=True)
class Verdict:
    """What verifying one record gave.

    Attributes:
        folder: where the record lies.
        record: the record, or None where it could not be read.
        epochs: the stored epochs, scored again.
        problems: what is wrong, a sentence each; empty where all holds.
    """

    folder: Path
    record: Record | None = None
    epochs: list[Rescored] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def rescored(self) -> dict[int, int]:
        """Epoch -> images correct, as measured now."""
        return {epoch.epoch: epoch.rescored for epoch in self.epochs}

    @property
    def apart(self) -> dict[int, int]:
        """Epoch -> images correct, stored less measured; of those where that can be rounding."""
        return {each.epoch: each.stored - each.rescored for each in self.epochs if each.agrees}


def rescore(folder: Path, record: Record, weights: Weights, data: Dataset) -> Score:
    """Score one stored epoch in float32 on the data set's held-out images.

    Raises:
        RecordError: unknown experiment, weights missing, swapped, damaged or of other shapes,
            or answers that depend on the size of a batch.
    """
    if record.experiment not in EXPERIMENTS:
        raise RecordError(
            f"{folder}: experiment {record.experiment!r} is not registered; "
            f"there are {', '.join(EXPERIMENTS)}"
        )
    tensors = load_weights(folder, weights)
    with torch.random.fork_rng(devices=[]):  # building draws initial weights
        model = EXPERIMENTS[record.experiment].build()
    digest = model_digest(model)
    counted = sum(parameter.numel() for parameter in model.parameters())
    if counted != record.parameters:
        raise RecordError(
            f"{folder}: parameters: the record says {record.parameters}, not {counted}"
        )
    if digest != record.model_digest:
        raise RecordError(
            f"{folder}: the code of {record.experiment} has changed since this run (its model "
            f"digest is {digest}, the record has {record.model_digest}): train it again"
        )
    _refuse_other_dtypes(folder / weights.file, tensors, model)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        shapes = " ".join(str(error).split())
        raise RecordError(f"{folder / weights.file} does not fit the network: {shapes}") from error
    _refuse_other_counts(folder / weights.file, model, record, weights.epoch)
    model = model.to(memory_format=torch.channels_last).to(
        data.held_out.images.device
    )  # as trained
    try:
        return score_honestly(model, data.held_out)
    except BatchError as error:
        raise RecordError(f"{folder / weights.file}: {error}") from error


def _refuse_other_dtypes(path: Path, tensors: dict[str, Tensor], model: nn.Module) -> None:
    """Loading would cast them unsaid, and what is scored would not be what is stored."""
    for name, expected in model.state_dict().items():
        if name in tensors and tensors[name].dtype != expected.dtype:
            raise RecordError(
                f"{path} does not fit the network: {name} has the dtype {tensors[name].dtype}, "
                f"expected {expected.dtype}"
            )


def _refuse_other_counts(path: Path, model: nn.Module, record: Record, epoch: int) -> None:
    """A BatchNorm counts the batches that it was trained on: one a step for each of its calls.

    An average of weights has the count of the network that it follows.
    """
    images, size = record.data.train_images, record.recipe.get("batch_size")
    if not isinstance(size, int) or size < 1:
        raise RecordError(f"{path.parent}: recipe.batch_size: found {size!r}, expected one above 0")
    recounted = bool(record.recipe.get("recount")) and epoch == record.final.epoch
    steps = batches(images) if recounted else epoch * -(-images // size)
    with torch.random.fork_rng(devices=[]):
        calls = calls_in_a_step(EXPERIMENTS[record.experiment].build(), recounted)
    for name, counted in model.named_buffers():
        if name not in calls:
            continue
        expected = steps * max(1, calls[name])
        # Fewer are those of a layer that some steps leave out.
        if int(counted) > expected:
            raise RecordError(
                f"{path}: {name} is {int(counted):,}, after epoch {epoch} expected {expected:,}"
            )


def evaluate(folder: Path, data: Dataset) -> Verdict:
    """Score every stored epoch of one record again and compare.

    The data set has to be the one that the record names: the same tensors, the same split.
    """
    try:
        record = load_record(folder)
    except RecordError as error:
        return Verdict(folder, problems=[str(error)])
    verdict = Verdict(folder, record)
    if record.data.md5 != data.md5:
        verdict.problems.append(
            f"{folder}: scored on {record.data.name} ({record.data.split}), whose md5 differ from "
            f"those of the data set at hand, {data.name} ({data.split})"
        )
        return verdict
    sizes = (len(data.train), len(data.held_out))
    if (record.data.train_images, record.data.held_out_images) != sizes:
        verdict.problems.append(f"{folder}: data: the record's image counts are not {sizes}")
        return verdict
    for weights in record.weights:
        try:
            result = rescore(folder, record, weights, data)
        except RecordError as error:
            verdict.problems.append(str(error))
            continue
        _compare(verdict, record, weights, result)
        if weights.epoch == record.final.epoch:
            seen = rescore(folder, record, weights, seen_in_training(data))
            if said := learned_by_heart(result, seen):
                verdict.problems.append(f"{folder / weights.file}: {said}")
    verdict.problems.extend(f"{folder}: {said}" for said in leaning(verdict.apart))
    return verdict


def evaluate_from(folder: Path, source: Source) -> Verdict:
    """As `evaluate`, for a worker process, which loads the data set by itself, once."""
    return evaluate(folder, load_source(source))


def _compare(verdict: Verdict, record: Record, weights: Weights, result: Score) -> None:
    stored = record.epochs[weights.epoch - 1]
    measured = Rescored(weights.epoch, stored.test_correct, result.correct, stored.test_total)
    verdict.epochs.append(measured)
    if not measured.agrees:
        verdict.problems.append(
            f"{verdict.folder / weights.file}: epoch {weights.epoch} scores {result.correct} of "
            f"{result.total}, the record says {stored.test_correct} "
            f"(a difference of {TOLERANCE} is rounding, more is not)"
        )
    allowed = LOSS_TOLERANCE * max(result.loss, stored.test_loss)
    if not abs(result.loss - stored.test_loss) <= allowed:  # NaN is within no tolerance
        verdict.problems.append(
            f"{verdict.folder / weights.file}: epoch {weights.epoch} has a loss of "
            f"{result.loss:.6g}, the record says {stored.test_loss:.6g}"
        )
    if weights.epoch == record.final.epoch:
        _compare_answers(verdict, record, result)


def _compare_answers(verdict: Verdict, record: Record, result: Score) -> None:
    """Which images were missed, and for what; each image that turns changes two numbers."""
    missed = set(record.misclassified) ^ set(result.misclassified)
    if len(missed) > 2 * TOLERANCE:
        verdict.problems.append(
            f"{verdict.folder}: misclassified: {len(missed)} images are in one list only, the "
            "record's or the one measured now"
        )
    pairs = zip(chain(*record.confusion), chain(*result.confusion), strict=True)
    moved = sum(abs(stored - measured) for stored, measured in pairs)
    if moved > 2 * TOLERANCE:
        verdict.problems.append(
            f"{verdict.folder}: confusion: {moved // 2} images stand elsewhere than measured now"
        )


def published(root: Path) -> list[Path]:
    """The folders of the records below `root`.

    Raises:
        RecordError: there is none.
    """
    folders = find_records(root)
    if not folders:
        raise RecordError(f"no record below {root}: expected .../{FILE_NAME}")
    return folders


def verify(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """What `evaluate` found of each of the `published` records, and what publishing asks of it.

    A published record moreover lies alone in the folder of its experiment and seed, was trained
    by the recipe that is registered now, and has weights and mistakes of its own. One
    of this project's own models keeps its assignment, by the lower of the stored and the measured
    counts. The counts of all records of an experiment together lean to no side; the last of them
    says so where they do.
    """
    twins, leanings = Twins(), Leanings()
    for _, group in groupby(verdicts, _experiment):
        last: Verdict | None = None
        for verdict in group:
            if last is not None:
                yield last
            last = verdict
            if verdict.record is not None:
                verdict.problems.extend(_publication_problems(verdict.folder, verdict))
                verdict.problems.extend(twins.problems(verdict.folder, verdict.record))
                leanings.add(verdict.record, verdict.apart)
        if last is not None:
            last.problems.extend(leanings.problems(_experiment(last)))
            yield last


def _experiment(verdict: Verdict) -> str:
    """Its name; that of its folder where the record cannot be read."""
    record = verdict.record
    return verdict.folder.parent.name if record is None else record.experiment


def _publication_problems(folder: Path, verdict: Verdict) -> Iterator[str]:
    record = verdict.record
    assert record is not None  # the caller asks only then
    listed = {FILE_NAME, *(weights.file for weights in record.weights)}
    for path in sorted(folder.iterdir()):
        if path.name not in listed:
            yield f"{path} belongs to no record; remove it"
    place = folder_of(Path(), record.data.name, record.data.split, record.experiment, record.seed)
    if folder.parts[-len(place.parts) :] != place.parts:
        yield f"{folder}: the record belongs into .../{place}"
    registered = EXPERIMENTS.get(record.experiment)
    if registered is not None and registered.recipe.to_dict() != record.recipe:
        yield (
            f"{folder}: the recipe of {record.experiment} is not the one of this run: "
            + "; ".join(differences(record.recipe, registered.recipe.to_dict()))
        )
    if registered is not None and registered.source is None:  # this project's own keep their word
        for check in check_record(record, registered.assignment, verdict.rescored):
            if check.passed is not True:
                yield f"{folder}: {check.name}: {check.cause}; asked for {check.limit}"
