"""What the contenders take, part by part, and what a whole training takes by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mnist_models.bench.contenders import ALL, Contender
from mnist_models.bench.floors import Matrices, flops_per_step
from mnist_models.bench.homes import Homes, Parts, homes
from mnist_models.bench.turns import Told, nothing, refuse_unfair, take_turns
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
    "This loop and the floors keep freed memory, as `train` does; the notebooks and the plain loop "
    "leave it to the C library, in a process of their own.",
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


_FULL = [contender for contender in ALL if contender.experiment == "steps-6" and contender.trains]


def turns_of(rounds: int, full: int) -> int:
    """How often `bench` tells its listener."""
    return rounds * (len(ALL) + 1) + full * len(_FULL)


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
        BenchError: a turn does not fit into one epoch, or a process that is timed died.
    """
    device, images = data.train.images.device, len(data.train)
    for contender in ALL:
        refuse_unfair(steps, contender.batch, images)
    flops = {
        c.experiment: flops_per_step(find_experiment(c.experiment), data)
        for c in ALL
        if not c.trains
    }
    matrices = Matrices(device)
    parts: dict[str, list[Parts]] = {contender.name: [] for contender in ALL}
    rates: list[float] = []
    with homes(data.to("cpu"), device) as both:

        def measure(contender: Contender) -> None:
            parts[contender.name].append(both.turn(contender, steps))

        turns: dict[str, Callable[[], None]] = {c.name: partial(measure, c) for c in ALL}
        turns["matrices"] = lambda: rates.append(matrices.rate())
        take_turns(turns, rounds, listener)
        trained_fully = _train_fully(both, len(data.held_out), full, listener) if full else None
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
        full=trained_fully,
        provenance=provenance(device, [environment(device)]),
    )


def _with_arithmetic(
    parts: Mapping[str, Sequence[Parts]], work: Mapping[str, int], rates: Sequence[float]
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


def _train_fully(homes: Homes, images: int, epochs: int, told: Told) -> Full:
    """Train each contender of steps-6 to the end, epoch by epoch in turn; scores `images`."""
    seconds = {contender.name: homes.begin(contender) for contender in _FULL}

    def train(contender: Contender) -> int:
        taken, right = homes.train(contender)
        seconds[contender.name] += taken
        return right

    correct = take_turns({c.name: partial(train, c) for c in _FULL}, epochs, told)
    return Full(
        epochs=epochs,
        seconds=seconds,
        correct={name: found[-1] for name, found in correct.items()},
        total=images,
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
