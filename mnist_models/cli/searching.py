"""The command search."""

from __future__ import annotations

import argparse
import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from mnist_models.atomic import make_folder, write_atomically
from mnist_models.cli.actions import plain
from mnist_models.cli.bar import SearchBar, settings_of
from mnist_models.cli.options import (
    Commands,
    UsageError,
    add_data,
    declare,
    say_stopped,
    seeds,
    show_json,
    whole,
)
from mnist_models.cli.places import add_where, executor_of, side_by_side, workers_of
from mnist_models.cli.scoring import NO_CLAIM, warn
from mnist_models.cli.training import add_dataset, load_noting
from mnist_models.data import Source
from mnist_models.job import alone_in
from mnist_models.models import find_experiment
from mnist_models.search.arm import Arm
from mnist_models.search.candidate import refuse_slips
from mnist_models.search.log import log
from mnist_models.search.loop import Effort, search
from mnist_models.search.space import Choice, Range, Setting, SpaceError, Value, read_setting
from mnist_models.search.study import Question, arms, load_study
from mnist_models.sweep import Listener
from mnist_models.tables import table

_MANY = 12  # arms at once where they are pruned: enough for a median, few enough to learn from


def add_search(commands: Commands) -> None:
    command = declare(
        commands,
        "search",
        run_search,
        "Compare variants of an experiment over the same seeds, on the validation slice alone: "
        "every combination of the listed values, or, where a range is given, arms sampled by "
        "Optuna. What is finished is kept in --out: the same command goes on after Ctrl-C, and "
        "--show lists what a study found. Exit status: 1 if an arm failed, else 0.",
        "search frontier-8k --vary learning_rate=0.1,0.2,0.4 --vary batch_size=32,64 --seeds 0-2",
    )
    command.add_argument("experiment", metavar="EXPERIMENT", help="what is varied; see list")
    command.add_argument(
        "--vary",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUES",
        help="a field of the recipe (learning_rate, schedule.warm_up, augmentation.degrees) or an "
        "argument of the network's builder, with values 0.1,0.2 or a range 0.05..0.5; repeatable",
    )
    command.add_argument(
        "--arm",
        action="append",
        default=[],
        type=_arm,
        metavar="SETTINGS",
        help="one arm by itself, such as 'batch_size=32 learning_rate=0.1'; repeatable",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="the same for all arms, such as epochs=6; repeatable",
    )
    command.add_argument(
        "--seeds", type=seeds, default=[0, 1, 2], metavar="LIST", help="of each arm (default: 0-2)"
    )
    command.add_argument(
        "--arms", type=whole(1), metavar="N", help="at most (default: all combinations)"
    )
    command.add_argument(
        "--sampler",
        choices=("tpe", "random"),
        default="tpe",
        help="of ranges (default: tpe, which learns from the arms before); of lists whose "
        "combinations are more than --arms, some are drawn at random",
    )
    command.add_argument(
        "--prune",
        action="store_true",
        help="after each seed, drop the arms below the median of the finished ones",
    )
    command.add_argument(
        "--study", metavar="NAME", help="default: the experiment's name", type=_name
    )
    command.add_argument("--show", action="store_true", help="train nothing: list what was found")
    command.add_argument(
        "--log", type=Path, metavar="DIR", help="write what was found to DIR/STUDY.json as well"
    )
    add_where(command)
    add_data(command)
    add_dataset(command)
    command.add_argument(
        "--out",
        type=Path,
        default=Path("runs/search"),
        metavar="DIR",
        help="of the studies and their runs (default: %(default)s)",
    )


def _setting(text: str) -> Setting:
    try:
        return read_setting(text)
    except SpaceError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _arm(text: str) -> dict[str, Value]:
    settings = [_setting(word) for word in text.split()]
    values: dict[str, Value] = {}
    for setting in settings:
        if not isinstance(setting, Choice) or len(setting.values) > 1 or setting.name in values:
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected one value a setting, such as 'batch_size=32 average=0.99'"
            )
        values[setting.name] = setting.values[0]
    if not values:
        raise argparse.ArgumentTypeError("expected settings, such as 'batch_size=32 average=0.99'")
    return values


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a letter or digit first, then any of these and of - and _"
        )
    return text


