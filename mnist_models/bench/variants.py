"""Variants of the training loop, each with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_models.augment import augment
from mnist_models.batch_norm import as_torch
from mnist_models.bench.notebooks import plain_dropout
from mnist_models.bench.turns import Told, Trainer
from mnist_models.checkpoint import Checkpoint
from mnist_models.data import MEAN, STD, Dataset
from mnist_models.models import Experiment
from mnist_models.randomness import default_generator, seed_of
from mnist_models.recipe import Recipe
from mnist_models.run import Run, capture, start
from mnist_models.stacked import Lane, SideBySide
from mnist_models.step import Step, train_step
from mnist_models.train import batches, step_for

AS_BUILT = "as built"
COMPILED = "compiled by torch"
UNRECORDED = "kernel by kernel instead of recorded"  # on a GPU alone
WIDTHS = (2, 4, 8)  # seeds side by side
_AHEAD = 8  # batches: as many as the loop augments at a time

Batches = Iterator[tuple[Tensor, Tensor]]
Feed = Callable[[Dataset, Recipe, int, int], Batches]
Change = Callable[[Run], None]


class Steps:
    """The training steps of the loop, with one thing changed or none."""

    def __init__(
        self,
        experiment: Experiment,
        data: Dataset,
        *,
        change: Change = lambda run: None,
        feed: Feed = batches,
        recorded: bool = True,
    ) -> None:
        self.data, self.feed = data, feed
        self.step: Step | None = None if recorded else train_step
        self.run = start(experiment, 0, len(data.train), data.train.images.device)
        change(self.run)

    def epoch(self, told: Told) -> None:
        """Train the first epoch; `told` is called after every step."""
        run, device = self.run, self.data.train.images.device
        generator = default_generator(device)
        loss_sum = torch.zeros((), device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        run.model.train()
        step = self.step = self.step or step_for(run, self.data)
        source = self.feed(self.data, run.recipe, run.seed, 1)
        for number, (inputs, labels) in enumerate(source, start=1):
            generator.manual_seed(seed_of(run.seed, 1, number))
            loss, answered = step(run, inputs, labels)
            loss_sum += loss * len(labels)
            correct += answered
            told()

    def score(self) -> int:
        """Nothing: only steps are compared."""
        return 0


class Stacked:
    """Seeds side by side, as ``train --stacked`` trains them."""

    def __init__(
        self, experiment: Experiment, data: Dataset, seeds: Sequence[int], *, bfloat16: bool = False
    ) -> None:
        self.data = data
        lanes: list[Lane] = []
        for seed in seeds:
            state = Checkpoint({})
            run = start(experiment, seed, len(data.train), data.train.images.device)
            capture(run, state)
            lanes.append(Lane(run, state, Path()))
        self.side = SideBySide(experiment, lanes, data)
        if bfloat16:
            rounded(self.side.run)

    def epoch(self, told: Told) -> None:
        """Train the first epoch; `told` is called after every step."""
        self.side.train_epoch(self.data, 1, lambda progress: told())

    def score(self) -> int:
        """Nothing: only steps are compared."""
        return 0


def contiguous(run: Run) -> None:
    """Weights and maps channel by channel, as torch lays them out by default."""
    run.model.to(memory_format=torch.contiguous_format)
    run.scored.to(memory_format=torch.contiguous_format)


def unfused(run: Run, *, foreach: bool) -> None:
    """The same optimiser in torch's other implementations."""
    for group in run.optimizer.param_groups:
        group["fused"], group["foreach"] = False, foreach


def torch_dropout(run: Run) -> None:
    """``torch.nn.Dropout`` itself."""
    plain_dropout(run.model)


def rounded(run: Run) -> None:
    """Products of layers in bfloat16, forward and backward; scored in full precision.

    The block of torch's autocast ends with each forward pass: it casts a weight once, so that
    steps within one block would all compute with the weights of the first.
    """
    model, device = run.model, next(run.model.parameters()).device
    forward = model.forward
    half = torch.autocast(device.type, torch.bfloat16)(forward)
    model.forward = lambda maps: half(maps).float() if model.training else forward(maps)


def compiled(run: Run) -> None:
    """The network compiled by torch."""
    run.model.compile()


def per_batch(data: Dataset, recipe: Recipe, seed: int, epoch: int) -> Batches:
    """`batches`, but augmented one batch at a time."""
    order = torch.randperm(len(data.train), device=data.train.images.device)
    for indices in order.split(recipe.batch_size):
        inputs = augment(data.train.images[indices], recipe.augmentation)
        yield inputs.sub_(MEAN).div_(STD), data.train.labels[indices]


def ahead(data: Dataset, recipe: Recipe, seed: int, epoch: int) -> Batches:
    """`batches`, computed in a thread while those before are trained on.

    The thread shares torch's random generator with the training: good enough to be timed.
    """
    source = batches(data, recipe, seed, epoch)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(lambda: list(islice(source, _AHEAD)))
        while ready := coming.result():
            coming = thread.submit(lambda: list(islice(source, _AHEAD)))
            yield from ready


Built = tuple[int, Trainer]  # models that train at once, and what trains them
Build = Callable[[Experiment, Dataset], Built]


def _alone(**changed: Any) -> Build:
    return lambda experiment, data: (1, Steps(experiment, data, **changed))


def _stacked(count: int, *, bfloat16: bool) -> Build:
    return lambda experiment, data: (
        count,
        Stacked(experiment, data, range(count), bfloat16=bfloat16),
    )


VARIANTS: dict[str, Build] = {
    AS_BUILT: _alone(),
    "contiguous instead of channels-last": _alone(change=contiguous),
    "bfloat16 autocast": _alone(change=rounded),
    "optimiser foreach instead of fused": _alone(change=partial(unfused, foreach=True)),
    "optimiser in a loop instead of fused": _alone(change=partial(unfused, foreach=False)),
    "Dropout of torch instead of ours": _alone(change=torch_dropout),
    "BatchNorm of torch instead of ours": _alone(change=lambda run: as_torch(run.model)),
    "augmentation by the batch": _alone(feed=per_batch),
    "augmentation ahead, in a thread": _alone(feed=ahead),
    UNRECORDED: _alone(recorded=False),
    COMPILED: _alone(change=compiled),
    **{
        f"{count} seeds stacked{', bfloat16 autocast' if bfloat16 else ''}": _stacked(
            count, bfloat16=bfloat16
        )
        for bfloat16 in (False, True)
        for count in WIDTHS
    },
}
