"""Every check passes honest models and fails cheats, each with its cause."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from mnist_models.assignment import CARD, Assignment, Limit
from mnist_models.checks import CheckResult, check_against, check_module, measure
from mnist_models.checks.dropout import check_dropout
from mnist_models.checks.forwards import Forwards
from mnist_models.checks.normalisation import check_batch_norm
from mnist_models.checks.parameters import count_parameters
from mnist_models.checks.pooling import check_pooling
from mnist_models.isolated import _package_state, _refuse_patches
from mnist_models.probe import digits, preserved, randomise
from mnist_models.receptive_field.global_pooling import global_pooling
from tests import zoo, zoo_outside

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def _package_stays_as_it_is() -> Iterator[None]:
    """What changes in it while a stranger's network is checked counts as the stranger's doing."""
    before = _package_state()
    yield
    _refuse_patches(before)


def result(model: nn.Module, name: str, **wanted: object) -> CheckResult:
    assignment = Assignment(name="test", title="test", **wanted)  # type: ignore[arg-type] # by name
    (found,) = [each for each in check_module(model, assignment)[0] if each.name == name]
    return found


def count(model: nn.Module) -> int | None:
    with preserved(model):
        return count_parameters(model).total


def norm(model: nn.Module, wanted: str = "once") -> CheckResult:
    with preserved(model):
        randomise(model, seed=1)
        return check_batch_norm(Forwards(model), wanted)


def dropout(model: nn.Module, wanted: str = "once") -> CheckResult:
    with preserved(model):
        randomise(model, seed=1)
        return check_dropout(Forwards(model), wanted)


def pooling(model: nn.Module, wanted: str = "gap") -> CheckResult:
    with preserved(model):
        randomise(model, seed=1)
        return check_pooling(Forwards(model), global_pooling(model), wanted)


def ids(table: Iterable[str]) -> list[str]:
    return [name.replace(" ", "-") for name in table]


@pytest.mark.parametrize("case", zoo.PARAMETER_HONEST.values(), ids=ids(zoo.PARAMETER_HONEST))
def test_honest_parameters(case: Callable[[], nn.Module]) -> None:
    assert count(case()) == zoo.HONEST_COUNT


@pytest.mark.parametrize("case", zoo.PARAMETER_CHEATS.values(), ids=ids(zoo.PARAMETER_CHEATS))
def test_hidden_parameters_count(case: tuple[Callable[[], nn.Module], int]) -> None:
    make, hidden = case
    assert count(make()) == zoo.HONEST_COUNT + hidden


@pytest.mark.parametrize("case", zoo_outside.UNSEEN.values(), ids=ids(zoo_outside.UNSEEN))
def test_what_cannot_be_seen_is_not_counted(case: tuple[Callable[[], nn.Module], str]) -> None:
    found = count_parameters(case[0]())
    assert found.total is None
    assert case[1] in found.cause


def test_a_file_that_switches_gradients_off_is_checked_all_the_same() -> None:
    with torch.set_grad_enabled(False):
        verdicts = [each.passed for each in check_module(zoo.Net(), CARD)[0]]
        assert not torch.is_grad_enabled()
    assert None not in verdicts


def test_masks_of_pruning_count_until_it_is_permanent() -> None:
    model = zoo.Net()
    prune.l1_unstructured(model.conv2, "weight", 0.5)
    found = result(model, "parameters", parameters=Limit("<", zoo.HONEST_COUNT + 1))
    assert (found.passed, found.measured) == (False, zoo.HONEST_COUNT + 8 * 8 * 9)
    assert "torch.nn.utils.prune.remove" in found.help
    prune.remove(model.conv2, "weight")
    found = result(model, "parameters", parameters=Limit("<", zoo.HONEST_COUNT))
    assert (found.passed, found.measured) == (False, zoo.HONEST_COUNT)
    assert "prune" not in found.help


def test_counting_leaves_the_counters_of_batches() -> None:
    model = zoo.Net()
    count_parameters(model)
    assert model.bn1.num_batches_tracked == 0


def test_another_kernel_for_an_operation_of_torch_is_seen() -> None:
    code = """if True:
        import torch
        from mnist_models.checks.parameters import count_parameters
        from tests import zoo
        library = torch.library.Library("aten", "IMPL")
        library.impl("relu", lambda x: torch.clamp(x, min=0) + 1, "CPU")
        print(count_parameters(zoo.Net()).cause)
    """
    done = subprocess.run(  # it would stay in this process
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "the code replaces torch's relu by its own\n"


@pytest.mark.parametrize("case", zoo_outside.COUNTED.values(), ids=ids(zoo_outside.COUNTED))
def test_numbers_out_of_sight_count(case: tuple[Callable[[], nn.Module], int]) -> None:
    make, hidden = case
    assert count(make()) == zoo.HONEST_COUNT + hidden


@pytest.mark.parametrize("make", zoo_outside.HONEST.values(), ids=ids(zoo_outside.HONEST))
def test_numbers_in_plain_sight_do_not(make: Callable[[], nn.Module]) -> None:
    assert count(make()) == zoo.HONEST_COUNT


NORM_CHEATS = zoo.NORM_CHEATS | {
    f"out of sight: {k}": v for k, v in zoo_outside.NORM_CHEATS.items()
}
DROPOUT_CHEATS = zoo.DROPOUT_CHEATS | {
    f"out of sight: {k}": v for k, v in zoo_outside.DROPOUT_CHEATS.items()
}


@pytest.mark.parametrize("case", NORM_CHEATS.values(), ids=ids(NORM_CHEATS))
def test_batch_norm_that_is_none(case: tuple[Callable[[], nn.Module], str]) -> None:
    found = norm(case[0]())
    assert found.passed is False, found
    assert case[1] in found.cause
    assert found.help


@pytest.mark.parametrize("make", zoo.NORM_HONEST.values(), ids=ids(zoo.NORM_HONEST))
def test_batch_norm(make: Callable[[], nn.Module]) -> None:
    found = norm(make())
    assert found.passed is True, found
    assert found.help == ""


@pytest.mark.parametrize("case", DROPOUT_CHEATS.values(), ids=ids(DROPOUT_CHEATS))
def test_dropout_that_is_none(case: tuple[Callable[[], nn.Module], str]) -> None:
    found = dropout(case[0]())
    assert found.passed is False, found
    assert case[1] in found.cause


@pytest.mark.parametrize("make", zoo.DROPOUT_HONEST.values(), ids=ids(zoo.DROPOUT_HONEST))
def test_dropout(make: Callable[[], nn.Module]) -> None:
    found = dropout(make())
    assert found.passed is True, found


@pytest.mark.parametrize("make", zoo.POOLING_CHEATS.values(), ids=ids(zoo.POOLING_CHEATS))
def test_pooling_that_is_none(make: Callable[[], nn.Module]) -> None:
    found = pooling(make())
    assert found.passed is False, found
    assert found.cause


@pytest.mark.parametrize("make", zoo.POOLING_HONEST.values(), ids=ids(zoo.POOLING_HONEST))
def test_pooling(make: Callable[[], nn.Module]) -> None:
    found = pooling(make())
    assert found.passed is True, found


@pytest.mark.parametrize(
    ("name", "passed"), [("flattened", True), ("maximum", True), ("leaves 2x2", True)]
)
def test_a_fully_connected_layer_serves_where_it_may(name: str, passed: bool) -> None:
    found = pooling(zoo.POOLING_CHEATS[name](), "gap-or-fc")
    assert found.passed is passed
    assert found.measured == "fully connected"


def test_no_fully_connected_layer() -> None:
    model = zoo.net(
        zoo.attribute("classify", lambda: nn.Conv2d(8, 10, 11)),
        pool=lambda s, x: s.classify(x).flatten(1),
        head=zoo.same,
    )
    assert pooling(model, "gap-or-fc").passed is False


_last: dict[str, Callable[..., Tensor]] = {
    "norm": lambda s, x: s.bn2(x),
    "drop": lambda s, x: F.dropout(x, 0.1, s.training),
}


@pytest.mark.parametrize("wanted", ["norm", "drop"])
def test_each_block(wanted: str) -> None:
    check = {"norm": norm, "drop": dropout}[wanted]
    assert check(zoo.Net(), "each-block").passed is True
    found = check(zoo.net(**{f"last_{wanted}": zoo.same}), "each-block")
    assert found.passed is False
    assert found.cause.endswith("between the convolution conv2 and the logits")
    found = check(zoo.net(**{wanted: zoo.same, f"last_{wanted}": _last[wanted]}), "each-block")
    assert found.passed is False
    assert found.cause.endswith("between the convolution conv1 and the next one")


@pytest.mark.parametrize(
    ("pool", "cause"),
    [
        (lambda s, x: F.avg_pool2d(x, 8).flatten(1), "; avg_pool2d averages 8x8 of a 11x11 map"),
        (lambda s, x: s.gap(x).flatten(1), "; avg_pool2d in gap averages 10x11 of a 11x11 map"),
        (lambda s, x: F.adaptive_max_pool2d(x, 1).flatten(1), " reaches the logits in evaluation"),
    ],
)
def test_a_pooling_of_a_part_of_the_map_is_named(pool: Callable[..., Tensor], cause: str) -> None:
    found = pooling(zoo.net(zoo.attribute("gap", lambda: nn.AvgPool2d((10, 11))), pool=pool))
    assert found.passed is False
    assert found.cause.endswith(cause)


def test_the_positions_of_a_map_of_tokens_are_told_not_its_channels() -> None:
    found = pooling(zoo.net(pool=lambda s, x: (x.flatten(2).transpose(1, 2) * 2).mean(1)))
    assert found.passed is True
    assert "the whole 121 map is averaged" in found.cause


def test_pointwise_convolutions_need_no_norm() -> None:
    model = zoo.net(zoo.attribute("mix", lambda: nn.Conv2d(8, 8, 1)), drop=lambda s, x: s.mix(x))
    assert norm(model, "each-block").passed is True


def test_batch_norm_without_running_statistics_is_named() -> None:
    model = zoo.Net()
    model.bn1 = nn.BatchNorm2d(8, track_running_stats=False)
    model.bn2 = nn.BatchNorm2d(8, track_running_stats=False)
    found = norm(model, "once")
    assert found.passed is False
    assert found.cause.endswith("of the batch, there too, are those of bn1, bn2")
    assert found.help == "leave track_running_stats at True"


def test_what_was_not_measured_tells_its_limit_in_words() -> None:
    limits = {each.name: each.limit for each in check_module(Raises(), CARD)[0]}
    assert limits["batch-norm"] == ">= 1"
    assert limits["dropout"] == ">= 1 with p >= 0.01"
    assert limits["global-average-pooling"] == "global average pooling"


class Outputs(nn.Module):
    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.net, self.change = zoo.Net(), change

    def forward(self, x: Tensor) -> object:
        return self.change(self.net(x))


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        (lambda y: y, True),
        (lambda y: F.log_softmax(y, 1), True),
        (lambda y: F.softmax(y, 1), True),
        (lambda y: y.squeeze(), True),
        (lambda y: F.log_softmax(y.squeeze(), dim=1), True),
        (lambda y: y + torch.rand(()), True),  # chance, which is Dropout's matter
        (lambda y: y[:, :9], False),
        (lambda y: F.log_softmax(y, 0), False),
        (lambda y: y - y.mean(0), False),
        (lambda y: y + (y - y.mean()) / y.std(), False),
        (lambda y: y * (len(y) + 1), False),
        (lambda y: y.sort(0)[0], False),
        (lambda y: (y, y), False),
        (lambda y: y / 0, False),
        (lambda y: y.argmax(1), False),
        (lambda y: y[:1], False),
        (lambda y: y[0], False),
        (lambda y: y.round().long(), False),
    ],
)
def test_output_shape(change: Callable[[Tensor], object], passed: bool) -> None:
    assert result(Outputs(change), "output-shape").passed is passed


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda y: y, "ten logits an image"),
        (lambda y: F.softmax(y, 1), "ten probabilities an image, which cross-entropy takes"),
        (lambda y: y.squeeze(), "ten logits an image; a single one loses its batch dimension"),
        (
            lambda y: F.log_softmax(y.squeeze(), dim=1),
            "ten logits an image; a single one fails: IndexError: Dimension out of range",
        ),
        (lambda y: F.log_softmax(y, 0), "the logits of an image move by more than one of their"),
    ],
)
def test_what_the_output_is_is_said(change: Callable[[Tensor], object], cause: str) -> None:
    found = {each.name: each for each in check_module(Outputs(change), CARD)[0]}
    assert found["output-shape"].cause.startswith(cause)
    assert found["parameters"].passed is True


class Raises(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)
        self.bn = nn.BatchNorm1d(10)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            torch.rand(3)
            with torch.no_grad():
                self.fc.weight += 1
            raise RuntimeError("no training here")
        return self.bn(self.fc(x.flatten(1)))


def test_a_forward_that_raises_is_no_pass() -> None:
    found = {each.name: each for each in check_module(Raises(), CARD)[0]}
    assert found["output-shape"].passed is True
    for name in ("parameters", "batch-norm", "dropout"):
        assert found[name].passed is None
        assert "no training here" in found[name].cause


def test_a_module_that_never_runs() -> None:
    results, measured = check_module(nn.Linear(3, 3), CARD)
    assert {each.passed for each in results} == {None}
    assert len(results) == 6
    assert measured.parameters is None


def test_weights_that_nothing_may_write_to_get_one_result_a_check() -> None:
    with torch.inference_mode():
        model = zoo.Net()
    results, _ = check_module(model, CARD)
    assert [each.passed for each in results] == [True] + [None] * 5
    assert len({each.name for each in results}) == 6


@pytest.mark.parametrize("make", [zoo.Net, Raises, lambda: nn.Linear(3, 3)])
def test_several_assignments_get_the_results_of_each_alone(make: Callable[[], nn.Module]) -> None:
    tight = Assignment("tight", "tight", parameters=Limit("<", 100), batch_norm="each-block")
    asked = [CARD, tight, Assignment("none", "no limits"), CARD]
    together, measured = check_against(make(), asked)
    alone = [check_module(make(), assignment) for assignment in asked]
    assert together == [results for results, _ in alone]
    assert [len(results) for results in together] == [6, 3, 1, 6]
    assert [measured] * 4 == [found for _, found in alone]


def test_what_a_forward_writes_into_its_image_is_not_there_the_next_time() -> None:
    digits(4, seed=1).zero_()
    assert digits(4, seed=1).any()


@pytest.mark.parametrize("make", [zoo.Net, Raises, zoo.PARAMETER_CHEATS["seed in forward"][0]])
def test_the_module_and_the_generators_come_back_unchanged(make: Callable[[], nn.Module]) -> None:
    model = make()
    model.train()
    model.bn1.eval() if hasattr(model, "bn1") else None
    flags = [part.training for part in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    check_module(model, CARD)
    assert [part.training for part in model.modules()] == flags
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


class Numpy(nn.Module):
    """Computes with numpy, out of sight."""

    def __init__(self, out: Callable[[Tensor], np.ndarray]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))
        self.weight, self.out = np.random.default_rng(0).normal(size=(784, 10)), out

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.out(x.flatten(1)) @ self.weight).float() + self.bias


@pytest.mark.parametrize(
    "out",
    [
        lambda x: x.detach().numpy(),
        lambda x: np.asarray(x.detach()),
        lambda x: np.array(x.tolist()),
        lambda x: np.array([[row.sum().item()] * 784 for row in x]),
    ],
)
def test_computing_outside_torch_cannot_be_measured(out: Callable[[Tensor], np.ndarray]) -> None:
    found = result(Numpy(out), "parameters", parameters=Limit("<", 8000))
    assert found.passed is None
    assert "outside torch" in found.cause


def _in_place(self: nn.Module, x: Tensor) -> Tensor:
    array = x.detach().clone()
    array.numpy()[:] *= np.arange(8)  # seen by nothing but the call of numpy()
    return self.fc(array)


def _through_numbers(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc(x + torch.full((8,), x.mean().item()))


@pytest.mark.parametrize("head", [_in_place, _through_numbers])
def test_detours_outside_torch_are_noticed(head: Callable[..., Tensor]) -> None:
    model = zoo.net(head=head)
    with preserved(model):
        found = count_parameters(model)
    assert found.total is None
    assert "outside torch" in found.cause


def test_item_for_control_flow_is_fine() -> None:
    model = zoo.net(head=lambda s, x: s.fc(x if x.abs().max().item() > -1 else -x))
    assert count(model) == zoo.HONEST_COUNT


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        # Deprecated, and still in use; the class of the warning differs between versions.
        warnings.simplefilter("ignore")
        return torch.jit.script(sequential())


def sequential() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(True), nn.BatchNorm2d(8), nn.Dropout(0.1), nn.Conv2d(8, 10, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


@pytest.mark.parametrize("make", [sequential, scripted])
def test_torchscript_is_seen_through(make: Callable[[], nn.Module]) -> None:
    loose = Assignment(
        name="t", title="t", parameters=Limit("<", 8000), batch_norm="once", dropout="once",
        head="gap", receptive_field=Limit(">=", 5),
    )  # fmt: skip
    results, measured = check_module(make(), loose)
    assert [each.passed for each in results] == [True] * 6, results
    assert measured.parameters == 80 + 16 + 730
    assert (measured.receptive_field_before_pooling, measured.receptive_field_output) == (5, 28)


@pytest.mark.parametrize("case", zoo.HONEST.values(), ids=ids(zoo.HONEST))
def test_unusual_honest_models_pass(case: tuple[Callable[[], nn.Module], int]) -> None:
    make, field = case
    loose = Assignment(
        name="t",
        title="t",
        parameters=Limit("<", 8000),
        batch_norm="once",
        dropout="once",
        head="gap",
        receptive_field=Limit(">=", 5),
    )
    results, measured = check_module(make(), loose)
    assert [each.passed for each in results] == [True] * 6, results
    assert measured.receptive_field_before_pooling == field


def test_measure_needs_no_limits() -> None:
    measured = measure(zoo.Net())
    assert measured.parameters == zoo.HONEST_COUNT
    assert measured.receptive_field_before_pooling == 8


def test_results_are_json_ready() -> None:
    (found,) = [r for r in check_module(zoo.Net(), CARD)[0] if r.name == "receptive-field"]
    assert found.to_dict()["measured"] == 8
    assert found.passed is False
    assert found.limit == ">= 20"


def test_what_enlarges_a_receptive_field_is_no_advice_where_none_is_known() -> None:
    def found(make: Callable[[], nn.Module]) -> CheckResult:
        (result,) = [r for r in check_module(make(), CARD)[0] if r.name == "receptive-field"]
        return result

    assert "3x3" in found(zoo.Net).help
    for name in ("flattened", "beside another path"):
        unknown = found(zoo.POOLING_CHEATS[name])
        assert (unknown.passed, unknown.help) == (None, "")
