"""The commands that score stored weights again: evaluate, verify."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from mnist_models.assignment import Assignment
from mnist_models.checks import check_built
from mnist_models.checks.record import check_record
from mnist_models.checks.result import CheckResult
from mnist_models.cli.actions import annotate, disarmed, markdown_table, plain, summarise
from mnist_models.cli.options import (
    Commands,
    add_assignment,
    add_data,
    assignment_of,
    declare,
    load_data,
    show_json,
)
from mnist_models.cli.places import add_workers, local_workers
from mnist_models.data import Dataset, Source
from mnist_models.evaluate import Verdict, evaluate, evaluate_from, published, verify
from mnist_models.models import EXPERIMENTS
from mnist_models.plural import counted
from mnist_models.record import FILE_NAME, Record, load_record
from mnist_models.schema import differences
from mnist_models.tables import check_table, table
from mnist_models.workers import WorkersError, deaths, local

NO_CLAIM = (
    "these images are scikit-learn's digits, not MNIST: no accuracy compares with a published one, "
    "and no claim, badge or table uses this record"
)


def warn(notes: list[str]) -> None:
    """Show warnings between two lines that cannot be missed."""
    if notes:
        line = "!" * 80
        print(line, *(f"WARNING: {plain(note)}" for note in notes), line, sep="\n", file=sys.stderr)


def all_checks(
    record: Record, assignment: Assignment, rescored: dict[int, int] | None = None
) -> list[CheckResult]:
    """The checks on the record's network and on the record itself."""
    (checks,), _ = check_built(EXPERIMENTS[record.experiment].build, assignment)
    return [*checks, *check_record(record, assignment, rescored)]


def add_evaluate(commands: Commands) -> None:
    command = declare(
        commands,
        "evaluate",
        run_evaluate,
        "Score the stored weights of one record again and compare. The limits of the assignment "
        "apply to the lower of the stored and the measured count, and are shown. Exit status: 1 if "
        "the weights do not score as recorded, else 0, whatever limits are kept.",
        "evaluate records/mnist-test/frontier-8k/seed-0",
    )
    command.add_argument("record", type=Path, help="folder of a record, or its record.json")
    add_assignment(command, runs=True)
    add_data(command)


def run_evaluate(options: argparse.Namespace) -> int:
    folder = options.record.parent if options.record.name == FILE_NAME else options.record
    record = load_record(folder)
    assignment = assignment_of(options, EXPERIMENTS.get(record.experiment))
    name: Literal["mnist", "digits"] = "digits" if record.data.name == "digits" else "mnist"
    data = load_data(options, name, validation=record.data.split == "validation")
    if data.name == "digits":
        warn([NO_CLAIM])
    result = evaluate(folder, data)
    checks = all_checks(record, assignment, result.rescored) if result.passed else []
    if options.json:
        show_json(_as_dict(result) | {"checks": [check.to_dict() for check in checks]})
        return 0 if result.passed else 1
    print(disarmed(_epochs_table([result])))
    if checks:
        print(disarmed(check_table(checks)))
    for problem in result.problems:
        print(f"FAIL: {plain(problem)}")
    said = "the stored weights score as recorded" if result.passed else "refused"
    print(plain(f"{folder}: {said}"))
    return 0 if result.passed else 1


def add_verify(commands: Commands) -> None:
    command = declare(
        commands,
        "verify",
        run_verify,
        "Score every stored epoch of every published record again. Fails where one differs by "
        "more than 2 images of 10,000, where the differences of a record or an experiment lean to "
        "one side, or where a record or weight file is damaged.",
        "verify --records records",
    )
    command.add_argument(
        "--records", type=Path, default=Path("records"), metavar="DIR", help="default: %(default)s"
    )
    command.add_argument(
        "--verbose", action="store_true", help="list every problem of runs that are only trials too"
    )
    add_workers(command)
    add_data(command)


