"""The commands that need the data set: train, evaluate, verify."""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from mnist_models.assignment import CARD, Assignment
from mnist_models.checkpoint import FILE_NAME as CHECKPOINT
from mnist_models.checks import check_module
from mnist_models.checks.record import check_record
from mnist_models.checks.result import CheckResult
from mnist_models.cli.bar import Bar
from mnist_models.cli.options import (
    Commands,
    add_data,
    declare,
    load_data,
    show_json,
    whole,
)
from mnist_models.data import Dataset
from mnist_models.evaluate import Verdict, evaluate, verify
from mnist_models.models import EXPERIMENTS, Experiment, find_experiment
from mnist_models.record import (
    FILE_NAME,
    Record,
    RecordExistsError,
    folder_of,
    load_record,
)
from mnist_models.tables import check_table, percent, table, verdict
from mnist_models.train import identity_of, train

_NO_CLAIM = (
    "these images are scikit-learn's digits, not MNIST: no accuracy compares with a published one, "
    "and no claim, badge or table uses this record"
)


def add_train(commands: Commands) -> None:
    command = declare(
        commands,
        "train",
        run_train,
        "Train an experiment and write its record. Afterwards every check of this project's card "
        "is shown.",
        "train frontier-8k --seed 1",
    )
    command.add_argument(
        "experiment", nargs="?", default="frontier-8k", help="which (default: %(default)s)"
    )
    command.add_argument("--seed", type=whole(0), default=0, metavar="N", help="default: 0")
    command.add_argument(
        "--epochs", type=whole(1), metavar="N", help="other than the recipe's number"
    )
    add_data(command)
    command.add_argument(
        "--dataset",
        choices=("auto", "mnist", "digits"),
        default="auto",
        help="auto: MNIST, or scikit-learn's digits where it is not to be had (default)",
    )
    command.add_argument(
        "--val",
        action="store_true",
        help="train on 55,000 images and score the 5,000 others, not the test set",
    )
    command.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s"
    )
    command.add_argument(
        "--resume", action="store_true", help="go on where a stopped run left off, if there is one"
    )
    command.add_argument(
        "--force", action="store_true", help="train and replace the record that stands there"
    )


def run_train(options: argparse.Namespace) -> int:
    experiment = find_experiment(options.experiment)
    if options.epochs is not None:
        recipe = replace(experiment.recipe, epochs=options.epochs)
        experiment = replace(experiment, recipe=recipe)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_data(options, options.dataset, validation=options.val)
    notes = [str(warning.message) for warning in caught]
    if data.name == "digits":
        notes.append(_NO_CLAIM)
    _warn(notes)
    folder = folder_of(options.out, data.name, data.split, experiment.name, options.seed)
    record = None if options.force else _standing(experiment, options.seed, data, folder)
    if record is None:
        record = _train(experiment, data, folder, options)
    else:
        print(f"{folder} holds this very run already; --force trains it again", file=sys.stderr)
    status = _show_run(record, folder, as_json=options.json)
    _warn(notes)
    return status


def _warn(notes: list[str]) -> None:
    """Show warnings between two lines that cannot be missed."""
    if notes:
        line = "!" * 80
        print(line, *(f"WARNING: {note}" for note in notes), line, sep="\n", file=sys.stderr)


def _standing(experiment: Experiment, seed: int, data: Dataset, folder: Path) -> Record | None:
    """The record that makes this run needless, or None where none stands there.

    Raises:
        RecordError: another record, or a damaged one, stands there.
    """
    if not (folder / FILE_NAME).exists():
        return None
    record = load_record(folder)
    expected = identity_of(experiment, seed, data, experiment.build())
    other = [key for key, value in expected.items() if record.identity[key] != value]
    if other:
        raise RecordExistsError(
            f"{folder} holds the record of another run (its {' and '.join(other)} differ); "
            "--force replaces it, --out writes elsewhere"
        )
    return record


def _train(
    experiment: Experiment, data: Dataset, folder: Path, options: argparse.Namespace
) -> Record:
    if (folder / CHECKPOINT).exists() and not options.resume:
        print(
            f"an unfinished run lies in {folder}: starting afresh replaces it after the first "
            "epoch; --resume would go on",
            file=sys.stderr,
        )
    bar = Bar(f"{experiment.name} seed {options.seed}", data.split, quiet=options.json)
    try:
        return train(
            experiment,
            options.seed,
            data,
            folder,
            resume=options.resume,
            force=options.force,
            listener=bar,
        )
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        bar.close()
        print(f"stopped; the same command with --resume goes on in {folder}", file=sys.stderr)
        raise
    finally:
        bar.close()


