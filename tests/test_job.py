"""One run of a sweep, in this process: alone in its folder, skipped where it stands."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import KilledWorker

from mnist_models.atomic import NotWrittenError
from mnist_models.board import board_in
from mnist_models.checkpoint import FILE_NAME as CHECKPOINT
from mnist_models.checkpoint import CheckpointError, load_checkpoint
from mnist_models.data import DataError, Dataset
from mnist_models.job import (
    Delivery,
    Job,
    LockedError,
    MismatchError,
    Source,
    StoppedError,
    alone_in,
    deliver,
    standing,
)
from mnist_models.job import work as work_together
from mnist_models.models import EXPERIMENTS, Experiment
from mnist_models.record import FILE_NAME, Record, RecordError, RecordExistsError, load_record
from mnist_models.stacked import train_stacked
from mnist_models.sweep import RETRIES, Plan, plan, sweep
from mnist_models.train import DivergedError, Progress, identity_of, train

from .runners import DIVERGING, QUICK
from .test_record import edit
from .test_train import repeatable

DIGITS = Source("digits", None, False, "cpu")


def work(job: Job) -> Delivery:
    """One run by itself."""
    (ending,) = work_together([job])
    if isinstance(ending, Exception):
        raise ending
    return ending


@pytest.fixture
def job(digits: Dataset, tmp_path: Path) -> Job:
    """A run of two blinks; the sweep that it belongs to is going on."""
    board = tmp_path / "board"
    board.mkdir()
    identity = identity_of(QUICK, 3, digits, QUICK.build())
    return Job(QUICK, 3, identity, tmp_path / "seed-3", DIGITS, 1, board)


def test_a_job_trains_what_train_trains_and_is_then_skipped(
    job: Job, digits: Dataset, tmp_path: Path
) -> None:
    delivery = work(job)
    record = load_record(job.folder)
    assert (delivery.fresh, delivery.record) == (True, None)
    assert (delivery.seconds, delivery.device) == (record.timing.seconds, record.provenance.device)
    assert repeatable(record) == repeatable(train(QUICK, 3, digits, tmp_path / "alone"))
    assert (job.board / job.name).stat().st_size == 2  # epochs
    written = (job.folder / FILE_NAME).stat().st_mtime_ns
    assert work(job).fresh is False
    assert (job.folder / FILE_NAME).stat().st_mtime_ns == written
    assert not (job.folder / ".lock").exists()


def of_seeds(job: Job, *seeds: int) -> list[Job]:
    """The same run with these seeds."""
    return [
        replace(
            job,
            seed=seed,
            identity=job.identity | {"seed": seed},
            folder=job.folder.with_name(f"seed-{seed}"),
        )
        for seed in seeds
    ]


def test_runs_of_a_group_train_side_by_side(job: Job, digits: Dataset, tmp_path: Path) -> None:
    jobs = of_seeds(job, 3, 4, 5, 6)
    work(jobs[1])
    with alone_in(jobs[3].folder):
        endings = work_together(jobs)
    assert isinstance(endings[3], LockedError)
    assert [each.fresh for each in endings[:3] if isinstance(each, Delivery)] == [True, False, True]
    found = [load_record(each.folder) for each in jobs[:3]]
    assert [record.stacked for record in found] == [True, False, True]
    folders = {seed: tmp_path / "stacked" / str(seed) for seed in (3, 5)}
    expected = train_stacked(QUICK, folders, digits)
    assert [repeatable(found[0]), repeatable(found[2])] == [
        repeatable(each) for each in expected.values() if isinstance(each, Record)
    ]
    assert [(job.board / each.name).stat().st_size for each in jobs[:3]] == [2, 2, 2]
    assert not (job.board / jobs[3].name).exists()


def test_what_diverges_or_is_in_the_way_is_told_for_each_run(job: Job) -> None:
    wild = replace(
        job,
        experiment=DIVERGING,
        identity=job.identity
        | {"experiment": DIVERGING.name, "recipe": DIVERGING.recipe.to_dict()},
    )
    assert [type(each) for each in work_together(of_seeds(wild, 7, 8))] == [DivergedError] * 2
    jobs = of_seeds(job, 3, 4)
    work(jobs[0])
    edit(jobs[0].folder, lambda table: table.update(seed=7), sign=False)
    endings = work_together(jobs)
    assert isinstance(endings[0], RecordError)
    assert isinstance(endings[1], Delivery)
    assert not load_record(jobs[1].folder).stacked  # nobody was left beside it


def test_what_stands_in_the_way_is_never_touched(job: Job) -> None:
    work(job)
    assert standing(job.identity, job.folder) == load_record(job.folder)
    with pytest.raises(RecordExistsError, match="another run: seed is 3, expected 4"):
        standing(job.identity | {"seed": 4}, job.folder)
    edit(job.folder, lambda table: table.update(seed=7), sign=False)
    before = (job.folder / FILE_NAME).read_bytes()
    with pytest.raises(RecordError, match="edited"):
        work(job)
    assert (job.folder / FILE_NAME).read_bytes() == before


def test_a_folder_has_one_at_work(job: Job) -> None:
    with alone_in(job.folder), pytest.raises(LockedError, match="seed-3 is held"):
        work(job)
    assert work(job).fresh


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: object, *arguments: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.open", refused)  # root may write everywhere
    said = "there cannot be written: this user has no right to it; choose another --out"
    with pytest.raises(NotWrittenError, match=said), alone_in(tmp_path / "there"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = "there cannot be written: a part of the path is a file .*; choose another --out"
    with pytest.raises(NotWrittenError, match=said), alone_in(tmp_path / "file" / "there"):
        pass


def test_a_hold_dies_with_its_owner(job: Job) -> None:
    source = (
        "import sys, time, pathlib; from mnist_models.job import alone_in\n"
        "with alone_in(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", source, str(job.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"held\n"
            with pytest.raises(LockedError), alone_in(job.folder):
                pass
        finally:
            owner.kill()
    with alone_in(job.folder):
        pass


def test_a_run_ends_with_its_sweep_and_keeps_its_checkpoint(job: Job) -> None:
    longer = replace(QUICK, recipe=replace(QUICK.recipe, epochs=500))
    identity = job.identity | {"recipe": longer.recipe.to_dict()}
    job = replace(job, experiment=longer, identity=identity)

    def end_the_sweep() -> None:
        while not (job.folder / CHECKPOINT).exists():
            time.sleep(0.01)
        shutil.rmtree(job.board)

    jobs = of_seeds(job, 3, 4, 5)
    for group in (jobs[:1], jobs[1:]):
        job = group[0]
        job.board.mkdir(exist_ok=True)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(end_the_sweep)
            with pytest.raises(StoppedError, match="same command goes on"):
                work_together(group)
        kept = [load_checkpoint(each.folder, each.identity) for each in group]
        epochs = {len(state.epochs) for state in kept if state is not None}
        assert len(epochs) == 1  # no seed of a group lost an epoch that another one kept
        assert 0 < epochs.pop() < 500
        assert not (job.folder / FILE_NAME).exists()


def test_a_worker_without_the_sweeps_files_hands_its_record_back(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    far = replace(job, board=tmp_path / "no board")
    delivery = work(far)
    assert not far.folder.exists()
    assert [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()] == []
    assert deliver(far, delivery).fresh is True
    assert load_record(far.folder) == delivery.record
    again = work(far)
    before = (far.folder / FILE_NAME).stat().st_mtime_ns
    assert deliver(far, again).fresh is False  # another sweep was faster
    assert (far.folder / FILE_NAME).stat().st_mtime_ns == before
    with alone_in(far.folder), pytest.raises(LockedError):
        deliver(far, again)
    two = of_seeds(far, 4, 5)
    for each, ending in zip(two, work_together(two), strict=True):
        assert isinstance(ending, Delivery)
        deliver(each, ending)
        assert load_record(each.folder).seed == each.seed
        assert load_record(each.folder).stacked
    assert [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()] == []


def test_a_worker_with_other_code_or_data_is_refused(job: Job, tmp_path: Path) -> None:
    for key in ("model", "md5", "recipe"):
        with pytest.raises(MismatchError, match=f"has another {key} than"):
            work(replace(job, identity=job.identity | {key: "other"}))
    with pytest.raises(DataError):
        work(replace(job, source=Source("mnist", tmp_path, False, "cpu")))
    assert not job.folder.exists()


def test_a_plan_looks_at_every_folder_first(digits: Dataset, tmp_path: Path) -> None:
    def planned(*experiments: Experiment, seeds: range = range(3)) -> Plan:
        with board_in(tmp_path) as board:
            return plan(experiments, seeds, digits, tmp_path, board=board, source=DIGITS, threads=1)

    first = planned(QUICK, DIVERGING)
    assert [(job.experiment.name, job.seed) for job in first.jobs] == [
        (name, seed) for name in ("quick", "diverging") for seed in range(3)
    ]
    assert (first.finished, first.standing, first.epochs) == ([0] * 6, [], 3 * 2 + 3 * 3)
    folders = [job.folder for job in first.jobs]
    assert folders[1] == tmp_path / "digits-test" / "quick" / "seed-1"

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(QUICK, 0, digits, folders[0], listener=stop)
    record = train(QUICK, 1, digits, folders[1])
    second = planned(QUICK)
    assert ([job.seed for job in second.jobs], second.finished) == ([0, 2], [1, 0])
    (there,) = second.standing
    assert (there.seed, there.state, there.seconds) == (1, "standing", record.timing.seconds)

    longer = replace(QUICK, recipe=replace(QUICK.recipe, epochs=9))
    with pytest.raises(
        CheckpointError, match=r"belongs to another run: recipe\.epochs is \d+, expected 9"
    ):
        planned(longer)
    (folders[0] / CHECKPOINT).unlink()
    with pytest.raises(
        RecordExistsError, match=r"another run: recipe\.epochs is \d+, expected 9\."
    ):
        planned(longer)
    assert list(tmp_path.glob(".sweep-*")) == []


def planned(
    experiments: Sequence[Experiment],
    seeds: int,
    data: Dataset,
    out: Path,
    *,
    board: Path,
    workers: int = 1,
) -> Plan:
    """So many seeds of each, up to four side by side."""
    return plan(
        experiments,
        range(seeds),
        data,
        out,
        board=board,
        source=DIGITS,
        threads=1,
        stacked=4,
        workers=workers,
    )


def test_a_plan_puts_seeds_side_by_side_where_they_can_be(digits: Dataset, tmp_path: Path) -> None:
    with board_in(tmp_path) as board:
        found = planned([QUICK, EXPERIMENTS["attempt-3"]], 9, digits, tmp_path, board=board)
    seeds = [[job.seed for job in group] for group in found.groups]
    assert seeds == [[0, 1, 2], [3, 4, 5], [6, 7, 8], *([seed] for seed in range(9))]
    assert [job.seed for job in found.jobs] == [*range(9), *range(9)]
    assert len({id(job.experiment) for group in found.groups[:3] for job in group}) == 1

    with board_in(tmp_path) as board:  # three of each, were there not four workers
        spread = planned([QUICK], 5, digits, tmp_path, board=board, workers=4)
    assert [len(group) for group in spread.groups] == [1, 2, 2]


class Failing(Executor):
    """Runs here and at once what it is given; seed 2 ends whatever group it is in."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.given: list[list[int]] = []

    def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        (group,) = arguments
        self.given.append([job.seed for job in group])
        future: Future[Any] = Future()
        if 2 in self.given[-1]:
            future.set_exception(self.error)
        else:
            future.set_result(call(group))
        return future