def run_verify(options: argparse.Namespace) -> int:
    folders = published(options.records)  # a wrong folder shows before the data set is looked for
    data = load_data(options, "mnist")
    with _evaluated(options, folders, data) as verdicts:
        results = list(tqdm(verify(verdicts), total=len(folders), desc="verify", unit="record"))
    passed = all(result.passed for result in results)
    _tell_github(results)
    if options.json:
        show_json({"passed": passed, "records": [_as_dict(result) for result in results]})
        return 0 if passed else 1
    print(disarmed(_epochs_table(results)))
    _print_problems(results, verbose=options.verbose)
    epochs = sum(len(result.epochs) for result in results)
    problems = sum(len(result.problems) for result in results)
    print(
        f"verify: {counted(len(results), 'record')}, {counted(epochs, 'stored epoch')} scored "
        f"again, {counted(problems, 'problem')}"
    )
    return 0 if passed else 1


def _print_problems(results: Sequence[Verdict], *, verbose: bool) -> None:
    """Each of a record that is or was to be published; a line for a run that is only a trial."""
    failed = [result for result in results if result.problems]
    trials = [result for result in failed if _trial(result)]
    for result in failed:
        for problem in _shown(result, verbose=verbose):
            print(f"FAIL: {plain(problem)}")
    if len(failed) > len(trials):
        print("restore those files with git, or train those seeds again: see train --out --force")
    if trials:
        print("a trial is not to be published: train it as registered, or score it with evaluate")


def _shown(result: Verdict, *, verbose: bool) -> list[str]:
    if verbose or len(result.problems) == 1 or not (otherwise := _trial(result)):
        return result.problems
    count = len(result.problems)
    return [f"{result.folder}: a trial, {otherwise}: {count} problems, which --verbose lists"]


def _trial(result: Verdict) -> str:
    """How a run differs from those that are published, in words; "" for one that does not."""
    record = result.record
    if record is None:
        return ""
    data, registered = record.data, EXPERIMENTS.get(record.experiment)
    if (data.name, data.split) != ("mnist", "test"):
        return f"scored on {data.name} ({data.split})"
    recipe = record.recipe if registered is None else registered.recipe.to_dict()
    return "; ".join(differences(record.recipe, recipe))


@contextlib.contextmanager
def _evaluated(
    options: argparse.Namespace, folders: Sequence[Path], data: Dataset
) -> Iterator[Iterator[Verdict]]:
    """The verdicts on these folders in turn, by worker processes where there is room for more.

    Two processes with a core each do more of this work than one with two cores.
    """
    where, device = local_workers(options, threads=1)
    where = where[: len(folders)]
    if len(where) == 1:
        yield map(functools.partial(evaluate, data=data), folders)
        return
    root = options.data_root.resolve() if options.data_root else None
    source = Source("mnist", root, validation=False, device=device)
    with local(where) as executor:
        yield map(_outcome, [executor.submit(evaluate_from, each, source) for each in folders])


def _outcome(future: Future[Verdict]) -> Verdict:
    error = future.exception()
    if error is not None and deaths(error):
        raise WorkersError(
            f"a worker process died ({error}); it may have been short of memory: run verify again "
            "with --workers 1"
        ) from error
    return future.result()


def _tell_github(results: list[Verdict]) -> None:
    """The table in the summary of the job, and a mark at each record that does not hold."""
    rows = [
        (
            result.folder,
            ", ".join(f"{epoch.rescored:,} of {epoch.total:,}" for epoch in result.epochs) or "-",
            "pass" if result.passed else "FAIL",
        )
        for result in results
    ]
    header = ("record", "scored again, last epochs", "")
    summarise(f"### Published records, scored again\n\n{markdown_table(header, rows)}")
    for result in results:
        for problem in result.problems:
            annotate(problem, title="verify", file=result.folder / FILE_NAME, line=1)


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


COMMANDS = (add_evaluate, add_verify)
