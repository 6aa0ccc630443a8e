from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mnist_models.checkpoint import FILE_NAME as CHECKPOINT
from mnist_models.checkpoint import CheckpointError
from mnist_models.data import Dataset, normalise
from mnist_models.models import EXPERIMENTS, Experiment
from mnist_models.recipe import Affine, Plateau, Recipe
from mnist_models.record import FILE_NAME, Record, RecordExistsError, load_record, load_weights
from mnist_models.train import DivergedError, Progress, batches, train


def short(name: str, epochs: int = 3) -> Experiment:
    """An experiment cut to a few epochs, of batches small enough for several steps each."""
    experiment = EXPERIMENTS[name]
    recipe = replace(experiment.recipe, epochs=epochs, batch_size=64, plain_epochs=1)
    return replace(experiment, recipe=recipe)


def repeatable(record: Record) -> Record:
    """A record without what may differ between two equal runs."""
    empty = {"provenance": None, "timing": None, "digest": ""}
    return Record(**(vars(record) | empty))


class Stop(Exception):  # noqa: N818 - no error: what ends a run in these tests
    pass


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_trains_into_a_sound_record(
    name: str, few: Dataset, tmp_path: Path
) -> None:
    experiment = short(name, epochs=1)
    told: list[Progress] = []
    record = train(experiment, 3, few, tmp_path, listener=told.append)
    assert load_record(tmp_path) == record
    assert (record.experiment, record.seed, record.stacked) == (name, 3, False)
    assert record.recipe == experiment.recipe.to_dict()
    assert record.parameters == sum(p.numel() for p in experiment.build().parameters())
    assert [path.name for path in tmp_path.iterdir()].count(CHECKPOINT) == 0
    assert [progress.step for progress in told] == [1, 2, 3, 4, 4]
    assert told[-1].finished == record.final


@pytest.mark.parametrize("name", ["frontier-8k", "attempt-3", "eva4-2", "steps-6", "blocks-2"])
def test_a_stopped_run_resumes_exactly(name: str, few: Dataset, tmp_path: Path) -> None:
    """Between them: one-cycle, plateau, step and power schedules, SGD, Adam, with an average."""
    experiment = short(name)
    whole = train(experiment, 0, few, tmp_path / "whole")

    def stop(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 3):
            raise Stop

    with pytest.raises(Stop):
        train(experiment, 0, few, tmp_path / "parts", listener=stop)
    assert not (tmp_path / "parts" / FILE_NAME).exists()
    torch.manual_seed(12345)  # whatever happened in between
    seen: list[int] = []
    resumed = train(
        experiment,
        0,
        few,
        tmp_path / "parts",
        resume=True,
        listener=lambda progress: seen.append(progress.epoch),
    )
    assert min(seen) == 2
    assert repeatable(resumed) == repeatable(whole)
    for weights in whole.weights:
        first = (tmp_path / "whole" / weights.file).read_bytes()
        assert first == (tmp_path / "parts" / weights.file).read_bytes()


def test_seed_decides_the_run(few: Dataset, tmp_path: Path) -> None:
    experiment = short("steps-6", epochs=1)
    first = train(experiment, 0, few, tmp_path / "first")
    again = train(experiment, 0, few, tmp_path / "again", resume=True)  # nothing to resume
    other = train(experiment, 1, few, tmp_path / "other")
    assert repeatable(first) == repeatable(again)
    assert first.weights != other.weights


