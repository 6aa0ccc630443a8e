from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_models.batch_norm import as_torch
from mnist_models.checkpoint import FILE_NAME as CHECKPOINT
from mnist_models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mnist_models.cli import main
from mnist_models.cli.bar import Bar
from mnist_models.data import Dataset, Split
from mnist_models.evaluate import evaluate
from mnist_models.models import EXPERIMENTS, Experiment
from mnist_models.optimisation import end_epoch
from mnist_models.recipe import Constant
from mnist_models.record import FILE_NAME, Record, RecordExistsError, load_record
from mnist_models.run import Run, capture, start
from mnist_models.stack import StackError
from mnist_models.stacked import Lane, SideBySide, train_stacked
from mnist_models.step import Recorded, disagreement
from mnist_models.train import (
    DivergedError,
    Listener,
    Progress,
    identity_of,
    open_run,
    train,
    train_epoch,
)

from .conftest import refuse_waiting

AGREEING = ["frontier-8k", "steps-6", "blocks-1", "blocks-2", "eva4-final-dropout", "attempt-3"]


class Stop(Exception):  # noqa: N818 - no error: what ends a run in these tests
    pass


def short(name: str, epochs: int = 2, **changes: Any) -> Experiment:
    """An experiment of a few small epochs, the last one plain, on no plateau schedule."""
    experiment = EXPERIMENTS[name]
    if name == "attempt-3":
        changes["schedule"] = Constant()
    changes = {"epochs": epochs, "batch_size": 16, "plain_epochs": 1} | changes
    return replace(experiment, recipe=replace(experiment.recipe, **changes))


@pytest.fixture(scope="module")
def tiny(digits: Dataset) -> Dataset:
    """Two batches of 16 images and one of 8 an epoch; 60 to score."""
    train, held_out = (
        Split(split.images[:count], split.labels[:count])
        for split, count in ((digits.train, 40), (digits.held_out, 60))
    )
    return Dataset("digits", "test", train, held_out, digits.md5)


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def in_default_type(network: nn.Module) -> None:
    """Have a network take the images, which are float32, in the type of its weights."""
    network.register_forward_pre_hook(lambda _, args: (args[0].to(torch.get_default_dtype()),))


def state_of(run: Run) -> dict[str, Tensor]:
    """Weights, statistics, average and momentum."""
    state = Checkpoint({})
    capture(run, state)
    return state.tensors


