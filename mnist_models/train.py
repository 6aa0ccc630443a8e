"""One loop for every model: an experiment, a seed and a data set give a record.

Random numbers are a function of seed, epoch and step alone, so that a run that was stopped
after any epoch goes on exactly as if it had not been.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from mnist_models import record as records
from mnist_models.atomic import make_folder
from mnist_models.augment import augment
from mnist_models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mnist_models.data import MEAN, STD, Dataset, normalise
from mnist_models.models import Experiment
from mnist_models.optimisation import end_epoch
from mnist_models.outcome import write_record
from mnist_models.provenance import environment, model_digest
from mnist_models.randomness import default_generator, seed_of
from mnist_models.recipe import Recipe
from mnist_models.record import Epoch, Record
from mnist_models.recount import recount
from mnist_models.run import Run, capture, restore, start
from mnist_models.score import score
from mnist_models.step import Step, best_step, train_step

# Images augmented at a time: enough to hide the cost of the calls; on a CPU few enough for its
# caches to hold what lies between: steps-6 takes 1.02 of the compute floor with 512, 1.09 with
# 2,048.
_CHUNK = {"cpu": 512, "cuda": 8_192}


class DivergedError(Exception):
    """The training loss is no number any more."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: told after every step and, with `finished` set, after every epoch."""

    epoch: int  # from 1
    epochs: int
    step: int  # from 1, within the epoch
    steps: int
    loss: Tensor  # of the last batch, scalar on the device
    correct: Tensor  # training images answered correctly so far in this epoch, likewise
    seen: int  # training images so far in this epoch
    learning_rate: float
    finished: Epoch | None = None
    seed: int | None = None  # which finished the epoch, where several train side by side


Listener = Callable[[Progress], None]


