"""Who is compared, the parts that are timed, and what a whole training takes by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from mnist_models.bench import notebooks
from mnist_models.bench.floors import Matrices, flops_per_step
from mnist_models.bench.loops import Loop, Resident
from mnist_models.bench.turns import (
    Told,
    Trainer,
    nothing,
    now,
    refuse_unfair,
    steps_of_turn,
    stretch,
    take_turns,
)
from mnist_models.data import Dataset
from mnist_models.models import find_experiment
from mnist_models.provenance import environment, provenance
from mnist_models.timings import CONTENDERS, EPOCHS, NO_LIMIT, Bench, Full, Ratio, Spread

INCLUDES = (
    "An epoch is its training steps: data, augmentation, forward, backward, update, and what the "
    "contender's loop looks at; not start-up, scoring, or the start of DataLoader workers."
)
FORMULA = (
    f"To the end = start-up + {EPOCHS} x (epoch + scoring of all images held out, each its own "
    "way). Start-up is network, optimiser, loaders and their workers, data on the device, and the "
    "first step; not imports, or reading the files. Workers that start again in every later epoch "
    "are left out, in the notebooks' favour."
)
NOTES = (
    "The plain loop, in the style of PyTorch's own MNIST example, trains the network of steps-6 "
    "without augmentation: it does less than the others.",
    "The compute floor is the same model and update on one batch that never changes.",
    "The arithmetic floor is the floating-point operations of the training steps, counted, over "
    "the rate of a large float32 product of matrices with as many threads.",
)
_RATIOS = (  # the limits are for a CPU
    ("steps-6: notebook", "steps-6: this loop", ">= 3"),
    ("steps-6: this loop", "steps-6: compute floor", "<= 1.10"),
    ("steps-6: plain loop", "steps-6: this loop", NO_LIMIT),
    ("steps-6: compute floor", "steps-6: arithmetic floor", NO_LIMIT),
    ("era-v3: notebook", "era-v3: this loop", NO_LIMIT),
    ("frontier-8k: this loop", "frontier-8k: compute floor", NO_LIMIT),
    ("frontier-8k: compute floor", "frontier-8k: arithmetic floor", NO_LIMIT),
)


@dataclass(frozen=True)
class Contender:
    """What is compared: an experiment, and what trains it."""

    experiment: str
    what: str
    build: Callable[[Dataset, torch.device], Trainer]  # from a data set in the host's memory
    trains: bool = True  # on the data set, to an end; else it is a floor

    @property
    def name(self) -> str:
        """``experiment: what trains it``."""
        return f"{self.experiment}: {self.what}"

    @property
    def batch(self) -> int:
        """Images of a step."""
        return find_experiment(self.experiment).recipe.batch_size


def _own(name: str, what: str, build: Callable[..., Trainer], *, trains: bool = True) -> Contender:
    return Contender(name, what, partial(build, find_experiment(name)), trains)


ALL = (
    _own("steps-6", "this loop", Loop),
    Contender("steps-6", "notebook", notebooks.steps_6),
    Contender("steps-6", "plain loop", notebooks.example),
    _own("steps-6", "compute floor", Resident, trains=False),
    _own("era-v3", "this loop", Loop),
    Contender("era-v3", "notebook", notebooks.era_v3),
    _own("frontier-8k", "this loop", Loop),
    _own("frontier-8k", "compute floor", Resident, trains=False),
)
_FULL = [contender for contender in ALL if contender.experiment == "steps-6" and contender.trains]


def turns_of(rounds: int, full: int) -> int:
    """How often `bench` tells its listener."""
    return rounds * (len(ALL) + 1) + full * len(_FULL)


@dataclass(frozen=True)
class _Parts:
    """What one turn of a contender took, in seconds; a floor has an epoch alone."""

    start_up: float
    epoch: float
    scoring: float

    @property
    def to_the_end(self) -> float:
        return self.start_up + EPOCHS * (self.epoch + self.scoring)


def bench(
    data: Dataset, *, rounds: int = 5, steps: int = 96, full: int = 0, listener: Told = nothing
) -> Bench:
    """Time the contenders, interleaved.

    Args:
        data: MNIST, on the device to time.
        rounds: turns that each contender takes. It starts anew in each, so that start-up and
            the first step are measured as often as the epoch.
        steps: timed training steps of a turn, of 64 images each. A multiple of 32 holds as many
            augmentations of several batches as its share of an epoch does.
        full: epochs that the contenders of steps-6 then train from start to end; 0 for none.
        listener: told after every turn.

    Raises:
        BenchError: a turn does not fit into one epoch.
    """
    device, images = data.train.images.device, len(data.train)
    for contender in ALL:
        refuse_unfair(steps, contender.batch, images)
    flops = {
        c.experiment: flops_per_step(find_experiment(c.experiment), data)
        for c in ALL
        if not c.trains
    }
    matrices, host = Matrices(device), data.to("cpu")
    parts: dict[str, list[_Parts]] = {contender.name: [] for contender in ALL}
    rates: list[float] = []

    def measure(contender: Contender) -> None:
        parts[contender.name].append(_turn(contender, host, steps, device))

    turns: dict[str, Callable[[], None]] = {c.name: partial(measure, c) for c in ALL}
    turns["matrices"] = lambda: rates.append(matrices.rate())
    take_turns(turns, rounds, listener)
    per_epoch = {c.experiment: -(-images // c.batch) for c in ALL}
    work = {name: count * per_epoch[name] for name, count in flops.items()}
    epochs = _with_arithmetic(parts, work, rates)
    trained = {c.name: parts[c.name] for c in ALL if c.trains}
    ends = {name: [part.to_the_end for part in found] for name, found in trained.items()}
    return Bench(
        kind=CONTENDERS,
        includes=INCLUDES,
        formula=FORMULA,
        notes=list(NOTES),
        rounds=rounds,
        steps_per_round=steps,
        steps_per_epoch=per_epoch,
        seconds_per_epoch=_spreads(epochs),
        start_up=_spreads({n: [part.start_up for part in f] for n, f in trained.items()}),
        scoring=_spreads({n: [part.scoring for part in f] for n, f in trained.items()}),
        to_the_end=_spreads(ends),
        ratios=_ratios(epochs, limited=device.type == "cpu"),
        to_the_end_ratios=_ratios(ends, limited=False),
        flops_per_step=flops,
        matrix_rate=Spread.of(rates),
        full=_train_fully(host, device, full, listener) if full else None,
        provenance=provenance(device, [environment(device)]),
    )


def _with_arithmetic(
    parts: Mapping[str, Sequence[_Parts]], work: Mapping[str, int], rates: Sequence[float]
) -> dict[str, list[float]]:
    """Seconds an epoch of every contender, and below a compute floor its arithmetic floor.

    That is the operations of an epoch, `work` by experiment, over the rates of the rounds.
    """
    epochs: dict[str, list[float]] = {}
    for contender in ALL:
        epochs[contender.name] = [part.epoch for part in parts[contender.name]]
        if not contender.trains:
            operations = work[contender.experiment]
            epochs[f"{contender.experiment}: arithmetic floor"] = [operations / r for r in rates]
    return epochs


def _turn(contender: Contender, host: Dataset, steps: int, device: torch.device) -> _Parts:
    steps = steps_of_turn(steps, contender.batch)
    began = now(device)
    trainer = contender.build(host, device)
    first, seconds = stretch(trainer, steps, device)
    epoch = seconds * (-(-len(host.train) // contender.batch)) / steps
    between = now(device)
    trainer.score()
    return _Parts(first - began, epoch, now(device) - between)


def _train_fully(host: Dataset, device: torch.device, epochs: int, told: Told) -> Full:
    """Train each contender of steps-6 to the end, epoch by epoch in turn."""
    trainers: dict[str, Trainer] = {}
    seconds: dict[str, float] = {}
    for contender in _FULL:
        began = now(device)
        trainers[contender.name] = contender.build(host, device)
        seconds[contender.name] = now(device) - began

    def train(name: str) -> int:
        began = now(device)
        trainers[name].epoch(nothing)
        right = trainers[name].score()
        seconds[name] += now(device) - began
        return right

    correct = take_turns({name: partial(train, name) for name in trainers}, epochs, told)
    return Full(
        epochs=epochs,
        seconds=seconds,
        correct={name: found[-1] for name, found in correct.items()},
        total=len(host.held_out),
        ratios={
            name: ratio.median
            for name, ratio in _ratios(
                {name: [taken] for name, taken in seconds.items()}, limited=False
            ).items()
        },
    )


def _spreads(found: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    return {name: Spread.of(rounds) for name, rounds in found.items()}


def _ratios(seconds: Mapping[str, Sequence[float]], *, limited: bool) -> dict[str, Ratio]:
    """Those whose contenders are both there, one number a round."""
    return {
        f"{above} / {below.partition(': ')[2]}": Ratio.of(
            [a / b for a, b in zip(seconds[above], seconds[below], strict=True)],
            limit if limited else NO_LIMIT,
        )
        for above, below, limit in _RATIOS
        if above in seconds and below in seconds
    }