def run_search(options: argparse.Namespace) -> int:
    name = options.study or options.experiment
    if options.show:
        _show(load_study(options.out, name), name, options)
        return 0
    if not options.vary and not options.arm:
        raise UsageError(
            "expected at least one --vary or --arm, such as --vary learning_rate=0.1,0.2"
        )
    given = [setting.name for setting in (*options.vary, *options.set)]
    if twice := [each for each in given if given.count(each) > 1]:
        raise UsageError(f"expected each setting once; {twice[0]} is there twice")
    if options.prune and (options.stacked or 1) > 1:
        raise UsageError("--prune trains one seed of an arm after the other: leave out --stacked")
    sampled = any(isinstance(setting, Range) for setting in options.vary)
    if sampled and options.arms is None:
        raise UsageError("a range holds any number of arms: say how many, such as --arms 40")
    if options.log:  # before hours of work
        make_folder(options.log, "--log")
    options.val = True
    data, _ = load_noting(options, torch.device("cpu"))
    question = Question(
        find_experiment(options.experiment),
        _fixed(options),
        tuple(options.seeds),
        tuple(options.vary),
        data,
        options.out,
        tuple(options.arm),
    )
    refuse_slips(question)
    where, device = workers_of(options)
    root = options.data_root.resolve() if options.data_root else None
    effort = Effort(
        arms=options.arms,
        batch=_MANY if options.prune or options.dask else 2 * len(where),
        sampler=options.sampler,
        prune=options.prune,
        source=Source(data.name, root, True, device),
        threads=options.threads,
        stacked=1 if options.prune else options.stacked or side_by_side(device),
    )
    with alone_in(options.out / f".{name}"), executor_of(options, where) as executor:
        study = load_study(options.out, name, question)
        states = _train(functools.partial(search, study, question, effort, executor))
    _show(study, name, options)
    return 1 if states["failed"] else 0


def _train(searching: Callable[[Callable[[int, int], Listener]], Iterable[Arm]]) -> Counter[str]:
    """What became of how many arms; a bar shows how it goes."""
    states: Counter[str] = Counter()
    with SearchBar() as bar:
        try:
            for arm in searching(bar.batch):
                bar.tell(arm)
                states[arm.state] += 1
        except (KeyboardInterrupt, SystemExit) as stop:  # Ctrl-C, SIGTERM
            bar.close()
            say_stopped(stop, "; the same command goes on")
    return states


def _fixed(options: argparse.Namespace) -> dict[str, str]:
    for setting in options.set:
        if not isinstance(setting, Choice) or len(setting.values) > 1:
            raise UsageError(f"--set {setting.name}: expected one value")
    return {setting.name: setting.values[0] for setting in options.set}


def _show(study: Any, name: str, options: argparse.Namespace) -> None:
    found = arms(study)
    result = log(name, study.user_attrs["question"], found)
    if options.log:
        make_folder(options.log, "--log")
        text = json.dumps(result, indent=1, allow_nan=False) + "\n"
        write_atomically(options.log / f"{name}.json", text.encode())
    if options.json:
        show_json(result)
        return
    rows = [
        (
            row["arm"],
            row["state"],
            row["parameters"],
            len(row["seeds"]),
            *(_decimals(row[key]) for key in ("mean", "deviation")),
            _decimals(row["loss"], 5),
            *(_decimals((row["difference"] or {}).get(key)) for key in ("mean", "p")),
            settings_of(found[row["arm"]]) + (f" ({row['cause']})" if row["cause"] else ""),
        )
        for row in result["arms"]
    ]
    header = (
        "arm",
        "state",
        "parameters",
        "n",
        "mean %",
        "sd",
        "loss",
        "less arm 0",
        "p",
        "settings",
    )
    print(table(header, rows))
    if any(row["arms"] > 1 for row in result["settings"]):
        effects = [
            (*list(row.values())[:3], _decimals(row["mean"]), _decimals(row["deviation"]))
            for row in result["settings"]
        ]
        print("\n" + table(("setting", "value", "arms", "mean %", "sd"), effects) + "\n")
    counts = Counter(arm.state for arm in found)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    data = study.user_attrs["question"]["data"]
    print(plain(f"scored: {data['split']} images of {data['name']}, never the test set"))
    if data["name"] == "digits":
        warn([NO_CLAIM])


def _decimals(number: float | None, places: int = 3) -> str | None:
    return None if number is None else f"{number:.{places}f}"


COMMANDS = (add_search,)
