"""Run one command in a process group of its own, within limits of time and memory.

Whatever happens, nothing that the command started is left running: its group is killed, and so
is every process that was seen among its descendants or that carries its environment variable.
POSIX only.
"""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Literal

import psutil

POLL = 0.2  # seconds between two looks at memory: a fast leak overshoots by what it fills in that
KEPT = 64 << 10  # bytes of output kept, the last ones
LARGEST = 1 << 20  # bytes of results kept; the checks write a few thousand
_MARKER = "MNIST_MODELS_SUPERVISED"  # descendants inherit it, those that left the group too
_HUNTS = 40  # a process that keeps forking is hunted this often
_PAUSE = 0.05  # seconds between two hunts
_LAST_WORDS = 0.3  # seconds for a hung child to write where it hangs


@dataclass
class Ending:
    """How a command ended, and what it left.

    Attributes:
        status: as subprocess gives it, negative for a signal.
        limit: the one that was reached, or "".
        output: the last `KEPT` bytes of its standard output and error.
        results: the first bytes that it wrote to its results descriptor.
    """

    status: int = 0
    limit: Literal["", "time", "memory"] = ""
    output: bytes = b""
    results: bytes = b""


@dataclass
class _Pipe:
    """The reading end of a pipe, read without waiting."""

    descriptor: int
    first: bool  # keeps the first bytes, not the last
    size: int
    data: bytes = b""
    closed: bool = False  # by all writers

    def __post_init__(self) -> None:
        os.set_blocking(self.descriptor, False)

    def read(self) -> bool:
        """Read once; False where there is nothing or will be nothing more."""
        try:
            data = os.read(self.descriptor, 64 << 10)  # a Linux pipe holds this many bytes
        except BlockingIOError:
            return False
        joined = self.data + data
        self.data = joined[: self.size] if self.first else joined[-self.size :]
        self.closed = not data
        return bool(data)


@dataclass
class _Family:
    """The command's process and its descendants."""

    process: subprocess.Popen[bytes]
    marker: str
    seen: set[psutil.Process] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.leader = psutil.Process(self.process.pid)

    def ended(self) -> bool:
        """Whether the process has ended."""
        # Not `process.poll()`, which frees the number by which the group is killed afterwards
        return bool(self.leader.status() == psutil.STATUS_ZOMBIE)

    def resident(self) -> int:
        """Bytes of memory that all of them occupy."""
        with suppress(psutil.Error):
            self.seen.update(self.leader.children(recursive=True))
        self.seen = {process for process in self.seen if process.is_running()}
        total = 0
        for process in (self.leader, *self.seen):
            with suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def kill(self) -> int:
        """End all of them; gives the exit status of the command."""
        for _ in range(_HUNTS):
            with suppress(psutil.Error):
                self.seen.update(self.leader.children(recursive=True))
            self.seen.update(_strays(self.marker, self.process.pid))
            with suppress(ProcessLookupError, PermissionError):  # all ended, or a zombie on macOS
                os.killpg(self.process.pid, signal.SIGKILL)
            alive = [process for process in self.seen if self._kill(process)]
            if not alive and self.ended():
                break
            time.sleep(_PAUSE)
        return self.process.wait()

    def _kill(self, process: psutil.Process) -> bool:
        """Whether it was still alive."""
        with suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                return True
        return False


def _strays(marker: str, group: int) -> Iterator[psutil.Process]:
    for number in psutil.pids():
        with suppress(psutil.Error, OSError):  # another user's, or gone meanwhile
            process = psutil.Process(number)
            if os.getpgid(number) == group or process.environ().get(_MARKER) == marker:
                yield process


def supervise(
    command: list[str], request: bytes, environment: dict[str, str], seconds: float, memory: int
) -> Ending:
    """Run a command until it ends or reaches a limit.

    Args:
        command: the number of the descriptor for its results is appended.
        request: its standard input; less than 64 KiB, so that a pipe holds it.
        environment: all variables.
        seconds: limit on its life.
        memory: limit in bytes on the resident size of it and its descendants together, looked
            at every `POLL` seconds.

    Raises:
        OSError: the command cannot be started.
    """
    marker, deadline = secrets.token_hex(16), time.monotonic() + seconds
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb"), _terminable():
        try:
            process = subprocess.Popen(
                [*command, str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment | {_MARKER: marker},
                pass_fds=(theirs,),
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        family, ending = _Family(process, marker), Ending()
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        with process.stdout as stream:
            output = _Pipe(stream.fileno(), first=False, size=KEPT)
            results = _Pipe(ours, first=True, size=LARGEST)
            try:
                with suppress(BrokenPipeError), process.stdin as entry:
                    entry.write(request)
                ending.limit = _watch(family, (output, results), deadline, memory)
            finally:
                ending.status = family.kill()
            for pipe in (output, results):
                while pipe.read():  # all writers are dead: at most what a pipe holds
                    pass
    ending.output, ending.results = output.data, results.data
    return ending


def _watch(
    family: _Family, pipes: tuple[_Pipe, ...], deadline: float, memory: int
) -> Literal["", "time", "memory"]:
    look = 0.0
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe.descriptor, selectors.EVENT_READ, pipe)
        while not family.ended():
            now = time.monotonic()
            if now >= deadline:
                family.process.send_signal(signal.SIGUSR1)  # `isolated` writes where it hangs
                time.sleep(_LAST_WORDS)
                return "time"
            if now >= look:
                if family.resident() > memory:
                    return "memory"
                look = now + POLL
            for key, _ in selector.select(min(POLL, deadline - now)):
                key.data.read()
                if key.data.closed:  # the selector would report it for ever
                    selector.unregister(key.fd)
    return ""


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises SystemExit(143), so that what was started is ended first.

    Only in the main thread, where Python allows it, and only where nobody handles it otherwise.
    """
    usual = signal.SIG_DFL
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != usual:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)  # the status by which a shell reports a signal

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)
