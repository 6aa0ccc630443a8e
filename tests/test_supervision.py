"""Real processes, all of them killed: those that obey, and those that do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mnist_models import supervision
from mnist_models.supervision import KEPT, LARGEST, Ending, supervise

ROOT = str(Path(supervision.__file__).parent.parent)
LARGE = 4 << 30


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


def run(source: str, seconds: float = 20, memory: int = LARGE, request: bytes = b"") -> Ending:
    source = "import os, sys, time, subprocess, signal\n" + textwrap.dedent(source)
    return supervise([sys.executable, "-c", source], request, dict(os.environ), seconds, memory)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_request_output_and_results_take_their_own_ways() -> None:
    ending = run(
        """
        os.write(int(sys.argv[-1]), sys.stdin.read().upper().encode())
        print("out", flush=True); print("err", file=sys.stderr, flush=True)
        os.system("echo shell"); sys.exit(3)
        """,
        request=b"question",
    )
    assert ending == Ending(3, "", b"out\nerr\nshell\n", b"QUESTION")


def test_a_command_that_reads_no_request_is_no_error() -> None:
    assert run("os.close(0); os._exit(4)", request=b"x" * 60_000).status == 4


def test_a_command_that_does_not_exist_raises() -> None:
    with pytest.raises(OSError, match="no-such-command"):
        supervise(["/no-such-command"], b"", {}, 5, LARGE)


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "time.sleep(1000)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\ntime.sleep(1000)",
        "os.closerange(0, 3)\ntime.sleep(1000)",
        "os.close(int(sys.argv[-1]))\ntime.sleep(1000)",
        "while True: print('x' * 1000)",
    ],
)
def test_a_hang_ends_at_the_time_limit(source: str) -> None:
    started = time.monotonic()
    ending = run(source, seconds=0.7)
    assert (ending.limit, ending.status) in (
        ("time", -signal.SIGKILL),
        ("time", -signal.SIGUSR1),  # it was asked where it hangs, and had no answer prepared
    )
    assert time.monotonic() - started < 5


def test_a_hang_that_can_say_where_does_so() -> None:
    source = """
    import faulthandler; faulthandler.register(signal.SIGUSR1)
    def stuck():
        while True: pass
    stuck()
    """
    assert b"in stuck" in run(source, seconds=1).output


def test_memory_counts_descendants_and_ends_at_the_limit() -> None:
    hog = "import time; x = bytearray(80 << 20); time.sleep(1000)"
    parts = f"""
    for _ in range(3): subprocess.Popen([sys.executable, "-c", {hog!r}])
    time.sleep(1000)
    """
    assert run(parts, memory=200 << 20).limit == "memory"
    alone = "x = bytearray(80 << 20); time.sleep(0.5)"
    assert run(alone, memory=200 << 20).limit == ""


def test_reserved_but_unused_memory_is_free() -> None:
    source = "import mmap; x = mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE); time.sleep(0.5)"
    assert run(source, memory=200 << 20) == Ending()


def test_a_flood_of_output_neither_blocks_nor_fills_memory() -> None:
    before = psutil.Process().memory_info().rss
    source = """
    block = b"x" * (1 << 20)
    for _ in range(1000): os.write(1, block)
    os.write(1, b"end")
    """
    ending = run(source)
    assert ending.status == 0
    assert len(ending.output) == KEPT
    assert ending.output.endswith(b"xend")
    assert psutil.Process().memory_info().rss - before < 20 << 20


def test_a_flood_of_results_is_cut() -> None:
    source = """
    os.write(int(sys.argv[-1]), b"first")
    for _ in range(50): os.write(int(sys.argv[-1]), b"y" * (1 << 20))
    """
    ending = run(source)
    assert (ending.status, len(ending.results), ending.results[:6]) == (0, LARGEST, b"firsty")


def test_closed_pipes_are_not_watched() -> None:
    before = time.process_time()
    run("os.closerange(0, 99)\ntime.sleep(1000)", seconds=1.5)
    assert time.process_time() - before < 0.4  # a few looks at memory


ORPHANS = {
    "child": "p = subprocess.Popen(['sleep', '1000']); print(p.pid)",
    "child with the output closed": (
        "no = subprocess.DEVNULL\n"
        "p = subprocess.Popen(['sleep', '1000'], stdout=no, stderr=no); print(p.pid)"
    ),
    "session of its own": (
        "p = subprocess.Popen(['sleep', '1000'], start_new_session=True); print(p.pid)"
    ),
    "orphan without environment": (
        "p = subprocess.Popen(['/bin/sh', '-c', 'sleep 1000 & echo $!'], env={}); p.wait()"
    ),
    "daemon": """
        if os.fork() == 0:
            os.setsid()
            if (pid := os.fork()) == 0:
                time.sleep(1000)
            print(pid, flush=True)
            os._exit(0)
        os.wait()
    """,
}


@pytest.mark.parametrize("ends", ["by itself", "at the limit"])
@pytest.mark.parametrize("kind", ORPHANS)
def test_what_was_left_running_is_killed(kind: str, ends: str) -> None:
    source = textwrap.dedent(ORPHANS[kind]) + "\nsys.stdout.flush()\n"
    if ends == "at the limit":
        source += "time.sleep(1000)"
    ending = run(source, seconds=0.7)
    assert ending.limit == ("time" if ends == "at the limit" else "")
    assert gone(int(ending.output))


def test_a_process_that_cleared_its_environment_is_found_while_it_is_a_descendant() -> None:
    source = """
    p = subprocess.Popen(["sleep", "1000"], env={}, start_new_session=True)
    print(p.pid, flush=True); time.sleep(0.6)
    """
    assert gone(int(run(source).output))


def test_forks_that_fork_are_hunted_down() -> None:
    source = """
    print(os.getpid(), flush=True)
    for _ in range(300):
        if os.fork():
            time.sleep(0.01); os._exit(0)
        os.setsid()
    """
    assert gone(int(run(source, seconds=5).output.split()[0]))


def test_a_crash_is_the_status() -> None:
    source = "import ctypes, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    assert run(source + "ctypes.string_at(0)").status == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)],
)
def test_a_signal_to_the_parent_leaves_no_orphan(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pid")
    inner = "import os, time; print(os.getpid(), file=open('pid', 'w')); time.sleep(99)"
    outer = (
        "import os, sys; from mnist_models.supervision import supervise\n"
        f"supervise([sys.executable, '-c', {inner!r}], b'', dict(os.environ), 60, 1 << 40)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", outer],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ROOT},
        stderr=subprocess.DEVNULL,
    )
    pid = int((tmp_path / "pid").read_text())
    assert not gone(pid)
    parent.send_signal(number)
    assert parent.wait(10) == status
    until = time.monotonic() + 5  # a process that is killed still has to be scheduled to die
    while not gone(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert gone(pid)


def test_a_handler_of_the_caller_stays() -> None:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    run("pass")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        run("os.kill(os.getppid(), signal.SIGTERM)")  # ignored, as the caller wished
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, usual)
