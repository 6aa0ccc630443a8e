"""The command sweep."""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm import tqdm

from mnist_models.board import board_in
from mnist_models.cli.actions import plain
from mnist_models.cli.options import (
    Commands,
    UsageError,
    add_data,
    add_log,
    append_to_log,
    declare,
    read_log,
    say_stopped,
    seeds,
    show_json,
    whole,
)
from mnist_models.cli.places import add_where, executor_of, side_by_side, workers_of
from mnist_models.cli.scoring import warn
from mnist_models.cli.training import add_runs, load_noting
from mnist_models.cost import costs, duration
from mnist_models.data import Source
from mnist_models.models import Experiment, find_experiment
from mnist_models.plural import counted
from mnist_models.record import Record, RecordError, find_records, load_record
from mnist_models.sweep import Outcome, Plan, Progress, State, plan, sweep
from mnist_models.tables import percent, spread, table
from mnist_models.workers import Place

_MOST = 100_000  # seeds: ten times the sweep that docs/scale.md works out
_STATES: dict[State, str] = {
    "trained": "trained",
    "standing": "stood already",
    "elsewhere": "by another sweep meanwhile",
    "failed": "failed",
}


def add_sweep(commands: Commands) -> None:
    command = declare(
        commands,
        "sweep",
        run_sweep,
        "Train many seeds of many experiments, a run at a time on each worker. A run whose "
        "record stands is skipped, and one that was stopped goes on from its checkpoint: the same "
        "command finishes what Ctrl-C or a failure left. Exit status: 1 if a run failed, else 0.",
        "sweep frontier-8k steps-6 --seeds 0-9",
    )
    command.add_argument("experiments", nargs="+", metavar="EXPERIMENT", help="see list")
    command.add_argument(
        "--seeds",
        type=functools.partial(seeds, most=_MOST),
        default=[0],
        metavar="LIST",
        help="of each experiment: 0-9, or 0,3,7 (default: 0)",
    )
    command.add_argument(
        "--epochs", type=whole(1), metavar="N", help="other than the recipes' numbers"
    )
    add_where(command)
    add_data(command)
    add_runs(command)
    add_log(command, "what --json prints, the single runs aside,", "docs/sweeps.json")
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="list what would run, and how long that takes by the timing of records",
    )


def run_sweep(options: argparse.Namespace) -> int:
    experiments = _experiments(options)
    read_log(options.log)
    where, device = workers_of(options)
    data, notes = load_noting(options, torch.device("cpu"))
    root = options.data_root.resolve() if options.data_root else None
    source = Source(data.name, root, options.val, device)
    planned = functools.partial(plan, experiments, options.seeds, data, options.out, source=source)
    options.stacked = options.stacked or side_by_side(device)
    planned = functools.partial(planned, stacked=options.stacked, workers=len(where) or 1)
    if options.dry_run:
        return _show_plan(planned(board=Path(), threads=1), len(where), options)
    with board_in(options.out) as board:
        began = time.perf_counter()
        todo = planned(board=board, threads=options.threads)
        outcomes = _train(todo, where, options) if todo.jobs else []
        seconds = time.perf_counter() - began
    status = _show(todo, outcomes, seconds, len(where), options)
    warn(notes)
    return status


def _experiments(options: argparse.Namespace) -> list[Experiment]:
    names = options.experiments
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"expected each experiment once; {twice[0]} is there twice")
    found = [find_experiment(name) for name in names]
    if options.epochs is None:
        return found
    return [
        replace(experiment, recipe=replace(experiment.recipe, epochs=options.epochs))
        for experiment in found
    ]


def _train(planned: Plan, where: Sequence[Place], options: argparse.Namespace) -> list[Outcome]:
    outcomes = []
    with _bar(planned) as bar:
        try:
            with executor_of(options, where) as executor:
                for outcome in sweep(planned, executor, functools.partial(_tell, bar, planned)):
                    outcomes.append(outcome)
                    if outcome.state == "failed":
                        said = f"{outcome.experiment} seed {outcome.seed} failed: {outcome.cause}"
                        bar.write(plain(said), file=sys.stderr)
        except (KeyboardInterrupt, SystemExit) as stop:  # Ctrl-C, SIGTERM
            bar.close()
            done = f"{len(outcomes)} of {counted(len(planned.jobs), 'run')}"
            say_stopped(stop, f" after {done}; the same command goes on")
    return outcomes


def _bar(planned: Plan) -> tqdm:
    return tqdm(
        total=planned.epochs,
        initial=sum(planned.finished),
        desc="sweep",
        unit="epoch",
        dynamic_ncols=True,
        smoothing=0,  # workers end their epochs in bursts: the mean says more
        file=sys.stderr,
    )


