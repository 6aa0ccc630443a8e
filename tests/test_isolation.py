"""Strangers' files, hostile ones too, checked in real child processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_models import assignment, isolation, plain
from mnist_models.assignment import ASSIGNMENTS, CARD, Assignment, Limit
from mnist_models.checks import asked
from mnist_models.checks.result import CheckResult, overall
from mnist_models.isolated import _assignment, _package_state, _refuse_patches
from mnist_models.isolation import Outcome, _answer, check_target
from mnist_models.stranger import NotLoadedError
from mnist_models.supervision import Ending

SMALL = Assignment("small", "few parameters", parameters=Limit("<", 8_000))
TINY = Assignment("tiny", "fewer parameters", parameters=Limit("<", 7_850))

NET = """
import os, sys, time
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(784, 10)
    def forward(self, x):
        return self.head(x.flatten(1))
"""
FORGED = '{"token": "?", "checks": [], "measurements": {}}'
HONEST = f"""{NET}
import threading, torch
import layers, random
assert sys.stdin.read() == "" and not sys.argv[1:] and not torch.cuda.is_available()
print("\\x1b[31mred\\x1b[0m", os.getcwd(), sys.argv, flush=True)
os.system("echo from a shell")
threading.Thread(target=time.sleep, args=(1000,)).start()
"""
MEDDLER = f"""{NET}
import json, threading
def nothing(*args, **kwargs): return '{FORGED}'
json.dumps = json.JSONEncoder.encode = nothing
os._exit = os.getpid = os.write = os.read = print = nothing
class Broken:
    def write(self, text): raise RuntimeError
    flush = write
sys.stdout = sys.stderr = Broken()
for fd in (1, 2):
    with open(fd, "w", closefd=False) as stream: stream.write('{FORGED}\\n')
"""
EVERY_KIND = f"""{NET}
import torch
class Kinds(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.1307))
    def forward(self, x):
        noise, weight = torch.randn(1), self.head.weight.mean()
        for value in (x, weight, x * weight):
            value + self.mean, value + noise, value + self.mean + noise
        self.mean + noise
        return super().forward(x - self.mean)
"""
REGISTRAR = f"""{NET}
from dataclasses import replace
from mnist_models.models import EXPERIMENTS, register
register(replace(EXPERIMENTS["steps-6"], name="mine", build=Net))
"""
PATCHER = f"""{NET}
from mnist_models import checks
checks.check_module = lambda *a: ([], None)
"""
LATE_PATCHER = f"""{NET}
class Late(Net):
    def forward(self, x):
        from mnist_models.checks.result import CheckResult
        CheckResult.to_dict = lambda self: dict()
        return super().forward(x)
"""
CONSTANT = f"""{NET}
import mnist_models.checks.masks
mnist_models.checks.masks._PLAIN |= {{"mm"}}
"""
FORKER = f"""{NET}
os.fork()
"""
LEAVER = f"""{NET}
import subprocess
print(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid, flush=True)
print('{FORGED}', flush=True)
os._exit(0)
"""
LATE_LEAVER = f"""{NET}
class Late(Net):
    def forward(self, x):
        os._exit(0)
"""
CRASHER = f"""{NET}
import ctypes
class Crash(Net):
    def __init__(self):
        ctypes.string_at(0)
"""
HOG = f"""{NET}
class Hog(Net):
    def __init__(self):
        self.leak = []
        for _ in range(200):
            self.leak.append(bytearray(10 << 20))
            time.sleep(0.01)
"""
SLEEPER = f"""{NET}
print("good night", flush=True)
time.sleep(1000)
"""
INSIDER = f"""{NET}
import gc
class Insider(Net):
    def __init__(self):
        row = dict(passed=True, limit="", unit="", cause="", help="")
        for thing in gc.get_objects():
            if type(thing).__name__ == "_Channel":
                checks = [row | dict(name="parameters", measured=42)]
                thing.send(checks=checks, measurements=dict(parameters=42))
                os._exit(0)
