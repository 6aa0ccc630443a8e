"""Worker processes with calls that cost nothing; what they are for is in test_sweep.py."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from distributed import KilledWorker

from mnist_models.workers import Place, WorkersError, dask, deaths, local, places

CORES = sorted(os.sched_getaffinity(0))
ANYWHERE = Place((), 1)
FAR = {902, 903, 905, 907, 911}  # no process of this machine is bound to one of these


def test_each_worker_has_cores_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: FAR)
    assert [place.cores for place in places(None, 2)] == [(902, 903), (905, 907)]
    assert [place.cores for place in places(3, 1)] == [(902,), (903,), (905,)]
    assert {place.gpu for place in places(None, 1)} == {None}
    gpus = places(None, 1, ["0", "GPU-b"])
    assert [(place.gpu, place.cores) for place in gpus] == [
        ("0", (902, 903)),
        ("GPU-b", (905, 907)),
    ]


@pytest.mark.skipif(len(CORES) < 2, reason="there is but one core")
def test_cores_that_others_are_bound_to_come_last() -> None:
    def bound(core: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["sleep", "60"])
        os.sched_setaffinity(process.pid, [core])
        return process

    everywhere = [place.cores for place in places(None, 1)]
    assert sorted(everywhere) == [(core,) for core in CORES]
    # More on one core than any other test may have there at the same time.
    for core in (CORES[0], CORES[-1]):
        with contextlib.ExitStack() as stack:
            for _ in range(9):
                stack.callback(stack.enter_context(bound(core)).kill)
            assert [place.cores for place in places(None, 1)][-1] == (core,)
            assert places(1, 1)[0].cores != (core,)
            assert places(1, len(CORES))[0].cores == tuple(CORES)


def test_workers_beyond_the_gpus_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: FAR)
    gpus = places(3, 2, ["0", "GPU-b"])
    assert [(place.gpu, place.cores) for place in gpus] == [
        ("0", (902,)),
        ("GPU-b", (903,)),
        ("0", (905,)),
    ]


@pytest.mark.parametrize(
    ("workers", "threads", "gpus", "found"),
    [
        (3, 2, [], "5 cores, 2 for each"),
        (None, 6, [], "5 cores, 6"),
        (6, 1, ["0"], "5 cores, 1 for each"),
    ],
)
def test_more_than_there_is_room_for_is_refused(
    workers: int | None,
    threads: int,
    gpus: list[str],
    found: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(5)))
    with pytest.raises(WorkersError, match=found):
        places(workers, threads, gpus)


def test_a_worker_is_settled_before_torch_starts() -> None:
    place = Place((CORES[-1],), 3, gpu="GPU-x")
    with local([place]) as executor:
        assert executor.submit(os.sched_getaffinity, 0).result() == {CORES[-1]}
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"
        assert executor.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() == "GPU-x"
        assert executor.submit(eval, "'torch' in __import__('sys').modules").result() is False
        assert executor.submit(os.getpid).result() != os.getpid()


def test_a_dead_worker_costs_its_own_call_alone() -> None:
    with local([ANYWHERE, ANYWHERE]) as executor:
        other = executor.submit(time.sleep, 1.5)
        error = executor.submit(os._exit, 3).exception()
        assert isinstance(error, BrokenProcessPool)
        assert deaths(error) == 1
        assert executor.submit(os.getppid).result() == os.getpid()  # in its successor
        assert other.exception() is None


def test_an_ordinary_exception_is_no_death() -> None:
    with local([ANYWHERE]) as executor:
        error = executor.submit(int, "x").exception()
        assert isinstance(error, ValueError)
        assert deaths(error) == 0
        first = executor.submit(os.getpid).result()
        executor.submit(int, "x").exception()
        assert executor.submit(os.getpid).result() == first


def test_a_terminated_worker_is_a_death() -> None:
    with local([ANYWHERE]) as executor:
        worker = executor.submit(os.getpid).result()
        busy = executor.submit(time.sleep, 60)
        while not busy.running():
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(worker, signal.SIGTERM)
        error = busy.exception()
        assert isinstance(error, SystemExit | BrokenProcessPool)
        assert deaths(error) == 1


def test_ctrl_c_reaches_no_worker() -> None:
    with local([ANYWHERE]) as executor:
        worker = executor.submit(os.getpid).result()
        busy = executor.submit(time.sleep, 0.7)
        time.sleep(0.3)
        os.kill(worker, signal.SIGINT)
        assert busy.exception() is None


def end_slowly(note: str) -> int:
    def ending() -> None:
        Path(note).touch()
        time.sleep(30)

    atexit.register(ending)
    return os.getpid()


def test_a_worker_that_is_ending_anyway_says_nothing_when_terminated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    note = tmp_path / "ending"

    def terminate() -> None:
        while not note.exists():
            time.sleep(0.01)
        os.kill(worker, signal.SIGTERM)

    began = time.monotonic()
    with local([Place((), 1)]) as executor:
        worker = executor.submit(end_slowly, str(note)).result()
        killer = threading.Thread(target=terminate)
        killer.start()
    killer.join()
    assert time.monotonic() - began < 20  # it was still ending
    assert capfd.readouterr().err == ""


def doze(seconds: float, *, deaf: bool) -> None:
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)


@pytest.mark.parametrize("deaf", [False, True])
def test_an_exception_ends_all_workers_at_once(deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_models.workers._GRACE", 0.5)
    waiting: list[Future[object]] = []
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), local([ANYWHERE]) as executor:
        worker = executor.submit(os.getpid).result()
        executor.submit(doze, 0, deaf=False).result()  # it has imported this module
        waiting += [executor.submit(doze, 60, deaf=deaf), executor.submit(os.getpid)]
        while not waiting[0].running():
            time.sleep(0.01)
        time.sleep(0.2)
        raise KeyboardInterrupt
    assert waiting[1].cancelled()
    asked = SystemExit  # which lets it clear away what it was writing
    assert isinstance(waiting[0].exception(timeout=10), BrokenProcessPool if deaf else asked)
    while time.monotonic() - began < 20:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its executor")


def test_dasks_own_attempts_count() -> None:
    error = KilledWorker("a task", None, allowed_failures=3)
    assert deaths(error) == 4


def test_dask_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "::"):
        with (
            pytest.raises(WorkersError, match=r"no Dask cluster .* answers at .* tcp://"),
            dask(address, patience=0.5),
        ):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(WorkersError, match=r'pip install "mnist-models\[cluster\]"'), dask("x"):
        pass