def both_ways(
    experiment: Experiment,
    data: Dataset,
    tmp_path: Path,
    epochs: int,
    *,
    count: int = 2,
    own_norms: bool = True,
) -> Iterator[tuple[Tensor, Tensor, list[dict[str, Tensor]], list[dict[str, Tensor]]]]:
    """Losses ``(K,)`` and states of the seeds, stacked and alone, after each step."""
    lanes = []
    for seed in range(count):
        run, state = open_run(
            experiment, seed, data, tmp_path / str(seed), resume=False, force=False
        )
        capture(run, state)
        lanes.append(Lane(run, state, tmp_path / str(seed)))
    side = SideBySide(experiment, lanes, data)
    runs = [start(experiment, seed, len(data.train), torch.device("cpu")) for seed in range(count)]
    for network in (side.run.model, *(run.model for run in runs)):
        in_default_type(network)
        if not own_norms:
            as_torch(network)
    together: list[tuple[Tensor, list[dict[str, Tensor]]]] = []
    alone: list[list[tuple[Tensor, dict[str, Tensor]]]] = [[] for _ in runs]
    step = side.step

    def kept(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        losses, correct = step(images, labels)
        parts: list[dict[str, Tensor]] = [{} for _ in runs]
        for name, value in state_of(side.run).items():
            for lane, part in enumerate(parts):
                part[name] = value.chunk(count)[lane] if value.dim() else value
        together.append((losses, parts))
        return losses, correct

    side.step = kept  # the state after every step, not every epoch
    for epoch in range(1, epochs + 1):
        trained = side.train_epoch(data, epoch, lambda _: None)
        for lane, run in enumerate(runs):
            result = train_epoch(
                run,
                data,
                epoch,
                lambda p, lane=lane, run=run: alone[lane].append((p.loss, state_of(run))),
            )
            end_epoch(run.schedule, result.loss)
            assert trained[lane].correct == result.correct
            assert trained[lane][2:] == result[2:]  # learning rates
    for index, (losses, states) in enumerate(together):
        single = [steps[index] for steps in alone]
        yield losses, torch.stack([loss for loss, _ in single]), states, [s for _, s in single]


OBJECTIVES: dict[str, dict[str, float]] = {
    "smoothed": {"label_smoothing": 0.1},
    "margin": {"margin": 2.0},
}


@pytest.mark.parametrize("name", [*AGREEING, *OBJECTIVES])
def test_every_step_is_that_of_each_seed_alone(
    name: str, tiny: Dataset, tmp_path: Path, float64: None
) -> None:
    """Two epochs, the first augmented: losses, weights, statistics, average and momentum.

    In float64, where rounding begins at 2e-16 and grows about tenfold a step, as it does between
    any two ways to train: a hundred times below the bound after six steps. Another mask, order,
    image or rate would show as 1e-3 and more at once.
    """
    own = OBJECTIVES.get(name)
    experiment = short(name) if own is None else short("steps-6", **own)
    steps = 0
    for losses, expected, states, alone in both_ways(experiment, tiny, tmp_path, epochs=2):
        steps += 1
        torch.testing.assert_close(losses, expected, rtol=1e-10, atol=0)
        for state, single in zip(states, alone, strict=True):
            assert state.keys() == single.keys()
            for key, value in single.items():
                torch.testing.assert_close(state[key], value, rtol=1e-9, atol=1e-11, msg=key)
        assert not torch.equal(expected[0], expected[1])
    assert steps == 6
    assert ("average.convolutions.0.weight" in states[0]) is (name == "frontier-8k")
    assert any(key.endswith(("momentum_buffer", "exp_avg")) for key in states[0])


@pytest.mark.parametrize("name", AGREEING)
def test_the_first_steps_agree_in_float32(name: str, tiny: Dataset, tmp_path: Path) -> None:
    """The first loss, about the logarithm of 10, within four units in its last place; a first step
    that goes the same way within a thousandth of its length.

    From there on rounding grows: a ReLU or a maximum on its edge turns the other way. BatchNorm is
    torch's both ways, which adds up thousands of numbers one after the other: how a run by itself
    computes it rounds less, which the next test has.
    """
    experiment = short(name)
    initial = [
        state_of(start(experiment, seed, len(tiny.train), torch.device("cpu"))) for seed in (0, 1)
    ]
    first_step = next(both_ways(experiment, tiny, tmp_path, epochs=1, own_norms=False))
    losses, expected, states, alone = first_step
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-6)
    for before, state, single in zip(initial, states, alone, strict=True):
        keys = [key for key in before if key.startswith("model.")]
        first, other, way = (
            torch.cat([(one[key] - two[key]).flatten().double() for key in keys])
            for one, two in ((single, before), (state, before), (state, single))
        )
        assert first.norm() > 0
        assert other.norm() > 0
        assert way.norm() < 1e-3 * first.norm()


@pytest.mark.parametrize("name", AGREEING)
def test_the_first_loss_agrees_as_it_really_runs(name: str, tiny: Dataset, tmp_path: Path) -> None:
    """Within what torch's BatchNorm rounds: a sum of the 27,000 numbers of a channel, one after
    the other, is off by 6e-8 of itself at each, in the sum 1e-5 as a random walk goes."""
    experiment = short(name, batch_size=len(tiny.train))
    losses, expected, _, _ = next(both_ways(experiment, tiny, tmp_path, epochs=1))
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-4)