def _tell(bar: tqdm, planned: Plan, progress: Progress) -> None:
    failed = progress.states["failed"]
    said = f"{progress.states.total()} of {counted(len(planned.jobs), 'run')}"
    said += f", {failed} failed" if failed else ""
    said += f", {progress.held} held by another sweep" if progress.held else ""
    bar.n = progress.finished
    bar.set_postfix_str(said)


def _show(
    planned: Plan,
    outcomes: Sequence[Outcome],
    seconds: float,
    workers: int,
    options: argparse.Namespace,
) -> int:
    runs = [*planned.standing, *outcomes]
    counts = Counter(run.state for run in runs)
    trained = [run for run in runs if run.state == "trained"]
    devices = sorted({run.device for run in trained})
    training = sum(run.seconds for run in trained)
    result = {
        "experiments": options.experiments,
        "epochs": planned.epochs,
        "workers": workers or options.dask,
        "threads": options.threads,
        "stacked": options.stacked,
        "device": "; ".join(devices),
        "counts": {state: counts[state] for state in get_args(State)},
        "wall_seconds": seconds,
        "trained_seconds": training,
    }
    found = _accuracies(runs)
    if options.json:
        show_json(result | {"accuracies": found, "runs": [asdict(run) for run in runs]})
    else:
        if found:
            print(table(("experiment", "n", "final epoch", "sd", "lowest"), _rows(found)))
        said = ", ".join(f"{counts[state]} {text}" for state, text in _STATES.items())
        times = f"{duration(seconds)}, {duration(training)} of training"
        print(f"{counted(len(runs), 'run')}: {said}; {times}")
        print(f"records: {options.out}")
    append_to_log(options.log, result)
    return 1 if counts["failed"] else 0


def _accuracies(runs: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The final epochs of the seeds that have records, an experiment each."""
    correct: dict[str, list[int]] = {}
    total = 0
    for run in runs:
        if run.state != "failed":
            final = load_record(Path(run.folder)).final
            correct.setdefault(run.experiment, []).append(final.test_correct)
            total = final.test_total
    return [
        {
            "experiment": name,
            "n": len(scores),
            "mean": statistics.mean(scores),
            "sd": statistics.stdev(scores) if len(scores) > 1 else None,
            "lowest": min(scores),
            "total": total,
        }
        for name, scores in correct.items()
    ]


def _rows(found: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [
        (
            each["experiment"],
            each["n"],
            percent(each["mean"], each["total"]),
            "-" if each["sd"] is None else spread(each["sd"], each["total"]),
            percent(each["lowest"], each["total"]),
        )
        for each in found
    ]


def _show_plan(planned: Plan, workers: int, options: argparse.Namespace) -> int:
    """What would run, and the time it takes by the timing of records of the same data set."""
    known = costs(_records([options.out, Path("records")], planned))
    rows = []
    for job, done in zip(planned.jobs, planned.finished, strict=True):
        epochs = job.experiment.recipe.epochs - done
        cost = known.get(job.experiment.name)
        seconds = None if cost is None else epochs * cost.epoch_seconds
        rows.append((job.experiment.name, job.seed, epochs, seconds, cost and cost.runs))
    training = sum(row[3] or 0 for row in rows)
    unknown = sorted({row[0] for row in rows if row[3] is None})
    if options.json:
        names = ("experiment", "seed", "epochs", "seconds", "records")
        show_json(
            {
                "standing": len(planned.standing),
                "workers": workers or options.dask,
                "training_seconds": training,
                "unknown": unknown,
                "runs": [dict(zip(names, row, strict=True)) for row in rows],
            }
        )
        return 0
    print(table(("experiment", "seed", "epochs to train", "seconds", "by records"), rows))
    said = ""
    known_groups = sum(group[0].experiment.name not in unknown for group in planned.groups)
    if workers and known_groups:
        rounds = math.ceil(known_groups / workers)
        pace = duration(rounds * training / known_groups)  # no group is split
        said = f", {pace} on {counted(workers, 'worker')} at that pace"
    print(
        f"{counted(len(rows), 'run')} to train, {len(planned.standing)} "
        f"{'stands' if len(planned.standing) == 1 else 'stand'} already; "
        f"{duration(training)} of training{said}"
    )
    if unknown:
        print(f"not counted, since no record says how long it takes: {', '.join(unknown)}")
    return 0


def _records(roots: Sequence[Path], planned: Plan) -> Iterator[Record]:
    """Sound records of the planned data set; damaged ones are no matter of an estimate."""
    names = {job.source.dataset for job in planned.jobs}
    for folder in (folder for root in roots for folder in find_records(root)):
        with contextlib.suppress(RecordError):
            record = load_record(folder)
            if record.data.name in names:
                yield record


COMMANDS = (add_sweep,)
