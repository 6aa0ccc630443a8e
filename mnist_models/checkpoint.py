"""The state of an unfinished run, in one safetensors file that is replaced after every epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mnist_models.atomic import write_atomically
from mnist_models.record import Epoch
from mnist_models.schema import differences, read

FILE_NAME = "checkpoint.safetensors"
_KEPT = "kept."  # names the weight file of an epoch, as bytes


class CheckpointError(Exception):
    """A checkpoint that cannot be gone on from: what was found, what to do."""


@dataclass
class Checkpoint:
    """An unfinished run after a whole number of epochs.

    Attributes:
        identity: what run it belongs to; another one must not go on from it.
        epochs: the finished epochs.
        seconds: how long each of them took.
        environments: versions, device and code of every process that took part.
        options: what of the optimiser and the schedule is no tensor.
        tensors: the state of model, average and optimiser, by a dotted name.
        kept: epoch -> the bytes of its weight file, for the last epochs.
        stacked: whether an epoch of it was trained beside other seeds in one network.
    """

    identity: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[int, bytes] = field(default_factory=dict)
    stacked: bool = False


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint atomically."""
    tensors = {name: value.contiguous() for name, value in checkpoint.tensors.items()}
    for epoch, content in checkpoint.kept.items():
        tensors[f"{_KEPT}{epoch}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    table = {
        "identity": checkpoint.identity,
        "epochs": [asdict(epoch) for epoch in checkpoint.epochs],
        "seconds": checkpoint.seconds,
        "environments": checkpoint.environments,
        "options": checkpoint.options,
        "stacked": checkpoint.stacked,
    }
    table["sha256"] = _digest(table, tensors)
    content = safetensors.torch.save(tensors, metadata={"run": json.dumps(table)})
    write_atomically(folder / FILE_NAME, content)


def _digest(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The sha256 over the table, and names, types, shapes and values in the order of names."""
    digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_checkpoint(folder: Path, identity: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none.

    Raises:
        CheckpointError: it is damaged, or belongs to another run than `identity`.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        checkpoint = _read(path)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): move it away, or train without --resume"
        ) from error
    if other := "; ".join(differences(checkpoint.identity, identity)):
        raise CheckpointError(
            f"{path} belongs to another run: {other}. Choose another --out, or train without "
            "--resume"
        )
    return checkpoint


def _read(path: Path) -> Checkpoint:
    # Read once: safe_open opens it again for the tensors, and a run may have replaced it meanwhile.
    content = path.read_bytes()
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    table = json.loads(header["__metadata__"]["run"])
    if table.pop("sha256") != _digest(table, tensors):
        raise ValueError("its content is not what was written")
    kept = {name: value for name, value in tensors.items() if name.startswith(_KEPT)}
    return Checkpoint(
        identity=dict(table["identity"]),
        epochs=[read(Epoch, epoch) for epoch in table["epochs"]],
        seconds=[float(seconds) for seconds in table["seconds"]],
        environments=list(table["environments"]),
        options=dict(table["options"]),
        tensors={name: value for name, value in tensors.items() if name not in kept},
        kept={
            int(name.removeprefix(_KEPT)): value.numpy().tobytes() for name, value in kept.items()
        },
        stacked=bool(table.get("stacked", False)),  # earlier checkpoints do not say
    )
