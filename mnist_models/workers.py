"""Where many runs compute: a process for each place of this machine, or a Dask cluster.

Both are executors of the standard library. This module must not import torch: a worker reads its
number of threads and its GPU when torch starts, and they are set before.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, NoReturn

import psutil

from mnist_models.allocator import keep_memory
from mnist_models.plural import counted

_GRACE = 5.0  # seconds that a worker has to leave after SIGTERM, before SIGKILL
_PATIENCE = 15.0  # seconds to wait for a Dask scheduler, and for its first worker


class WorkersError(Exception):
    """There is nowhere to compute: what was found, what to do."""


@dataclass(frozen=True)
class Place:
    """Where one local worker computes.

    Attributes:
        cores: the numbers of its own cores; empty where the system does not let one choose.
        threads: of torch.
        gpu: its GPU, as CUDA_VISIBLE_DEVICES names it, or None for the CPU.
        keeps_memory: whether it does as `keep_memory` has it.
    """

    cores: tuple[int, ...]
    threads: int
    gpu: str | None = None
    keeps_memory: bool = True


def places(workers: int | None, threads: int, gpus: Sequence[str] = ()) -> list[Place]:
    """A place for each worker: cores of its own, and a GPU where `gpus` names some.

    Cores to which no other process is bound come first: two sweeps of few workers go side by side.

    Args:
        workers: how many; None for as many as there are cores or GPUs for. More than there are
            GPUs share them: with the Multi-Process Service of CUDA running, what small networks
            leave idle is used.
        threads: of each.
        gpus: what CUDA_VISIBLE_DEVICES may name.

    Raises:
        WorkersError: more are asked for than there is room for.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = _freest_first(os.sched_getaffinity(0))  # we may use these: a container has not all
    else:
        cores = list(range(os.cpu_count() or 1))
    room = len(cores) if gpus else len(cores) // threads
    wanted = workers if workers is not None else len(gpus) or room
    if not 0 < wanted <= room:
        what = f"{counted(len(cores), 'core')}, {1 if gpus else threads} for each worker"
        raise WorkersError(f"found {what}, expected room for {wanted or 'one'}; ask for fewer")
    share = max(1, len(cores) // wanted) if gpus else threads
    return [
        Place(
            tuple(sorted(cores[i * share : (i + 1) * share]))
            if hasattr(os, "sched_setaffinity")
            else (),
            threads,
            gpus[i % len(gpus)] if gpus else None,
        )
        for i in range(wanted)
    ]


def _freest_first(cores: Collection[int]) -> list[int]:
    """By how many processes may run on each: those that are bound to none count everywhere."""
    bound: Counter[int] = Counter()
    for process in psutil.process_iter():
        try:
            if process.cmdline():  # the kernel's own have none
                bound.update(os.sched_getaffinity(process.pid))
        except (OSError, psutil.Error):  # gone meanwhile, or not ours to ask
            continue
    return sorted(cores, key=lambda core: (bound[core], core))


def deaths(error: BaseException) -> int:
    """How many workers died of what ended in this error; 0 if it is an ordinary exception."""
    if isinstance(error, BrokenExecutor | SystemExit):  # SystemExit: somebody sent it a SIGTERM
        return 1
    distributed = sys.modules.get("distributed")
    if distributed is not None and isinstance(error, distributed.KilledWorker):
        return int(error.allowed_failures) + 1  # Dask has tried it again by itself
    return 0


@contextlib.contextmanager
def local(where: Sequence[Place]) -> Iterator[Executor]:
    """A worker process at each place; ended at once where the block is left by an exception."""
    executor = _Slots(where)
    try:
        yield executor
    except BaseException:
        executor.stop()
        raise
    executor.shutdown()


@contextlib.contextmanager
def dask(address: str, patience: float = _PATIENCE) -> Iterator[Executor]:
    """The workers of an existing Dask cluster.

    Args:
        address: of its scheduler, such as ``tcp://10.0.0.1:8786``.
        patience: seconds to wait for the scheduler, and for a first worker.

    Raises:
        WorkersError: Dask is not installed, or nothing answers.
    """
    try:
        from distributed import Client  # noqa: PLC0415 - the extra "cluster"
    except ImportError as error:
        raise WorkersError(
            f'--dask needs the extra "cluster" ({error}): pip install "mnist-models[cluster]"'
        ) from error
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(Client(address, timeout=patience, set_as_default=False))
            client.wait_for_workers(1, timeout=patience)
        except (OSError, ValueError, TypeError) as error:  # a timeout is an OSError
            raise WorkersError(
                f"no Dask cluster with a worker answers at {address} within {patience:g} s "
                f"({error}); expected an address such as tcp://10.0.0.1:8786: start "
                "`dask scheduler` and `dask worker ADDRESS --nthreads 1`"
            ) from error
        executor = client.get_executor(pure=False, retries=0)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False)
            raise


Item = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Slots(Executor):
    """A pool of one process for each place.

    One process that dies breaks the whole of a ProcessPoolExecutor: here it breaks its own, which
    is made anew, and the other workers notice nothing.
    """

    def __init__(self, where: Sequence[Place]) -> None:
        self._waiting: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._slots = [_Slot(place, self._waiting) for place in where]

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.put((future, call, arguments, named))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            self._cancel()
        for _ in self._slots:
            self._waiting.put(None)
        if wait:
            for slot in self._slots:
                slot.thread.join()

    def stop(self) -> None:
        """End the workers now: SIGTERM, and SIGKILL for those that do not obey."""
        for slot in self._slots:
            slot.stopping = True
        self.shutdown(wait=False, cancel_futures=True)
        try:
            for slot in self._slots:
                slot.send(signal.SIGTERM)
            deadline = time.monotonic() + _GRACE
            for slot in self._slots:
                slot.thread.join(max(0.0, deadline - time.monotonic()))
        finally:  # a second Ctrl-C leads here as well
            for slot in self._slots:
                if slot.thread.is_alive():
                    slot.send(signal.SIGKILL)

    def _cancel(self) -> None:
        with contextlib.suppress(queue.Empty):
            while (item := self._waiting.get_nowait()) is not None:
                item[0].cancel()


class _Slot:
    """A place, its worker process, and the thread that hands it one call after another."""

    def __init__(self, place: Place, waiting: queue.SimpleQueue[Item | None]) -> None:
        self.stopping = False
        self._place = place
        self._waiting = waiting
        self._pool: ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def send(self, number: signal.Signals) -> None:
        pid = self._pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, call, arguments, named = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                asked = self._ready().submit(_called, call, arguments, named)
                future.set_result(asked.result())
            except BaseException as error:
                if isinstance(error, BrokenExecutor):
                    self._close()  # the next call makes it anew
                future.set_exception(error)
        self._close()

    def _ready(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # The worker inherits it: Ctrl-C, which reaches all processes of a terminal, is ours
            # alone. The tracker comes first, since its own start unblocks the signal again.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self._pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), _settle, (self._place,)
            )
            self._pid = self._pool.submit(os.getpid).result()
        if self.stopping:  # asked before there was a process to tell
            raise SystemExit
        return self._pool

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = self._pid = None


def _settle(place: Place) -> None:
    """The first thing that a worker process does."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(place.threads)
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    if place.cores:
        os.sched_setaffinity(0, place.cores)
    if place.keeps_memory:
        keep_memory()
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _called(call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """A call, which SIGTERM ends as an exception; before and after it SIGTERM just ends all."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        return call(*arguments, **named)
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # so that what is being written is cleared away


def _outlive_nobody() -> None:
    """End with the parent, even where that was killed: the next sweep finds no rival."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
