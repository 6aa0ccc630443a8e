from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.blocks import Dropout, GlobalAveragePool
from mnist_models.models import EXPERIMENTS
from mnist_models.randomness import Streams
from mnist_models.stack import (
    Stack,
    StackedDropout,
    StackedLinear,
    StackError,
    stack,
)

from .conftest import refuse_waiting

BUILDS = list({experiment.build: name for name, experiment in EXPERIMENTS.items()}.values())
CPU = torch.device("cpu")
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
# float64 rounds at 2e-16 and a few layers multiply that by some hundreds; what would be wrong, a
# mask, an order, a channel of another network, shows as about 1.
TIGHT = 1e-11


def networks(build: Callable[[], nn.Module], count: int = 3) -> list[nn.Module]:
    """Networks with weights of their own, laid out as a training run lays them out."""
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(build().to(memory_format=torch.channels_last).train())
    return found


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def backward(stacked: Stack, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits ``(B, K, 10)`` and the gradients of the sum of the networks' mean losses."""
    stacked.network.zero_grad()
    stacked.streams.seed(range(stacked.count), images.device)
    logits = stacked.logits(images)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    losses.view_as(labels).mean(0).sum().backward()
    gradients = [parameter.grad for parameter in stacked.network.parameters()]
    return logits.detach(), [grad for grad in gradients if grad is not None]


def batch(count: int, size: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(99)
    return torch.randn(size, count, 28, 28), torch.randint(10, (size, count))


@pytest.mark.parametrize("name", BUILDS)
def test_logits_gradients_and_statistics_are_those_of_each_network(
    name: str, float64: None
) -> None:
    models = networks(EXPERIMENTS[name].build, count=2)
    images, labels = batch(len(models))
    stacked = stack(models)
    logits, gradients = backward(stacked, images, labels)
    for lane, model in enumerate(models):
        torch.manual_seed(lane)
        expected = model(images[:, lane : lane + 1])
        F.cross_entropy(expected, labels[:, lane]).backward()
        torch.testing.assert_close(logits[:, lane], expected.detach(), rtol=TIGHT, atol=TIGHT)
        for parameter, grad in zip(model.parameters(), gradients, strict=True):
            part = grad.chunk(len(models))[lane]
            torch.testing.assert_close(part, parameter.grad, rtol=TIGHT, atol=TIGHT)
        state = stacked.network.state_dict()
        assert state.keys() == model.state_dict().keys()
        for key, value in model.state_dict().items():
            part = state[key].chunk(len(models))[lane] if value.dim() else state[key]
            torch.testing.assert_close(part, value, rtol=TIGHT, atol=TIGHT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frontier-8k", float("nan")),
        ("frontier-8k", 1e38),  # its BatchNorm has no scale that would overflow before
        ("steps-6", 1e30),
        ("blocks-1", float("nan")),
        ("era-v3", float("nan")),
    ],
)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_what_is_no_number_stays_in_its_network(name: str, value: float, device: str) -> None:
    """To the bit: float32 runs on other kernels than float64, some of which pad channels."""
    count = 3
    images, labels = (tensor.to(device) for tensor in batch(count))
    found = []
    for poison in (0.01, value):
        stacked = stack([model.to(device) for model in networks(EXPERIMENTS[name].build)])
        with torch.no_grad():
            for parameter in stacked.network.parameters():
                parameter.chunk(count)[1].fill_(poison)
        found.append(backward(stacked, images, labels))
    (logits, gradients), (other_logits, other_gradients) = found
    assert not torch.isfinite(other_logits[:, 1]).all()
    for lane in (0, 2):
        assert torch.equal(logits[:, lane], other_logits[:, lane])
        for one, other in zip(gradients, other_gradients, strict=True):
            assert torch.equal(one.chunk(count)[lane], other.chunk(count)[lane])
            assert torch.isfinite(one.chunk(count)[lane]).all()


@pytest.mark.parametrize(
    "layer",
    [
        *(Dropout(0.3), Dropout(0.3, inplace=True), Dropout(1.0), Dropout(0.0)),
        *(nn.Dropout(0.3), nn.Dropout(0.3, inplace=True), nn.Dropout2d(0.3)),
    ],
)
@pytest.mark.parametrize("size", [(5, 4, 6, 6), (5, 4, 1, 1), (1, 4, 3, 2), (5, 1, 6, 6)])
def test_masks_are_those_of_each_network_alone(layer: nn.Module, size: tuple[int, ...]) -> None:
    """Call after call, in the layout that the network's maps have."""
    count, streams = 3, Streams(3)
    stacked = StackedDropout(layer, count, streams).train()
    maps = [torch.randn(size).to(memory_format=torch.channels_last) for _ in range(2 * count)]
    streams.seed([7, 8, 7], CPU)
    found = [stacked(torch.cat(maps[:count], 1)), stacked(torch.cat(maps[count:], 1))]
    assert all(result.is_contiguous(memory_format=torch.channels_last) for result in found)
    for lane, seed in enumerate((7, 8, 7)):
        torch.manual_seed(seed)
        for call, result in enumerate(found):
            alone = layer.train()(maps[call * count + lane].clone())
            assert torch.equal(result.chunk(count, 1)[lane], alone)
    assert stacked.eval()(maps[0]) is maps[0]


@pytest.mark.parametrize("layer", [Dropout(0.5), nn.Dropout(0.5)])
@pytest.mark.parametrize(
    "size", [50, 1 << 18]
)  # with so many, every one of 2 ** 16 levels is drawn
def test_masks_of_features(size: int, layer: nn.Module) -> None:
    streams = Streams(2)
    stacked = StackedDropout(layer, 2, streams).train()
    streams.seed([1, 2], CPU)
    found = stacked(torch.ones(3, 2 * size))
    for lane, seed in enumerate((1, 2)):
        torch.manual_seed(seed)
        assert torch.equal(found.chunk(2, 1)[lane], layer.train()(torch.ones(3, size)))
    assert not torch.equal(*found.chunk(2, 1))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_a_product_for_each_network(bias: bool) -> None:
    layers = [nn.Linear(4, 3, bias=bias) for _ in range(2)]
    stacked = stack([nn.Sequential(nn.AvgPool2d(14), nn.Flatten(), layer) for layer in layers])
    linear = stacked.network.get_submodule("2")
    assert isinstance(linear, StackedLinear)
    inputs = torch.randn(5, 8)
    expected = torch.cat([layer(x) for layer, x in zip(layers, inputs.chunk(2, 1), strict=True)], 1)
    torch.testing.assert_close(linear(inputs), expected)


class Called(nn.Module):
    """A container with a forward of its own."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.shared = nn.ReLU()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 10, 3), self.shared, nn.BatchNorm2d(10), self.shared, GlobalAveragePool()
        )
        self.own = forward

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.own(self.layers(images))
        return logits


def test_a_container_may_have_a_forward_of_its_own() -> None:
    stacked = stack(networks(lambda: Called(lambda logits: logits * 2)))
    layers = stacked.network.get_submodule("layers")
    assert isinstance(layers, nn.Sequential)
    assert layers[1] is layers[3]
    assert layers[1] is stacked.network.get_submodule("shared")


@pytest.mark.parametrize(
    "forward",
    [
        lambda logits: logits - logits.mean(1, keepdim=True),  # over all networks
        lambda logits: F.dropout(logits, 0.5),  # with no stream of its own
        lambda logits: logits.log_softmax(1),
    ],
)
def test_a_forward_that_mixes_networks_is_refused(forward: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(StackError, match="network 0 gives other logits than alone"):
        stack(networks(lambda: Called(forward)))


def test_a_forward_that_cannot_run_is_refused() -> None:
    def failing(logits: Tensor) -> Tensor:
        return logits @ torch.ones(10, 10)

    with pytest.raises(StackError, match="cannot be stacked, train one by one: "):
        stack(networks(lambda: Called(failing)))


class Scaled(nn.Sequential):
    """A container with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 10, 3), GlobalAveragePool())
        self.scale = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 10, 3), nn.GroupNorm(2, 10)), r"layer 1 \(GroupNorm\)"),
        (lambda: nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.RReLU())), r"0.1 \(RReLU\)"),
        (Scaled, r"the network \(Scaled\)"),
        (lambda: nn.GroupNorm(1, 1), r"the network \(GroupNorm\)"),
        (lambda: nn.Sequential(nn.Softmax(1)), r"layer 0 \(Softmax\)"),
    ],
)
def test_a_layer_that_cannot_be_stacked_is_named(
    build: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(StackError, match=message + " cannot be stacked: train its seeds one by"):
        stack(networks(build))


def test_a_slope_for_each_channel_is_stacked_and_one_for_all_is_refused() -> None:
    def net(slopes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 10, 3), nn.PReLU(slopes), GlobalAveragePool())

    assert stack([net(10), net(10)]).network.get_submodule("1").weight.shape == (20,)
    with pytest.raises(StackError, match="cannot be stacked, train one by one: "):
        stack([net(1), net(1)])


