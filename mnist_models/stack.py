"""K networks of one architecture as one network, side by side.

A map of the stack holds the channels of the first network, then those of the second, and so on:
``(B, K * C, H, W)``. A convolution becomes a grouped one, BatchNorm a wider one, a fully
connected layer a batched product; what works on each element or each channel stays as it is.
Every parameter is the concatenation of the networks' own along its first dimension, under their
own name, so that the state of one network is a slice of the state of the stack.

No value of one network enters another: not even one that is no number.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnist_models.blocks import AtrousConv2d, AtrousMaxPool2d, Dropout, GlobalAveragePool
from mnist_models.gpu_convolution import StackedConvolution
from mnist_models.randomness import Streams

# What counts channels in a layer that is widened by more channels.
_COUNTS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("in_channels", "out_channels", "groups"),
    AtrousConv2d: ("in_channels", "out_channels", "groups"),
    nn.BatchNorm1d: ("num_features",),
    nn.BatchNorm2d: ("num_features",),
    nn.PReLU: ("num_parameters",),  # a slope for each channel; one for all is refused on trial
}
_DROPOUTS = (Dropout, nn.Dropout, nn.Dropout2d)
_UNCHANGED = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.Identity, nn.Flatten),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    *(AtrousMaxPool2d, GlobalAveragePool),
)
_LEVELS = 1 << 16  # of `blocks.Dropout`: a mask element is decided by 16 random bits
_TRIAL = 8  # images
_AGREES = 1e-3  # share of the largest logit; rounding gives 1e-6, a wrong mask or network about 1


class StackError(Exception):
    """Networks or a recipe that cannot be trained side by side: which part, what to do."""


class StackedDropout(nn.Module):
    """A Dropout whose mask is, for each network, the one that it draws when it runs alone.

    ``(B, K * C, ...) -> (B, K * C, ...)``; maps are channels-last, as they are alone. Numbers are
    drawn network by network, and the masks applied at once.
    """

    def __init__(self, layer: nn.Dropout | nn.Dropout2d, count: int, streams: Streams) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer)
        self.layer.inplace = False  # what it is called on is no network's map
        self.count = count
        self.streams = streams

    def forward(self, maps: Tensor) -> Tensor:
        """Drop and scale in training, pass on in evaluation."""
        if not self.training or self.layer.p == 0:
            return maps
        if isinstance(self.layer, Dropout):
            return self._from_words(maps)
        size = [len(maps), maps.shape[1] // self.count, *maps.shape[2:]]
        if isinstance(self.layer, nn.Dropout2d):
            size[2:] = [1, 1]  # it draws one number a channel; whole maps would only take longer
        layout = torch.channels_last if len(size) == 4 else torch.contiguous_format
        ones = torch.empty(size, dtype=maps.dtype, device=maps.device, memory_format=layout)
        ones.fill_(1)  # of which the layer makes its mask
        return maps * torch.cat(self.streams.each(maps.device, lambda _: self.layer(ones)), 1)

    def _from_words(self, maps: Tensor) -> Tensor:
        """What `blocks.Dropout` does, for all networks in as many calls as for one.

        That class cannot lend its code: the digests of the published models cover it.
        """
        dropped = round(self.layer.p * _LEVELS)
        if dropped == _LEVELS:
            return maps * 0
        lanes = maps.unflatten(1, (self.count, -1))  # (B, K, C, ...)
        size, device = maps.numel() // self.count, maps.device
        words = torch.empty((self.count, -(-size // 4)), dtype=torch.int64, device=device)
        self.streams.each(device, lambda lane: words[lane].random_(-(1 << 63), None))
        mask = words.view(torch.int16)[:, :size].to(torch.float32).ge_(dropped - _LEVELS // 2)
        mask = mask.mul_(_LEVELS / (_LEVELS - dropped)).to(maps.dtype)
        mask = mask.reshape(self.count, len(maps), *maps.shape[2:], -1)  # (K, B, ..., C)
        kept: Tensor = lanes * mask.movedim((1, 0, -1), (0, 1, 2))
        return kept.flatten(1, 2)


class StackedLinear(nn.Module):
    """Fully connected layers side by side: ``(B, K * inputs) -> (B, K * outputs)``.

    `weight` is ``(K * outputs, inputs)``, `bias` ``(K * outputs,)`` or None.
    """

    def __init__(self, layer: nn.Linear, count: int) -> None:
        super().__init__()
        self.count = count
        self.weight = layer.weight
        self.bias: Tensor | None
        self.register_parameter("bias", layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """A batched product, one for each network."""
        lanes = inputs.view(len(inputs), self.count, -1).transpose(0, 1)  # (K, B, inputs)
        weight = self.weight.view(self.count, -1, self.weight.shape[1]).transpose(1, 2)
        outputs = torch.bmm(lanes, weight).transpose(0, 1).flatten(1)
        return outputs if self.bias is None else outputs + self.bias


@dataclass(frozen=True)
class Stack:
    """Networks side by side.

    Attributes:
        network: ``(B, K, 28, 28) -> (B, K * 10)``: one image a network, its ten logits.
        streams: what its Dropouts draw from.
        count: networks, K.
    """

    network: nn.Module
    streams: Streams
    count: int

    def logits(self, images: Tensor) -> Tensor:
        """``(B, K, 28, 28) -> (B, K, 10)``."""
        return side_by_side(self.network, images)


def side_by_side(network: nn.Module, images: Tensor) -> Tensor:
    """What the network of a stack answers: ``(B, K, 28, 28) -> (B, K, 10)``."""
    outputs: Tensor = network(images.contiguous(memory_format=torch.channels_last))
    return outputs.view(*images.shape[:2], -1)


def stack(models: Sequence[nn.Module]) -> Stack:
    """Put networks of one architecture side by side; each takes ``(B, 1, 28, 28)``.

    The weights are copied. What the stack gives is compared with what each network gives alone,
    in training mode, since a container's own forward may do anything.

    Raises:
        StackError: a layer that cannot be stacked, or networks that differ.
    """
    network, streams = copy.deepcopy(models[0]), Streams(len(models))
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in models]
    if any(other != shapes[0] for other in shapes):
        raise StackError("networks of different shapes cannot be stacked: give equal ones")
    stacked: dict[nn.Module, nn.Module] = {}  # a layer may stand in several places
    for name, layer in list(network.named_modules(remove_duplicate=False)):
        if not any(True for _ in layer.children()):
            if layer not in stacked:
                layers = [model.get_submodule(name) for model in models]
                stacked[layer] = _stacked(name, layers, streams)
            if not name:
                network = stacked[layer]
            else:
                parent, _, own = name.rpartition(".")
                setattr(network.get_submodule(parent), own, stacked[layer])
        elif (
            next(layer.parameters(recurse=False), next(layer.buffers(recurse=False), None))
            is not None
        ):
            raise _refusal(name, layer)
    result = Stack(network.to(memory_format=torch.channels_last), streams, len(models))
    _compare(result, models)
    return result


def _stacked(name: str, layers: list[nn.Module], streams: Streams) -> nn.Module:
    """One layer that is all of these."""
    first = layers[0]
    if isinstance(first, nn.Dropout | nn.Dropout2d) and type(first) in _DROPOUTS:
        return StackedDropout(first, len(layers), streams)
    wide = copy.deepcopy(first)
    if type(first) in _UNCHANGED:
        return wide
    if type(first) not in _COUNTS and type(first) is not nn.Linear:
        raise _refusal(name, first)
    for count in _COUNTS.get(type(first), ()):
        setattr(wide, count, getattr(first, count) * len(layers))
    for key, value in first.state_dict(keep_vars=True).items():
        if value.dim():  # not the number of batches that BatchNorm has seen
            joined = torch.cat([getattr(layer, key).detach() for layer in layers])
            setattr(wide, key, nn.Parameter(joined) if isinstance(value, nn.Parameter) else joined)
    if isinstance(wide, nn.Linear):
        return StackedLinear(wide, len(layers))
    if isinstance(first, nn.Conv2d) and isinstance(wide, nn.Conv2d) and wide.weight.is_cuda:
        plain = type(first) is nn.Conv2d and first.padding_mode == "zeros"
        slow = first.groups == 1 or first.dilation != (1, 1)  # of depthwise ones, only with gaps
        return StackedConvolution(wide, len(layers)) if plain and slow else wide
    return wide


def _refusal(name: str, layer: nn.Module) -> StackError:
    return StackError(
        f"layer {name or 'the network'} ({type(layer).__name__}) cannot be stacked: "
        "train its seeds one by one"
    )


@torch.no_grad()
def _compare(stacked: Stack, models: Sequence[nn.Module]) -> None:
    """Run copies of the stack and of each network on a trial batch.

    Raises:
        StackError: they do not agree.
    """
    device = next(models[0].parameters(), torch.empty(0)).device
    rounding = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # not what is compared
    with torch.random.fork_rng([device] if device.type == "cuda" else []), rounding:
        torch.manual_seed(0)
        images = torch.randn(_TRIAL, len(models), 28, 28, device=device)
        trial = copy.deepcopy(stacked)
        trial.network.train()
        trial.streams.seed(range(len(models)), device)
        try:
            found = trial.logits(images)
        except (RuntimeError, ValueError, LookupError) as error:
            raise StackError(
                f"the networks cannot be stacked, train one by one: {error}"
            ) from error
        for lane, model in enumerate(models):
            alone = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
            torch.manual_seed(lane)
            expected = alone(images[:, lane : lane + 1])
            difference = (found[:, lane] - expected).abs().max()
            if not difference <= _AGREES * expected.abs().max():
                raise StackError(
                    f"stacked, network {lane} gives other logits than alone (they differ by "
                    f"{difference.item():.2g}): its forward does more than call its layers; "
                    "train its seeds one by one"
                )
