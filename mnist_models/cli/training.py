"""The command train."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mnist_models.allocator import keep_memory
from mnist_models.assignment import Assignment
from mnist_models.checkpoint import FILE_NAME as CHECKPOINT
from mnist_models.cli.actions import disarmed, plain
from mnist_models.cli.bar import Bar
from mnist_models.cli.options import (
    MOST_THREADS,
    Commands,
    UsageError,
    add_assignment,
    add_data,
    assignment_of,
    declare,
    device_of,
    say_stopped,
    seeds,
    show_json,
    whole,
)
from mnist_models.cli.places import busy
from mnist_models.cli.scoring import NO_CLAIM, all_checks, warn
from mnist_models.cli.verdicts import summarise_checks
from mnist_models.data import DataError, Dataset, load
from mnist_models.idx import DownloadError
from mnist_models.job import alone_in, standing
from mnist_models.models import Experiment, find_experiment
from mnist_models.record import (
    FILE_NAME,
    Record,
    folder_of,
)
from mnist_models.stack import StackError
from mnist_models.stacked import SIDE_BY_SIDE, refuse_unstackable, train_stacked
from mnist_models.tables import check_table, percent, verdict
from mnist_models.train import DivergedError, identity_of, train


def add_train(commands: Commands) -> None:
    command = declare(
        commands,
        "train",
        run_train,
        "Train an experiment and write its record. Afterwards every check of the assignment is "
        "shown. Exit status: 2 if a seed has no record, else 0, whatever limits are kept.",
        "train frontier-8k --seed 1",
    )
    command.add_argument(
        "experiment", nargs="?", default="frontier-8k", help="which (default: %(default)s)"
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--seed", type=whole(0), metavar="N", help="default: 0")
    which.add_argument("--seeds", type=seeds, metavar="LIST", help="several: 0-4, or 0,3,7")
    command.add_argument(
        "--stacked",
        type=whole(1),
        metavar="K",
        help="train K of the --seeds at a time, side by side in one network (default: "
        f"{SIDE_BY_SIDE['cpu']} on a CPU, {SIDE_BY_SIDE['cuda']} on a GPU, 1 where the network or "
        "its schedule cannot be stacked)",
    )
    command.add_argument(
        "--epochs", type=whole(1), metavar="N", help="other than the recipe's number"
    )
    command.add_argument(
        "--threads",
        type=whole(1, MOST_THREADS),
        metavar="N",
        help="on a CPU (default: one for each core; where others compute, 1 is many times as fast)",
    )
    add_assignment(command, runs=True)
    add_data(command)
    add_runs(command)
    command.add_argument(
        "--resume", action="store_true", help="go on where a stopped run left off, if there is one"
    )
    command.add_argument(
        "--force", action="store_true", help="train and replace the record that stands there"
    )


def add_runs(command: argparse.ArgumentParser) -> None:
    """Add ``--dataset``, ``--val`` and ``--out``."""
    add_dataset(command)
    command.add_argument(
        "--val",
        action="store_true",
        help="train on 55,000 images and score the 5,000 others, not the test set",
    )
    command.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s"
    )


def add_dataset(command: argparse.ArgumentParser) -> None:
    """Add ``--dataset``."""
    command.add_argument(
        "--dataset",
        choices=("auto", "mnist", "digits"),
        default="auto",
        help="auto: MNIST, or scikit-learn's digits where it is not to be had (default)",
    )


def load_noting(options: argparse.Namespace, device: torch.device) -> tuple[Dataset, list[str]]:
    """The data set that the options of `add_runs` name, and the warnings about it, shown."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            data = load(options.dataset, options.data_root, options.val, device, progress=True)
        except DownloadError as error:
            raise DataError(f"{error}, or use --dataset digits") from error
    notes = [str(warning.message) for warning in caught]
    if data.name == "digits":
        notes.append(NO_CLAIM)
    warn(notes)
    return data, notes


def run_train(options: argparse.Namespace) -> int:
    if options.stacked and not options.seeds:
        raise UsageError("--stacked trains several seeds side by side: give them as --seeds 0-9")
    experiment = find_experiment(options.experiment)
    assignment = assignment_of(options, experiment)
    show = partial(_show_run, assignment=assignment, as_json=options.json)
    if options.epochs is not None:
        recipe = replace(experiment.recipe, epochs=options.epochs)
        experiment = replace(experiment, recipe=recipe)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    elif (load := busy()) is not None and torch.get_num_threads() > 1:
        print(f"{load}: --threads 1 may be many times faster", file=sys.stderr)
    if options.stacked:  # refused before it leaves a folder
        refuse_unstackable(experiment)
    data, notes = load_noting(options, device_of(options))
    wanted = options.seeds or [options.seed or 0]
    folders = {
        seed: folder_of(options.out, data.name, data.split, experiment.name, seed)
        for seed in wanted
    }
    identity = identity_of(experiment, 0, data, experiment.build())
    keep_memory()
    # All of them first: what is in the way of one shows before hours of training another.
    shown = {} if options.force else _standing(identity, folders, show)
    with contextlib.ExitStack() as held:
        todo = {seed: folder for seed, folder in folders.items() if seed not in shown}
        for folder in todo.values():
            held.enter_context(alone_in(folder))
        if not options.force:  # another process may have ended one meanwhile
            shown |= _standing(identity, todo, show)
        todo = {seed: folder for seed, folder in todo.items() if seed not in shown}
        status, trained = _train_all(experiment, todo, data, options, show)
    shown |= trained
    if options.json:
        show_json([shown[seed] for seed in wanted] if options.seeds else shown[wanted[0]])
    warn(notes)
    return status


