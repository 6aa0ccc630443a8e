from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_models.record import (
    FILE_NAME,
    Data,
    Epoch,
    Provenance,
    Record,
    RecordError,
    RecordExistsError,
    Timing,
    Weights,
    digest_of,
    find_records,
    folder_of,
    load_record,
    load_weights,
    save_record,
    weights_name,
)

EPOCHS = 4


def make(correct: int = 90, seed: int = 0) -> tuple[Record, dict[int, bytes]]:
    """A small record that contradicts itself nowhere, and its weight files."""
    files = {
        epoch: safetensors.torch.save({"weight": torch.full((2,), float(epoch + seed))})
        for epoch in (2, 3, 4)
    }
    confusion = [[0] * 10 for _ in range(10)]
    confusion[0][0], confusion[0][1] = correct, 100 - correct
    record = Record(
        version=1,
        experiment="steps-6",
        seed=seed,
        stacked=False,
        parameters=2,
        model_digest="sha256:0",
        recipe={"epochs": EPOCHS, "learning_rate": 0.1},
        data=Data("mnist", "test", 600, 100, {"train_images": "0"}),
        epochs=[
            Epoch(number, 0.1, 0.1, 0.5, 500, 600, 0.4, correct, 100)
            for number in range(1, EPOCHS + 1)
        ],
        confusion=confusion,
        misclassified=list(range(100 - correct)),
        weights=[
            Weights(epoch, weights_name(epoch), hashlib.sha256(content).hexdigest())
            for epoch, content in files.items()
        ],
        provenance=Provenance(
            package_digest="sha256:" + "0" * 64,
            commit=None,
            modified=None,
            versions={"torch": "2"},
            device="cpu",
            threads=1,
            environments=["cpu"],
            finished="2026-11-20T09:35:38+00:00",
        ),
        timing=Timing(4.0, [1.0] * EPOCHS, "all"),
    )
    return record, files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_record(*make(), tmp_path)
    return tmp_path


def edit(folder: Path, change: Callable[[dict[str, Any]], object], *, sign: bool = True) -> None:
    """Change the stored table; `sign` gives it the digest that fits, as a forger would."""
    path = folder / FILE_NAME
    table = json.loads(path.read_text())
    change(table)
    if sign:
        rest = {key: value for key, value in table.items() if key != "digest"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        table["digest"] = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(table))


def test_what_is_saved_is_loaded(folder: Path) -> None:
    record, files = make()
    loaded = load_record(folder)
    assert replace(loaded, digest="") == record
    assert loaded.digest == digest_of(record)
    assert load_weights(folder, loaded.weights[-1])["weight"].tolist() == [4.0, 4.0]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [FILE_NAME, *map(weights_name, files)]
    )


CONTRADICTIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "version": (lambda t: t.update(version=2), "version: found 2"),
    "negative seed": (lambda t: t.update(seed=-1), "seed: found -1"),
    "no epochs": (lambda t: t.update(epochs=[]), "epochs: numbered"),
    "a missing epoch": (lambda t: t["epochs"].pop(0), "epochs: numbered"),
    "another recipe": (lambda t: t["recipe"].update(epochs=9), "the recipe has 9"),
    "another total": (lambda t: t["epochs"][1].update(test_total=60_000), "image totals"),
    "too many correct": (lambda t: t["epochs"][1].update(test_correct=101), "test_correct: 101"),
    "too many trained": (lambda t: t["epochs"][0].update(train_correct=601), "train_correct: 601"),
    "better final": (lambda t: t["epochs"][3].update(test_correct=95), "diagonal"),
    "confusion sum": (lambda t: t["confusion"][3].__setitem__(3, 5), "add up to 100"),
    "confusion shape": (lambda t: t["confusion"].pop(), "not 10 rows"),
    "fewer wrong": (lambda t: t["misclassified"].pop(), "the last epoch missed 10"),
    "wrong twice": (lambda t: t["misclassified"].__setitem__(1, 0), "not ascending"),
    "wrong beyond": (lambda t: t["misclassified"].__setitem__(-1, 100), "not ascending"),
    "no seconds": (lambda t: t["timing"].update(epoch_seconds=[]), "one above 0 for each epoch"),
    "no time at all": (
        lambda t: t["timing"].update(epoch_seconds=[0.0] * 4),
        "one above 0 for each epoch",
    ),
    "half a character": (
        lambda t: t["provenance"].update(device="\ud800"),
        "provenance.device: found",
    ),
    "weights missing": (lambda t: t["weights"].pop(), "one file for each"),
    "weights elsewhere": (lambda t: t["weights"][0].update(file="../x"), "expected 'epoch-02"),
    "field missing": (lambda t: t.pop("timing"), "timing: missing"),
    "nested field missing": (lambda t: t["epochs"][2].pop("test_loss"), r"epochs\[2\].test_loss"),
    "unknown field": (lambda t: t.update(best=99), "best: no such field"),
    "text for a number": (lambda t: t["epochs"][0].update(test_correct="90"), "whole number"),
    "true for a number": (lambda t: t.update(seed=True), "seed: found True"),
    "fraction": (lambda t: t["data"].update(held_out_images=1.5), "data.held_out_images"),
    "a list for a table": (lambda t: t.update(data=[]), "data: found"),
    "null": (lambda t: t.update(confusion=None), "confusion: found None"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_refused_even_when_signed(folder: Path, name: str) -> None:
    change, message = CONTRADICTIONS[name]
    edit(folder, change)
    with pytest.raises(RecordError, match=message) as caught:
        load_record(folder)
    assert str(folder / FILE_NAME) in str(caught.value)


def test_what_stands_twice_is_refused(folder: Path) -> None:
    """The last of two entries would count, and a reader would see the first."""
    path = folder / FILE_NAME
    path.write_text('{"seed": 99, ' + path.read_text().lstrip().removeprefix("{"))
    with pytest.raises(RecordError, match="two entries of one name"):
        load_record(folder)


def test_an_edit_shows_in_the_digest(folder: Path) -> None:
    edit(folder, lambda table: table["epochs"][0].update(test_loss=0.1), sign=False)
    with pytest.raises(RecordError, match="digest: the record was edited"):
        load_record(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b'{"seed": NaN}', b"[" * 100_000]
)
def test_damaged_files_are_refused(folder: Path, content: bytes) -> None:
    (folder / FILE_NAME).write_bytes(content)
    with pytest.raises(RecordError, match=FILE_NAME):
        load_record(folder)


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize("value", ["1e999", nested(600)])
def test_what_python_cannot_hold_is_damage(folder: Path, value: str) -> None:
    edit(folder, lambda table: table["recipe"].update(note=12345))
    path = folder / FILE_NAME
    path.write_text(path.read_text().replace("12345", value))
    with pytest.raises(RecordError, match=rf"{FILE_NAME}: recipe\.note"):
        load_record(folder)


def test_a_nest_where_a_number_belongs_is_damage(folder: Path) -> None:
    """Of some depths that can be read just so, and not quoted: which, depends on the stack."""
    path = folder / FILE_NAME
    text = path.read_text()
    for levels in range(700, 1_000):
        path.write_text(text.replace('"seed": 0', f'"seed": {nested(levels)}'))
        with pytest.raises(RecordError, match=FILE_NAME):
            load_record(folder)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_or_flipped_file_never_loads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("record")
    save_record(*make(), folder)
    content = bytearray((folder / FILE_NAME).read_bytes())
    spot = data.draw(st.integers(0, len(content) - 3))
    if data.draw(st.booleans()):
        content = content[:spot]
    else:
        content[spot] = data.draw(st.integers(33, 126).filter(lambda byte: byte != content[spot]))
    (folder / FILE_NAME).write_bytes(content)
    try:
        loaded = load_record(folder)
    except RecordError:
        return
    assert loaded == replace(make()[0], digest=loaded.digest)  # only spelled otherwise


def test_missing_record(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="does not exist"):
        load_record(tmp_path)


def test_weights_missing_swapped_or_damaged(folder: Path) -> None:
    record = load_record(folder)
    last = record.weights[-1]
    swapped = (folder / record.weights[0].file).read_bytes()
    (folder / last.file).write_bytes(swapped)
    with pytest.raises(RecordError, match="not the file that the record names"):
        load_weights(folder, last)
    (folder / last.file).write_bytes(b"no tensors")
    digest = hashlib.sha256(b"no tensors").hexdigest()
    with pytest.raises(RecordError, match="no safetensors file"):
        load_weights(folder, replace(last, sha256=digest))
    (folder / last.file).unlink()
    with pytest.raises(RecordError, match="weights of epoch 4 are missing"):
        load_weights(folder, last)


