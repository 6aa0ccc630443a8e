from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnist_models.by_heart import learned_by_heart, seen_in_training
from mnist_models.data import Dataset, Split
from mnist_models.evaluate import evaluate
from mnist_models.models import EXPERIMENTS
from mnist_models.record import folder_of
from mnist_models.score import Score
from mnist_models.train import train


def scored(loss: float) -> Score:
    return Score(loss, 0, 0, [], [])


@pytest.mark.parametrize(
    ("held_out", "seen", "found"),
    [
        (0.016, 0.01, False),
        (0.0085, 0.01, False),  # the luckiest published one
        (0.005, 0.01, False),
        (0.003, 0.01, True),
        (5e-5, 0.0146, True),
        (0.0, 0.0, False),
        (float("nan"), 0.01, True),  # no number is not well answered either
    ],
)
def test_a_loss_that_is_too_low_where_nothing_was_seen(
    held_out: float, seen: float, found: bool
) -> None:
    said = learned_by_heart(scored(held_out), scored(seen))
    assert bool(said) is found
    assert not said or "says that it was trained on the former" in said


@pytest.mark.parametrize("cheats", [True, False])
def test_a_record_trained_on_what_it_is_scored_on_is_found(
    cheats: bool, few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = EXPERIMENTS["steps-3"]
    long = replace(experiment, recipe=replace(experiment.recipe, epochs=40, augmentation=()))
    monkeypatch.setitem(EXPERIMENTS, "steps-3", long)
    held_out = few.held_out
    twice = Split(torch.cat([held_out.images] * 2), torch.cat([held_out.labels] * 2))
    folder = folder_of(tmp_path, "digits", "test", "steps-3", 0)
    train(long, 0, replace(few, train=twice) if cheats else few, folder)
    problems = evaluate(folder, few).problems
    assert any("epoch-40.safetensors: has a loss of" in said for said in problems) is cheats


def test_what_was_seen_is_of_the_training_split(few: Dataset) -> None:
    seen = seen_in_training(few)
    assert torch.equal(seen.held_out.images, few.train.images)
    assert seen.md5 == few.md5
