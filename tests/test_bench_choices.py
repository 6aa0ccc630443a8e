from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.bench import BenchError, measure_choices
from mnist_models.bench.choices import _refuse_too_many, _turn, choice_turns
from mnist_models.bench.processes import WAYS, processes, usable_cores
from mnist_models.bench.variants import (
    AS_BUILT,
    COMPILED,
    UNRECORDED,
    VARIANTS,
    Stacked,
    Steps,
    ahead,
    per_batch,
)
from mnist_models.blocks import Dropout
from mnist_models.data import Dataset
from mnist_models.models import EXPERIMENTS
from mnist_models.schema import read
from mnist_models.timings import Choices
from mnist_models.train import batches

from .test_bench import Counter

CPU = torch.device("cpu")
OWN = EXPERIMENTS["steps-6"]


def built(name: str, data: Dataset) -> Steps:
    models, trainer = VARIANTS[name](OWN, data)
    assert models == 1
    assert isinstance(trainer, Steps)
    return trainer


def kinds(steps: Steps) -> set[type]:
    return {type(layer) for layer in steps.run.model.modules() if isinstance(layer, nn.Dropout)}


def own_norms(steps: Steps) -> bool:
    norms = [m for m in steps.run.model.modules() if isinstance(m, nn.BatchNorm2d)]
    return any("forward" in vars(norm) for norm in norms)


def channels_last(steps: Steps) -> bool:
    weight = next(w for w in steps.run.model.parameters() if w.dim() == 4 and min(w.shape) > 1)
    return weight.is_contiguous(memory_format=torch.channels_last)


def optimiser(steps: Steps) -> tuple[bool | None, bool | None]:
    group = steps.run.optimizer.param_groups[0]
    return group["fused"], group["foreach"]


def convolved(steps: Steps | Stacked) -> torch.dtype:
    """What its convolutions compute in."""
    found: list[torch.dtype] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output.dtype)

    run = steps.run if isinstance(steps, Steps) else steps.side.run
    layer = next(m for m in run.model.modules() if isinstance(m, nn.Conv2d))
    layer.register_forward_hook(look)
    steps.epoch(lambda: None)
    return found[0]


def test_each_variant_changes_one_thing(few: Dataset) -> None:
    names = [n for n in VARIANTS if "stacked" not in n and n not in (COMPILED, UNRECORDED)]
    seen = {}
    for name in names:
        steps = built(name, few)
        ways = (channels_last(steps), optimiser(steps), kinds(steps), steps.feed.__name__)
        seen[name] = (*ways, convolved(steps), own_norms(steps))
    as_built = (True, (True, None), {Dropout}, "batches", torch.float32, True)
    assert seen[AS_BUILT] == as_built
    for name, found in seen.items():
        changed = [a for a, b in zip(found, as_built, strict=True) if a != b]
        assert len(changed) == (name != AS_BUILT), name
    assert seen["contiguous instead of channels-last"][0] is False
    assert seen["optimiser foreach instead of fused"][1] == (False, True)
    assert seen["optimiser in a loop instead of fused"][1] == (False, False)
    assert seen["Dropout of torch instead of ours"][2] == {nn.Dropout}
    assert seen["bfloat16 autocast"][4] is torch.bfloat16
    assert seen["BatchNorm of torch instead of ours"][5] is False


def test_what_is_computed_ahead_is_the_same(digits: Dataset) -> None:
    expected, found = (list(feed(digits, OWN.recipe, 0, 1)) for feed in (batches, ahead))
    assert len(found) == len(expected) == 23
    for (inputs, labels), (others, theirs) in zip(expected, found, strict=True):
        assert torch.equal(inputs, others)
        assert torch.equal(labels, theirs)


def test_by_the_batch_every_image_comes_once(digits: Dataset) -> None:
    plain = replace(OWN.recipe, augmentation=())
    found = list(per_batch(digits, plain, 0, 1))
    assert [len(labels) for _, labels in found] == [64] * 22 + [29]
    given = torch.cat([inputs for inputs, _ in found]).sum((1, 2, 3)).sort().values
    everything = torch.cat([inputs for inputs, _ in batches(digits, plain, 0, 1)])
    assert torch.allclose(given, everything.sum((1, 2, 3)).sort().values, atol=1e-2)
    jittered = torch.cat([inputs for inputs, _ in per_batch(digits, OWN.recipe, 0, 1)])
    assert not torch.allclose(jittered.sum(), everything.sum())


