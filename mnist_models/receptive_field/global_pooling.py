"""Finding global average pooling by what it computes, and whether the logits hang on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnist_models.intervention import Changes, Replace
from mnist_models.probe import answer, digits, relative_change, run
from mnist_models.receptive_field.geometry import Geometry
from mnist_models.receptive_field.operations import follow
from mnist_models.receptive_field.shared import find_shared, in_any_order
from mnist_models.receptive_field.whole_map import WholeMaps
from mnist_models.trace import Node, Taint, Trace

CHANGES = 1e-3  # standard deviations of the logits: less is no effect
# Share of the logits' change from image to image that must remain when what all positions of
# a map share, such as the gate of a squeeze-and-excite, is kept as it was. It remains nearly all.
OWN = 0.25
VARIES = 1e-2  # share of a map's spread that must lie between its positions


@dataclass(frozen=True)
class Mean:
    """Operation `pooled` holds the mean over all positions of the map `source` computed."""

    pooled: int
    source: int


@dataclass(frozen=True)
class GlobalPooling:
    """What was found in one mode.

    Attributes:
        means: those that the logits depend on.
        bottleneck: without them the logits do not depend on the image.
        cause: one sentence.
    """

    means: tuple[Mean, ...]
    bottleneck: bool
    cause: str


def global_pooling(module: nn.Module, training: bool = False, batch: int = 4) -> GlobalPooling:
    """Look for global average pooling in one mode; parameters should be random by now.

    `batch` is how many images it is given.

    Raises:
        UnmeasurableError: the logits are not finite or do not vary.
    """
    images = digits(batch, seed=11), digits(batch, seed=12)
    mode = "training" if training else "evaluation"
    traces = [run(module, image, training=training) for image in images]
    plain = [trace.answer() for trace in traces]
    if relative_change(plain[0], plain[1]) < CHANGES:
        return GlobalPooling((), False, f"in {mode} the logits do not depend on the image")
    geometry = follow(traces[0])
    means = find_means(traces[0], geometry)
    if not means:
        cause = f"no mean over a whole map larger than 1x1 reaches the logits in {mode}"
        cause += _partial(traces[0])
        return GlobalPooling((), False, cause)
    pooled = sorted({mean.pooled for mean in means})
    fixed = answer(module, images[1], _fixed(traces[0], pooled), training=training)
    if relative_change(plain[0], fixed) >= CHANGES:
        where = _place(traces[0].nodes[pooled[-1]])
        cause = f"the image reaches the logits past the mean over a map ({where}) in {mode}"
        return GlobalPooling((), False, cause)
    effective = {
        number
        for number in pooled
        if relative_change(
            plain[0],
            answer(module, images[0], _fixed(traces[1], [number]), training=training),
        )
        >= CHANGES
    }
    kept = tuple(mean for mean in means if mean.pooled in effective)
    if not training and _shape_only(module, images, traces, geometry, kept):
        cause = "the map that is averaged holds little but a number that all positions share"
        return GlobalPooling((), False, cause)
    last = traces[0].nodes[max(effective, default=pooled[-1])]
    shape = _map_shape(traces[0].nodes[kept[-1].source], geometry) if kept else ""
    return GlobalPooling(kept, True, f"the whole {shape} map is averaged ({_place(last)})")


def _shape_only(
    module: nn.Module,
    images: tuple[Tensor, Tensor],
    traces: list[Trace],
    geometry: dict[int, Geometry],
    means: tuple[Mean, ...],
) -> bool:
    """Most of what the averaged maps say is said at all positions alike, by fixed weights."""
    shared = find_shared(traces[0], geometry, [mean.source for mean in means])
    if not shared.numbers:
        return False
    plain = traces[0].answer()
    left = answer(module, images[1], _fixed(traces[0], shared.numbers))
    if relative_change(plain, left) >= OWN * relative_change(plain, traces[1].answer()):
        return False
    return not in_any_order(module, images[0], traces[0], geometry, shared)


def _fixed(trace: Trace, numbers: Collection[int]) -> Changes:
    """Put what these operations gave in that forward, whatever the image is."""

    def put(number: int) -> Replace:
        node = trace.nodes[number] if number < len(trace.nodes) else None
        value = node.outputs[0].value if node is not None and node.outputs else None

        def replace(tensor: Tensor) -> Tensor:
            # Another shape: the image decided what runs.
            same = value is not None and value.shape == tensor.shape
            return value if value is not None and same else torch.zeros_like(tensor)

        return replace

    return Changes({number: put(number) for number in numbers})


def _place(node: Node) -> str:
    return f"{node.name} in {node.path}" if node.path else node.name


def _map_shape(node: Node, geometry: dict[int, Geometry]) -> str:
    return _sizes(node.outputs[0].shape[i] for i in geometry[node.number].spatial)


def _sizes(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))


def _partial(trace: Trace) -> str:
    """The last average pooling whose kernel is smaller than its map, in words; or ""."""
    for node in reversed(trace.nodes):
        source, kernel = node.operand("self"), node.arguments.get("kernel_size")
        if node.name != "avg_pool2d" or source is None or not kernel:
            continue
        window = (kernel[0], kernel[-1])
        if window != source.shape[-2:] and max(source.shape[-2:]) > 1:
            return (
                f"; {_place(node)} averages {_sizes(window)} of a {_sizes(source.shape[-2:])} map"
            )
    return ""


def find_means(trace: Trace, geometry: dict[int, Geometry]) -> list[Mean]:
    """All pairs of a map and its mean over all positions that lead to the logits."""
    if trace.logits is None:
        return []
    found: list[Mean] = []
    reach = trace.ancestors(trace.logits.writers)
    count = 1 if trace.image is None else trace.image.shape[0]
    nodes = [node for node in trace.nodes if node.number in reach and _usable(node)]
    whole = WholeMaps(trace, geometry)
    maps = [
        node
        for node in nodes
        if node.number in geometry and geometry[node.number].spatial and whole.whole(node)
    ]
    means = {node.number: _mean(node, geometry[node.number]) for node in maps}
    for node in nodes:
        own = geometry.get(node.number)
        if own is None or own.spatial:
            continue
        value = _rows(node, own)
        above = trace.ancestors(node.parents)
        for source in maps:
            mean = means[source.number]
            if (
                source.number in above
                and mean is not None
                and any(
                    _same(each, value, node.outputs[0].dtype)
                    for each in _grouped(mean, value.numel(), count)
                )
            ):
                found.append(Mean(node.number, source.number))
    return found


def _usable(node: Node) -> bool:
    if node.view or not node.outputs:
        return False
    first = node.outputs[0]
    floating = first.value is not None and first.value.is_floating_point()
    return floating and Taint.IMAGE in first.taint


def _mean(node: Node, geometry: Geometry) -> Tensor | None:
    """The mean over all positions, one row per sample; None if the map hardly varies over them."""
    value = node.outputs[0].value
    assert value is not None
    value = value.double()
    mean = value.mean(geometry.spatial, keepdim=True)
    variation = (value - mean).square().mean().sqrt()
    if not variation > VARIES * value.std():
        return None
    return _batch_first(mean, geometry)


def _rows(node: Node, geometry: Geometry) -> Tensor:
    value = node.outputs[0].value
    assert value is not None
    return _batch_first(value.double(), geometry)


def _batch_first(value: Tensor, geometry: Geometry) -> Tensor:
    samples = [i for i, dim in enumerate(geometry.dims) if any(step[0] for _, step in dim)]
    if samples:
        value = value.movedim(samples[0], 0)
    return value.reshape(-1)


def _grouped(mean: Tensor, numel: int, count: int) -> list[Tensor]:
    """The means, or where `numel` numbers are fewer, their own means over neighbours or strides.

    Such as over the rotations of a group convolution, or the heads of an ensemble. `count`: images.
    """
    if not 0 < numel < mean.numel() or mean.numel() % numel or numel % count:
        return [mean]
    rows, each = mean.view(count, -1), numel // count
    return [
        rows.view(count, each, -1).mean(2).flatten(),
        rows.view(count, -1, each).mean(1).flatten(),
    ]


def _same(mean: Tensor, value: Tensor, dtype: torch.dtype) -> bool:
    if mean.numel() != value.numel() or not torch.isfinite(value).all():
        return False
    # Single precision adds up a few hundred numbers to about 1e-6 of their size.
    tolerance = max(1e-4, 4 * torch.finfo(dtype).eps)
    return bool((mean - value).abs().max() <= tolerance * value.abs().max())
