from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from mnist_models.checkpoint import (
    FILE_NAME,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from mnist_models.record import Epoch

IDENTITY = {"experiment": "steps-6", "seed": 0, "recipe": {"epochs": 3, "schedule": [0.1]}}


def make() -> Checkpoint:
    return Checkpoint(
        identity=IDENTITY,
        epochs=[Epoch(1, 0.1, 0.1, 2.0, 5, 10, 1.0, 3, 4)],
        seconds=[1.5],
        options={"param_groups": [{"lr": 0.1, "betas": [0.9, 0.999]}], "schedule": {"best": 1e400}},
        tensors={"model.weight": torch.arange(6.0).reshape(2, 3).t(), "n": torch.tensor(3)},
        kept={1: b"some bytes"},
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make())
    loaded = load_checkpoint(tmp_path, IDENTITY)
    assert loaded is not None
    expected = make()
    for name, value in expected.tensors.items():
        assert torch.equal(loaded.tensors[name], value)
    assert loaded.kept == expected.kept
    assert loaded.epochs == expected.epochs
    assert loaded.seconds == expected.seconds
    assert loaded.options == expected.options
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_none_is_no_error(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, IDENTITY) is None


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_one_is(tmp_path: Path, length: int) -> None:
    save_checkpoint(tmp_path, make())
    content = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(content[:length])
    with pytest.raises(CheckpointError, match="train without --resume"):
        load_checkpoint(tmp_path, IDENTITY)


def test_an_altered_one_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make())
    path = tmp_path / FILE_NAME
    sound = path.read_bytes()
    content = bytearray(sound)
    content[-1] ^= 1  # in the values of a tensor
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not what was written"):
        load_checkpoint(tmp_path, IDENTITY)
    changes: list[dict[str, object]] = [
        {"options": None},
        {"options": {}},
        {"identity": []},
        {"epochs": [{}]},
        {"seconds": [0.5]},
        {"sha256": ""},
    ]
    for change in changes:
        path.write_bytes(sound)
        with safe_open(path, framework="pt") as file:
            table = json.loads(file.metadata()["run"]) | change
        tensors = safetensors.torch.load(sound)
        safetensors.torch.save_file(tensors, path, metadata={"run": json.dumps(table)})
        with pytest.raises(CheckpointError, match="is damaged"):
            load_checkpoint(tmp_path, IDENTITY)


def test_another_runs_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make())
    with pytest.raises(CheckpointError, match="another run: seed is 0, expected 1"):
        load_checkpoint(tmp_path, IDENTITY | {"seed": 1})
    with pytest.raises(CheckpointError, match="another run: threads is None, expected 2"):
        load_checkpoint(tmp_path, IDENTITY | {"threads": 2})


def test_a_reader_beside_a_writer_sees_whole_checkpoints(tmp_path: Path) -> None:
    """Another process replaces the file as fast as it can, by files of equal size."""
    source = (
        "import itertools, os, sys\n"
        "for name in itertools.cycle('ab'):\n"
        "    os.link(name, 'new'); os.replace('new', sys.argv[1])"
    )
    for name, value in (("a", 0.5), ("b", 1.5)):
        state = make()
        state.tensors = {"model.weight": torch.full((1_000,), value)}
        save_checkpoint(tmp_path, state)
        (tmp_path / FILE_NAME).rename(tmp_path / name)
    with subprocess.Popen([sys.executable, "-c", source, FILE_NAME], cwd=tmp_path) as writer:
        try:
            while load_checkpoint(tmp_path, IDENTITY) is None:
                time.sleep(0.01)
            seen = [load_checkpoint(tmp_path, IDENTITY) for _ in range(300)]
        finally:
            writer.kill()
    assert {float(state.tensors["model.weight"][0]) for state in seen if state} == {0.5, 1.5}