@pytest.mark.parametrize(
    ("error", "deaths", "tries"),
    [
        (BrokenProcessPool("gone"), 4, 3),
        (KilledWorker("work", SimpleNamespace(address="tcp://here:1"), 3), 5, 1),
        (OSError("disk full"), 0, 1),
        (CheckpointError("damaged"), 0, 1),
    ],
)
def test_what_ends_a_group_ends_no_other_run_of_it(
    error: Exception, deaths: int, tries: int, digits: Dataset, tmp_path: Path
) -> None:
    executor = Failing(error)
    with board_in(tmp_path) as board:
        todo = planned([QUICK], 4, digits, tmp_path, board=board)
        outcomes = {outcome.seed: outcome for outcome in sweep(todo, executor)}
    assert executor.given == [[0, 1, 2, 3], [0], [1], [2], [3], *[[2]] * (tries - 1)]
    states = [outcomes[seed].state for seed in range(4)]
    assert states == ["trained", "trained", "failed", "trained"]
    assert outcomes[2].deaths == deaths
    assert str(error) in outcomes[2].cause


def test_a_group_that_lacks_what_every_run_needs_ends_the_sweep(
    digits: Dataset, tmp_path: Path
) -> None:
    with board_in(tmp_path) as board:
        todo = planned([QUICK], 4, digits, tmp_path, board=board)
        with pytest.raises(DataError, match="no such file"):
            list(sweep(todo, Failing(DataError("no such file"))))


def test_a_dead_worker_is_replaced_three_times() -> None:
    assert RETRIES == 3
