"""Many runs through an executor: what is to do, doing it, and what became of each run.

A run that stands is skipped. A worker that dies costs its current runs, which go on from their
checkpoints, one by one; a run whose workers keep dying is given up, and the others go on.
"""

from __future__ import annotations

import contextlib
import math
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mnist_models.checkpoint import load_checkpoint
from mnist_models.data import DataError, Dataset, Source
from mnist_models.job import (
    Delivery,
    Ending,
    Job,
    LockedError,
    MismatchError,
    StoppedError,
    deliver,
    standing,
    work,
)
from mnist_models.models import Experiment
from mnist_models.record import RecordError, folder_of
from mnist_models.stack import StackError
from mnist_models.stacked import refuse_unstackable
from mnist_models.train import identity_of
from mnist_models.workers import deaths

RETRIES = 3  # after a worker's death
_POLL = 0.5  # seconds between two looks at the board
_AGAIN = 2.0  # seconds until a run that another process holds is looked at again

Group = tuple[Job, ...]
_Ended = Ending | BaseException
State = Literal["trained", "standing", "elsewhere", "failed"]


class SweepError(Exception):
    """The sweep cannot go on: what was found, what to do."""


@dataclass(frozen=True)
class Plan:
    """What a sweep will do.

    Attributes:
        groups: the runs to train, experiment by experiment; those of a group side by side.
        standing: the runs whose record stands, with their training seconds.
        finished: epochs in the checkpoint of each job, in the order of `jobs`.
    """

    groups: list[Group]
    standing: list[Outcome]
    finished: list[int]

    @property
    def jobs(self) -> list[Job]:
        """The runs to train, one by one."""
        return [job for group in self.groups for job in group]

    @property
    def epochs(self) -> int:
        """Of all jobs together."""
        return sum(job.experiment.recipe.epochs for job in self.jobs)


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        state: trained now; standing before; by another sweep meanwhile; or failed.
        seconds: of training and scoring; 0 where it failed.
        device: what computed; empty where it failed.
        deaths: workers that died of it.
        cause: why it failed.
    """

    experiment: str
    seed: int
    folder: str
    state: State
    seconds: float = 0.0
    device: str = ""
    deaths: int = 0
    cause: str = ""


@dataclass
class Progress:
    """Where a sweep stands."""

    finished: int = 0  # epochs, those of failed runs included: nothing more is to come of them
    held: int = 0  # runs that another process is at work on
    states: Counter[str] = field(default_factory=Counter)


Listener = Callable[[Progress], None]


def plan(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    data: Dataset,
    out: Path,
    *,
    board: Path,
    source: Source,
    threads: int,
    stacked: int = 1,
    workers: int = 1,
) -> Plan:
    """Look at every run's folder, so that what is in the way shows before hours of training.

    Up to `stacked` seeds of an experiment are to be trained side by side, where it can be stacked
    and no worker of so many would be left without a run.

    Raises:
        RecordError: another record, or a damaged one, stands in the folder of a run.
        CheckpointError: likewise for a checkpoint.
    """
    found = Plan([], [], [])
    todo: list[tuple[Experiment, list[Job]]] = []
    for experiment in experiments:
        identity = identity_of(experiment, 0, data, experiment.build())
        jobs: list[Job] = []
        for seed in seeds:
            folder = folder_of(out.resolve(), data.name, data.split, experiment.name, seed)
            job = Job(experiment, seed, identity | {"seed": seed}, folder, source, threads, board)
            record = standing(job.identity, folder)
            if record is not None:
                seconds, device = record.timing.seconds, record.provenance.device
                found.standing.append(
                    Outcome(experiment.name, seed, str(folder), "standing", seconds, device)
                )
                continue
            checkpoint = load_checkpoint(folder, job.identity)
            jobs.append(job)
            found.finished.append(0 if checkpoint is None else len(checkpoint.epochs))
        todo.append((experiment, jobs))
    most = max(1, min(stacked, math.ceil(len(found.finished) / workers)))
    for experiment, jobs in todo:
        found.groups.extend(_groups(experiment, jobs, most))
    return found


def _groups(experiment: Experiment, jobs: Sequence[Job], most: int) -> Iterator[Group]:
    """As few groups as there can be, of sizes as equal as they can be."""
    if most > 1 and len(jobs) > 1:
        try:
            refuse_unstackable(experiment)
        except StackError:
            most = 1
    count = math.ceil(len(jobs) / most)
    for index in range(count):
        yield tuple(jobs[index * len(jobs) // count : (index + 1) * len(jobs) // count])


def sweep(
    plan: Plan, executor: Executor, listener: Listener = lambda progress: None
) -> Iterator[Outcome]:
    """Train every job of the plan; what became of each, as it ends.

    Raises:
        DataError, MismatchError: a worker lacks what every run needs.
        SweepError: the executor gave up a run: its cluster is gone.
    """
    return _Sweep(plan, executor, listener).outcomes()


class _Sweep:
    """A sweep that is going on; what it knows of a job goes by the job's name."""

    def __init__(self, plan: Plan, executor: Executor, listener: Listener) -> None:
        self._plan, self._executor, self._listener = plan, executor, listener
        self._ended: queue.SimpleQueue[tuple[Group, Future[list[Ending]]]] = queue.SimpleQueue()
        self._held: dict[str, tuple[float, Job]] = {}  # when to look again
        self._deaths: Counter[str] = Counter()
        self._epochs = {job.name: done for job, done in zip(plan.jobs, plan.finished, strict=True)}
        self._states: Counter[str] = Counter()
        self._told = 0.0

    def outcomes(self) -> Iterator[Outcome]:
        for group in self._plan.groups:
            self._submit(group)
        left = len(self._plan.jobs)
        while left:
            self._tell()
            try:
                group, future = self._ended.get(timeout=_POLL)
            except queue.Empty:
                self._look_again()
                continue
            endings = self._endings(group, future)
            outcomes = [self._outcome(job, end) for job, end in zip(group, endings, strict=False)]
            for job, outcome in zip(group, outcomes, strict=False):
                if outcome is not None:
                    left -= 1
                    self._close(job, outcome)
                    yield outcome
        self._tell(at_once=True)

    def _submit(self, group: Group) -> None:
        future = self._executor.submit(work, group)
        future.add_done_callback(lambda future: self._ended.put((group, future)))

    def _endings(self, group: Group, future: Future[list[Ending]]) -> Sequence[_Ended]:
        """What the worker gave for each job, or what it died of.

        Nothing where a group failed as a whole: its jobs go on one by one, since it need not have
        been for all of them, and a checkpoint keeps what each had done.
        """
        if future.cancelled():
            raise SweepError(
                "the cluster gave up a run: its scheduler is gone, or was told to; see that it "
                "is there, and the same command goes on"
            )
        error = future.exception()  # asked, not raised: a SystemExit here would pass for ours
        if error is None:
            return future.result()
        if len(group) == 1 or isinstance(error, DataError | MismatchError | StoppedError):
            return [error] * len(group)
        for job in group:
            self._deaths[job.name] += min(1, deaths(error))
            self._submit((job,))
        return []

    def _outcome(self, job: Job, ending: _Ended) -> Outcome | None:
        """What became of the job; None where it goes on, now or later."""
        if isinstance(ending, Delivery):
            try:
                delivery = deliver(job, ending)
            except (LockedError, RecordError, OSError) as refused:
                error: BaseException = refused
            else:
                state: State = "trained" if delivery.fresh else "elsewhere"
                return self._ending(job, state, delivery.seconds, delivery.device)
        else:
            error = ending
        if isinstance(error, LockedError | StoppedError):
            self._held[job.name] = (time.monotonic() + _AGAIN, job)
            return None
        if isinstance(error, DataError | MismatchError):
            raise error  # every run on that worker would end so
        if died := deaths(error):
            self._deaths[job.name] += died
            if self._deaths[job.name] <= RETRIES:
                self._submit((job,))
                return None
            error = SweepError(f"its worker died, {self._deaths[job.name]} times in all: {error}")
        return self._ending(job, "failed", cause=f"{type(error).__name__}: {error}")

    def _ending(
        self, job: Job, state: State, seconds: float = 0.0, device: str = "", cause: str = ""
    ) -> Outcome:
        name, died = job.experiment.name, self._deaths[job.name]
        return Outcome(name, job.seed, str(job.folder), state, seconds, device, died, cause)

    def _close(self, job: Job, outcome: Outcome) -> None:
        self._held.pop(job.name, None)
        self._states[outcome.state] += 1
        self._epochs[job.name] = job.experiment.recipe.epochs
        (job.board / job.name).unlink(missing_ok=True)

    def _look_again(self) -> None:
        now = time.monotonic()
        for name, (when, job) in list(self._held.items()):
            if now >= when:
                self._held[name] = (math.inf, job)
                self._submit((job,))

    def _tell(self, *, at_once: bool = False) -> None:
        """Read the board, where the size of a file is the number of epochs; tell the listener."""
        if not at_once and time.monotonic() - self._told < _POLL:
            return
        self._told = time.monotonic()
        for path in self._plan.jobs[0].board.glob("* seed *") if self._plan.jobs else ():
            with contextlib.suppress(FileNotFoundError):
                self._epochs[path.name] = max(self._epochs[path.name], path.stat().st_size)
        states = Counter(self._states)
        self._listener(Progress(sum(self._epochs.values()), len(self._held), states))