def records(
    experiment: Experiment, data: Dataset, root: Path, seeds: int = 3, **options: Any
) -> dict[int, Record | DivergedError]:
    folders = {seed: root / f"seed-{seed}" for seed in range(seeds)}
    return train_stacked(experiment, folders, data, **options)


def repeatable(record: Record | DivergedError) -> Record:
    """A record without what may differ between two equal runs."""
    assert isinstance(record, Record)
    return Record(**(vars(record) | {"provenance": None, "timing": None, "digest": ""}))


def stop_at(epoch: int, seed: int | None, step: int | None = None) -> Listener:
    """A listener that stops at a step, or when a seed has finished an epoch."""

    def listener(progress: Progress) -> None:
        place = (progress.epoch, progress.seed)
        if place == (epoch, seed) and (progress.finished or progress.step == step):
            raise Stop

    return listener


@pytest.mark.parametrize("name", ["frontier-8k", "steps-6"])
def test_each_seed_has_a_record_as_any(name: str, tiny: Dataset, tmp_path: Path) -> None:
    experiment = short(name, epochs=4)
    told: list[Progress] = []
    found = records(experiment, tiny, tmp_path, listener=told.append)
    assert [progress.step for progress in told if progress.seed is None] == [1, 2, 3] * 4
    assert [progress.seed for progress in told if progress.finished] == [0, 1, 2] * 4
    assert max(progress.seen for progress in told if progress.seed is None) == 3 * len(tiny.train)
    for seed, record in found.items():
        assert isinstance(record, Record)
        folder = tmp_path / f"seed-{seed}"
        assert load_record(folder) == record
        assert (record.seed, record.stacked, len(record.epochs)) == (seed, True, 4)
        identity = identity_of(experiment, seed, tiny, experiment.build())
        assert record.identity == identity
        assert record.parameters == sum(p.numel() for p in experiment.build().parameters())
        assert "divided by their number" in record.timing.includes
        assert sorted(path.name for path in folder.iterdir()) == [
            *(f"epoch-0{epoch}.safetensors" for epoch in (2, 3, 4)),
            FILE_NAME,
        ]
        verdict = evaluate(folder, tiny)
        assert verdict.passed, verdict.problems
        assert len(verdict.epochs) == 3
    stored = {kept.sha256 for record in found.values() for kept in repeatable(record).weights}
    assert len(stored) == 3 * 3


@pytest.mark.parametrize("name", ["frontier-8k", "steps-6"])
def test_a_first_epoch_is_recorded_as_alone(name: str, tiny: Dataset, tmp_path: Path) -> None:
    """In float32, of which three steps make a thousandth."""
    experiment = short(name, epochs=1)
    found = records(experiment, tiny, tmp_path)
    for seed, record in found.items():
        alone = train(experiment, seed, tiny, tmp_path / f"alone-{seed}").final
        final = repeatable(record).final
        assert final.train_loss == pytest.approx(alone.train_loss, rel=1e-3)
        assert final.test_loss == pytest.approx(alone.test_loss, rel=1e-2)
        rates = (final.learning_rate, final.last_learning_rate)
        assert rates == (alone.learning_rate, alone.last_learning_rate)
        totals = (final.train_total, final.test_total)
        assert totals == (alone.train_total, alone.test_total)


def test_the_time_of_the_network_is_shared(tiny: Dataset, tmp_path: Path) -> None:
    began = time.perf_counter()
    found = records(short("steps-3", epochs=4), tiny, tmp_path, seeds=6)
    elapsed = time.perf_counter() - began
    seconds = [record.timing.seconds for record in found.values() if isinstance(record, Record)]
    assert len(seconds) == 6
    assert 0 < sum(seconds) < elapsed  # six times the training alone would be more
    alone = train(short("steps-3", epochs=1), 0, tiny, tmp_path / "alone")
    assert not alone.stacked
    assert "divided" not in alone.timing.includes