"""
RAISER = f"""{NET}
class Raiser(Net):
    def forward(self, x):
        raise RuntimeError("\\x1b[2Jno forward today")
"""
CASES: dict[str, tuple[str, str, Assignment, dict[str, Any]]] = {
    "honest": (HONEST, "Net", SMALL, {}),
    "meddler": (MEDDLER, "Net", TINY, {}),
    "every kind": (EVERY_KIND, "Kinds", SMALL, {}),
    "registrar": (REGISTRAR, "Net", SMALL, {}),
    "patcher": (PATCHER, "Net", SMALL, {}),
    "late patcher": (LATE_PATCHER, "Late", SMALL, {}),
    "constant": (CONSTANT, "Net", SMALL, {}),
    "forker": (FORKER, "Net", SMALL, {}),
    "leaver": (LEAVER, "Net", SMALL, {}),
    "late leaver": (LATE_LEAVER, "Late", SMALL, {}),
    "crasher": (CRASHER, "Crash", SMALL, {}),
    "hog": (HOG, "Hog", SMALL, {"memory": 1 << 30}),
    "sleeper": (SLEEPER, "Net", SMALL, {"seconds": 15}),
    "raiser": (RAISER, "Raiser", SMALL, {}),
    "insider": (INSIDER, "Insider", SMALL, {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strangers")


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> Iterator[dict[str, Outcome]]:
    """All the cases, three at a time: the parent waits more than it works."""
    for name, (source, *_) in CASES.items():
        (folder / f"{name}.py").write_text(source)
    for name in ("random", "json", "torch", "typing", "mnist_models"):
        (folder / f"{name}.py").write_text("raise RuntimeError('this file shadows another')")
    (folder / "layers.py").write_text("")
    files = set(folder.rglob("*")) | set(Path.cwd().iterdir())
    before = set(psutil.Process().children(recursive=True))
    with ThreadPoolExecutor(3) as pool:
        waiting = {
            name: pool.submit(check_target, f"{folder / name}.py:{net}", assignment, **options)
            for name, (_, net, assignment, options) in CASES.items()
        }
        yield {name: future.result() for name, future in waiting.items()}
    assert set(folder.rglob("*")) | set(Path.cwd().iterdir()) == files
    assert set(psutil.Process().children(recursive=True)) <= before


def measured(outcome: Outcome, name: str) -> CheckResult:
    return next(check for check in outcome.checks if check.name == name)


def test_honest_file_passes(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["honest"]
    assert (outcome.passed, outcome.exit_status, outcome.cause) == (True, 0, "")
    assert measured(outcome, "parameters").measured == 7_850
    assert outcome.measurements["parameters"] == 7_850
    assert outcome.output.startswith(f"red {Path.cwd()} ['")
    assert "from a shell" in outcome.output
    assert json.loads(json.dumps(outcome.to_dict()))["assignment"] == "small"


def test_patches_of_the_standard_library_change_nothing(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["meddler"]
    assert (outcome.passed, outcome.exit_status) == (False, 1)
    assert measured(outcome, "parameters").passed is False
    assert outcome.output == f"{FORGED}\n" * 2


def test_a_file_may_register_an_experiment_of_its_own(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["registrar"].passed is True


def test_what_the_checks_note_themselves_is_not_the_stranger_s_doing(
    outcomes: dict[str, Outcome],
) -> None:
    """Features, weights, constants and random numbers, mixed in every way."""
    assert (outcomes["every kind"].cause, outcomes["every kind"].passed) == ("", True)


def test_a_forked_copy_adds_no_second_answer(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["forker"].passed is True


def test_an_error_in_forward_is_for_the_checks(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["raiser"]
    assert (outcome.passed, outcome.exit_status, outcome.cause) == (None, 2, "")
    shape = measured(outcome, "output-shape")
    assert shape.passed is None
    assert "no forward today" in shape.cause
    assert "\x1b" not in shape.cause


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("patcher", "the code replaced mnist_models.checks.check_module, which belongs to"),
        ("constant", "the code replaced mnist_models.checks.masks._PLAIN, which belongs to"),
        ("late patcher", "the code replaced mnist_models.checks.result.CheckResult.to_dict, which"),
        ("leaver", "the code ended its process (exit status 0) while importing "),
        ("late leaver", "the code ended its process (exit status 0) while running the checks, "),
        ("insider", "the answer of the child process holds the checks parameters; the assignment"),
        ("crasher", "the process was ended by SIGSEGV while building Crash"),
        ("hog", "the limit of 1,024 MiB of memory was passed while building Hog"),
        ("sleeper", "the limit of 15 s was reached while importing "),
    ],
)
def test_cause(outcomes: dict[str, Outcome], name: str, cause: str) -> None:
    outcome = outcomes[name]
    assert outcome.cause.startswith(cause)
    assert (outcome.passed, outcome.exit_status, outcome.checks) == (None, 2, [])
    assert outcome.to_dict()["cause"] == outcome.cause


def test_a_process_left_behind_is_killed(outcomes: dict[str, Outcome]) -> None:
    assert not psutil.pid_exists(int(outcomes["leaver"].output.split()[0]))


@pytest.mark.parametrize(
    ("name", "words"),
    [("sleeper", 'sleeper.py", line'), ("crasher", "Segmentation fault")],
)
def test_the_output_says_where(outcomes: dict[str, Outcome], name: str, words: str) -> None:
    assert words in outcomes[name].output


def test_a_limit_too_short_for_the_start() -> None:
    outcome = check_target("attempt-3", CARD, seconds=0.3)
    assert outcome.cause == "the limit of 0.3 s was reached while Python and torch were starting"


def test_a_registered_experiment() -> None:
    outcome = check_target("attempt-3", SMALL)
    assert outcome.passed is True
    assert outcome.measurements["parameters"] == 6_842


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell a child")
def test_the_child_ends_with_a_parent_that_could_not_end_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    (tmp_path / "model.py").write_text(
        f"{NET}\nwith open('pid', 'w') as out: print(os.getpid(), file=out)\ntime.sleep(1000)"
    )
    source = (
        "from mnist_models.isolation import *; from mnist_models.assignment import CARD\n"
        "check_target('model.py:Net', CARD)"
    )
    root = str(Path(isolation.__file__).parent.parent)
    parent = subprocess.Popen(
        [sys.executable, "-c", source], cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}
    )
    child = psutil.Process(int((tmp_path / "pid").read_text()))
    parent.kill()
    assert parent.wait(10) == -signal.SIGKILL
    end = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_no_target_is_not_run(tmp_path: Path) -> None:
    outcome = check_target(f"{tmp_path}/{'long' * 2_000}.py:Net", CARD)
    assert outcome.cause
    assert len(outcome.cause) <= 500
    assert outcome.exit_status == 2


@pytest.mark.parametrize("assignment", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_an_assignment_survives_the_way_to_the_child(assignment: Assignment) -> None:
    assert _assignment(json.loads(json.dumps(isolation.asdict(assignment)))) == assignment


@pytest.mark.parametrize(
    ("verdicts", "passed", "status"),
    [
        ([True, True], True, 0),
        ([True, None], None, 2),
        ([True, None, False], False, 1),
        ([False], False, 1),
        ([], None, 2),
    ],
)
def test_verdict(verdicts: list[bool | None], passed: bool | None, status: int) -> None:
    checks = [CheckResult("x", verdict, 1, None, "", "", "") for verdict in verdicts]
    outcome = Outcome("t", "a", overall(checks), checks, {}, "", "")
    assert outcome.passed is passed
    assert outcome.exit_status == status


def answer(*names: str, passed: object = True) -> str:
    """What a child would say of these checks."""
    checks = [CheckResult(name, True, 1, None, "", "").to_dict() for name in names]
    rows = [check | {"passed": passed} for check in checks]
    return json.dumps({"token": "t", "checks": rows, "measurements": {}}) + "\n"


ALL = asked(CARD)
GOOD = answer(*ALL)


@pytest.mark.parametrize(
    ("results", "cause"),
    [
        ("", "ended its process"),
        (GOOD.rstrip(), "ended its process"),  # cut off
        (GOOD * 2, "ended its process"),
        (GOOD.replace('"t"', '"?"'), "ended its process"),
        (GOOD.replace('"t"', "null"), "ended its process"),
        ("[" * 100_000 + "\n", "ended its process"),
        ('{"token": "t", "cause": "why"}\n', "why"),
        ('{"token": "t", "stage": "doing it"}\n', "while doing it"),
        ('{"token": "t"}\n', "the answer of the child process is incomplete"),
        ('{"token": "t", "checks": [1], "measurements": {}}\n', "incomplete"),
        ('{"token": "t", "checks": [{"name": "x"}], "measurements": {}}\n', "incomplete"),
        (answer(), "holds the checks none; the assignment asks for batch-norm, dropout, "),
        (answer("parameters"), "holds the checks parameters; the assignment asks for batch-norm,"),
        (answer(*ALL[1:]), "receptive-field; the assignment asks for"),
        (answer(*ALL[1:], ALL[1]), "parameters, parameters, receptive-field; the assignment asks"),
        (answer(*ALL, "parameters"), "parameters, parameters, receptive-field; the assignment"),
        (answer(*ALL, "more"), "global-average-pooling, more, output-shape"),
        (answer(*ALL, passed=1), "incomplete"),
        (answer(*ALL, passed="yes"), "incomplete"),
    ],
)
def test_what_is_no_answer(monkeypatch: pytest.MonkeyPatch, results: str, cause: str) -> None:
    """Pipes that a child left so; the token is known for once."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "t")

    def left(text: str) -> Outcome:
        monkeypatch.setattr(isolation, "supervise", lambda *_: Ending(results=text.encode()))
        return check_target("steps-1", CARD)

    assert left(GOOD).cause == ""
    outcome = left(results)
    assert cause in outcome.cause
    assert (outcome.passed, outcome.checks, outcome.exit_status) == (None, [], 2)