def all_checks(
    record: Record, assignment: Assignment, rescored: dict[int, int] | None = None
) -> list[CheckResult]:
    """The checks on the record's network and on the record itself."""
    checks, _ = check_module(EXPERIMENTS[record.experiment].build(), assignment)
    return checks + check_record(record, assignment, rescored)


def _show_run(record: Record, folder: Path, *, as_json: bool) -> int:
    checks = all_checks(record, CARD)
    final = record.final
    if as_json:
        show_json(
            {
                "record": str(folder / FILE_NAME),
                "experiment": record.experiment,
                "seed": record.seed,
                "data": record.data.name,
                "split": record.data.split,
                "final": asdict(final),
                "seconds_per_epoch": record.timing.seconds / len(record.epochs),
                "checks": [check.to_dict() for check in checks],
            }
        )
        return 0
    print(check_table(checks))
    print(
        f"{record.experiment}, seed {record.seed}: {final.test_correct:,} of "
        f"{final.test_total:,} {record.data.split} images of {record.data.name} "
        f"({percent(final.test_correct, final.test_total)}) after epoch {final.epoch}, "
        f"{record.timing.seconds / len(record.epochs):.1f} s an epoch; "
        f"it {verdict(checks, CARD.title)}"
    )
    print(f"record: {folder / FILE_NAME}")
    return 0


def add_evaluate(commands: Commands) -> None:
    command = declare(
        commands,
        "evaluate",
        run_evaluate,
        "Score the stored weights of one record again and compare. The limits of this project's "
        "card apply to the lower of the stored and the measured count.",
        "evaluate records/mnist-test/frontier-8k/seed-0",
    )
    command.add_argument("record", type=Path, help="folder of a record, or its record.json")
    add_data(command)


def run_evaluate(options: argparse.Namespace) -> int:
    folder = options.record.parent if options.record.name == FILE_NAME else options.record
    record = load_record(folder)
    name: Literal["mnist", "digits"] = "digits" if record.data.name == "digits" else "mnist"
    data = load_data(options, name, validation=record.data.split == "validation")
    if data.name == "digits":
        _warn([_NO_CLAIM])
    result = evaluate(folder, data)
    checks = all_checks(record, CARD, result.rescored) if result.passed else []
    if options.json:
        show_json(_as_dict(result) | {"checks": [check.to_dict() for check in checks]})
        return 0 if result.passed else 1
    print(_epochs_table([result]))
    if checks:
        print(check_table(checks))
    for problem in result.problems:
        print(f"FAIL: {problem}")
    print(f"{folder}: {'the stored weights score as recorded' if result.passed else 'refused'}")
    return 0 if result.passed else 1


def add_verify(commands: Commands) -> None:
    command = declare(
        commands,
        "verify",
        run_verify,
        "Score every stored epoch of every published record again. Fails where one differs by "
        "more than 2 images of 10,000, or where a record or weight file is damaged.",
        "verify --records records",
    )
    command.add_argument(
        "--records", type=Path, default=Path("records"), metavar="DIR", help="default: %(default)s"
    )
    add_data(command)


def run_verify(options: argparse.Namespace) -> int:
    data = load_data(options, "mnist")
    results: list[Verdict] = []
    for result in tqdm(verify(options.records, data), desc="verify", unit="record"):
        results.append(result)
    passed = all(result.passed for result in results)
    if options.json:
        show_json({"passed": passed, "records": [_as_dict(result) for result in results]})
        return 0 if passed else 1
    print(_epochs_table(results))
    problems = [problem for result in results for problem in result.problems]
    for problem in problems:
        print(f"FAIL: {problem}")
    epochs = sum(len(result.epochs) for result in results)
    print(
        f"verify: {len(results)} records, {epochs} stored epochs scored again, "
        f"{len(problems)} problems"
    )
    return 0 if passed else 1


def _as_dict(result: Verdict) -> dict[str, object]:
    return {
        "record": str(result.folder),
        "passed": result.passed,
        "epochs": [asdict(epoch) for epoch in result.epochs],
        "problems": result.problems,
    }


def _epochs_table(results: list[Verdict]) -> str:
    rows = [
        (result.folder, epoch.epoch, epoch.stored, epoch.rescored, epoch.total, epoch.agrees)
        for result in results
        for epoch in result.epochs
    ]
    return table(("record", "epoch", "stored", "scored again", "images", ""), rows)


COMMANDS = (add_train, add_evaluate, add_verify)
