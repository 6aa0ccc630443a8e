from __future__ import annotations

from dataclasses import replace

import pytest

from mnist_models.cost import costs, duration
from mnist_models.record import Record, Timing

from .test_checks_record import run


def timed(experiment: str, seed: int, *seconds: float) -> Record:
    """A record whose epochs took these seconds."""
    record = run([9_000] * len(seconds))
    timing = Timing(sum(seconds), list(seconds), record.timing.includes)
    return replace(record, experiment=experiment, seed=seed, timing=timing)


def test_costs_are_medians_over_all_epochs_of_an_experiment() -> None:
    found = costs([timed("a", 0, 1.0, 2.0), timed("b", 0, 9.0), timed("a", 1, 30.0, 2.0)])
    assert list(found) == ["a", "b"]
    cost = found["a"]
    assert (cost.runs, cost.epochs) == (2, 2)
    assert (cost.epoch_seconds, cost.fastest, cost.slowest) == (2.0, 1.0, 30.0)
    assert cost.run_seconds == 4.0
    assert costs([]) == {}


def test_a_share_of_a_stack_is_no_cost_of_a_run_alone() -> None:
    alone, share = timed("a", 0, 5.0), replace(timed("a", 1, 2.0), stacked=True)
    assert [costs([alone, share])["a"].runs, costs([alone, share])["a"].stacked] == [1, False]
    assert costs([alone, share])["a"].epoch_seconds == 5.0
    assert costs([share])["a"].stacked


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (3.14159, "3.14 s"),
        (119, "119 s"),
        (120, "2 min"),
        (9_000, "2.5 h"),
        (172_800, "2.0 days"),
        (86_400 * 1_234.56, "1,234.6 days"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
