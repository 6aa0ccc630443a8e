"""A network written as one line: thin where the map is large, wider where it is small."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mnist_models.blocks import AtrousConv2d, AtrousMaxPool2d, Dropout, GlobalAveragePool

Activation = Literal["relu", "silu", "gelu", "prelu"]
Order = Literal["act-norm", "norm-act"]

_ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda channels: nn.ReLU(),
    "silu": lambda channels: nn.SiLU(),
    "gelu": lambda channels: nn.GELU(),
    "prelu": nn.PReLU,
}
_LAYER = re.compile(r"(?P<channels>[1-9]\d*)(?P<kernel>k[1357])?(?P<marks>[us=]*)")


class PlanError(ValueError):
    """A plan that names no network: what was found, what was expected."""


@dataclass(frozen=True)
class Layer:
    """One convolution of a plan.

    Attributes:
        channels: that it gives.
        kernel: its side, pixels.
        padded: whether the map keeps its size.
        separable: a depthwise convolution and a pointwise one instead of a full one.
        shared: it has the weights of the layer before it, and statistics of its own.
        pooled: its input is halved by a max-pool first.
    """

    channels: int
    kernel: int
    padded: bool
    separable: bool
    shared: bool
    pooled: bool


def read_plan(text: str) -> list[Layer]:
    """Read a plan such as ``8-12u/12-12=/14-16u``.

    Groups between which the map is halved stand between slashes, their layers between hyphens: a
    number of channels, ``k5`` where the kernel is not 3x3, then ``u`` (unpadded), ``s``
    (depthwise separable), ``=`` (with the weights of the layer before).

    Raises:
        PlanError: the text is no such plan.
    """
    layers: list[Layer] = []
    for number, group in enumerate(text.split("/")):
        for position, word in enumerate(group.split("-")):
            match = _LAYER.fullmatch(word)
            marks = match["marks"] if match else ""
            if match is None or len(set(marks)) < len(marks):
                raise PlanError(
                    f"plan {text!r}: found {word!r}, expected channels and marks, such as 12, "
                    "12k5, 12u, 12s or 12="
                )
            layer = Layer(
                channels=int(match["channels"]),
                kernel=int((match["kernel"] or "k3")[1:]),
                padded="u" not in marks,
                separable="s" in marks,
                shared="=" in marks,
                pooled=number > 0 and position == 0,
            )
            if layer.shared:
                _refuse_misfit(text, word, layers, layer)
            layers.append(layer)
    return layers


def _refuse_misfit(text: str, word: str, before: list[Layer], layer: Layer) -> None:
    kinds = [
        (each.channels, each.kernel, each.padded, each.separable) for each in (*before[-1:], layer)
    ]
    inputs = before[-2].channels if len(before) > 1 else 1
    if not before or kinds[0] != kinds[1] or inputs != layer.channels:
        raise PlanError(
            f"plan {text!r}: {word!r} cannot have the weights of the layer before it; expected "
            "the same channels in and out, the same kernel, padding and kind"
        )


class Funnel(nn.Module):
    """The network of a plan: ``(B, 1, 28, 28) -> (B, 10)``.

    Every convolution is followed by activation and BatchNorm; after the last come Dropout, the
    mean of each map and one fully connected layer.
    """

    def __init__(
        self,
        plan: str,
        *,
        activation: Activation,
        order: Order,
        affine: bool,
        residual: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.order = order
        self.residual = residual
        self.layers = read_plan(plan)
        self.convolutions = nn.ModuleList(_convolutions(self.layers, bias=not affine))
        self.activations = nn.ModuleList(
            _ACTIVATIONS[activation](layer.channels) for layer in self.layers
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(layer.channels, affine=affine) for layer in self.layers
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = Dropout(dropout)
        self.average = GlobalAveragePool()
        self.head = nn.Linear(self.layers[-1].channels, 10)

    def forward(self, maps: Tensor) -> Tensor:
        """Layer after layer, as the plan has them."""
        used = -1
        for number, layer in enumerate(self.layers):
            used += not layer.shared
            if layer.pooled:
                maps = self.pool(maps)
            found = self.convolutions[used](maps)
            if self.order == "act-norm":
                found = self.norms[number](self.activations[number](found))
            else:
                found = self.activations[number](self.norms[number](found))
            same = self.residual and found.shape == maps.shape
            maps = maps + found if same else found
        logits: Tensor = self.head(self.average(self.dropout(maps)))
        return logits


def _convolutions(layers: list[Layer], *, bias: bool) -> Iterator[nn.Module]:
    """Those that have weights of their own."""
    inputs = 1
    for layer in layers:
        if not layer.shared:
            yield _convolution(inputs, layer, bias=bias)
        inputs = layer.channels


def _convolution(inputs: int, layer: Layer, *, bias: bool) -> nn.Module:
    padding = layer.kernel // 2 if layer.padded else 0
    if not layer.separable:
        return nn.Conv2d(inputs, layer.channels, layer.kernel, padding=padding, bias=bias)
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, layer.kernel, padding=padding, groups=inputs, bias=False),
        nn.Conv2d(inputs, layer.channels, 1, bias=bias),
    )


def funnel(
    plan: str,
    *,
    activation: Activation = "silu",
    order: Order = "act-norm",
    affine: bool = True,
    residual: bool = False,
    dropout: float = 0.02,
    atrous: bool = False,
    dilated: bool = False,
) -> nn.Module:
    """The network of a plan: ``(B, 1, 28, 28) -> (B, 10)``.

    Args:
        plan: see `read_plan`.
        activation: after every convolution; ``prelu`` has a slope for each channel.
        order: which of activation and BatchNorm comes first.
        affine: whether each BatchNorm has a scale and a shift for each channel; without, each
            convolution has a bias instead (of a separable one, its second half), which is half
            as many parameters where no weights are shared. Needs the order ``act-norm``: a
            BatchNorm takes away what a bias before it adds.
        residual: whether a layer's input is added to its output where both are of one shape.
        dropout: probability of the one Dropout, before the averaging.
        atrous: whether the one pooling keeps all four grids in evaluation, see
            `blocks.AtrousMaxPool2d`.
        dilated: whether it does so in training too, where that takes four times as long: it then
            moves by one pixel, and the kernels behind it reach over every other value.

    Raises:
        PlanError: the text is no plan, or the options do not go together.
    """
    if not affine and order != "act-norm":
        raise PlanError(f"affine=False needs order act-norm; found {order}")
    if atrous and dilated:
        raise PlanError("found both atrous and dilated; expected one of them")
    network = Funnel(
        plan,
        activation=activation,
        order=order,
        affine=affine,
        residual=residual,
        dropout=dropout,
    )
    if atrous:
        _replace_pooling(network, AtrousMaxPool2d(), _atrous)
    if dilated:
        _replace_pooling(network, nn.MaxPool2d(2, stride=1), _dilated)
    return network


def _replace_pooling(
    network: Funnel, pool: nn.Module, convert: Callable[[nn.Conv2d], nn.Conv2d]
) -> None:
    """Let the network see all grids of its one pooling, with the weights that it has.

    Args:
        convert: a convolution behind it into one that reaches over every other value.
    """
    pooled = [layer.pooled for layer in network.layers]
    if sum(pooled) != 1:
        raise PlanError(
            f"plan {network.plan!r}: found {sum(pooled)} poolings, expected one, to keep all grids"
        )
    network.add_module("pool", pool)
    behind = sum(not layer.shared for layer in network.layers[: pooled.index(True)])
    if network.layers[pooled.index(True)].shared:
        raise PlanError(
            f"plan {network.plan!r}: the first layer behind the pooling has the weights of the one "
            "before it; expected weights of its own, to keep all grids"
        )
    for number, found in enumerate(network.convolutions[behind:], start=behind):
        if isinstance(found, nn.Sequential):  # separable: its second half reaches over no pixel
            assert isinstance(found[0], nn.Conv2d)
            found[0] = convert(found[0])
        else:
            assert isinstance(found, nn.Conv2d)
            network.convolutions[number] = convert(found)


def _atrous(found: nn.Conv2d) -> nn.Conv2d:
    made = AtrousConv2d(
        found.in_channels,
        found.out_channels,
        found.weight.shape[2],
        padding=int(found.padding[0]),
        groups=found.groups,
        bias=found.bias is not None,
    )
    made.weight, made.bias = found.weight, found.bias
    return made


def _dilated(found: nn.Conv2d) -> nn.Conv2d:
    found.dilation = (2, 2)
    found.padding = tuple(2 * int(side) for side in found.padding)
    return found
