"""Runs and their records, as notebooks show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from mnist_models.data import Dataset
from mnist_models.exhibits.shown import NO_RECORD, Markdown, Picture, rows_of
from mnist_models.figures import images, plots
from mnist_models.lesson import Again, is_mnist, is_quick, score_on_training
from mnist_models.models import EXPERIMENTS, Experiment, System
from mnist_models.plural import counted
from mnist_models.record import KEPT_EPOCHS, Epoch, Record
from mnist_models.tables import percent

_NO_IMAGES = "**Skipped**: MNIST's test images are not at hand."


def run_note(experiment: Experiment | None = None, data: Dataset | None = None) -> Markdown:
    """Whether this is a short run, and what it trains where that is given."""
    note = ""
    if experiment is not None and data is not None:
        note = (
            f" It trains {counted(experiment.recipe.epochs, 'epoch')} on {len(data.train):,} "
            f"images of {data.name} and scores {len(data.held_out):,} others."
        )
    if is_quick():
        return Markdown(
            "**Quick run**: NOTEBOOK_QUICK is set. Little is trained, and of each experiment only "
            f"the first seed is scored again.{note}"
        )
    return Markdown(f"**Full run**: every published seed is scored again.{note}")


def data_table(data: Dataset) -> Markdown:
    """What is trained on and what is scored."""
    rows = [
        ("training", len(data.train), data.md5["train_images"]),
        (data.split, len(data.held_out), data.md5["held_out_images"]),
    ]
    text = rows_of((data.name, "images", "md5 of the pixels"), rows).text
    if not is_mnist(data):
        text += (
            "\n**The stand-in**: these are not MNIST's images. Nothing measured on them compares "
            "with a published accuracy; what needs the real test set is skipped below.\n"
        )
    return Markdown(text)


def samples(data: Dataset) -> Picture | Markdown:
    """The first test images of each digit."""
    if not is_mnist(data):
        return Markdown(_NO_IMAGES)
    return Picture(images.samples(data), "The first test images of each digit.")


def best_against_final(records: Mapping[str, Sequence[Record]], names: Sequence[str]) -> Markdown:
    """The best of all epochs, chosen on the test set, beside the final epoch: means over seeds."""
    rows: list[tuple[object, ...]] = []
    for name in names:
        group = records.get(name, ())
        if not group:
            rows.append((f"`{name}`", NO_RECORD, None, None, None))
            continue
        total = group[0].final.test_total
        best = mean(max(e.test_correct for e in record.epochs) for record in group)
        final = mean(record.final.test_correct for record in group)
        gain = f"{best - final:+.1f} images"
        shares = (percent(best, total), percent(final, total))
        rows.append((f"`{name}`", *shares, gain, len(group)))
    return rows_of(("experiment", "best epoch", "final epoch", "difference", "seeds"), rows)


def again_table(found: Sequence[Again]) -> Markdown:
    """Stored and newly measured counts of correct answers."""
    if not found:
        return Markdown(
            "**Skipped**: nothing to score again; there is no record, or MNIST is not at hand."
        )
    header = ("experiment", "seed", "epoch", "stored", "scored again", "images", "agrees")
    return rows_of(
        header,
        [
            (
                f"`{again.experiment}`",
                again.seed,
                again.result.epoch,
                again.result.stored,
                again.result.rescored,
                again.result.total,
                again.result.agrees,
            )
            for again in found
        ],
    )


def training_against_test(
    root: Path,
    records: Mapping[str, Sequence[Record]],
    experiments: Sequence[Experiment],
    data: Dataset,
) -> Markdown:
    """The final weights of each first seed, scored on images trained on and on the test set."""
    if not is_mnist(data):
        return Markdown("**Skipped**: the records were scored on MNIST, which is not at hand.")
    rows: list[tuple[object, ...]] = []
    for experiment in experiments:
        group = records.get(experiment.name, ())
        if not group:
            rows.append((f"`{experiment.name}`", NO_RECORD, None))
            continue
        correct, total = score_on_training(root, group[0], data)
        final = group[0].final
        on_test = f"{percent(final.test_correct, final.test_total)} of {final.test_total:,}"
        rows.append((f"`{experiment.name}`", f"{percent(correct, total)} of {total:,}", on_test))
    return rows_of(("experiment, seed 0", "on training images", "on test images"), rows)


def rate_table(records: Mapping[str, Sequence[Record]], names: Sequence[str]) -> Markdown:
    """The learning rate of every epoch of each first seed."""
    rows: list[tuple[object, ...]] = []
    for name in names:
        group = records.get(name, ())
        rates = (
            ", ".join(f"{epoch.learning_rate:.2g}" for epoch in group[0].epochs) if group else ""
        )
        rows.append((f"`{name}`", rates or NO_RECORD))
    return rows_of(("experiment, seed 0", "learning rate of each epoch"), rows)


def last_epochs(records: Mapping[str, Sequence[Record]], names: Sequence[str]) -> Markdown:
    """The correct answers of the last three epochs of every seed."""
    rows: list[tuple[object, ...]] = []
    for name in names:
        if name not in records:
            rows.append((f"`{name}`", None, NO_RECORD))
        for record in records.get(name, ()):
            last = ", ".join(f"{epoch.test_correct:,}" for epoch in record.epochs[-KEPT_EPOCHS:])
            rows.append((f"`{name}`", record.seed, last))
    return rows_of(("experiment", "seed", f"correct, last {KEPT_EPOCHS} epochs"), rows)


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """One finished epoch in a line."""
    return (
        f"epoch {epoch.epoch:2}/{epochs}"
        f"  train loss {epoch.train_loss:.4f} {percent(epoch.train_correct, epoch.train_total)}"
        f"  test loss {epoch.test_loss:.4f} {epoch.test_correct:,}/{epoch.test_total:,}"
        f" {percent(epoch.test_correct, epoch.test_total)}"
    )


def curves(records: Mapping[str, Sequence[Record]], system: System) -> Picture | Markdown:
    """Training and test accuracy per epoch of a system's experiments that have records."""
    found = {name: group for name, group in records.items() if EXPERIMENTS[name].system is system}
    if not found:
        return Markdown(f"{NO_RECORD} of {system.title}")
    text = f"{system.title}: accuracy per epoch, mean and range over the seeds."
    return Picture(plots.curves(found, system.title), text)


def confusion(
    records: Mapping[str, Sequence[Record]], experiment: Experiment
) -> Picture | Markdown:
    """Truth against answer, all seeds of one experiment together."""
    group = records.get(experiment.name, ())
    if not group:
        return Markdown(f"{NO_RECORD} of `{experiment.name}`")
    return Picture(plots.confusion(group), "Truth against answer, all seeds together.")


def misclassified(
    records: Mapping[str, Sequence[Record]], experiment: Experiment, data: Dataset
) -> Picture | Markdown:
    """The test images that one experiment gets wrong, those missed by most seeds first."""
    group = records.get(experiment.name, ())
    if not group:
        return Markdown(f"{NO_RECORD} of `{experiment.name}`")
    if not is_mnist(data):
        return Markdown(_NO_IMAGES)
    text = "The test images it gets wrong, those missed by most seeds first."
    return Picture(images.misclassified(group, data), text)