def test_a_stopped_stack_resumes_exactly(tiny: Dataset, tmp_path: Path) -> None:
    experiment = short("frontier-8k", epochs=3)
    whole = records(experiment, tiny, tmp_path / "whole")
    with pytest.raises(Stop):
        records(experiment, tiny, tmp_path / "parts", listener=stop_at(2, None, step=2))
    torch.manual_seed(12345)  # whatever happened in between
    told: list[Progress] = []
    resumed = records(experiment, tiny, tmp_path / "parts", resume=True, listener=told.append)
    assert min(progress.epoch for progress in told) == 2
    for seed in range(3):
        assert repeatable(resumed[seed]) == repeatable(whole[seed])


def test_seeds_that_were_stopped_apart_come_together_again(tiny: Dataset, tmp_path: Path) -> None:
    """Killed between the checkpoints of two seeds: one has finished an epoch more."""
    experiment = short("steps-6", epochs=4)
    with pytest.raises(Stop):
        records(experiment, tiny, tmp_path, listener=stop_at(1, seed=0))
    files = [tmp_path / f"seed-{seed}" / CHECKPOINT for seed in (1, 2)]
    kept = [file.read_bytes() for file in files]
    with pytest.raises(Stop):
        records(experiment, tiny, tmp_path, resume=True, listener=stop_at(2, seed=0))
    for file, content in zip(files, kept, strict=True):
        file.write_bytes(content)
    before = []
    for seed, finished in enumerate((2, 1, 1)):
        identity = identity_of(experiment, seed, tiny, experiment.build())
        state = load_checkpoint(tmp_path / f"seed-{seed}", identity)
        assert state is not None
        assert len(state.epochs) == finished
        before.append(state.epochs)
    told: list[Progress] = []
    found = records(experiment, tiny, tmp_path, resume=True, listener=told.append)
    ends = [(progress.epoch, progress.seed) for progress in told if progress.finished]
    assert ends == [(2, 1), (2, 2), *((epoch, seed) for epoch in (3, 4) for seed in range(3))]
    for seed, epochs in enumerate(before):
        record = repeatable(found[seed])
        assert record.epochs[: len(epochs)] == epochs  # nothing is trained twice
        assert evaluate(tmp_path / f"seed-{seed}", tiny).passed


def test_a_seed_goes_on_alone_and_beside_others(tiny: Dataset, tmp_path: Path) -> None:
    experiment = short("steps-3", epochs=3)
    with pytest.raises(Stop):
        records(experiment, tiny, tmp_path, listener=stop_at(2, None, step=1))
    alone = train(experiment, 1, tiny, tmp_path / "seed-1", resume=True)
    assert alone.stacked  # its first epoch was
    assert evaluate(tmp_path / "seed-1", tiny).passed
    with pytest.raises(Stop):
        train(experiment, 3, tiny, tmp_path / "seed-3", listener=stop_at(2, None, step=1))
    folders = {seed: tmp_path / f"seed-{seed}" for seed in (0, 3)}
    found = train_stacked(experiment, folders, tiny, resume=True)
    assert all(repeatable(record).stacked for record in found.values())
    assert load_record(tmp_path / "seed-1") == alone


def test_a_complete_checkpoint_becomes_a_record(tiny: Dataset, tmp_path: Path) -> None:
    experiment = short("steps-3", epochs=1)
    with pytest.raises(Stop):
        records(experiment, tiny, tmp_path, listener=stop_at(1, seed=2))
    told: list[Progress] = []
    found = records(experiment, tiny, tmp_path, resume=True, listener=told.append)
    assert told == []
    assert all(isinstance(record, Record) for record in found.values())


def poison(experiment: Experiment, data: Dataset, folder: Path, value: float) -> bytes:
    """Give the weights in a checkpoint of seed 1 a value from which no training recovers."""
    state = load_checkpoint(folder, identity_of(experiment, 1, data, experiment.build()))
    assert state is not None
    for key, tensor in state.tensors.items():
        if key.startswith("model.") and tensor.is_floating_point():
            tensor.fill_(value)
    save_checkpoint(folder, state)
    return (folder / CHECKPOINT).read_bytes()


