"""The command bench."""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from mnist_models.allocator import keep_memory
from mnist_models.bench import bench, measure_accuracy, measure_choices
from mnist_models.bench.accuracy import EXPERIMENT, SEEDS, accuracy_turns
from mnist_models.bench.choices import choice_turns
from mnist_models.bench.comparison import turns_of
from mnist_models.cli.options import (
    Commands,
    UsageError,
    add_data,
    add_log,
    append_to_log,
    declare,
    load_data,
    read_log,
    seeds,
    show_json,
    whole,
)
from mnist_models.data import Dataset
from mnist_models.models import find_experiment
from mnist_models.plural import counted
from mnist_models.report.accuracies import HEADER, rows, what
from mnist_models.tables import table
from mnist_models.timings import EPOCHS, FILE, Accuracy, Bench, Choices, Ratio

_SPREAD = ("median", "lowest", "highest")
_ROUNDS, _STEPS = 7, 96


def add_bench(commands: Commands) -> None:
    command = declare(
        commands,
        "bench",
        run_bench,
        "Time the training loop against the notebook pipelines of steps-6 and era-v3, a plain "
        "PyTorch loop, and the compute and arithmetic floors. All take turns within one run, so "
        "that the ratios hold on a busy machine.",
        "bench --full 15",
    )
    command.add_argument(
        "--rounds", type=whole(1), metavar="N", help=f"turns of each (default: {_ROUNDS})"
    )
    command.add_argument(
        "--steps",
        type=whole(1),
        metavar="N",
        help=f"steps of a turn, of 64 images; best a multiple of 32 (default: {_STEPS})",
    )
    command.add_argument(
        "--full",
        type=whole(1),
        metavar="N",
        help=f"also train steps-6 for N epochs by each loop, to the end; {EPOCHS} is a whole "
        "training (default: not)",
    )
    command.add_argument(
        "--choices",
        action="store_true",
        help="instead, time variants of the loop, each with one thing changed",
    )
    command.add_argument(
        "--compile",
        action="store_true",
        help="with --choices: torch.compile too, which takes minutes to start",
    )
    command.add_argument(
        "--accuracy",
        action="store_true",
        help=f"instead, train seeds of {EXPERIMENT} to the end one by one, so in bfloat16, and "
        "side by side, and compare how they answer the validation images",
    )
    command.add_argument(
        "--seeds", type=seeds, metavar="LIST", help="with --accuracy: which (default: 0-9)"
    )
    command.add_argument(
        "--epochs",
        type=whole(1),
        metavar="N",
        help="with --accuracy: of each training (default: those of the recipe)",
    )
    add_log(command, "what --json prints", FILE.as_posix())
    add_data(command)


def run_bench(options: argparse.Namespace) -> int:
    _refuse_misfits(options)
    read_log(options.log)
    keep_memory()  # as `train` does, whose loop is compared with variants of itself
    data = load_data(options, "mnist", validation=options.accuracy)
    if options.accuracy:
        return _accuracy(options, data)
    options.rounds, options.steps = options.rounds or _ROUNDS, options.steps or _STEPS
    if options.choices:
        return _choices(options, data)
    full = options.full or 0
    with _bar(turns_of(options.rounds, full)) as bar:
        result = bench(
            data,
            rounds=options.rounds,
            steps=options.steps,
            full=full,
            listener=lambda: bar.update() and None,
        )
    if options.json:
        show_json(result.to_dict())
    else:
        _show(result)
    append_to_log(options.log, result.to_dict())
    return 0 if result.passed else 1


def _refuse_misfits(options: argparse.Namespace) -> None:
    if options.compile and not options.choices:
        raise UsageError("--compile is one of the variants of --choices; add --choices")
    if bool(options.full) + options.choices + options.accuracy > 1:
        raise UsageError(
            "--full trains the contenders, --choices times variants, --accuracy compares how "
            "they answer; choose one"
        )
    if (options.seeds or options.epochs) and not options.accuracy:
        raise UsageError("--seeds and --epochs say what --accuracy trains; add --accuracy")
    if (options.rounds or options.steps) and options.accuracy:
        raise UsageError("--rounds and --steps say what is timed, and --accuracy times nothing")