def test_a_dtype_that_torch_has_not_is_damage(folder: Path) -> None:
    header = b'{"weight":{"dtype":"F8_E8M0","shape":[2],"data_offsets":[0,2]}}'
    content = len(header).to_bytes(8, "little") + header + b"12"
    last = replace(load_record(folder).weights[-1], sha256=hashlib.sha256(content).hexdigest())
    (folder / last.file).write_bytes(content)
    with pytest.raises(RecordError, match="no safetensors file"):
        load_weights(folder, last)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_record_is_utf_8(folder: Path, encoding: str) -> None:
    path = folder / FILE_NAME
    path.write_text(path.read_text(), encoding=encoding)
    with pytest.raises(RecordError, match=f"{FILE_NAME} is damaged: "):
        load_record(folder)


def test_a_record_holds_its_files_itself(folder: Path) -> None:
    """A link may lead anywhere, and tomorrow elsewhere."""
    record = load_record(folder)
    last = record.weights[-1]
    for name in (FILE_NAME, last.file):
        (folder / name).rename(folder / f"other-{name}")
        (folder / name).symlink_to(f"other-{name}")
    with pytest.raises(RecordError, match=f"{FILE_NAME} cannot be read: it is a symbolic link"):
        load_record(folder)
    with pytest.raises(RecordError, match=f"{last.file}: .* refused: it is a symbolic link"):
        load_weights(folder, last)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("replaced", "cause"),
    [(pipe, "no regular file"), (lambda path: os.truncate(path, 40 << 30), "42,949,672,960 bytes")],
)
def test_what_would_fill_the_memory_or_never_end_is_not_read(
    folder: Path, replaced: Callable[[Path], object], cause: str
) -> None:
    last = load_record(folder).weights[-1]
    replaced(folder / last.file)
    with pytest.raises(RecordError, match=f"{last.file}: these weights are refused: .*{cause}"):
        load_weights(folder, last)
    replaced(folder / FILE_NAME)
    with pytest.raises(RecordError, match=f"{FILE_NAME} cannot be read: .*{cause}"):
        load_record(folder)


def test_another_record_is_not_overwritten(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RecordExistsError, match="--force"):
        save_record(*make(correct=91), folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    save_record(*make(correct=91), folder, force=True)
    assert load_record(folder).final.test_correct == 91


def test_a_shorter_run_leaves_no_weights_of_the_longer(folder: Path) -> None:
    record, files = make()
    (folder / "epoch-09.safetensors").write_bytes(b"of a longer run")
    save_record(record, files, folder, force=True)
    assert sorted(path.name for path in folder.glob("epoch-*")) == list(
        map(weights_name, sorted(files))
    )


def test_a_record_that_would_be_refused_is_not_written(tmp_path: Path) -> None:
    record, files = make()
    with pytest.raises(RecordError, match="seed"):
        save_record(replace(record, seed=-1), files, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_identity_ignores_only_how_it_came_about() -> None:
    record, _ = make()
    other = replace(record, timing=Timing(9.0, [1.0] * EPOCHS, "all"), confusion=[])
    assert record.identity == other.identity
    changes: list[dict[str, Any]] = [
        {"experiment": "steps-5"},
        {"seed": 1},
        {"recipe": {}},
        {"model_digest": "sha256:1"},
        {"data": replace(record.data, split="validation")},
        {"data": replace(record.data, name="digits")},
        {"data": replace(record.data, md5={})},
    ]
    for change in changes:
        assert record.identity != replace(record, **change).identity


def test_folders_name_data_set_and_split(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "mnist", "test", "steps-6", 0)
    assert folder == tmp_path / "mnist-test" / "steps-6" / "seed-0"
    save_record(*make(), folder)
    save_record(*make(seed=1), folder_of(tmp_path, "mnist", "test", "steps-6", 1))
    assert find_records(tmp_path) == [folder, folder.parent / "seed-1"]


def test_digest_covers_every_field() -> None:
    record, _ = make()
    for name in set(asdict(record)) - {"digest"}:
        assert digest_of(replace(record, **{name: "other"})) != digest_of(record), name