def test_a_seed_that_diverges_costs_the_others_nothing(tiny: Dataset, tmp_path: Path) -> None:
    experiment = short("frontier-8k", epochs=3)
    for root in ("healthy", "diverging"):
        with pytest.raises(Stop):
            records(experiment, tiny, tmp_path / root, listener=stop_at(2, None, step=1))
    before = poison(experiment, tiny, tmp_path / "diverging" / "seed-1", 1e30)
    healthy = records(experiment, tiny, tmp_path / "healthy", resume=True)
    found = records(experiment, tiny, tmp_path / "diverging", resume=True)
    error = found[1]
    assert isinstance(error, DivergedError)
    assert "the training loss of epoch 2 is " in str(error)
    assert (tmp_path / "diverging" / "seed-1" / CHECKPOINT).read_bytes() == before
    assert not (tmp_path / "diverging" / "seed-1" / FILE_NAME).exists()
    for seed in (0, 2):
        assert len(repeatable(found[seed]).epochs) == 3
        assert repeatable(found[seed]).epochs[1] == repeatable(healthy[seed]).epochs[1]
        assert evaluate(tmp_path / "diverging" / f"seed-{seed}", tiny).passed


def test_all_seeds_may_diverge(tiny: Dataset, tmp_path: Path) -> None:
    found = records(short("steps-1", learning_rate=1e30), tiny, tmp_path, seeds=2)
    assert [type(outcome) for outcome in found.values()] == [DivergedError] * 2


