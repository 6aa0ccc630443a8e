"""Runs of a sweep, as a worker does them: alone in their folders, from their checkpoints if any."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from mnist_models.atomic import writing
from mnist_models.data import Dataset, Source, load_source
from mnist_models.models import Experiment
from mnist_models.record import (
    FILE_NAME,
    Record,
    RecordError,
    RecordExistsError,
    canonical,
    load_record,
    save_record,
)
from mnist_models.schema import differences
from mnist_models.stacked import train_stacked
from mnist_models.train import DivergedError, Listener, Progress, identity_of, train

_LOCK = ".lock"
_ALONE = threading.Lock()  # all random numbers come from torch's one generator of the process


class LockedError(Exception):
    """Another process is at work in the folder of this run."""


class StoppedError(Exception):
    """The sweep that this run belongs to is over; its checkpoint is kept."""


class MismatchError(Exception):
    """The worker has other code or another data set than the sweep: which, and what to do."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        experiment: model and recipe.
        seed: from 0.
        identity: what its record will have as its `identity`.
        folder: where that will stand, absolute.
        source: the data set.
        threads: of torch.
        board: a folder that is there as long as the sweep is. A worker that sees it shares the
            file system with the sweep; there it shows how many epochs are finished.
    """

    experiment: Experiment
    seed: int
    identity: dict[str, Any] = field(hash=False)
    folder: Path
    source: Source
    threads: int
    board: Path

    @property
    def name(self) -> str:
        """For people, and of the file on the board."""
        return f"{self.experiment.name} seed {self.seed}"


@dataclass(frozen=True)
class Delivery:
    """A finished run.

    Attributes:
        fresh: it was trained now; else its record stood there.
        seconds: of training and scoring, over all epochs.
        device: what computed.
        record: the record that is still to be written, where the worker shares no file system.
        weights: epoch -> the bytes of its weight file, likewise.
    """

    fresh: bool
    seconds: float
    device: str
    record: Record | None = None
    weights: dict[int, bytes] = field(default_factory=dict)


def standing(identity: dict[str, Any], folder: Path) -> Record | None:
    """The record that makes the run of this identity needless, or None where none stands there.

    Raises:
        RecordError: a damaged record stands in `folder`.
        RecordExistsError: that of another run does.
    """
    if not (folder / FILE_NAME).exists():
        return None
    record = load_record(folder)
    if other := "; ".join(differences(record.identity, identity)):
        raise RecordExistsError(
            f"{folder} holds the record of another run: {other}. train --force replaces it, "
            "--out writes elsewhere"
        )
    return record


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder, made if need be; the hold ends with the process, however that ends.

    Raises:
        LockedError: another process holds it.
        NotWrittenError: it cannot be written.
    """
    lock = FileLock(folder / _LOCK)
    with writing(folder, "--out"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(
                f"{folder} is held by another process, which writes there; let it end, or choose "
                "another --out"
            ) from None
    try:
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)  # whoever comes second looks for a record first
        lock.release()


Ending = Delivery | LockedError | RecordError | DivergedError


def work(jobs: Sequence[Job]) -> list[Ending]:
    """Train runs of one experiment on this worker, or find that they stand already.

    Several are trained side by side in one network. Where the worker shares no file system with
    the sweep, it trains in its own temporary folders and hands the records back.

    Returns:
        For each job a delivery, or why there is none: another process trains it, another record
        is in the way, or it diverged.

    Raises:
        StoppedError: the sweep is over.
        MismatchError, DataError: the worker lacks what the sweep needs.
        StackError, CheckpointError: as `train_stacked`.
    """
    with _ALONE, contextlib.ExitStack() as held:
        torch.set_num_threads(jobs[0].threads)
        data = load_source(jobs[0].source)
        for job in jobs:
            _refuse_mismatch(job, data)
        shared = jobs[0].board.is_dir()
        folders = {job.seed: job.folder if shared else _own_folder(job) for job in jobs}
        endings: dict[int, Record | LockedError | RecordError | DivergedError] = {}
        for job in jobs:
            with contextlib.ExitStack() as hold:
                try:
                    hold.enter_context(alone_in(folders[job.seed]))
                    record = standing(job.identity, folders[job.seed])
                except (LockedError, RecordError) as error:
                    endings[job.seed] = error
                    continue
                if record is not None:
                    endings[job.seed] = record
                if record is None or not shared:  # there is something to do in the folder
                    held.push(hold.pop_all())
        todo = [job for job in jobs if job.seed not in endings]
        trained = _train(todo, folders, data, _Notes(todo if shared else []))
        endings |= trained
        found = [
            _ending(endings[job.seed], folders[job.seed], fresh=job.seed in trained, shared=shared)
            for job in jobs
        ]
        if not shared:  # everything was read: an error before this loses nothing
            for ending, folder in zip(found, folders.values(), strict=True):
                if isinstance(ending, Delivery):
                    shutil.rmtree(folder)
        return found