def test_checkpoint_of_another_run_is_refused(few: Dataset, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(short("steps-6"), 0, few, tmp_path, listener=stop)
    before = (tmp_path / CHECKPOINT).read_bytes()
    for experiment, seed, differs in [
        (short("steps-6"), 1, "seed"),
        (short("steps-5"), 0, "experiment"),
        (short("steps-6", epochs=4), 0, "recipe"),
    ]:
        with pytest.raises(CheckpointError, match=rf"another run: {differs}\b.* is .*, expected"):
            train(experiment, seed, few, tmp_path, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    (tmp_path / CHECKPOINT).write_bytes(before[: len(before) // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        train(short("steps-6"), 0, few, tmp_path, resume=True)


def test_a_standing_record_is_kept_unless_forced(few: Dataset, tmp_path: Path) -> None:
    experiment = short("steps-3", epochs=1)
    train(experiment, 0, few, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RecordExistsError):
        train(experiment, 1, few, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert train(experiment, 1, few, tmp_path, force=True).seed == 1


def test_learning_rates_are_those_of_the_schedule(few: Dataset, tmp_path: Path) -> None:
    def rates(name: str, **changes: object) -> list[float]:
        experiment = short(name, epochs=4)
        experiment = replace(experiment, recipe=replace(experiment.recipe, **changes))
        record = train(experiment, 0, few, tmp_path / name)
        assert all(e.last_learning_rate == e.learning_rate for e in record.epochs)
        return [epoch.learning_rate for epoch in record.epochs]

    assert rates("steps-6") == pytest.approx([0.01 * 0.65**epoch for epoch in range(4)])
    assert rates("steps-1") == [0.01] * 4
    # A loss that never falls by nine tenths: the plateau is there from the second epoch on.
    stuck = rates("attempt-3", schedule=Plateau(0.5, 0, threshold=0.9), learning_rate=1e-5)
    assert stuck == pytest.approx([1e-5, 1e-5, 0.5e-5, 0.25e-5])


def test_the_plateau_watches_the_training_loss(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    step = ReduceLROnPlateau.step

    def spy(schedule: ReduceLROnPlateau, metrics: float) -> None:
        seen.append(metrics)
        step(schedule, metrics)

    monkeypatch.setattr(ReduceLROnPlateau, "step", spy)
    record = train(short("attempt-3"), 0, few, tmp_path)
    assert seen == [epoch.train_loss for epoch in record.epochs]


def test_one_cycle_rises_and_ends_at_zero(few: Dataset, tmp_path: Path) -> None:
    record = train(short("frontier-8k", epochs=5), 0, few, tmp_path)
    peak = record.recipe["learning_rate"]
    assert record.epochs[0].learning_rate == pytest.approx(peak / 25)
    assert max(epoch.learning_rate for epoch in record.epochs) > 0.9 * peak
    assert record.final.last_learning_rate < 1e-6 * peak
    assert record.final.last_learning_rate < record.final.learning_rate


def test_average_is_what_is_scored_and_stored(few: Dataset, tmp_path: Path) -> None:
    experiment = short("frontier-8k", epochs=1)
    averaged = train(experiment, 0, few, tmp_path / "averaged")
    plain = replace(experiment, recipe=replace(experiment.recipe, average=None))
    last = train(plain, 0, few, tmp_path / "last")
    assert averaged.final.train_loss == last.final.train_loss  # the same training
    assert averaged.final.test_loss != last.final.test_loss
    stored = load_weights(tmp_path / "averaged", averaged.weights[-1])
    other = load_weights(tmp_path / "last", last.weights[-1])
    name = "convolutions.0.weight"
    assert not torch.equal(stored[name], other[name])


def test_batches_hold_every_image_once_in_an_order_of_its_own(few: Dataset) -> None:
    recipe = Recipe(optimizer="sgd", learning_rate=0.1, batch_size=48, epochs=2)

    def epoch(seed: int, number: int) -> torch.Tensor:
        inputs, labels = zip(*batches(few, recipe, seed, number), strict=True)
        assert [len(batch) for batch in inputs] == [48, 48, 48, 48, 8]
        assert sorted(torch.cat(labels).tolist()) == sorted(few.train.labels.tolist())
        return torch.cat(inputs)

    first = epoch(0, 1)
    assert torch.equal(first, epoch(0, 1))
    assert not torch.equal(first, epoch(0, 2))
    assert not torch.equal(first, epoch(1, 1))
    every = {image.numpy().tobytes() for image in normalise(few.train.images)}
    assert {image.numpy().tobytes() for image in first} == every


def test_augmentation_stops_before_the_plain_epochs(few: Dataset) -> None:
    recipe = Recipe(
        optimizer="sgd",
        learning_rate=0.1,
        batch_size=200,
        epochs=3,
        augmentation=(Affine(degrees=30, translate=0.1),),
        plain_epochs=1,
    )
    every = {image.numpy().tobytes() for image in normalise(few.train.images)}
    for number, plain in [(1, False), (2, False), (3, True)]:
        ((inputs, _),) = batches(few, recipe, 0, number)
        unchanged = sum(image.numpy().tobytes() in every for image in inputs)
        assert (unchanged == len(inputs)) is plain
        assert unchanged < 20 or plain


def test_a_complete_checkpoint_without_a_record_becomes_one(few: Dataset, tmp_path: Path) -> None:
    """Killed between the last epoch and the record."""

    def stop(progress: Progress) -> None:
        if progress.finished is not None and progress.epoch == 3:
            raise Stop

    with pytest.raises(Stop):
        train(short("steps-3"), 0, few, tmp_path / "stopped", listener=stop)
    whole = train(short("steps-3"), 0, few, tmp_path / "whole")
    done = train(short("steps-3"), 0, few, tmp_path / "stopped", resume=True)
    assert repeatable(done) == repeatable(whole)


def test_a_record_tells_of_every_environment_it_ran_in(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(short("steps-3"), 0, few, tmp_path, listener=stop)
    monkeypatch.setattr("mnist_models.train.environment", lambda device: "elsewhere")
    record = train(short("steps-3"), 0, few, tmp_path, resume=True)
    first, second = record.provenance.environments
    assert f"torch {torch.__version__}" in first
    assert second == "elsewhere"


def test_a_file_in_the_place_of_the_folder(few: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match="out"):
        train(short("steps-3"), 0, few, tmp_path / "out" / "runs")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_loss_that_is_no_number_ends_the_run(few: Dataset, tmp_path: Path) -> None:
    experiment = short("steps-1")
    experiment = replace(experiment, recipe=replace(experiment.recipe, learning_rate=1e30))
    with pytest.raises(DivergedError, match="learning rate below 1e\\+30"):
        train(experiment, 0, few, tmp_path)
    assert not (tmp_path / FILE_NAME).exists()


def test_it_learns(digits: Dataset, tmp_path: Path) -> None:
    experiment = short("frontier-4k", epochs=3)
    record = train(experiment, 0, digits, tmp_path)
    assert record.final.test_correct > 0.8 * record.final.test_total  # chance is a tenth
    knows_nothing = math.log(1 + 9 * math.exp(experiment.recipe.margin))  # ten equal logits
    assert record.final.train_loss < record.epochs[0].train_loss < 1.2 * knows_nothing


def command(out: Path, *more: str) -> list[str]:
    options = ["--dataset", "digits", "--epochs", "6", "--out", str(out), *more]
    return [sys.executable, "-m", "mnist_models", "train", "steps-3", "--json", *options]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_command_resumes_to_the_same_weights(
    number: signal.Signals, tmp_path: Path, never_stopped: Record
) -> None:
    out = tmp_path / "runs"
    folder = out / "digits-test" / "steps-3" / "seed-0"
    with subprocess.Popen(command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (folder / CHECKPOINT).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    expected = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    assert process.returncode == expected[number], errors.decode()
    assert b"Traceback" not in errors
    said = [line for line in errors.decode().splitlines() if line.startswith("stopped")]
    assert len(said) == (number != signal.SIGKILL)
    assert all(f"with --resume goes on in {folder}" in line for line in said)
    assert not (folder / FILE_NAME).exists()
    done = subprocess.run(command(out, "--resume"), capture_output=True, check=True, timeout=120)
    assert json.loads(done.stdout)["final"]["epoch"] == 6
    assert repeatable(load_record(folder)) == repeatable(never_stopped)


@pytest.fixture(scope="module")
def never_stopped(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Record:
    experiment = EXPERIMENTS["steps-3"]
    experiment = replace(experiment, recipe=replace(experiment.recipe, epochs=6))
    return train(experiment, 0, digits, tmp_path_factory.mktemp("reference"))
