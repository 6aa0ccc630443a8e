"""The state of an unfinished run, in one safetensors file that is replaced after every epoch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mnist_models.record import Epoch, write_atomically
from mnist_models.schema import SchemaError, read

FILE_NAME = "checkpoint.safetensors"


class CheckpointError(Exception):
    """A checkpoint that cannot be gone on from: what was found, what to do."""


@dataclass
class Checkpoint:
    """An unfinished run after a whole number of epochs.

    Attributes:
        identity: what run it belongs to; another one must not go on from it.
        epochs: the finished epochs.
        seconds: how long each of them took.
        options: what of the optimiser and the schedule is no tensor.
        tensors: the state of model, average and optimiser, by a dotted name.
        kept: epoch -> the bytes of its weight file, for the last epochs.
    """

    identity: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[int, bytes] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint atomically."""
    text = json.dumps(
        {
            "identity": checkpoint.identity,
            "epochs": [asdict(epoch) for epoch in checkpoint.epochs],
            "seconds": checkpoint.seconds,
            "options": checkpoint.options,
        }
    )
    tensors = {name: value.contiguous() for name, value in checkpoint.tensors.items()}
    for epoch, content in checkpoint.kept.items():
        tensors[f"kept.{epoch}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    content = safetensors.torch.save(tensors, metadata={"run": text})
    write_atomically(folder / FILE_NAME, content)


def load_checkpoint(folder: Path, identity: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none.

    Raises:
        CheckpointError: it is damaged, or belongs to another run than `identity`.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            table = json.loads((file.metadata() or {})["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        checkpoint = Checkpoint(
            identity=table["identity"],
            epochs=[read(Epoch, epoch) for epoch in table["epochs"]],
            seconds=[float(seconds) for seconds in table["seconds"]],
            options=table["options"],
        )
    except (OSError, SafetensorError, SchemaError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): move it away, or train without --resume"
        ) from error
    for key, expected in identity.items():
        if checkpoint.identity.get(key) != expected:
            raise CheckpointError(
                f"{path} belongs to another run: its {key} is {checkpoint.identity.get(key)!r}, "
                f"expected {expected!r}; choose another --out, or train without --resume"
            )
    for name, value in tensors.items():
        if name.startswith("kept."):
            checkpoint.kept[int(name.removeprefix("kept."))] = value.numpy().tobytes()
        else:
            checkpoint.tensors[name] = value
    return checkpoint
