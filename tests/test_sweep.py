"""Sweeps as they run: real processes, real signals, a real Dask cluster on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from mnist_models.board import board_in
from mnist_models.checkpoint import FILE_NAME as CHECKPOINT
from mnist_models.checkpoint import load_checkpoint
from mnist_models.data import DataError, Dataset, Source
from mnist_models.job import Job, MismatchError
from mnist_models.models import Experiment
from mnist_models.record import FILE_NAME, find_records, load_record, load_weights
from mnist_models.sweep import Outcome, Plan, Progress, plan, sweep
from mnist_models.train import train
from mnist_models.workers import dask, local, places

from . import runners
from .test_train import repeatable

REPOSITORY = Path(__file__).resolve().parent.parent
DIGITS = Source("digits", None, False, "cpu")
EPOCHS = 30  # of a run that is stopped three times
LIMIT = 120  # seconds that anything may take on a busy machine
COMMAND = (
    "import sys; from tests.runners import register_all; register_all(); "
    "from mnist_models.cli import main; sys.exit(main(sys.argv[1:]))"
)

pytestmark = pytest.mark.sweep


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every process that a test started is gone after it; one that is not is killed."""
    monkeypatch.setenv("SLOW", "0.2")  # a run of 3.6 s: time to be found and killed in the middle
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [p for p in set(psutil.Process().children(recursive=True)) - before if not _ended(p)]
    for process in left:
        process.kill()
    assert left == []


def _ended(process: psutil.Process) -> bool:
    """It is no more, or it is multiprocessing's own, one for the life of this process."""
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:  # since it was listed
        return True


def until(holds: Callable[[], Any], what: str) -> Any:
    """What `holds` gives as soon as it gives anything."""
    deadline = time.monotonic() + LIMIT
    while not (found := holds()):
        assert time.monotonic() < deadline, f"waited {LIMIT} s for {what}"
        time.sleep(0.02)
    return found


def planned(
    experiments: Sequence[Experiment], seeds: Sequence[int], data: Dataset, out: Path, board: Path
) -> Plan:
    return plan(experiments, seeds, data, out, board=board, source=DIGITS, threads=1)


def alone(experiment: Experiment, seed: int, data: Dataset, folder: Path) -> Any:
    """What the run gives when it is trained by itself, here and without stops."""
    os.environ["SLOW"] = "0"
    return repeatable(train(experiment, seed, data, folder))


def holder(folder: Path) -> psutil.Process | None:
    """The process that holds the folder of a run which has a checkpoint."""
    if not (folder / CHECKPOINT).exists() or (folder / FILE_NAME).exists():
        return None
    for process in psutil.process_iter():
        try:
            if str(folder / ".lock") in (file.path for file in process.open_files()):
                return process
        except psutil.Error:
            continue
    return None


def kill_worker_of(job: Job, *beside: Job) -> list[float]:
    """SIGKILL in mid-run, when each of these runs has a checkpoint.

    Gives the seconds of the epochs that the checkpoint of the first one had.
    """
    for each in beside:
        until((each.folder / CHECKPOINT).exists, "a checkpoint of a run side by side")
    victim = until(lambda: holder(job.folder), "a worker in mid-run")
    victim.kill()
    state = load_checkpoint(job.folder, job.identity)
    assert state is not None
    return list(state.seconds)


def of(outcomes: Sequence[Outcome], experiment: Experiment) -> dict[int, Outcome]:
    return {each.seed: each for each in outcomes if each.experiment == experiment.name}


def assert_resumed(job: Job, seconds: list[float]) -> None:
    """The record has the very seconds of the killed worker's epochs: they were not run again."""
    record = load_record(job.folder)
    assert 0 < len(seconds) < len(record.epochs)
    assert record.timing.epoch_seconds[: len(seconds)] == seconds


