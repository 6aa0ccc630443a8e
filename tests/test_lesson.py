"""What the notebooks run, short and in full."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_models.assignment import CARD
from mnist_models.checks.record import check_record
from mnist_models.data import Dataset, Split
from mnist_models.lesson import (
    LessonError,
    changes,
    find_root,
    is_mnist,
    is_quick,
    lesson_run,
    operations,
    score_again,
    score_on_training,
)
from mnist_models.models import EXPERIMENTS
from mnist_models.record import FILE_NAME, RecordError, folder_of
from mnist_models.report import published
from mnist_models.train import train

REPOSITORY = Path(__file__).resolve().parent.parent
OWN = EXPERIMENTS["frontier-8k"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_QUICK", "1")


@pytest.fixture(autouse=True)
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTEBOOK_QUICK", raising=False)


def test_quick_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_quick()
    for value, expected in {"1": True, "0": False, "": False}.items():
        monkeypatch.setenv("NOTEBOOK_QUICK", value)
        assert is_quick() is expected


def test_the_root_is_found_from_within_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY / "notebooks")
    assert find_root() == REPOSITORY
    monkeypatch.chdir(tmp_path)
    assert find_root() == REPOSITORY  # the package's own
    (tmp_path / "records").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert find_root() == tmp_path
    monkeypatch.setattr("mnist_models.lesson.__file__", str(tmp_path / "other" / "a" / "b.py"))
    shutil.rmtree(tmp_path / "records")
    with pytest.raises(LessonError, match="in a clone"):
        find_root()


def test_a_full_run_is_all_of_it(digits: Dataset) -> None:
    experiment, data = lesson_run(OWN, digits)
    assert experiment == OWN
    assert (len(data.train), data.md5) == (len(digits.train), digits.md5)


@pytest.mark.usefixtures("quick")
def test_a_quick_run_is_short_and_never_passes_for_a_full_one(
    mnist: Dataset, tmp_path: Path
) -> None:
    experiment, data = lesson_run(OWN, mnist)
    assert (experiment.recipe.epochs, len(data.train), len(data.held_out)) == (2, 6_000, 2_000)
    assert is_mnist(mnist)
    assert not is_mnist(data)
    shorter = replace(data, train=Split(data.train.images[:64], data.train.labels[:64]))
    record = train(experiment, 0, shorter, tmp_path)
    verdicts = {check.name: check.passed for check in check_record(record, CARD)}
    assert verdicts["accuracy"] is None
    assert verdicts["test-set"] is False


def test_published_weights_are_scored_again(
    mnist: Dataset, digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = published(REPOSITORY / "records")["attempt-3"][0]
    records, names = {"attempt-3": [record]}, ["attempt-3", "one without a record"]
    (found,) = score_again(REPOSITORY, records, names, mnist)
    assert (found.experiment, found.seed, found.result.total) == ("attempt-3", 0, 10_000)
    assert found.result.agrees
    assert score_again(REPOSITORY, records, names, digits) == []
    few = Split(mnist.held_out.images[:100], mnist.held_out.labels[:100])
    wrong, twice = replace(mnist, held_out=few), {"attempt-3": [record, record]}
    disagreeing = score_again(REPOSITORY, twice, names, wrong)
    assert [again.result.agrees for again in disagreeing] == [False, False]
    monkeypatch.setenv("NOTEBOOK_QUICK", "1")
    assert len(score_again(REPOSITORY, twice, names, wrong)) == 1  # the first seed alone
    correct, total = score_on_training(REPOSITORY, record, mnist)
    assert 0.98 * total < correct < total == 10_000
    folder = folder_of(tmp_path / "records", "mnist", "test", "attempt-3", 0)
    shutil.copytree(folder_of(REPOSITORY / "records", "mnist", "test", "attempt-3", 0), folder)
    (folder / record.weights[-1].file).write_bytes(b"swapped")
    assert (folder / FILE_NAME).exists()
    with pytest.raises(RecordError, match="is not the file"):
        score_again(tmp_path, records, ["attempt-3"], mnist)


def test_what_runs_and_what_changed() -> None:
    assert "relu" in operations(EXPERIMENTS["blocks-1"])
    assert "relu" not in operations(OWN)  # SiLU
    changed = changes(EXPERIMENTS["steps-3"], EXPERIMENTS["steps-4"])
    assert changed == {"network": ("small", "regularised")}
    assert changes(OWN, OWN) == {}
    assert changes(EXPERIMENTS["steps-4"], EXPERIMENTS["steps-5"])["momentum"] == (0.9, 0.95)