Shown = dict[int, dict[str, object]]
Show = Callable[[Record, Path], dict[str, object]]


def _standing(identity: dict[str, Any], folders: Mapping[int, Path], show: Show) -> Shown:
    """Those of the runs that stand already, shown."""
    found = {seed: standing(identity | {"seed": seed}, at) for seed, at in folders.items()}
    shown: Shown = {}
    for seed, record in found.items():
        if record is not None:
            folder = folders[seed]
            said = f"{folder} holds this very run already; --force trains it again"
            print(plain(said), file=sys.stderr)
            shown[seed] = show(record, folder)
    return shown


def _train_all(
    experiment: Experiment,
    folders: Mapping[int, Path],
    data: Dataset,
    options: argparse.Namespace,
    show: Show,
) -> tuple[int, Shown]:
    """Train, and show, group by group; gives the exit status as well."""
    shown: Shown = {}
    width, status, todo = _side_by_side(experiment, data, options), 0, list(folders)
    for first in range(0, len(todo), width):
        group = {seed: folders[seed] for seed in todo[first : first + width]}
        for seed, outcome in _train(experiment, group, data, options).items():
            if isinstance(outcome, DivergedError):  # the others of its group have their records
                print(f"error: seed {seed}: {plain(outcome)}", file=sys.stderr)
                shown[seed] = {"record": None, "seed": seed, "cause": str(outcome)}
                status = 2
            else:
                shown[seed] = show(outcome, group[seed])
    return status, shown


def _side_by_side(experiment: Experiment, data: Dataset, options: argparse.Namespace) -> int:
    if options.stacked or not options.seeds:
        return options.stacked or 1
    try:
        refuse_unstackable(experiment)
    except StackError:
        return 1
    return SIDE_BY_SIDE[data.train.images.device.type]


def _train(
    experiment: Experiment, folders: dict[int, Path], data: Dataset, options: argparse.Namespace
) -> Mapping[int, Record | DivergedError]:
    """Train these seeds, side by side where that is asked for."""
    for folder in folders.values():
        if (folder / CHECKPOINT).exists() and not options.resume:
            print(
                f"an unfinished run lies in {folder}: starting afresh replaces it after the first "
                "epoch; --resume would go on",
                file=sys.stderr,
            )
    numbers = ", ".join(map(str, folders))
    bar = Bar(f"{experiment.name} seed {numbers}", data.split, quiet=options.json)
    how = {"resume": options.resume, "force": options.force, "listener": bar}
    try:
        if options.stacked or len(folders) > 1:
            return train_stacked(experiment, folders, data, **how)
        (seed, folder), *_ = folders.items()
        try:
            return {seed: train(experiment, seed, data, folder, **how)}
        except DivergedError as error:
            if not options.seeds:
                raise
            return {seed: error}  # the other seeds are still to come
    except (KeyboardInterrupt, SystemExit) as stop:  # Ctrl-C, SIGTERM
        bar.close()
        where = ", ".join(map(str, folders.values()))
        say_stopped(stop, f"; the same command with --resume goes on in {where}")
    finally:
        bar.close()


def _show_run(
    record: Record, folder: Path, *, assignment: Assignment, as_json: bool
) -> dict[str, object]:
    """Print a run, unless it is to be JSON; gives that."""
    checks = all_checks(record, assignment)
    final = record.final
    seconds = record.timing.seconds / len(record.epochs)
    heading = f"{record.experiment}, seed {record.seed}"
    said = (
        f"{heading}: {final.test_correct:,} of "
        f"{final.test_total:,} {record.data.split} images of {record.data.name} "
        f"({percent(final.test_correct, final.test_total)}) after epoch {final.epoch}, "
        f"{seconds:.1f} s an epoch; it {verdict(checks, assignment.title)}"
    )
    summarise_checks(said, checks)
    if not as_json:
        print(disarmed(check_table(checks)))
        print(plain(said))
        print(plain(f"record: {folder / FILE_NAME}"))
    return {
        "record": str(folder / FILE_NAME),
        "experiment": record.experiment,
        "seed": record.seed,
        "data": record.data.name,
        "split": record.data.split,
        "final": asdict(final),
        "seconds_per_epoch": seconds,
        "checks": [check.to_dict() for check in checks],
    }


COMMANDS = (add_train,)
