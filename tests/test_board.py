"""The board of a sweep, and what is left of those of sweeps that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_models.atomic import NotWrittenError
from mnist_models.board import board_in

REPOSITORY = Path(__file__).resolve().parent.parent
SWEEP = """
import sys
from pathlib import Path
from mnist_models.board import board_in

with board_in(Path(sys.argv[1])) as board:
    (board / "steps-1 seed 0").write_bytes(b"..")
    print(board, flush=True)
    sys.stdin.read()
"""


def start(out: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a board until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(out)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], number: int | None = None) -> None:
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -(number or 0)


def left(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def test_a_board_goes_with_its_sweep_however_that_ends(tmp_path: Path) -> None:
    out = tmp_path / "made" / "here"
    with board_in(out) as board:
        assert board.is_dir()
        (board / "steps-1 seed 0").touch()
    assert left(out) == set()
    with pytest.raises(KeyboardInterrupt), board_in(out):
        raise KeyboardInterrupt
    assert left(out) == set()


def test_boards_of_killed_sweeps_go_and_those_of_others_stay(tmp_path: Path) -> None:
    (killed, old), (alive, board) = start(tmp_path), start(tmp_path)
    assert old.is_dir()  # the second has found it held
    end(killed, signal.SIGKILL)
    assert old.is_dir()
    with board_in(tmp_path) as own:
        assert left(tmp_path) == {
            name for path in (own, board) for name in (path.name, f"{path.name}.lock")
        }
        with board_in(tmp_path):  # as another sweep of this process
            assert own.is_dir()
    end(alive)
    assert left(tmp_path) == set()


def test_what_is_no_board_is_left_alone(tmp_path: Path) -> None:
    name = f".sweep-{'0' * 32}"
    (tmp_path / "out" / ".sweep-mine").mkdir(parents=True)
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    with board_in(tmp_path / "out"):
        pass
    assert left(tmp_path / "out") == {".sweep-mine", name}
    (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / name).mkdir()  # as one from before they were held
    with board_in(tmp_path / "out"):
        assert not (tmp_path / "out" / name).exists()


def test_no_board_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotWrittenError, match="choose another --out"), board_in(tmp_path / "file"):
        pass