def test_local_workers_die_and_the_others_go_on(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed worker, a run that diverges and one that always kills its worker, in one sweep."""
    monkeypatch.setenv("DEADLY", str(tmp_path / "deaths"))
    told: list[Progress] = []
    out = tmp_path / "runs"
    slow, others = [runners.SLOW], [runners.DIVERGING, runners.DEADLY]
    with board_in(out) as board, ThreadPoolExecutor(1) as thread:
        todo = planned(slow, [0, 1, 2], digits, out, board)
        todo.groups.extend(planned(others, [0], digits, out, board).groups)
        todo.finished.extend([0, 0])
        killed = thread.submit(kill_worker_of, todo.jobs[0])
        with local(places(2, 1)) as executor:
            outcomes = list(sweep(todo, executor, told.append))
    assert_resumed(todo.jobs[0], killed.result())
    trained = of(outcomes, runners.SLOW)
    assert {seed: each.state for seed, each in trained.items()} == dict.fromkeys(
        range(3), "trained"
    )
    assert [trained[seed].deaths for seed in range(3)] == [1, 0, 0]
    diverged = of(outcomes, runners.DIVERGING)[0]
    assert (diverged.state, diverged.deaths) == ("failed", 0)
    assert "DivergedError: the training loss" in diverged.cause
    deadly = of(outcomes, runners.DEADLY)[0]
    assert (deadly.state, deadly.deaths) == ("failed", 4)
    assert "its worker died, 4 times in all" in deadly.cause
    assert (tmp_path / "deaths").stat().st_size == 4  # once, and three times again
    assert len(find_records(out)) == 3
    assert repeatable(load_record(todo.jobs[0].folder)) == alone(
        runners.SLOW, 0, digits, tmp_path / "alone"
    )
    assert told[-1].finished == todo.epochs
    assert sorted(progress.finished for progress in told) == [each.finished for each in told]
    assert len({progress.finished for progress in told}) > 5  # epoch by epoch, not run by run
    assert told[-1].states == {"trained": 3, "failed": 2}
    # Neither board nor locks, but for the one whose holder had no time to clear it away.
    assert list(out.glob("**/.*")) == [todo.jobs[-1].folder / ".lock"]


def test_a_group_whose_worker_dies_goes_on_one_by_one(digits: Dataset, tmp_path: Path) -> None:
    with board_in(tmp_path) as board, ThreadPoolExecutor(1) as thread:
        todo = plan(
            [runners.SLOW],
            [0, 1],
            digits,
            tmp_path,
            board=board,
            source=DIGITS,
            threads=1,
            stacked=2,
        )
        assert len(todo.groups) == 1
        killed = thread.submit(kill_worker_of, *todo.jobs)
        with local(places(1, 1)) as executor:
            outcomes = list(sweep(todo, executor))
    assert [(each.seed, each.state, each.deaths) for each in outcomes] == [
        (0, "trained", 1),
        (1, "trained", 1),
    ]
    assert_resumed(todo.jobs[0], killed.result())
    assert [load_record(job.folder).stacked for job in todo.jobs] == [True, True]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A Dask scheduler and two workers without nannies: nobody starts a killed one again."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    processes: list[subprocess.Popen[bytes]] = []
    address_file = tmp_path / "scheduler.json"

    def start(*arguments: str) -> None:
        with (tmp_path / f"dask-{len(processes)}.log").open("wb") as log:
            command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
            processes.append(
                subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
            )

    try:
        file = ("--scheduler-file", str(address_file))
        start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *file)
        for _ in range(2):
            start("dask_worker", "--no-nanny", "--nthreads", "1", "--no-dashboard", *file)
        until(address_file.exists, "the scheduler")
        yield until(lambda: _address(address_file), "its address")
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def _address(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["address"])
    except ValueError:  # half written
        return ""


def test_dask_workers_die_and_the_others_go_on(
    cluster: str, digits: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    with board_in(out) as board, ThreadPoolExecutor(1) as thread, dask(cluster, LIMIT) as executor:
        todo = planned([runners.SLOW], [0, 1, 2], digits, out, board)
        diverging = planned([runners.DIVERGING], [0], digits, out, board)
        todo.groups.extend(diverging.groups)
        todo.finished.append(0)
        killed = thread.submit(kill_worker_of, todo.jobs[0])
        outcomes = list(sweep(todo, executor))
        assert_resumed(todo.jobs[0], killed.result())
        assert {each.state for each in of(outcomes, runners.SLOW).values()} == {"trained"}
        assert of(outcomes, runners.DIVERGING)[0].cause.startswith("DivergedError")
        assert len(find_records(out)) == 3

        # Workers that do not see the board share no file system: they hand their records back.
        far = planned([runners.QUICK], [0, 1], digits, tmp_path / "far", tmp_path / "nowhere")
        assert [each.state for each in sweep(far, executor)] == ["trained"] * 2
        for job in far.jobs:
            record = load_record(job.folder)
            assert [*load_weights(job.folder, record.weights[-1])]
            expected = alone(runners.QUICK, job.seed, digits, tmp_path / f"alone-{job.seed}")
            assert repeatable(record) == expected

        # Ctrl-C on the sweep ends what its workers do after their present epoch.
        long = runners.experiment("long", runners.Slow, epochs=1_000)
        with pytest.raises(KeyboardInterrupt), board_in(out) as last:
            (stopped,) = (todo := planned([long], [0], digits, out, last)).jobs
            list(sweep(todo, executor, stop_after_an_epoch))
        until(lambda: not (stopped.folder / ".lock").exists(), "the worker to stop")
        state = load_checkpoint(stopped.folder, stopped.identity)
        assert state is not None
        assert 0 < len(state.epochs) < 1_000
        assert not (stopped.folder / FILE_NAME).exists()

        # A worker without the data set, or with other code, would end every run alike.
        missing = Source("mnist", tmp_path, False, "cpu")
        job = Job(runners.QUICK, 9, far.jobs[0].identity, tmp_path / "9", missing, 1, tmp_path)
        with pytest.raises(DataError, match=str(tmp_path)):
            list(sweep(Plan([(job,)], [], [0]), executor))
        other = Job(runners.QUICK, 8, far.jobs[0].identity, tmp_path / "8", DIGITS, 1, tmp_path)
        with pytest.raises(MismatchError, match="another seed than"):
            list(sweep(Plan([(other,)], [], [0]), executor))


def stop_after_an_epoch(progress: Progress) -> None:
    if progress.finished:
        raise KeyboardInterrupt


def start(*arguments: object, out: Path) -> subprocess.Popen[str]:
    """The command sweep as a shell starts it: in a process group of its own."""
    fixed = ("--out", str(out), "--dataset", "digits", "--json")
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "sweep", *map(str, arguments), *fixed],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, output and errors; nothing of its process group is left."""
    try:
        out, err = process.communicate(timeout=LIMIT)
        until(lambda: not _members(process.pid), "its workers to leave")
    finally:
        for member in _members(process.pid):
            member.kill()
    assert "Traceback" not in err
    return process.returncode, out, err


def _members(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def test_two_sweeps_on_one_folder_share_the_runs(tmp_path: Path) -> None:
    both = [
        start("slow", "--seeds", seeds, "--workers", 1, "--stacked", 1, out=tmp_path)
        for seeds in ("0-3", "3,2,1,0")
    ]
    ended = [end(process) for process in both]
    assert [status for status, _, _ in ended] == [0, 0]
    summaries = [json.loads(out) for _, out, _ in ended]
    trained = [
        run["seed"] for each in summaries for run in each["runs"] if run["state"] == "trained"
    ]
    assert sorted(trained) == [0, 1, 2, 3]  # each once
    for summary in summaries:
        assert 0 < summary["counts"]["trained"] < 4
        assert len(summary["runs"]) == 4
        assert summary["counts"]["failed"] == 0
    assert [load_record(folder).seed for folder in find_records(tmp_path)] == [0, 1, 2, 3]


def test_seeds_go_side_by_side_unless_told_not_to(tmp_path: Path) -> None:
    arguments = ("quick", "--seeds", "0-4", "--workers", 1, "--stacked")
    assert end(start(*arguments[:-1], out=tmp_path / "stacked"))[0] == 0
    assert end(start(*arguments, 1, out=tmp_path / "alone"))[0] == 0
    found = {
        kind: [load_record(folder) for folder in find_records(tmp_path / kind)]
        for kind in ("stacked", "alone")
    }
    assert [record.stacked for record in found["stacked"]] == [False] + [True] * 4  # 1, 2 and 2
    assert [record.stacked for record in found["alone"]] == [False] * 5
    for one, other in zip(found["stacked"], found["alone"], strict=True):
        assert one.identity == other.identity
        assert one.final.train_loss == pytest.approx(other.final.train_loss, rel=1e-3)


def test_a_stopped_sweep_leaves_nothing_and_goes_on(digits: Dataset, tmp_path: Path) -> None:
    """Ctrl-C, a kill that nobody can catch, SIGTERM; then to the end."""
    with board_in(tmp_path) as board:
        (job,) = planned([runners.SLOW], [0], digits, tmp_path, board).jobs
    arguments = ("slow", "quick", "--workers", 1, "--epochs", EPOCHS)
    stopped: list[list[float]] = [[]]
    for number, group, expected in (
        (signal.SIGINT, True, 130),
        (signal.SIGKILL, False, -signal.SIGKILL),
        (signal.SIGTERM, False, 143),
    ):
        process = start(*arguments, out=tmp_path)
        until(lambda: _seconds(job)[len(stopped[-1]) :], "an epoch")
        (os.killpg if group else os.kill)(process.pid, number)
        status, _, err = end(process)
        assert status == expected
        assert "the same command goes on" in err or number == signal.SIGKILL
        assert err.count("stopped") == (number != signal.SIGKILL)
        assert find_records(tmp_path) == []
        stopped.append(_seconds(job))
    status, out, _ = end(start(*arguments, out=tmp_path))
    assert (status, json.loads(out)["counts"]["trained"]) == (0, 2)
    record = load_record(job.folder)
    assert len(record.epochs) == EPOCHS
    assert list(tmp_path.glob(".sweep-*")) == []  # nor of the one that was killed
    for seconds in stopped:
        assert record.timing.epoch_seconds[: len(seconds)] == seconds


def _seconds(job: Job) -> list[float]:
    """Of the epochs in its checkpoint."""
    recipe = job.identity["recipe"] | {"epochs": EPOCHS}
    state = load_checkpoint(job.folder, job.identity | {"recipe": recipe})
    return [] if state is None else state.seconds
