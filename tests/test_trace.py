"""The trace sees what runs and where it came from; probing leaves no mark."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.module_state import parameters, walk
from mnist_models.probe import UnmeasurableError, digits, preserved, randomise, relative_change, run
from mnist_models.trace import Node, Taint, Trace

torch.set_num_threads(1)


class Call(nn.Module):
    """Calls a function of (self, x)."""

    def __init__(self, body: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(28, 28))
        self.plain = [torch.ones(28, 28)]
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def trace(body: Callable[[nn.Module, Tensor], Tensor], **more: bool) -> Trace:
    return run(Call(body), digits(2, seed=0), **more)


def named(found: Trace, name: str) -> list[Node]:
    return [node for node in found.nodes if node.name == name]


@pytest.mark.parametrize(
    ("body", "taint"),
    [
        (lambda s, x: x * 2, Taint.IMAGE),
        (lambda s, x: s.weight * 2, Taint.PARAMETER),
        (lambda s, x: s.plain[0] * 2, Taint.STORED),
        (lambda s, x: torch.tensor([1.0, 2.0]) * 2, Taint.STORED),
        (lambda s, x: torch.rand(3) * 2, Taint.RANDOM),
        (lambda s, x: torch.rand_like(x), Taint.RANDOM),
        (lambda s, x: x.new_ones(3) + 1, Taint.NONE),
        (lambda s, x: torch.arange(3.0), Taint.NONE),
        (lambda s, x: x @ s.weight, Taint.IMAGE | Taint.PARAMETER),
        (lambda s, x: torch.zeros_like(x).copy_(x), Taint.IMAGE),
        (lambda s, x: torch.zeros_like(x).add_(s.weight), Taint.PARAMETER),
        (lambda s, x: x.detach(), Taint.IMAGE),
        (lambda s, x: torch.stack([x, x]).flatten(), Taint.IMAGE),
        (lambda s, x: torch.add(x, 1, out=torch.empty_like(x)), Taint.IMAGE),
        (lambda s, x: s.plain[0].clone().zero_(), Taint.NONE),
    ],
)
def test_where_a_value_comes_from(body: Callable[..., Tensor], taint: Taint) -> None:
    found = trace(body)
    assert found.logits is not None
    assert found.logits.taint == taint


def test_a_view_shares_what_is_written_through_it() -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        base = torch.zeros(2, 1, 28, 28)
        base[:, :, 3].copy_(x[:, :, 0])
        return base + 1

    found = trace(body)
    assert found.logits is not None
    assert found.logits.taint == Taint.IMAGE
    assert all(node.view for node in named(found, "select"))


def test_a_buffer_that_is_filled_first_is_not_read() -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        return self.plain[0].copy_(x[0, 0]) * 2  # type: ignore[union-attr, index] # a list

    (product,) = named(trace(body), "mul")
    assert not product.inputs[0].stored


@pytest.mark.parametrize("grad", [False, True])
def test_operations_have_the_same_labels_with_gradients(grad: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(True), nn.MaxPool2d(2), nn.ReLU(True))
    found = run(model, digits(2, seed=0), grad=grad)
    labels = [found.label(node) for node in found.nodes if node.name != "clone"]
    assert labels == [
        ("convolution", "0", 0),
        ("silu_", "1", 0),
        ("max_pool2d_with_indices", "2", 0),
        ("relu_", "3", 0),
    ]
    for label in labels:
        node = found.find(label)
        assert node is not None
        assert found.label(node) == label
    assert found.find(("convolution", "0", 1)) is None


def test_composite_operations_are_taken_apart_in_inference_mode() -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return F.linear(x, self.weight)  # type: ignore[arg-type] # a parameter

    assert [node.name for node in trace(body).nodes if not node.view] == ["mm"]


def test_an_output_can_be_replaced() -> None:
    model = Call(lambda s, x: (x * 2).flatten(1) + 1)
    image = digits(2, seed=0)
    (product,) = named(run(model, image), "mul")
    changed = run(model, image, replace={product.number: torch.zeros_like}).output
    assert torch.equal(changed, torch.ones(2, 784))


@pytest.mark.parametrize("way", ["numpy", "tolist", "__array__", "data_ptr"])
def test_values_that_leave_torch_are_noted(way: str) -> None:
    def body(of_image: bool) -> Callable[[nn.Module, Tensor], Tensor]:
        def forward(self: nn.Module, x: Tensor) -> Tensor:
            getattr(x.detach() if of_image else torch.ones(3), way)()
            return x

        return forward

    assert trace(body(of_image=True)).escaped == way
    assert trace(body(of_image=False)).escaped == ""


def test_what_cannot_be_looked_into_is_noted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in use
        model = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), {nn.Linear}
        )
    assert "quantized" in run(model, digits(2, seed=0)).opaque
    assert run(nn.Flatten(), digits(2, seed=0)).opaque == ""


def test_walking_is_not_fooled() -> None:
    class Hides(nn.Sequential):
        def modules(self):  # type: ignore[no-untyped-def] # a cheat
            return iter(())

        named_modules = parameters = named_parameters = modules

    shared = nn.Linear(2, 2)
    model = Hides(shared, nn.Sequential(shared), nn.Linear(2, 2))
    assert list(walk(model)) == ["", "0", "1", "2"]
    assert list(parameters(model)) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_randomising_spares_what_is_frozen_at_zero() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.PReLU())
    nn.init.zeros_(model[0].weight)  # type: ignore[arg-type] # a parameter
    model[0].bias.requires_grad_(False).zero_()  # type: ignore[union-attr, operator] # a parameter
    model[1].running_mean.fill_(7)  # type: ignore[union-attr, operator] # a buffer
    randomise(model, seed=0)
    assert model[0].weight.all()  # type: ignore[union-attr, operator] # a parameter
    assert not model[0].bias.any()  # type: ignore[union-attr, operator] # a parameter
    assert not model[1].running_mean.any()  # type: ignore[union-attr, operator] # a buffer
    randomise(model, seed=0, positive=True)
    assert (model[0].weight > 0).all()


def test_each_forward_starts_with_the_same_statistics() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(model, digits(4, seed=0), training=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_everything_comes_back_when_the_forward_raises() -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.zero_()  # type: ignore[operator] # a parameter
        torch.rand(3)
        raise ValueError("broken")

    model, state = Call(body), torch.get_rng_state()
    with pytest.raises(ValueError, match="broken"), preserved(model):
        pass
    assert model.weight.all()
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_digits_look_like_digits() -> None:
    image = digits(8, seed=3)
    assert image.shape == (8, 1, 28, 28)
    assert image.min() == pytest.approx(-0.4242, abs=1e-3)
    assert 1.5 < image.max() <= 2.8216
    assert torch.equal(image, digits(8, seed=3))
    assert not torch.equal(image, digits(8, seed=4))
    assert (image > 0).float().mean() > 0.03  # as much ink as a thin digit


def test_relative_change() -> None:
    logits = torch.tensor([[0.0, 2.0]])
    assert relative_change(logits, logits) == 0
    assert relative_change(logits, logits + 2**0.5) == pytest.approx(1)
    assert relative_change(logits, logits * float("nan")) == float("inf")
    for useless in (torch.zeros(1, 2), torch.full((1, 2), float("nan"))):
        with pytest.raises(UnmeasurableError):
            relative_change(useless, logits)