@given(st.binary(max_size=200))
def test_noise_is_no_answer(noise: bytes) -> None:
    with pytest.raises(ValueError, match="ended its process"):
        _answer(Ending(results=noise), "t", 1, 1)


def test_a_child_that_cannot_start_says_so() -> None:
    with pytest.raises(ValueError, match="could not start; its output says why"):
        _answer(Ending(status=1), "t", 1, 1)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (plain, "sanitise"),
        (CheckResult, "to_dict"),
        (Limit, "holds"),
        (Limit.holds, "__code__"),
    ],
)
def test_replaced_code_is_seen(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _package_state()
    _refuse_patches(before)
    other = (lambda self, measured: True).__code__ if name == "__code__" else lambda *args: True
    monkeypatch.setattr(owner, name, other)
    with pytest.raises(NotLoadedError, match="the code replaced mnist_models"):
        _refuse_patches(before)


class Liar(int):
    """A number that equals any other."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize("value", [9_999, 10_000.0, Liar(10_000), None, [10_000], ENDLESS])
def test_a_replaced_constant_is_seen(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _package_state()
    monkeypatch.setattr(assignment, "IMAGES", value)
    with pytest.raises(NotLoadedError, match=r"replaced mnist_models\.assignment\.IMAGES"):
        _refuse_patches(before)


def test_a_constant_that_is_changed_in_place_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _package_state()
    with monkeypatch.context() as patch:
        patch.setitem(assignment.TEST_MD5, "held_out_images", "0")
        with pytest.raises(NotLoadedError, match="TEST_MD5"):
            _refuse_patches(before)
    limit = CARD.parameters
    try:
        object.__setattr__(limit, "value", 9)  # frozen, for those who ask politely
        with pytest.raises(NotLoadedError, match="assignment"):
            _refuse_patches(before)
    finally:
        object.__setattr__(limit, "value", 8_000)
    _refuse_patches(before)
