"""Networks written as plans."""

from __future__ import annotations

import re

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_models.assignment import CARD
from mnist_models.checks import check_module, measure
from mnist_models.models.funnel import Layer, PlanError, funnel, read_plan
from mnist_models.provenance import model_digest
from mnist_models.stack import stack


def test_a_plan_is_read_layer_by_layer() -> None:
    assert read_plan("8k5-12u/12-12=/16s") == [
        Layer(8, kernel=5, padded=True, separable=False, shared=False, pooled=False),
        Layer(12, kernel=3, padded=False, separable=False, shared=False, pooled=False),
        Layer(12, kernel=3, padded=True, separable=False, shared=False, pooled=True),
        Layer(12, kernel=3, padded=True, separable=False, shared=True, pooled=False),
        Layer(16, kernel=3, padded=True, separable=True, shared=False, pooled=True),
    ]


def test_the_example_in_the_docstring_is_a_plan() -> None:
    [example] = re.findall(r"such as ``(.+?)``", read_plan.__doc__ or "")
    assert len(read_plan(example)) == 6


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        ("", "found ''"),
        ("8--12", "found ''"),
        ("8/", "found ''"),
        ("0", "found '0'"),
        ("8x", "found '8x'"),
        ("8k4", "found '8k4'"),
        ("8uu", "found '8uu'"),
        ("8=", "'8=' cannot have the weights of the layer before it"),
        ("1-8=", "'8=' cannot"),
        ("8-12=", "'12=' cannot"),
        ("8-12-12=", "'12=' cannot"),  # the layer before takes 8 channels
        ("8-8k5=", "'8k5=' cannot"),
        ("8-8-8s=", "'8s=' cannot"),
        ("8-8-8u=", "'8u=' cannot"),
        ("8-8u-8=", "'8=' cannot"),
    ],
)
def test_what_is_no_plan_is_refused(plan: str, found: str) -> None:
    with pytest.raises(PlanError, match=found):
        funnel(plan)


@pytest.mark.parametrize(  # each choice of one beside each of another
    ("activation", "order", "residual"),
    [
        ("relu", "act-norm", False),
        ("relu", "norm-act", True),
        ("silu", "act-norm", True),
        ("silu", "norm-act", False),
        ("gelu", "act-norm", False),
        ("gelu", "norm-act", True),
    ],
)
def test_the_network_keeps_the_card(activation: str, order: str, residual: bool) -> None:
    model = funnel(
        "8-12u/12-12=-14/14-16u",
        activation=activation,  # type: ignore[arg-type] # one of its literals
        order=order,  # type: ignore[arg-type] # likewise
        residual=residual,
    )
    checks, found = check_module(model, CARD)
    assert [check for check in checks if not check.passed] == []
    weights = 9 * (8 + 8 * 12 + 12 * 12 + 12 * 14 + 14 * 14 + 14 * 16)
    norms = 2 * (8 + 12 + 12 + 12 + 14 + 14 + 16)
    assert found.parameters == weights + norms + 16 * 10 + 10  # the shared layer adds statistics
    assert found.receptive_field_before_pooling == 1 + 2 * 2 + (1 + 3 * 4) + (2 + 2 * 8)


def test_every_option_changes_what_is_computed() -> None:
    images = torch.randn(4, 1, 28, 28)

    def logits(plan: str = "8-8/8-8", **options: object) -> torch.Tensor:
        torch.manual_seed(0)
        found: torch.Tensor = funnel(plan, dropout=0, **options)(images)  # type: ignore[arg-type] # by name
        return found

    plain = logits()
    assert torch.equal(plain, logits())
    for options in (
        {"activation": "relu"},
        {"activation": "gelu"},
        {"order": "norm-act"},
        {"residual": True},
        {"affine": False},
        {"atrous": True},
        {"dilated": True},
        {"plan": "8/8-8-8"},
        {"plan": "8-8/8=-8="},
        {"plan": "8-8u/8-8"},
    ):
        assert not torch.allclose(plain, logits(**options), atol=1e-3), options


def test_a_bias_that_has_no_effect_is_refused() -> None:
    with pytest.raises(PlanError, match="needs order act-norm; found norm-act"):
        funnel("8-8/8-8", affine=False, order="norm-act")


def test_prelu_has_a_slope_for_each_channel() -> None:
    def parameters(activation: str) -> int:
        model = funnel("8/12", activation=activation)  # type: ignore[arg-type] # one of its literals
        return sum(parameter.numel() for parameter in model.parameters())

    assert parameters("prelu") == parameters("relu") + 8 + 12


def test_without_scales_and_shifts_each_convolution_has_a_bias() -> None:
    model = funnel("8u/12us-12us-12us=-12u", affine=False)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [norm.affine for norm in norms] == [False] * 5
    checks, found = check_module(model, CARD)
    assert [check.name for check in checks if not check.passed] == []
    stem, first, second = 9 * 8 + 8, 9 * 8 + 8 * 12 + 12, 9 * 12 + 12 * 12 + 12
    full, head = 9 * 12 * 12 + 12, 12 * 10 + 10  # the depthwise half has no bias of its own
    assert found.parameters == stem + first + second + full + head


PLANS = st.lists(
    st.lists(st.sampled_from(["4", "6", "4u", "6s", "4k5", "="]), min_size=1, max_size=3),
    min_size=1,
    max_size=2,
)