def test_different_networks_are_refused() -> None:
    def net(channels: int, kernel: int = 3, padding: int = 0) -> nn.Module:
        conv = nn.Conv2d(1, channels, kernel, padding=padding)
        return nn.Sequential(conv, nn.MaxPool2d(4), GlobalAveragePool())

    with pytest.raises(StackError, match="different shapes"):
        stack([net(4), net(5)])
    with pytest.raises(StackError, match="network 1 gives other logits"):
        stack([net(4), net(4, padding=1)])
    assert stack([net(4), net(4)]).count == 2


def test_stacking_leaves_networks_and_random_numbers_alone() -> None:
    models = networks(EXPERIMENTS["steps-6"].build)
    before = [{key: value.clone() for key, value in m.state_dict().items()} for m in models]
    state = torch.get_rng_state()
    stacked = stack(models)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for value in stacked.network.state_dict().values():
            value.zero_()
    for model, values in zip(models, before, strict=True):
        for key, value in model.state_dict().items():
            assert torch.equal(value, values[key])


@CUDA
@pytest.mark.parametrize("layer", [Dropout(0.3), nn.Dropout(0.3), nn.Dropout2d(0.3)])
def test_masks_on_a_gpu_are_those_of_each_network_alone(layer: nn.Module) -> None:
    device, streams = torch.device("cuda"), Streams(2)
    stacked = StackedDropout(layer, 2, streams).train()
    maps = torch.randn(64, 2 * 8, 26, 26, device=device).to(memory_format=torch.channels_last)
    refuse_waiting("error")  # nothing waits for the device
    try:
        streams.seed([3, 4], device)
        found = [stacked(maps), stacked(maps)]
    finally:
        refuse_waiting("default")
    for lane, seed in enumerate((3, 4)):
        torch.manual_seed(seed)
        one = maps.chunk(2, 1)[lane].contiguous(memory_format=torch.channels_last)
        for result in found:
            assert torch.equal(result.chunk(2, 1)[lane], layer.train()(one))