def _train(
    jobs: Sequence[Job], folders: Mapping[int, Path], data: Dataset, listener: Listener
) -> dict[int, Record | DivergedError]:
    """Train these runs, by their seed: one alone, more side by side."""
    if not jobs:
        return {}
    experiment, seed = jobs[0].experiment, jobs[0].seed
    if len(jobs) > 1:
        wanted = {job.seed: folders[job.seed] for job in jobs}
        return train_stacked(experiment, wanted, data, resume=True, listener=listener)
    try:
        record = train(experiment, seed, data, folders[seed], resume=True, listener=listener)
    except DivergedError as error:
        return {seed: error}
    return {seed: record}


def _ending(
    found: Record | LockedError | RecordError | DivergedError,
    folder: Path,
    *,
    fresh: bool,
    shared: bool,
) -> Ending:
    """What goes back to the sweep; where it sees another file system, with all there is."""
    if not isinstance(found, Record):
        return found
    if shared:
        return _delivery(found, fresh=fresh)
    weights = {kept.epoch: (folder / kept.file).read_bytes() for kept in found.weights}
    return replace(_delivery(found), record=found, weights=weights)


def deliver(job: Job, delivery: Delivery) -> Delivery:
    """Write a record that came back from a worker, unless one stands there by now.

    Raises:
        LockedError, RecordError: as `alone_in` and `standing`.
    """
    if delivery.record is None:
        return delivery
    with alone_in(job.folder):
        if (found := standing(job.identity, job.folder)) is not None:
            return _delivery(found, fresh=False)
        return _delivery(save_record(delivery.record, delivery.weights, job.folder))


def _delivery(record: Record, *, fresh: bool = True) -> Delivery:
    return Delivery(fresh, record.timing.seconds, record.provenance.device)


def _refuse_mismatch(job: Job, data: Dataset) -> None:
    """A worker of another version or with other files must not train under this job's name."""
    found = identity_of(job.experiment, job.seed, data, job.experiment.build())
    if other := [key for key, value in job.identity.items() if found[key] != value]:
        raise MismatchError(
            f"the worker on {socket.gethostname()} has another {' and '.join(other)} than this "
            "sweep: install the same version of the package there, and the same data set"
        )


def _own_folder(job: Job) -> Path:
    """Where a worker trains by itself; after its death another one on the machine goes on there."""
    digest = hashlib.sha256(canonical(job.identity)).hexdigest()
    place = Path(tempfile.gettempdir()) / f"mnist-models-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid != os.getuid():
        raise MismatchError(f"{place} belongs to somebody else: set TMPDIR to a folder of your own")
    return place / digest


class _Notes:
    """Shows on the board how many epochs are finished; ends the runs where the board is gone."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = {job.seed: job for job in jobs}

    def __call__(self, progress: Progress) -> None:
        if progress.finished is None:
            return
        told = list(self._jobs) if progress.seed is None else [progress.seed]
        for job in (self._jobs[seed] for seed in told if seed in self._jobs):
            try:
                with (job.board / job.name).open("ab") as file:
                    file.truncate(progress.epoch)  # its size is the number: never half written
            except FileNotFoundError:
                raise StoppedError("the sweep is over; the same command goes on") from None
