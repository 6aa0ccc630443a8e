"""One run of one experiment with one seed: everything needed to believe and repeat it.

A record is a folder: ``record.json`` and the weights of the last epochs as safetensors.
Accuracies are integers, correct out of total. A digest over the canonical JSON shows an edit,
the sha256 of each weight file a swap. No file is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from mnist_models.atomic import make_folder, write_atomically
from mnist_models.contradictions import contradictions
from mnist_models.files import read_whole, refusal
from mnist_models.recorded import Data, Epoch, Provenance, Record, Timing, Weights
from mnist_models.schema import SchemaError, read

__all__ = [
    "FILE_NAME",
    "KEPT_EPOCHS",
    "VERSION",
    "Data",
    "Epoch",
    "Provenance",
    "Record",
    "RecordError",
    "RecordExistsError",
    "Timing",
    "Weights",
    "canonical",
    "digest_of",
    "find_records",
    "folder_of",
    "load_record",
    "load_weights",
    "refuse_existing",
    "save_record",
    "weights_name",
]

VERSION = 1
FILE_NAME = "record.json"
KEPT_EPOCHS = (
    3  # the weights of this many last epochs are kept: the consistency claim rests on them
)
# Bytes: an epoch takes some 400 of a record, and an image that was missed some 10; weights may be
# those of a network a thousand times as large as the largest here.
_MOST_RECORDED = 16 << 20
_MOST_WEIGHTS = 256 << 20


class RecordError(Exception):
    """A record that cannot be believed: which file and field, what was found and expected."""


class RecordExistsError(RecordError):
    """Another record stands where this one would be written."""


def canonical(table: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces; raises ValueError for NaN and infinity."""
    return json.dumps(table, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(record: Record) -> str:
    """The sha256 over everything in the record but the digest itself."""
    table = asdict(record)
    del table["digest"]
    return "sha256:" + hashlib.sha256(canonical(table)).hexdigest()


def load_record(folder: Path) -> Record:
    """Read and validate ``record.json``; weight files are checked by `load_weights`.

    Raises:
        RecordError: missing, damaged, inconsistent or edited; the message names file and field.
    """
    path = folder / FILE_NAME
    try:
        content = read_whole(path, _MOST_RECORDED, links=False)
        table = json.loads(  # which of bytes would take UTF-16 too
            content.decode("utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_twins,
        )
    except FileNotFoundError:
        raise RecordError(
            f"no record: {path} does not exist; expected a folder such as train leaves"
        ) from None
    except NotADirectoryError:
        raise RecordError(
            f"no record: {folder} is no folder; expected one such as train leaves, or its "
            f"{FILE_NAME}"
        ) from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {refusal(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    try:
        record = read(Record, table)
    except SchemaError as error:
        raise RecordError(f"{path}: {error}") from error
    except RecursionError as error:  # of what is quoted in the message, where a number belongs
        raise RecordError(f"{path} is damaged: it is nested too deeply") from error
    if problem := _inconsistency(record):
        raise RecordError(f"{path}: {problem}")
    if record.digest != digest_of(record):
        raise RecordError(
            f"{path}: digest: the record was edited after it was written "
            f"(it says {record.digest}, its content gives {digest_of(record)})"
        )
    return record


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of a record")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last of two equal keys would count, and a reader would see the first."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(f"a table has two entries of one name: {[key for key, _ in pairs]}")
    return table


def _inconsistency(record: Record) -> str:
    """The first field that contradicts another, in words; empty where none does."""
    for problem in chain(_run_problems(record), contradictions(record)):
        return problem
    return ""


def _run_problems(record: Record) -> Iterator[str]:
    numbers = [epoch.epoch for epoch in record.epochs]
    if record.version != VERSION:
        yield f"version: found {record.version}, this package reads {VERSION}"
    if record.seed < 0:
        yield f"seed: found {record.seed}, expected a whole number from 0"
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        yield f"epochs: numbered {numbers}, expected 1, 2, ... without gaps"
    if record.recipe.get("epochs") != len(numbers):
        yield f"epochs: {len(numbers)} of them, the recipe has {record.recipe.get('epochs')!r}"
    if [weights.epoch for weights in record.weights] != numbers[-KEPT_EPOCHS:]:
        yield f"weights: not one file for each of the epochs {numbers[-KEPT_EPOCHS:]}"
    for weights in record.weights:
        if weights.file != weights_name(weights.epoch):
            yield f"weights: file {weights.file!r}, expected {weights_name(weights.epoch)!r}"


def weights_name(epoch: int) -> str:
    """The file name of the weights of an epoch, counted from 1."""
    return f"epoch-{epoch:02}.safetensors"


def load_weights(folder: Path, weights: Weights) -> dict[str, Tensor]:
    """Read the tensors of one stored epoch and check their file's sha256.

    Raises:
        RecordError: missing, swapped, damaged.
    """
    path = folder / weights.file
    try:
        content = read_whole(path, _MOST_WEIGHTS, links=False)
    except FileNotFoundError as error:
        raise RecordError(
            f"{path}: the weights of epoch {weights.epoch} are missing: {refusal(error)}"
        ) from error
    except OSError as error:
        raise RecordError(f"{path}: these weights are refused: {refusal(error)}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != weights.sha256:
        raise RecordError(
            f"{path} is not the file that the record names: its sha256 is {found}, "
            f"expected {weights.sha256}"
        )
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, KeyError) as error:  # a KeyError names a dtype that torch has not
        raise RecordError(f"{path} is no safetensors file: {error}") from error


def save_record(
    record: Record, weights: Mapping[int, bytes], folder: Path, *, force: bool = False
) -> Record:
    """Write the weight files, then ``record.json``, each atomically; returns it with its digest.

    Args:
        record: the run; its digest is computed here.
        weights: epoch -> the bytes of its safetensors file.
        folder: made if need be.
        force: replace another record that stands there.

    Raises:
        RecordExistsError: another record stands there and `force` is not set.
        RecordError: the record contradicts itself.
    """
    record = Record(**(vars(record) | {"digest": digest_of(record)}))
    if problem := _inconsistency(record):
        raise RecordError(f"the record would be refused on loading: {problem}")
    if not force:
        refuse_existing(folder)
    make_folder(folder)
    (folder / FILE_NAME).unlink(missing_ok=True)  # absent or complete, never with other weights
    for kept in record.weights:
        write_atomically(folder / kept.file, weights[kept.epoch])
    for path in folder.glob("epoch-*.safetensors"):
        if path.name not in {kept.file for kept in record.weights}:
            path.unlink()
    text = json.dumps(asdict(record), indent=1, allow_nan=False) + "\n"
    write_atomically(folder / FILE_NAME, text.encode())
    return record


def refuse_existing(folder: Path) -> None:
    """Raise RecordExistsError where a record, sound or not, stands in the folder."""
    if (folder / FILE_NAME).exists():
        raise RecordExistsError(f"{folder} holds another record; --force would replace it")


def folder_of(root: Path, data: str, split: str, experiment: str, seed: int) -> Path:
    """Where a run lies below `root`: the path names data set, split, experiment and seed."""
    return root / f"{data}-{split}" / experiment / f"seed-{seed}"


def find_records(root: Path) -> list[Path]:
    """The folders below `root` that hold a record, sorted."""
    return sorted(path.parent for path in root.rglob(FILE_NAME))
