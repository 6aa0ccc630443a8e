"""An arm before it is trained: its network, what it breaks, what is drawn for it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import pytest

from mnist_models.data import Dataset
from mnist_models.models import EXPERIMENTS
from mnist_models.models.funnel import funnel
from mnist_models.search.candidate import breach, built, refuse_slips, suggest
from mnist_models.search.space import SpaceError, read_setting
from mnist_models.search.study import Question

OWN = EXPERIMENTS["frontier-1k"]
BASE = replace(OWN, build=partial(funnel, "7u/10us-10us-11us-12us", affine=False))


@pytest.fixture
def question(few: Dataset, tmp_path: Path) -> Question:
    return Question(BASE, {}, (0,), (), few, tmp_path)


def test_an_arm_has_the_network_of_its_plan(question: Question) -> None:
    experiment, network = built(question, {"plan": "4/4", "learning_rate": "0.3"})
    assert experiment.recipe.learning_rate == 0.3
    assert network.plan == "4/4"
    with pytest.raises(SpaceError, match="plan=4x: no network can be made of it"):
        built(question, {"plan": "4x"})


@pytest.mark.parametrize(
    ("values", "broken"),
    [
        ({}, ""),
        ({"plan": "40u/40us"}, "parameters: "),
        ({"dropout": "0"}, "dropout: "),
        ({"epochs": "16"}, "epochs: 16, expected <= 15"),
    ],
)
def test_it_says_what_breaks_the_assignment(
    question: Question, values: dict[str, str], broken: str
) -> None:
    cause, parameters = breach(*built(question, values))
    assert cause.startswith(broken)
    assert bool(cause) == bool(broken)
    assert parameters == sum(p.numel() for p in built(question, values)[1].parameters())


def test_both_ends_of_a_range_are_tried(question: Question) -> None:
    refuse_slips(replace(question, settings=(read_setting("dropout=0.1..0.9"),)))
    with pytest.raises(SpaceError, match="dropout"):
        refuse_slips(replace(question, settings=(read_setting("dropout=0.1..1.5"),)))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("batch_size=16.5..18", 17, 18), ("learning_rate=0.1..0.2", 0.1, 0.2)],
)
def test_what_is_drawn_lies_in_the_range(
    question: Question, text: str, low: float, high: float
) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    drawn = [suggest(question, study.ask(), read_setting(text)) for _ in range(20)]
    assert {type(value) for value in drawn} == {type(low)}
    assert all(low <= float(value) <= high for value in drawn)
    assert len(set(drawn)) > 1