def batches(
    data: Dataset, recipe: Recipe, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch (from 1), shuffled, augmented and normalised.

    Each is ``(B, 1, 28, 28)`` float32 and ``(B,)`` int64; the last may be smaller. Several
    batches are augmented at a time.
    """
    device = data.train.images.device
    generator = default_generator(device)
    generator.manual_seed(seed_of(seed, epoch, "order"))
    order = torch.randperm(len(data.train), device=device)
    plain = not recipe.augmentation or epoch > recipe.epochs - recipe.plain_epochs
    chunk = max(1, _CHUNK[device.type] // recipe.batch_size) * recipe.batch_size
    for number, indices in enumerate(order.split(chunk)):
        images, labels = data.train.images[indices], data.train.labels[indices]
        if plain:
            inputs = normalise(images)
        else:
            generator.manual_seed(seed_of(seed, epoch, "augmentation", number))
            inputs = augment(images, recipe.augmentation).sub_(MEAN).div_(STD)
        yield from zip(
            inputs.split(recipe.batch_size), labels.split(recipe.batch_size), strict=True
        )


class Trained(NamedTuple):
    """What one epoch of training gave.

    Loss and answers are counted while training: on augmented images, with Dropout, before each
    update.
    """

    loss: float  # mean over the training images
    correct: int  # training images
    first_rate: float  # learning rate of the first step
    last_rate: float  # learning rate of the last step


def train_epoch(
    run: Run, data: Dataset, epoch: int, listener: Listener, step: Step = train_step
) -> Trained:
    """Train one epoch, counted from 1, step by step as `step` does it.

    Raises:
        DivergedError: the loss is no number any more.
    """
    recipe = run.recipe
    device = data.train.images.device
    generator = default_generator(device)
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    first_rate = rate = run.learning_rate
    seen = 0
    run.model.train()
    for number, (inputs, labels) in enumerate(batches(data, recipe, run.seed, epoch), start=1):
        generator.manual_seed(seed_of(run.seed, epoch, number))
        rate = run.learning_rate
        loss, answered = step(run, inputs, labels)
        loss_sum += loss * len(labels)
        correct += answered
        seen += len(labels)
        listener(Progress(epoch, recipe.epochs, number, run.steps, loss, correct, seen, rate))
    trained = Trained(loss_sum.item() / len(data.train), int(correct.item()), first_rate, rate)
    refuse_divergence(trained, recipe, epoch)
    return trained


def refuse_divergence(trained: Trained, recipe: Recipe, epoch: int) -> None:
    """Raise DivergedError where the loss of this epoch is no number any more."""
    if not math.isfinite(trained.loss):
        raise DivergedError(
            f"the training loss of epoch {epoch} is {trained.loss}; a learning rate below "
            f"{recipe.learning_rate} may keep it finite"
        )


def step_for(run: Run, data: Dataset) -> Step:
    """The step that trains `run` on this data set: on a GPU a recording of it, if one can be made.

    The run is left as it was.
    """
    if data.train.images.device.type != "cuda":
        return train_step
    return best_step(run, *next(batches(data, run.recipe, run.seed, 1)))


def identity_of(
    experiment: Experiment, seed: int, data: Dataset, model: nn.Module
) -> dict[str, Any]:
    """What the record of this run will have as its `identity`."""
    return {
        "experiment": experiment.name,
        "seed": seed,
        "recipe": experiment.recipe.to_dict(),
        "model": model_digest(model),
        "data": data.name,
        "split": data.split,
        "md5": data.md5,
    }


def train(
    experiment: Experiment,
    seed: int,
    data: Dataset,
    folder: Path,
    *,
    resume: bool = False,
    force: bool = False,
    listener: Listener = lambda progress: None,
) -> Record:
    """Train one seed of an experiment and write its record into `folder`.

    Args:
        experiment: model and recipe.
        seed: from 0.
        data: on the device to train on.
        folder: for checkpoint, weights and record; made if need be.
        resume: go on from the checkpoint in `folder`, if there is one.
        force: replace another record that stands in `folder`.
        listener: told of every step and every epoch.

    Raises:
        DivergedError: the loss is no number any more.
        CheckpointError: the checkpoint is damaged or of another run.
        RecordExistsError: another record stands in `folder` and `force` is not set.
    """
    run, state = open_run(experiment, seed, data, folder, resume=resume, force=force)
    step = step_for(run, data)
    for number in range(len(state.epochs) + 1, experiment.recipe.epochs + 1):
        began = time.perf_counter()
        trained = train_epoch(run, data, number, listener, step)
        end_epoch(run.schedule, trained.loss)
        close_epoch(run, data, trained, state, folder, seconds=time.perf_counter() - began)
        listener(finished(run, state.epochs[-1]))
    return write_record(experiment, run, data, state, folder, force=force)


def open_run(
    experiment: Experiment, seed: int, data: Dataset, folder: Path, *, resume: bool, force: bool
) -> tuple[Run, Checkpoint]:
    """A run where it starts or, to resume, where its checkpoint left it; and its state.

    Arguments and errors are those of `train`.
    """
    if not force:
        records.refuse_existing(folder)
    make_folder(folder, "--out")
    if not os.access(folder, os.W_OK):  # better now than after the first epoch
        raise PermissionError(f"{folder} cannot be written; choose another --out")
    run = start(experiment, seed, len(data.train), data.train.images.device)
    identity = identity_of(experiment, seed, data, run.model)
    state = (load_checkpoint(folder, identity) if resume else None) or Checkpoint(identity)
    if state.epochs:
        restore(run, state)
    here = environment(data.train.images.device)
    if here not in state.environments:
        state.environments.append(here)
    return run, state


def close_epoch(
    run: Run, data: Dataset, trained: Trained, state: Checkpoint, folder: Path, *, seconds: float
) -> None:
    """Score a run after an epoch that took so many seconds to train; write its checkpoint.

    Raises:
        DivergedError: the loss on the scored images is no number.
    """
    number = len(state.epochs) + 1
    began = time.perf_counter()
    if run.recipe.recount and number == run.recipe.epochs:
        recount(run.scored, data.train.images)
    result = score(run.scored, data.held_out)
    if not math.isfinite(result.loss):
        raise DivergedError(f"the loss on the scored images is {result.loss} after epoch {number}")
    epoch = Epoch(
        epoch=number,
        learning_rate=trained.first_rate,
        last_learning_rate=trained.last_rate,
        train_loss=trained.loss,
        train_correct=trained.correct,
        train_total=len(data.train),
        test_loss=result.loss,
        test_correct=result.correct,
        test_total=result.total,
    )
    state.epochs.append(epoch)
    state.seconds.append(seconds + time.perf_counter() - began)
    state.kept[number] = safetensors.torch.save(
        {name: value.cpu().contiguous() for name, value in run.scored.state_dict().items()}
    )
    state.kept.pop(number - records.KEPT_EPOCHS, None)
    capture(run, state)
    save_checkpoint(folder, state)


def finished(run: Run, epoch: Epoch) -> Progress:
    """What a listener is told of a finished epoch."""
    return Progress(
        epoch.epoch,
        run.recipe.epochs,
        run.steps,
        run.steps,
        torch.tensor(epoch.train_loss),
        torch.tensor(epoch.train_correct),
        epoch.train_total,
        epoch.last_learning_rate,
        finished=epoch,
    )