def test_seeds_side_by_side_train(few: Dataset) -> None:
    for name, bfloat16 in (
        ("2 seeds stacked", False),
        ("2 seeds stacked, bfloat16 autocast", True),
    ):
        models, trainer = VARIANTS[name](OWN, few)
        assert isinstance(trainer, Stacked)
        assert (models, len(trainer.side.lanes)) == (2, 2)
        watch = Counter(0)
        trainer.epoch(watch.tell)
        assert watch.told == 4
        assert convolved(trainer) is (torch.bfloat16 if bfloat16 else torch.float32)


def test_rounded_steps_see_the_weights_move(few: Dataset) -> None:
    """Autocast keeps the first cast of a weight as long as its block lasts."""
    steps = built("bfloat16 autocast", few)
    layer = next(m for m in steps.run.model.modules() if isinstance(m, nn.Conv2d))
    found: list[tuple[Tensor, Tensor]] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), torch.no_grad():
            now = F.conv2d(inputs[0], layer.weight, layer.bias, padding=layer.padding)  # type: ignore[arg-type] - a pair
        found.append((output.detach(), now))

    layer.register_forward_hook(look)
    steps.epoch(lambda: None)
    assert len(found) == 4
    assert all(torch.allclose(output, now, atol=0.05, rtol=0.05) for output, now in found)


def test_variants_take_turns(digits: Dataset) -> None:
    told: list[int] = []
    result = measure_choices(
        digits,
        rounds=1,
        steps=2,
        experiments=["steps-6"],
        pair=False,
        listener=lambda: told.append(1),
    )
    # Nothing is compiled unasked, and on a CPU nothing is recorded.
    names = [name for name in VARIANTS if name not in (COMPILED, UNRECORDED)]
    assert len(told) == len(names)
    assert [choice.variant for choice in result.choices] == names
    by_name = {choice.variant: choice for choice in result.choices}
    as_built = by_name[AS_BUILT].seconds_per_step.rounds
    for choice in result.choices:
        assert (choice.experiment, choice.against) == ("steps-6", AS_BUILT)
        pairs = zip(choice.seconds_per_step.rounds, as_built, strict=True)
        assert choice.ratio.rounds == pytest.approx([a / b for a, b in pairs])
        run = 15 * 23 * choice.seconds_per_step.median
        assert choice.runs_per_hour == pytest.approx(3_600 / run)
    assert read(Choices, json.loads(json.dumps(result.to_dict()))) == result


def test_the_time_of_several_models_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Counter(20)
    monkeypatch.setattr("mnist_models.bench.turns.now", lambda device: trainer.clock)
    found = _turn("4 seeds stacked", 4, trainer, 3, CPU)
    assert found == pytest.approx((6 + 7 + 8) / 3 / 4)


def test_a_run_that_is_too_short_is_refused(digits: Dataset) -> None:
    _refuse_too_many(OWN, 1_437, 49, 2)  # 49 x 7 of the 15 x 23 steps of a run
    with pytest.raises(BenchError, match="50 rounds of 7 steps, 5 of them to warm up, do not fit"):
        _refuse_too_many(OWN, 1_437, 50, 2)
    with pytest.raises(BenchError, match="do not fit into an epoch of 23 steps"):
        measure_choices(digits, rounds=1, steps=19, pair=False)


def test_the_bar_knows_how_many_turns_there_are() -> None:
    more = 5 * (usable_cores() >= 2)
    assert choice_turns(CPU, 3, compile_=True) == 3 * 2 * (len(VARIANTS) - 1 + more)
    assert choice_turns(torch.device("cuda"), 3, compile_=False) == 3 * 2 * (len(VARIANTS) - 1)


@pytest.mark.sweep
@pytest.mark.skipif(usable_cores() < 2, reason="needs two cores")
def test_two_processes_against_one(digits: Dataset) -> None:
    with processes(OWN, digits, 2) as ways:
        assert tuple(ways) == WAYS
        assert all(way() > 0 for way in ways.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
def test_variants_run_on_a_gpu(digits: Dataset) -> None:
    result = measure_choices(digits.to("cuda"), rounds=1, steps=2, experiments=["steps-6"])
    assert len(result.choices) == len(VARIANTS) - 1
