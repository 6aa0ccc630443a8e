"""The table of this project's own models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mnist_models.assignment import CARD, Limit
from mnist_models.models import EXPERIMENTS
from mnist_models.report.frontier import frontier
from mnist_models.report.reproduction import Row, rows, section
from mnist_models.statistics import aggregate

from .test_statistics import seeds

SMALL = replace(
    EXPERIMENTS["frontier-8k"],
    name="frontier-0k",
    assignment=replace(CARD, parameters=Limit("<", 500)),
)


@pytest.mark.parametrize(
    ("finals", "measured"),
    [
        (  # of 10,000: mean 9,960, sd 10; t(0.975; 2) = 4.303; 3 of 3 by Wilson from 43.85 %
            (9_950, 9_960, 9_970),
            "99.60 % ± 0.10, minimum 99.50 %, n = 3 | 99.35 % to 99.85 % | "
            "3 of 3 (95 % interval 44 % to 100 %)",
        ),
        ((9_930,), "99.30 %, n = 1 | - | 0 of 1 (95 % interval 0 % to 79 %)"),
        ((), "no record | - | no record"),
    ],
)
def test_a_row_says_what_was_measured(finals: tuple[int, ...], measured: str) -> None:
    found = aggregate(seeds(*finals), CARD) if finals else None
    text = frontier([Row(SMALL, 456, 30, 40, found)])
    kept = "kept" if finals else "kept by the network"
    assert (
        text.splitlines()[-1] == f"| `frontier-0k` | < 500 | 456 | 30 | 15 | {measured} | {kept} |"
    )


def test_a_row_says_what_its_experiment_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing excuses one of this project's own: a network that breaks limits, and a seed."""
    mine = replace(SMALL, name="mine", build=EXPERIMENTS["steps-3"].build, assignment=CARD)
    monkeypatch.setitem(EXPERIMENTS, "mine", mine)
    runs = [replace(record, experiment="mine") for record in seeds(9_950, 9_930)]
    for group, more in (([], ""), (runs, ", accuracy")):
        row = next(row for row in rows({"mine": group}) if row.experiment is mine)
        missed = f"**not kept**: dropout, receptive-field{more}"
        line = frontier([row]).splitlines()[-1]
        assert missed in line
        assert f"- Limits: {missed}" in section(mine.system, [row])
    known = {row.experiment.name: row for row in rows({})}
    assert known["steps-3"].broken == ()  # a published one: the tables of claims are its place
    assert "Limits" not in section(mine.system, [known["frontier-8k"]])
    assert frontier([known["frontier-8k"]]).endswith("| kept by the network |\n")


def test_what_is_unknown_is_said() -> None:
    assert "| < 500 | unknown | unknown | 15 |" in frontier([Row(SMALL, None, None, None, None)])


def test_every_experiment_has_its_row() -> None:
    found = [Row(replace(SMALL, name=name), 1, 1, 1, None) for name in ("one", "two")]
    assert [line.split("`")[1] for line in frontier(found).splitlines()[2:]] == ["one", "two"]
