"""The command bench."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from mnist_models.bench import INCLUDES, bench
from mnist_models.cli.options import Commands, add_data, declare, load_data, show_json, whole
from mnist_models.provenance import device_name
from mnist_models.tables import table

_CONTENDERS = 3


def add_bench(commands: Commands) -> None:
    command = declare(
        commands,
        "bench",
        run_bench,
        "Time the training loop against the notebook pipeline of steps-6 and against the bare "
        "compute floor. All take turns within one run, so that the ratios hold on a busy machine.",
        "bench --rounds 7",
    )
    command.add_argument(
        "--rounds", type=whole(1), default=5, metavar="N", help="turns of each (default: 5)"
    )
    command.add_argument(
        "--steps", type=whole(1), default=100, metavar="N", help="steps of a turn (default: 100)"
    )
    add_data(command)


def run_bench(options: argparse.Namespace) -> int:
    data = load_data(options, "mnist")
    with tqdm(total=options.rounds * _CONTENDERS, desc="bench", unit="turn") as bar:
        result = bench(
            data, rounds=options.rounds, steps=options.steps, listener=lambda: bar.update() and None
        )
    if options.json:
        show_json(result.to_dict() | {"device": device_name(data.train.images.device)})
        return 0 if all(ratio.passed for ratio in result.ratios) else 1
    rows = [(t.name, t.median, min(t.rounds), max(t.rounds)) for t in result.timings]
    print(table(("contender", "s/epoch, median", "fastest", "slowest"), rows))
    print()
    print(
        table(
            ("ratio", "median", "lowest", "highest", "limit", ""),
            [
                (r.name, r.median, min(r.rounds), max(r.rounds), r.limit, r.passed)
                for r in result.ratios
            ],
        )
    )
    print(f"\n{len(result.timings[0].rounds)} rounds of {result.steps} steps; timed: {INCLUDES}")
    print(device_name(data.train.images.device))
    return 0 if all(ratio.passed for ratio in result.ratios) else 1


COMMANDS = (add_bench,)
