"""Ten seeds side by side end where ten alone do: not image by image, but as a sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scipy.stats import ks_2samp

from mnist_models.data import Dataset
from mnist_models.models import Experiment
from mnist_models.record import Record
from mnist_models.stacked import train_stacked
from mnist_models.train import train

from .test_train import short

SEEDS = 10


def alone(experiment: Experiment, data: Dataset, folder: Path) -> list[int]:
    runs = [train(experiment, seed, data, folder / str(seed)) for seed in range(SEEDS)]
    return [record.final.test_correct for record in runs]


def stacked(experiment: Experiment, data: Dataset, folder: Path) -> list[int]:
    folders = {seed: folder / str(seed) for seed in range(SEEDS)}
    found = train_stacked(experiment, folders, data).values()
    return [record.final.test_correct for record in found if isinstance(record, Record)]


def test_final_accuracies_agree_in_distribution(few: Dataset, tmp_path: Path) -> None:
    experiment = short("frontier-4k", epochs=6)
    # Muon takes losses of any scale alike; experiments with SGD learn nothing in six epochs.
    sgd = replace(
        experiment.recipe,
        optimizer="sgd",
        learning_rate=0.2,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
    )
    experiment = replace(experiment, recipe=sgd)
    one_by_one = alone(experiment, few, tmp_path / "alone")
    together = stacked(experiment, few, tmp_path / "stacked")
    assert len(together) == SEEDS
    assert len(set(one_by_one)) > 2  # the seeds do differ: there is a distribution to compare
    assert ks_2samp(one_by_one, together).pvalue > 0.1
    # What the comparison would say of seeds whose steps are a tenth, as where losses of the stack
    # are averaged instead of added.
    smaller = replace(experiment.recipe, learning_rate=experiment.recipe.learning_rate / SEEDS)
    wrong = stacked(replace(experiment, recipe=smaller), few, tmp_path / "wrong")
    assert ks_2samp(one_by_one, wrong).pvalue < 0.01
