from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import load, save
from torch import Tensor

from mnist_models.data import Dataset
from mnist_models.evaluate import (
    Verdict,
    _compare,
    evaluate,
    published,
    verify,
)
from mnist_models.leaning import TOLERANCE
from mnist_models.models import EXPERIMENTS
from mnist_models.record import (
    FILE_NAME,
    RecordError,
    folder_of,
    load_record,
    save_record,
)
from mnist_models.recount import batches
from mnist_models.score import Score
from mnist_models.train import train
from mnist_models.twins import Twins

from .test_record import edit


@pytest.fixture(scope="module")
def trained(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two seeds of steps-3, trained as registered but for the number of epochs."""
    root = tmp_path_factory.mktemp("records")
    experiment = EXPERIMENTS["steps-3"]
    experiment = replace(experiment, recipe=replace(experiment.recipe, epochs=4))
    for seed in (0, 1):
        train(experiment, seed, few, folder_of(root, "digits", "test", "steps-3", seed))
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "records")
    experiment = EXPERIMENTS["steps-3"]
    short = replace(experiment, recipe=replace(experiment.recipe, epochs=4))
    monkeypatch.setitem(EXPERIMENTS, "steps-3", short)
    return tmp_path / "records"


@pytest.fixture
def folder(root: Path) -> Path:
    return folder_of(root, "digits", "test", "steps-3", 0)


def judged(root: Path, data: Dataset) -> list[Verdict]:
    return list(verify(evaluate(folder, data) for folder in published(root)))


def problems(folder: Path, data: Dataset) -> str:
    return "\n".join(evaluate(folder, data).problems)


def test_a_sound_record_scores_as_it_says(folder: Path, few: Dataset) -> None:
    result = evaluate(folder, few)
    assert result.passed
    assert [epoch.epoch for epoch in result.epochs] == [2, 3, 4]
    assert all(epoch.stored == epoch.rescored for epoch in result.epochs)
    assert result.rescored == {epoch.epoch: epoch.rescored for epoch in result.epochs}


def test_verify_gives_a_verdict_for_each(root: Path, few: Dataset) -> None:
    verdicts = judged(root, few)
    assert [verdict.folder.name for verdict in verdicts] == ["seed-0", "seed-1"]
    assert [verdict.problems for verdict in verdicts] == [[], []]


def test_random_state_is_left_alone(folder: Path, few: Dataset) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    evaluate(folder, few)
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no record below"):
        published(tmp_path)


def resign(folder: Path, epoch: int, content: bytes) -> None:
    """Put another weight file in place and make the record name it, as a forger would."""
    path = folder / f"epoch-{epoch:02}.safetensors"
    path.write_bytes(content)

    def change(table: dict[str, Any]) -> None:
        for weights in table["weights"]:
            if weights["epoch"] == epoch:
                weights["sha256"] = hashlib.sha256(content).hexdigest()

    edit(folder, change)


def test_a_lifted_result_is_found(folder: Path, few: Dataset) -> None:
    """A record whose counts were raised by a forger who also signed it anew."""
    final = load_record(folder).final
    better = final.test_correct + TOLERANCE + 1

    def lift(table: dict[str, Any]) -> None:
        table["epochs"][-1]["test_correct"] = better
        for row, counts in enumerate(table["confusion"]):
            for column in range(10):
                while column != row and counts[column] and sum_diagonal(table) < better:
                    counts[column] -= 1
                    counts[row] += 1
        table["misclassified"] = table["misclassified"][: final.test_total - better]

    edit(folder, lift)
    assert f"epoch 4 scores {final.test_correct} of 100, the record says {better}" in problems(
        folder, few
    )


def sum_diagonal(table: dict[str, Any]) -> int:
    return sum(table["confusion"][digit][digit] for digit in range(10))


@pytest.mark.parametrize("by", [-1, 0, 1])
def test_rounding_is_tolerated_and_no_more(folder: Path, few: Dataset, by: int) -> None:
    """The second epoch kept has no confusion matrix to contradict."""
    stored = load_record(folder).epochs[2].test_correct
    moved = stored + TOLERANCE + by

    edit(folder, lambda table: table["epochs"][2].update(test_correct=moved))
    assert evaluate(folder, few).passed is (by <= 0)


def shift(folder: Path, by: dict[int, int]) -> None:
    """Add images to the stored counts of these epochs, with all that a record says of them."""

    def change(table: dict[str, Any]) -> None:
        for epoch, images in by.items():
            table["epochs"][epoch - 1]["test_correct"] += images
        final = table["epochs"][-1]["test_correct"]
        step = 1 if by.get(len(table["epochs"]), 0) > 0 else -1
        for row, counts in enumerate(table["confusion"]):
            for column in range(10):
                while column != row and sum_diagonal(table) != final and counts[column]:
                    counts[column] -= step
                    counts[row] += step
        missing = [n for n in range(100) if n not in table["misclassified"]]
        wrong = sorted([*table["misclassified"], *missing[:TOLERANCE]]) if step < 0 else None
        table["misclassified"] = (wrong or table["misclassified"])[: 100 - final]

    edit(folder, change)


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ({2: 2, 3: 2, 4: 2}, "3 counts are 6 images more than measured"),
        ({2: -1, 3: -2}, "3 counts are 3 images fewer than measured"),
        ({2: 1, 3: 1, 4: 1}, "3 counts are 3 images more than measured"),
        ({2: 1, 4: 1}, ""),
        ({2: -2, 4: 2}, ""),
        ({3: -2, 4: 2}, ""),
    ],
)
def test_rounding_leans_to_no_side(
    folder: Path, few: Dataset, by: dict[int, int], said: str
) -> None:
    """Each epoch alone is within the tolerance."""
    shift(folder, by)
    found = problems(folder, few)
    assert (f"{folder}: stored epochs: its {said}" in found) if said else (found == "")


def test_records_together_lean_to_no_side(root: Path, folder: Path, few: Dataset) -> None:
    """What one record can have by chance, two of two cannot: 2.4 images of six epochs."""
    other = folder.with_name("seed-1")
    shift(folder, {2: 2})
    assert verified(root, few) == ""
    shift(other, {3: 1})
    first, last = judged(root, few)
    assert first.problems == []
    (said,) = last.problems
    assert said.startswith("all records of steps-3, stored epochs: its 6 counts are 3 images more")


def test_final_epochs_together_lean_to_no_side(root: Path, folder: Path, few: Dataset) -> None:
    """The means of the README are of those: what others lack does not make up for it."""
    for place in (folder, folder.with_name("seed-1")):
        shift(place, {3: -2, 4: 2})
    first, last = judged(root, few)
    assert first.problems == []
    (said,) = last.problems
    assert said.startswith("all records of steps-3, final epochs: its 2 counts are 4 images more")


def test_what_is_beyond_rounding_is_told_once(root: Path, folder: Path, few: Dataset) -> None:
    shift(folder, {3: 9})
    first, last = judged(root, few)
    assert len(first.problems) == 1
    assert last.passed


def test_other_mistakes_than_recorded_are_found(folder: Path, few: Dataset) -> None:
    record = load_record(folder)
    right = [index for index in range(100) if index not in record.misclassified]
    others = sorted(right[:6] + record.misclassified[6:])
    edit(folder, lambda table: table.update(misclassified=others))
    assert "misclassified: 12 images" in problems(folder, few)


def cast(folder: Path, dtype: torch.dtype) -> None:
    """Give the weights of the third epoch another dtype; counts stay whole numbers."""
    tensors = load((folder / "epoch-03.safetensors").read_bytes())
    floating = {name: value for name, value in tensors.items() if value.is_floating_point()}
    resign(folder, 3, save(tensors | {name: v.to(dtype) for name, v in floating.items()}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.complex64], ids=str)
def test_weights_of_another_dtype_are_refused(
    root: Path, folder: Path, few: Dataset, dtype: torch.dtype
) -> None:
    """Loading would cast them unsaid; NumPy, which has no bfloat16, is not to be asked either."""
    cast(folder, dtype)
    found = verified(root, few)
    assert "epoch-03.safetensors does not fit the network: " in found
    assert f"has the dtype {dtype}, expected torch.float32" in found


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda folder: (folder / "epoch-03.safetensors").unlink(), "are missing"),
    "swapped": (
        lambda folder: shutil.copy(
            folder / "epoch-02.safetensors", folder / "epoch-03.safetensors"
        ),
        "not the file that the record names",
    ),
    "truncated": (
        lambda folder: resign(folder, 3, (folder / "epoch-03.safetensors").read_bytes()[:-40]),
        "no safetensors file",
    ),
    "other shapes": (
        lambda folder: resign(folder, 3, safetensors.torch.save({"0.0.weight": torch.zeros(2)})),
        "does not fit the network",
    ),
    "other experiment": (
        lambda folder: edit(folder, lambda table: table.update(experiment="steps-9")),
        "'steps-9' is not registered",
    ),
    "other network": (
        lambda folder: edit(folder, lambda table: table.update(model_digest="sha256:0")),
        "has changed since this run",
    ),
    "edited": (
        lambda folder: edit(folder, lambda table: table.update(seed=7), sign=False),
        "edited after it was written",
    ),
    "no JSON": (lambda folder: (folder / FILE_NAME).write_text("{"), "is damaged"),
    "other data": (
        lambda folder: edit(folder, lambda table: table["data"]["md5"].update(train_images="0")),
        "differ from those of the data set at hand",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_clear_failure(root: Path, folder: Path, few: Dataset, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(folder)
    assert message in problems(folder, few)
    verdicts = {verdict.folder.name: verdict.passed for verdict in judged(root, few)}
    assert verdicts == {"seed-0": False, "seed-1": True}


def verified(root: Path, data: Dataset) -> str:
    return "\n".join(problem for verdict in judged(root, data) for problem in verdict.problems)


def test_a_seed_counts_once(root: Path, folder: Path, few: Dataset) -> None:
    shutil.copytree(folder, folder.with_name("seed-2"))
    assert "the record belongs into .../digits-test/steps-3/seed-0" in verified(root, few)
    edit(folder.with_name("seed-2"), lambda table: table.update(seed=2))
    found = verified(root, few)
    assert "the course of its losses is the same as in" in found
    assert "epoch-02.safetensors is the same as in" in found


def test_a_copied_seed_is_found_in_files_of_other_bytes(
    root: Path, folder: Path, few: Dataset
) -> None:
    """The same tensors with other metadata, the same run with other losses: one is enough."""
    copied = folder.with_name("seed-2")
    shutil.copytree(folder, copied)
    digests = []
    for weights in load_record(folder).weights:
        path = copied / weights.file
        path.write_bytes(save(load(path.read_bytes()), metadata={"seed": "2"}))
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())

    def disguise(table: dict[str, Any]) -> None:
        table.update(seed=2)
        table["epochs"][0]["train_loss"] += 0.01
        for entry, digest in zip(table["weights"], digests, strict=True):
            entry["sha256"] = digest

    edit(copied, disguise)
    found = verified(root, few)
    assert "epoch-02.safetensors is the same as in" in found
    assert "the course of its losses" not in found


def copy_with(folder: Path, change: Callable[[Tensor], Tensor]) -> None:
    """A second seed of the same run, its losses another's, whose weights were changed."""
    copied = folder.with_name("seed-2")
    shutil.copytree(folder, copied)

    def disguise(table: dict[str, Any]) -> None:
        table.update(seed=2)
        table["epochs"][0]["train_loss"] += 0.01

    edit(copied, disguise)
    for weights in load_record(folder).weights:
        tensors = load((folder / weights.file).read_bytes())
        floating = {name: value for name, value in tensors.items() if value.is_floating_point()}
        changed = {name: change(value) for name, value in floating.items()}
        resign(copied, weights.epoch, save(tensors | changed))


@pytest.mark.parametrize(
    ("added", "refused"), [(1e-7, True), (1e-3, True), (0.02, True), (1.0, False)]
)
def test_a_copy_with_noise_on_its_weights_is_found(
    root: Path, folder: Path, few: Dataset, added: float, refused: bool
) -> None:
    torch.manual_seed(3)
    copy_with(folder, lambda tensor: tensor + added * tensor.std() * torch.randn(tensor.shape))
    found = verified(root, few)
    assert ("epoch-02.safetensors differs from epoch-02.safetensors in" in found) is refused
    assert ("the weights of two runs differ by 0.1 or more" in found) is refused


def test_an_epoch_that_is_nearly_another_is_found(root: Path, folder: Path, few: Dataset) -> None:
    """The best epoch copied over the others, each number changed by a millionth."""
    last = load_record(folder).epochs[-1]
    tensors = load((folder / "epoch-04.safetensors").read_bytes())
    resign(
        folder,
        3,
        save(
            {n: t * (1 + 1e-6) if t.dtype.is_floating_point else t - 2 for n, t in tensors.items()}
        ),
    )
    scored = {"test_correct": last.test_correct, "test_loss": last.test_loss}
    edit(folder, lambda table: table["epochs"][2].update(scored))
    found = verified(root, few)
    assert "epoch-04.safetensors differs from epoch-03.safetensors in" in found
    assert "the weights of two epochs differ by 1e-05 or more" in found


def test_mistakes_of_another_run_are_found_whatever_its_weights(
    root: Path, folder: Path, few: Dataset
) -> None:
    """As of a network whose channels were put in another order."""
    copy_with(folder, lambda tensor: tensor + torch.randn(tensor.shape))
    found = verified(root, few)
    assert len(load_record(folder).misclassified) >= 10
    assert "seed-2: the table of its mistakes is the same as in" in found


@pytest.mark.parametrize(
    ("missed", "others", "said"),
    [
        (range(40), range(40), "the table of its mistakes is the same as in"),
        (range(9), range(9), ""),  # so few may be the same by chance
        (range(40), range(2, 42), "38 of its 40 mistakes are those of"),
        (range(40), range(4, 44), ""),
        (range(29), range(1, 30), ""),
    ],
)
def test_no_two_runs_make_the_same_mistakes(
    folder: Path, missed: range, others: range, said: str
) -> None:
    """Whatever their weights: channels in another order, with a little noise, answer alike."""
    record = load_record(folder)
    twins, found = Twins(), []
    for seed, mistakes in enumerate((missed, others)):
        epochs = [replace(epoch, test_loss=epoch.test_loss + seed) for epoch in record.epochs]
        run = replace(record, misclassified=list(mistakes), weights=[], epochs=epochs)
        found += list(twins.problems(Path(f"seed-{seed}"), run))
    assert len(found) == (said != "")
    assert all(problem.startswith(f"seed-1: {said}") for problem in found)


def test_weights_of_one_epoch_do_not_stand_for_others(
    root: Path, folder: Path, few: Dataset
) -> None:
    """The best epoch copied over the others: a consistency that was never there."""
    last = load_record(folder).epochs[-1]
    content = (folder / "epoch-04.safetensors").read_bytes()
    resign(folder, 3, save(load(content), metadata={"epoch": "3"}))
    scored = {"test_correct": last.test_correct, "test_loss": last.test_loss}
    edit(folder, lambda table: table["epochs"][2].update(scored))
    found = verified(root, few)
    assert "epoch-04.safetensors has the tensors of epoch-03.safetensors" in found


def count(folder: Path, counted: int) -> None:
    """Have every BatchNorm of the last epoch say that it saw so many batches."""
    tensors = load((folder / "epoch-04.safetensors").read_bytes())
    counts = {name: value for name, value in tensors.items() if name.endswith("batches_tracked")}
    assert {int(value) for value in counts.values()} == {8}  # 200 images, 128 at a time, 4 epochs
    resign(folder, 4, save(tensors | {n: torch.full_like(v, counted) for n, v in counts.items()}))


@pytest.mark.parametrize(
    ("counted", "refused"), [(8, False), (6, False), (9, True), (16, True), (1_000_001, True)]
)
def test_batches_are_counted_as_the_recipe_has_them(
    folder: Path, few: Dataset, counted: int, refused: bool
) -> None:
    """Twice as many are a training of twice the epochs; a layer that steps leave out has fewer."""
    count(folder, counted)
    found = problems(folder, few)
    assert (f"num_batches_tracked is {counted:,}, after epoch 4 expected 8" in found) is refused
    assert bool(found) is refused


def test_batches_are_those_of_a_recount_where_there_was_one(folder: Path, few: Dataset) -> None:
    edit(folder, lambda table: table["recipe"].update(recount=True))
    count(folder, batches(len(few.train)))
    assert problems(folder, few) == ""


@pytest.mark.parametrize("size", [None, 0, "128"])
def test_a_recipe_without_a_batch_size_is_no_traceback(
    folder: Path, few: Dataset, size: object
) -> None:
    edit(folder, lambda table: table["recipe"].update(batch_size=size))
    assert problems(folder, few)


def test_a_loss_that_is_no_number_is_within_no_tolerance(folder: Path, few: Dataset) -> None:
    record = load_record(folder)
    verdict = Verdict(folder, record)
    weights = record.weights[0]
    stored = record.epochs[weights.epoch - 1]
    measured = Score(float("nan"), stored.test_correct, stored.test_total, [], [])
    _compare(verdict, record, weights, measured)
    assert "has a loss of nan" in verdict.problems[0]


def test_another_recipe_than_the_registered_one(root: Path, folder: Path, few: Dataset) -> None:
    edit(folder, lambda table: table["recipe"].update(learning_rate=0.5))
    assert "learning_rate is 0.5, expected 0.01" in verified(root, few)
    assert evaluate(folder, few).passed  # an unpublished run may have any recipe


def shuffle(confusion: list[list[int]]) -> None:
    """Leave diagonal and row sums alone, and move every mistake elsewhere."""
    for digit, row in enumerate(confusion):
        rest = [row[column] for column in range(10) if column != digit]
        for column in range(10):
            if column != digit:
                row[column] = rest.pop()


def shrink(table: dict[str, Any]) -> None:
    table["data"]["train_images"] = 150
    for epoch in table["epochs"]:
        epoch.update(train_total=150, train_correct=150)


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "parameters": (lambda t: t.update(parameters=12), "parameters: the record says 12, not 7624"),
    "loss": (lambda t: t["epochs"][-1].update(test_loss=1e-9), "epoch 4 has a loss of"),
    "earlier loss": (lambda t: t["epochs"][1].update(test_loss=9.0), "epoch 2 has a loss of"),
    "confusion": (lambda t: shuffle(t["confusion"]), "images stand elsewhere"),
    "train images": (shrink, "image counts are not (200, 100)"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_signed_forgery_is_found(folder: Path, few: Dataset, name: str) -> None:
    change, message = FORGERIES[name]
    edit(folder, change)
    assert message in problems(folder, few)


def test_stray_files_are_found(root: Path, folder: Path, few: Dataset) -> None:
    (folder / "epoch-99.safetensors").write_bytes(b"junk")
    assert "epoch-99.safetensors belongs to no record" in verified(root, few)


def test_own_models_keep_their_assignment(
    root: Path, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verified(root, few) == ""  # a published system may fail its own
    own = replace(EXPERIMENTS["steps-3"], system=EXPERIMENTS["frontier-8k"].system)
    monkeypatch.setitem(EXPERIMENTS, "steps-3", own)
    found = verified(root, few)
    assert "seed-0: accuracy: " in found
    assert "seed-1: consistency: " in found
    assert "test-set: scored on 100 images of digits" in found


def test_what_is_saved_can_be_verified(root: Path, folder: Path, few: Dataset) -> None:
    record = load_record(folder)
    files = {weights.epoch: (folder / weights.file).read_bytes() for weights in record.weights}
    save_record(record, files, folder, force=True)
    assert json.loads((folder / FILE_NAME).read_text())["digest"] == record.digest
    assert verified(root, few) == ""
