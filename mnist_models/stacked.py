"""Seeds of one experiment trained together, in one network that holds them side by side.

Each seed has the initial weights, the order of the images, the augmentation and the dropout masks
that it has when it runs alone, and a checkpoint and a record of its own: what is stacked lasts
for an epoch. A seed that was stopped goes on alone or beside others, whichever is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mnist_models.checkpoint import Checkpoint
from mnist_models.data import Dataset
from mnist_models.models import Experiment
from mnist_models.optimisation import end_epoch
from mnist_models.outcome import write_record
from mnist_models.randomness import seed_of
from mnist_models.recipe import Plateau
from mnist_models.record import Record
from mnist_models.run import Run, assemble, capture, restore
from mnist_models.stack import StackError, stack
from mnist_models.step import Step, best_step, train_step
from mnist_models.train import (
    DivergedError,
    Listener,
    Progress,
    Trained,
    batches,
    close_epoch,
    finished,
    open_run,
    refuse_divergence,
)

# Seeds side by side where nobody says how many, by the device. On a CPU with a thread a process,
# `bench --choices` measured 0.80 to 0.87 of the time alone for frontier-8k on two processors, and
# 0.95 to 1.06 for steps-6; four gain no more than two there, smaller networks somewhat. On an H200,
# 32 take seven times what one takes, and 2.4 GB; what more would take is not measured.
SIDE_BY_SIDE = {"cpu": 2, "cuda": 32}


@dataclass(eq=False)
class Lane:
    """One seed of several: as it would stand alone after its last finished epoch."""

    run: Run
    state: Checkpoint
    folder: Path

    @property
    def epochs(self) -> int:
        """Finished ones."""
        return len(self.state.epochs)


class SideBySide:
    """Seeds that train in one network, from the state of their lanes on."""

    def __init__(self, experiment: Experiment, lanes: list[Lane], data: Dataset) -> None:
        self.lanes = lanes
        device = data.train.images.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            # Of the same shapes: the weights come from the lanes, and may be no numbers.
            self.stack = stack([experiment.build().to(device) for _ in lanes])
        first = lanes[0].run
        network = self.stack.network
        self.run = assemble(first.recipe, first.seed, network, len(data.train), len(lanes))
        restore(self.run, _joined([lane.state for lane in lanes]))
        self._step: Step = train_step
        self._recorded = device.type != "cuda"

    def train_epoch(self, data: Dataset, number: int, listener: Listener) -> list[Trained]:
        """Train all seeds for epoch `number`, from 1, and bring their lanes to its end.

        A loss that is no number stays in its seed, and is returned.
        """
        trained = self._train_epoch(data, number, listener)
        end_epoch(self.run.schedule, trained[0].loss)  # on which no schedule here depends
        whole = Checkpoint({})
        capture(self.run, whole)
        for index, lane in enumerate(self.lanes):
            restore(lane.run, _part(whole, index, len(self.lanes)))
        return trained

    def _train_epoch(self, data: Dataset, number: int, listener: Listener) -> list[Trained]:
        run, count, device = self.run, len(self.lanes), data.train.images.device
        seeds = [lane.run.seed for lane in self.lanes]
        sums = torch.zeros(count, device=device)
        correct = torch.zeros(count, dtype=torch.int64, device=device)
        rates: list[float] = []
        seen = 0
        run.model.train()
        if not self._recorded:  # once, for all epochs
            batch = next(self._batches(data, number))
            self._step, self._recorded = best_step(run, *batch, self.stack.streams), True
        for step, (images, labels) in enumerate(self._batches(data, number), start=1):
            self.stack.streams.seed([seed_of(seed, number, step) for seed in seeds], device)
            rates.append(run.learning_rate)
            losses, answered = self.step(images, labels)
            sums += losses * len(labels)
            correct += answered
            seen += labels.numel()
            now = (losses.mean(), correct.sum(), seen, rates[-1])
            listener(Progress(number, run.recipe.epochs, step, run.steps, *now))
        means = (sums / len(data.train)).tolist()
        return [
            Trained(mean, right, rates[0], rates[-1])
            for mean, right in zip(means, correct.tolist(), strict=True)
        ]

    def _batches(self, data: Dataset, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of all seeds at once: ``(B, K, 28, 28)`` and ``(B, K)``."""
        sources = [batches(data, lane.run.recipe, lane.run.seed, number) for lane in self.lanes]
        for lanes in zip(*sources, strict=True):
            images, labels = zip(*lanes, strict=True)
            yield torch.cat(images, 1), torch.stack(labels, 1)

    def step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One update of all seeds on ``(B, K, 28, 28)``, ``(B, K)``: losses, correct answers.

        Both are ``(K,)``, on the device.
        """
        return self._step(self.run, images, labels)


def _joined(states: list[Checkpoint]) -> Checkpoint:
    """The state of a stack, from those of its seeds after equally many epochs."""
    first = states[0]
    return Checkpoint(
        first.identity,
        options=first.options,
        tensors={
            name: torch.cat([state.tensors[name] for state in states]) if value.dim() else value
            for name, value in first.tensors.items()
        },
    )


def _part(whole: Checkpoint, index: int, count: int) -> Checkpoint:
    """The state of one seed, from that of a stack of `count`."""
    return Checkpoint(
        whole.identity,
        options=whole.options,
        tensors={
            name: value.chunk(count)[index] if value.dim() else value  # counts are common to all
            for name, value in whole.tensors.items()
        },
    )


def train_stacked(
    experiment: Experiment,
    folders: Mapping[int, Path],
    data: Dataset,
    *,
    resume: bool = False,
    force: bool = False,
    listener: Listener = lambda progress: None,
) -> dict[int, Record | DivergedError]:
    """Train seeds of an experiment side by side and write a record for each.

    Those with the fewest finished epochs go on first, together, until they have caught up with
    the others; a seed that diverges is left out from then on.

    Args:
        experiment: model and recipe.
        folders: seed -> where its checkpoint, weights and record go.
        data: on the device to train on.
        resume: go on from the checkpoints in the folders, where there are any.
        force: replace other records that stand in the folders.
        listener: told of every step (mean loss, sum of the correct answers) and, with `seed` set,
            of every epoch that a seed finished.

    Returns:
        For each seed its record, or why it has none.

    Raises:
        StackError: the network or the schedule cannot be stacked.
        CheckpointError: a checkpoint is damaged or of another run.
        RecordExistsError: another record stands in a folder and `force` is not set.
    """
    _refuse_plateau(experiment)
    lanes: list[Lane] = []
    for seed, folder in folders.items():
        run, state = open_run(experiment, seed, data, folder, resume=resume, force=force)
        capture(run, state)  # the initial weights, where nothing was restored
        lanes.append(Lane(run, state, folder))
    outcomes: dict[int, Record | DivergedError] = {}
    side: SideBySide | None = None
    while True:
        for lane in [lane for lane in lanes if lane.epochs == experiment.recipe.epochs]:
            lanes.remove(lane)
            outcomes[lane.run.seed] = write_record(
                experiment, lane.run, data, lane.state, lane.folder, force=force
            )
        if not lanes:
            return {seed: outcomes[seed] for seed in folders}
        behind = min(lane.epochs for lane in lanes)
        group = [lane for lane in lanes if lane.epochs == behind]
        if side is None or side.lanes != group:
            side = SideBySide(experiment, group, data)
        for lane, error in _advance(side, data, behind + 1, listener):
            lanes.remove(lane)
            outcomes[lane.run.seed] = error


def refuse_unstackable(experiment: Experiment) -> None:
    """Raise StackError where seeds of this experiment cannot be trained side by side.

    Two networks are put side by side to find out.
    """
    _refuse_plateau(experiment)
    try:
        with torch.random.fork_rng([]):
            stack([experiment.build() for _ in range(2)])
    except AssertionError as error:  # a network may ask for the shape that it has alone
        raise StackError(f"{experiment.name} cannot be trained stacked: {error}") from error


def _refuse_plateau(experiment: Experiment) -> None:
    if isinstance(experiment.recipe.schedule, Plateau):
        raise StackError(
            f"{experiment.name} cannot be trained stacked: on its plateau schedule the learning "
            "rate depends on each seed's own loss; train its seeds one by one"
        )


def _advance(
    side: SideBySide, data: Dataset, number: int, listener: Listener
) -> list[tuple[Lane, DivergedError]]:
    """Train epoch `number` and write every seed's checkpoint; gives the seeds that diverged."""
    began = time.perf_counter()
    results = side.train_epoch(data, number, listener)
    share = (time.perf_counter() - began) / len(side.lanes)
    lost: list[tuple[Lane, DivergedError]] = []
    told: list[Progress] = []
    for lane, trained in zip(side.lanes, results, strict=True):
        lane.state.stacked |= len(side.lanes) > 1
        try:
            refuse_divergence(trained, lane.run.recipe, number)
            close_epoch(lane.run, data, trained, lane.state, lane.folder, seconds=share)
        except DivergedError as error:
            lost.append((lane, error))
            continue
        told.append(replace(finished(lane.run, lane.state.epochs[-1]), seed=lane.run.seed))
    for progress in told:  # a listener may end the run: not before every seed has its checkpoint
        listener(progress)
    return lost