def test_a_plateau_is_refused_before_anything_is_written(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"attempt-3 cannot be trained stacked: .*each seed's own"):
        records(EXPERIMENTS["attempt-3"], tiny, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_standing_record_is_kept_unless_forced(tiny: Dataset, tmp_path: Path) -> None:
    experiment = short("steps-3", epochs=1)
    train(experiment, 7, tiny, tmp_path / "seed-1")
    before = (tmp_path / "seed-1" / FILE_NAME).read_bytes()
    told: list[Progress] = []
    with pytest.raises(RecordExistsError, match="seed-1 holds another record"):
        records(experiment, tiny, tmp_path, listener=told.append)
    assert told == []  # before any training
    assert (tmp_path / "seed-1" / FILE_NAME).read_bytes() == before
    assert repeatable(records(experiment, tiny, tmp_path, force=True)[1]).seed == 1


def command(*arguments: object) -> int:
    return main(["train", *map(str, arguments), "--dataset", "digits"])


def test_the_command_trains_so_many_at_a_time_and_says_which_diverged(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three seeds by two: the first one diverges beside the second, the third is by itself."""
    experiment = EXPERIMENTS["steps-3"]
    experiment = replace(experiment, recipe=replace(experiment.recipe, epochs=2))
    folders = {seed: tmp_path / f"digits-test/steps-3/seed-{seed}" for seed in (1, 2)}
    with pytest.raises(Stop):
        train_stacked(experiment, folders, digits, listener=stop_at(2, None, step=1))
    poison(experiment, digits, folders[1], float("nan"))
    options = ("--epochs", 2, "--stacked", 2, "--out", tmp_path, "--resume", "--json")
    assert command("steps-3", "--seeds", "1-3", *options) == 2
    captured = capsys.readouterr()
    diverged, *sound = json.loads(captured.out)
    assert (diverged["seed"], diverged["record"]) == (1, None)
    assert f"error: seed 1: {diverged['cause']}" in captured.err
    assert "seed 1, 2: " in captured.err  # the bar
    assert [run["seed"] for run in sound] == [2, 3]
    found = [load_record(Path(run["record"]).parent) for run in sound]
    assert [record.stacked for record in found] == [True, False]


def test_one_after_the_other_a_seed_that_diverges_costs_the_others_nothing_either(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = EXPERIMENTS["steps-3"]
    experiment = replace(experiment, recipe=replace(experiment.recipe, epochs=2))
    folder = tmp_path / "digits-test/steps-3/seed-1"
    with pytest.raises(Stop):
        train_stacked(experiment, {1: folder}, digits, listener=stop_at(2, None, step=1))
    poison(experiment, digits, folder, float("nan"))
    options = ("--epochs", 2, "--out", tmp_path, "--resume", "--json")
    assert command("steps-3", "--seeds", "1-2", *options) == 2
    captured = capsys.readouterr()
    diverged, sound = json.loads(captured.out)
    assert (diverged["seed"], diverged["record"]) == (1, None)
    assert f"error: seed 1: {diverged['cause']}" in captured.err
    assert load_record(Path(sound["record"]).parent).seed == 2


def test_the_bar_names_the_seed_of_each_line(
    tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = Bar("steps-3", "test", quiet=False)
    records(short("steps-3", epochs=1), tiny, tmp_path, seeds=2, listener=bar)
    train(short("steps-3", epochs=1), 0, tiny, tmp_path / "alone", listener=bar)
    bar.close()
    lines = capsys.readouterr().out.splitlines()
    starts = ["seed 0  epoch  1/1", "seed 1  epoch  1/1", "epoch  1/1"]
    assert [line.split("  lr")[0] for line in lines] == starts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("steps-3", "--stacked", 2), "give them as --seeds 0-9"),
        (("steps-3", "--seed", 0, "--stacked", 2), "give them as --seeds 0-9"),
        (("attempt-3", "--seeds", "0-1", "--stacked", 2), "attempt-3 cannot be trained stacked"),
    ],
)
def test_the_command_refuses(
    arguments: tuple[object, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(*arguments, "--epochs", 1, "--out", tmp_path) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["frontier-8k", "steps-6"])
def test_what_is_recorded_on_a_gpu_is_the_step(name: str, tiny: Dataset, tmp_path: Path) -> None:
    """The same calls, made anew here: losses, answers and weights of every step, to the bit."""
    experiment = short(name)
    sides, given = [], []
    for root in ("as it is", "recorded"):
        lanes = []
        for seed in range(2):
            place = tmp_path / root / str(seed)
            run, state = open_run(experiment, seed, tiny, place, resume=False, force=False)
            capture(run, state)
            lanes.append(Lane(run, state, place))
        sides.append(SideBySide(experiment, lanes, tiny))
    other = sides[1]
    batch = next(other._batches(tiny, 1))
    other.run.model.train()
    recorded = other._step = Recorded(other.run, *batch, other.stack.streams)
    assert disagreement(recorded, other.run, *batch) == ""
    for side in sides:
        losses = [side.train_epoch(tiny, number, lambda _: None) for number in (1, 2)]
        given.append((losses, state_of(side.run)))
    (losses, state), (other_losses, other_state) = given
    assert losses == other_losses
    for key, value in state.items():
        assert torch.equal(value, other_state[key]), key
    recorded.seed(0)
    drawn = other.stack.streams.each(torch.device("cpu"), lambda _: torch.rand(3))
    assert not torch.equal(*drawn)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_no_step_waits_for_the_device(tiny: Dataset, tmp_path: Path) -> None:
    experiment, data = short("steps-6"), tiny.to(torch.device("cuda"))
    lanes = []
    for seed in range(2):
        run, state = open_run(experiment, seed, data, tmp_path, resume=False, force=False)
        capture(run, state)
        lanes.append(Lane(run, state, tmp_path))
    side = SideBySide(experiment, lanes, data)
    side.train_epoch(data, 1, lambda _: None)  # warm

    def strict(progress: Progress) -> None:
        last = progress.step == progress.steps  # after it, the losses are read
        refuse_waiting("default" if last else "error")

    try:
        side.train_epoch(data, 2, strict)
    finally:
        refuse_waiting("default")