@settings(max_examples=25, deadline=None)
@given(PLANS)
def test_any_plan_trains_is_stored_and_stacks(groups: list[list[str]]) -> None:
    plan, before = [], ""
    for group in groups:
        words = [before if word == "=" else word for word in group]
        before = words[-1]
        plan.append("-".join(word or "4" for word in words))
    torch.manual_seed(0)
    models = [funnel("/".join(plan)) for _ in range(2)]
    images = torch.randn(2, 1, 28, 28)
    F.cross_entropy(models[0].train()(images), torch.tensor([0, 1])).backward()
    gradients = [parameter.grad for parameter in models[0].parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    safetensors.torch.save(models[0].state_dict())  # refuses what is stored twice
    stack(models)


def test_shared_layers_have_one_set_of_weights() -> None:
    shared, own = funnel("8-8-8=/8="), funnel("8-8-8/8")
    assert len([m for m in shared.modules() if isinstance(m, nn.Conv2d)]) == 2
    assert len([m for m in own.modules() if isinstance(m, nn.Conv2d)]) == 4
    assert len([m for m in shared.modules() if isinstance(m, nn.BatchNorm2d)]) == 4


def test_what_differs_in_the_plan_alone_has_another_digest() -> None:
    digests = {model_digest(funnel(plan)) for plan in ("8-8/8", "8/8-8", "8-8/8u", "8-8-8")}
    assert len(digests) == 4
    assert model_digest(funnel("8-8/8")) == model_digest(funnel("8-8/8"))
    assert model_digest(funnel("8-8/8")) != model_digest(funnel("8-8/8", residual=True))
    assert model_digest(funnel("8-8/8")) != model_digest(funnel("8-8/8", order="norm-act"))
    ways = [funnel("8-8/8"), funnel("8-8/8", atrous=True), funnel("8-8/8", dilated=True)]
    assert len({model_digest(network) for network in ways}) == 3


class OneGrid(nn.Module):
    """A pooling whose windows begin at one of the four pixels of the first window."""

    def __init__(self, grid: int, *, whole: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.whole = whole  # windows alone

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = maps[:, :, self.grid // 2 :, self.grid % 2 :]
        return F.max_pool2d(maps, 2, ceil_mode=not self.whole)


ATROUS = ["10u/12us-12us-12us=", "8/8s-8s-8", "6u-6u/8k5-8-8=", "6-6-6=/8u-8"]


@pytest.mark.parametrize("plan", ATROUS)
@pytest.mark.parametrize("residual", [False, True])
def test_an_atrous_network_answers_with_the_mean_over_all_grids(plan: str, residual: bool) -> None:
    torch.manual_seed(0)
    atrous, plain = (
        funnel(plan, residual=residual, atrous=atrous).double() for atrous in (True, False)
    )
    images = torch.randn(16, 1, 28, 28, dtype=torch.double)
    atrous.train()(images)  # statistics that are not those it begins with
    plain.load_state_dict(atrous.state_dict())
    logits = []
    for grid in range(4):
        plain.add_module("pool", OneGrid(grid))
        logits.append(plain.eval()(images))
    found = atrous.eval()(images)
    torch.testing.assert_close(found, torch.stack(logits).mean(0), rtol=1e-11, atol=1e-11)
    assert not torch.allclose(found, logits[0], atol=1e-5)


@pytest.mark.parametrize("plan", ATROUS)
@pytest.mark.parametrize("residual", [False, True])
def test_a_dilated_network_averages_the_last_maps_of_all_whole_grids(
    plan: str, residual: bool
) -> None:
    torch.manual_seed(0)
    dilated, plain = (
        funnel(plan, residual=residual, dilated=dilated).double() for dilated in (True, False)
    )
    images = torch.randn(16, 1, 28, 28, dtype=torch.double)
    dilated.train()(images)  # statistics that are not those it begins with
    plain.load_state_dict(dilated.state_dict())
    plain.eval()
    logits, positions = [], []
    for grid in range(4):
        plain.add_module("pool", OneGrid(grid, whole=True))
        maps: list[torch.Tensor] = []
        with plain.dropout.register_forward_hook(lambda _, inputs, __: maps.append(inputs[0])):  # noqa: B023 - it is called here
            logits.append(plain(images))
        positions.append(maps[0][0, 0].numel())
    weights = torch.tensor(positions, dtype=torch.double) / sum(positions)
    found = dilated.eval()(images)
    expected = (torch.stack(logits) * weights[:, None, None]).sum(0)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    assert not torch.allclose(found, logits[0], atol=1e-5)


@pytest.mark.parametrize("plan", ATROUS)
def test_a_network_of_all_grids_has_the_weights_and_the_field_of_the_plain_one(plan: str) -> None:
    torch.manual_seed(0)
    plain = funnel(plan)
    measured = measure(plain)
    for way in ("atrous", "dilated"):
        torch.manual_seed(0)
        model = funnel(plan, **{way: True})  # type: ignore[arg-type] # by name
        state = model.state_dict()
        assert state.keys() == plain.state_dict().keys()
        assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
        found = measure(model)
        assert found.parameters == measured.parameters
        assert found.receptive_field_before_pooling == measured.receptive_field_before_pooling
        stack([model, funnel(plan, **{way: True})])  # type: ignore[arg-type] # by name


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        ("8-8", "found 0 poolings, expected one"),
        ("8/8/8", "found 2 poolings, expected one"),
        ("8-8/8=", "the first layer behind the pooling has the weights of the one before it"),
    ],
)
@pytest.mark.parametrize("way", ["atrous", "dilated"])
def test_what_cannot_keep_all_grids_is_refused(plan: str, found: str, way: str) -> None:
    funnel(plan)
    with pytest.raises(PlanError, match=found):
        funnel(plan, **{way: True})  # type: ignore[arg-type] # by name


def test_two_ways_to_keep_all_grids_are_refused() -> None:
    with pytest.raises(PlanError, match="found both atrous and dilated"):
        funnel("8-8/8", atrous=True, dilated=True)