def _accuracy(options: argparse.Namespace, data: Dataset) -> int:
    chosen = options.seeds or SEEDS
    epochs = options.epochs or find_experiment(EXPERIMENT).recipe.epochs
    with tqdm(
        total=accuracy_turns(len(chosen), epochs, data.train.images.device),
        desc="bench",
        unit="epoch",
        file=sys.stderr,
    ) as bar:
        result = measure_accuracy(
            data, seeds=chosen, epochs=epochs, listener=lambda: bar.update() and None
        )
    if options.json:
        show_json(result.to_dict())
    else:
        _show_accuracy(result)
    append_to_log(options.log, result.to_dict())
    return 0


def _show_accuracy(result: Accuracy) -> None:
    print(table(HEADER, list(rows(result))), end="\n\n")
    print(what(result).replace("`", ""))
    print(result.provenance.device)


def _choices(options: argparse.Namespace, data: Dataset) -> int:
    turns = choice_turns(data.train.images.device, options.rounds, compile_=options.compile)
    with _bar(turns) as bar:
        result = measure_choices(
            data,
            rounds=options.rounds,
            steps=options.steps,
            compile_=options.compile,
            listener=lambda: bar.update() and None,
        )
    if options.json:
        show_json(result.to_dict())
    else:
        _show_choices(result)
    append_to_log(options.log, result.to_dict())
    return 0


def _bar(turns: int) -> tqdm:
    return tqdm(total=turns, desc="bench", unit="turn", file=sys.stderr)


def _show(result: Bench) -> None:
    rows = []
    for name, epoch in result.seconds_per_epoch.items():
        parts = (result.start_up, result.scoring, result.to_the_end)
        rest = [part[name].median if name in part else None for part in parts]
        rows.append((name, epoch.median, epoch.lowest, epoch.highest, *rest))
    header = ("contender", "s/epoch, median", "lowest", "highest", "start-up, s", "scoring, s")
    print(table((*header, f"{EPOCHS} epochs, s"), rows), end="\n\n")
    print(_ratio_table("ratio, per epoch", result.ratios), end="\n\n")
    print(_ratio_table("ratio, to the end", result.to_the_end_ratios), end="\n\n")
    if result.full is not None:
        full = result.full
        print(f"really trained for {counted(full.epochs, 'epoch')}, scoring included:")
        trained = [(n, s, full.correct[n], full.total) for n, s in full.seconds.items()]
        print(table(("contender", "wall, s", "correct", "of"), trained), end="\n\n")
        print(table(("ratio", "to the end"), list(full.ratios.items())), end="\n\n")
    print(_turns(result.rounds, result.steps_per_round), result.includes)
    print(result.formula)
    print(*result.notes, sep="\n")
    print(result.provenance.device)


def _turns(rounds: int, steps: int) -> str:
    return f"{counted(rounds, 'round')} of {counted(steps, 'step')}."


def _ratio_table(title: str, ratios: dict[str, Ratio]) -> str:
    rows = [(name, r.median, r.lowest, r.highest, r.limit, r.passed) for name, r in ratios.items()]
    return table((title, *_SPREAD, "limit", ""), rows)


def _show_choices(result: Choices) -> None:
    for name in dict.fromkeys(choice.experiment for choice in result.choices):
        rows = [
            (
                choice.variant,
                1000 * choice.seconds_per_step.median,
                choice.runs_per_hour,
                choice.ratio.median,
                choice.ratio.lowest,
                choice.ratio.highest,
                choice.against,
            )
            for choice in result.choices
            if choice.experiment == name
        ]
        header = (name, "ms/step", "runs/hour", "time over that of", "lowest", "highest")
        print(table((*header, "what it is compared with"), rows), end="\n\n")
    print(_turns(result.rounds, result.steps_per_round), result.includes)
    print("A ratio above 1: the loop is faster as built.")
    print(result.provenance.device)


COMMANDS = (add_bench,)
