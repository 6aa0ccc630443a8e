"""``check --all``: every experiment has the verdict that is expected of it."""

from __future__ import annotations

import argparse

import torch
from tqdm import tqdm

from mnist_models.cli.actions import annotate, escape, markdown_table, plain, summarise
from mnist_models.cli.options import show_json
from mnist_models.expected import Comparison, compare, registered_at
from mnist_models.models import EXPERIMENTS, find_experiment
from mnist_models.report import published
from mnist_models.tables import table

_HEADER = ("", "experiment", "assignment", "expected to fail", "failed")


def run_check_all(options: argparse.Namespace) -> int:
    torch.set_num_threads(1)  # a second one gains a tenth, and on a busy machine costs many times
    records = published(options.records)
    found: list[Comparison] = []
    for experiment in tqdm(EXPERIMENTS.values(), desc="check", unit="experiment"):
        found += compare(experiment, records.get(experiment.name, ()))
    wrong = [comparison for comparison in found if not comparison.passed]
    said = (
        f"{len(wrong)} of {len(found)} verdicts are not the ones expected"
        if wrong
        else f"all {len(found)} verdicts are the ones expected"
    )
    if options.json:
        show_json({"passed": not wrong, "comparisons": [c.to_dict() for c in found]})
    else:
        print(table(_HEADER, [_row(comparison) for comparison in found]))
        for comparison in wrong:
            file, line = registered_at(comparison.experiment)
            print(plain(f"FAIL: {file}:{line}: {_problem(comparison)}"))
        print(said)
    for comparison in wrong:
        file, line = registered_at(comparison.experiment)
        annotate(_problem(comparison), title=comparison.experiment, file=file, line=line)
    problems = "".join(f"\n{escape(_problem(comparison))}\n" for comparison in wrong)
    rows = [[{True: "pass", False: "FAIL"}[c.passed], *_row(c)[1:]] for c in found]
    summarise(f"### Experiments: {escape(said)}\n\n{markdown_table(_HEADER, rows)}{problems}")
    return 1 if wrong else 0


def _problem(comparison: Comparison) -> str:
    published = find_experiment(comparison.experiment).source is not None
    advice = "mend the network"
    if published:  # nothing excuses one of this project's own
        advice += ", or what the experiment says it breaks"
    return f"{comparison.experiment} on {comparison.assignment}: {comparison.cause}; {advice}"


def _row(comparison: Comparison) -> tuple[object, ...]:
    lists = (", ".join(sorted(names)) or "-" for names in (comparison.expected, comparison.found))
    return (comparison.passed, comparison.experiment, comparison.assignment, *lists)
