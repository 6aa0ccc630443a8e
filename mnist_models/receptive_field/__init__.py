"""The receptive field of any module, by two methods that must agree.

One is the recurrence of kernel, stride and dilation along the executed graph
(https://distill.pub/2019/computing-receptive-fields), the other the footprint of the gradient.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from torch import nn

from mnist_models.probe import SIDE, digits, make_tracer, preserved, randomise, run
from mnist_models.receptive_field.faint import BATCH, faint_branches
from mnist_models.receptive_field.footprint import (
    ENLARGED,
    Box,
    agree,
    expected,
    footprint,
    largest_sample,
)
from mnist_models.receptive_field.geometry import HEIGHT, WIDTH, Geometry, length, reduce
from mnist_models.receptive_field.global_pooling import GlobalPooling, global_pooling
from mnist_models.receptive_field.operations import follow, logits_geometry
from mnist_models.trace import Node, Trace

__all__ = [
    "LayerRow",
    "ReceptiveField",
    "awake_field",
    "layer_table",
    "measure_fields",
    "receptive_fields",
]

_ROWS = {
    "convolution": "conv",
    "max_pool2d_with_indices": "max_pool2d",
    "avg_pool2d": "avg_pool2d",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "adaptive_max_pool2d": "adaptive_max_pool2d",
    "mean": "mean",
    "sum": "sum",
    "amax": "amax",
    "addmm": "linear",
    "mm": "linear",
    "bmm": "matmul",
}


@dataclass(frozen=True)
class LayerRow:
    """One executed operation that changes the geometry.

    Attributes:
        name: path of the module, such as ``block.0``.
        operation: such as ``conv2d``.
        kernel, stride, padding, dilation: height and width, pixels of its input map.
        jump: image pixels between neighbouring positions of its output.
        size: height and width of its output; (1, 1) where it has none.
        channels: of its output.
        receptive_field: of its output, image pixels; None if it could not be followed.
    """

    name: str
    operation: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    jump: int
    size: tuple[int, int]
    channels: int
    receptive_field: int | None


@dataclass(frozen=True)
class ReceptiveField:
    """Image pixels, the smaller of height and width; None with a cause if not known.

    Attributes:
        before_pooling: at the input of the global average pooling.
        output: at the logits.
        cause: one sentence on what was found or why nothing was.
    """

    before_pooling: int | None
    output: int | None
    cause: str


def layer_table(module: nn.Module) -> list[LayerRow]:
    """What runs in evaluation mode on one 28x28 image, layer by layer.

    Raises:
        Exception: whatever the module's forward raises.
    """
    with preserved(module):
        trace = run(module, digits(2, seed=1))
    geometry = follow(trace)
    return [
        _row(node, geometry[node.number])
        for node in trace.nodes
        if node.name in _ROWS
        and node.number in geometry
        and (node.name not in {"mean", "sum", "amax"} or _pools(node, geometry))
    ]


def _pools(node: Node, geometry: dict[int, Geometry]) -> bool:
    """A reduction that takes positions away, not channels."""
    return not geometry[node.number].spatial and len(node.inputs[0].shape) > 2


def _row(node: Node, geometry: Geometry) -> LayerRow:
    shape, before = node.outputs[0].shape, node.inputs[0].shape
    weight = node.operand("weight") if node.name == "convolution" else None
    operation = _ROWS[node.name]
    one = (1, 1)
    kernel = one
    if weight is not None:
        kernel = _pair(weight.shape[2:])
        transposed = "_transpose" if node.arguments.get("transposed") else ""
        operation = f"conv{transposed}{len(weight.shape) - 2}d"
    elif "pool" in node.name:
        kernel = _pair(node.arguments.get("kernel_size") or ())
    if node.name in {"mean", "sum", "amax"} or "adaptive" in node.name:
        kernel = _pair([a // max(1, b) for a, b in zip(before[2:], _map(shape), strict=False)])
    stride = _pair(node.arguments.get("stride") or (kernel if "pool" in node.name else ()))
    return LayerRow(
        name=node.path,
        operation=operation,
        kernel=kernel,
        stride=stride,
        padding=_pair(node.arguments.get("padding") or (0, 0)),
        dilation=_pair(node.arguments.get("dilation") or one),
        jump=int(geometry.step(HEIGHT)) or int(geometry.step(WIDTH)),
        size=_map(shape),
        channels=shape[1] if len(shape) > 1 else 1,
        receptive_field=None if geometry.unknown else _number(geometry),
    )


def _pair(values: object) -> tuple[int, int]:
    items = [int(v) for v in values] if isinstance(values, (list, tuple)) else []
    if len(items) == 1:
        items *= 2
    return (items[-2], items[-1]) if items else (1, 1)


def _map(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def receptive_fields(module: nn.Module) -> ReceptiveField:
    """Both receptive fields; the module comes back unchanged.

    Raises:
        Exception: whatever the module's forward raises.
    """
    with preserved(module):
        randomise(module, seed=1)
        return measure_fields(module, global_pooling(module))


def measure_fields(module: nn.Module, pooling: GlobalPooling) -> ReceptiveField:
    """As `receptive_fields`, on a module whose parameters may be changed."""
    trace = run(module, digits(BATCH, seed=1), values=False)
    found = follow(trace)
    if faint := faint_branches(module, trace, found):
        found = follow(trace, without=faint)
    output, output_cause = _output(module, trace, found)
    if not pooling.bottleneck or not pooling.means:
        return ReceptiveField(None, output, f"no global average pooling: {pooling.cause}")
    fields = {mean.source: found[mean.source].receptive_field for mean in pooling.means}
    lost = next((n for n, field in fields.items() if field is None), None)
    if lost is not None:
        return ReceptiveField(None, output, found[lost].unknown)
    # Of the maps with the largest field, the last one computed is the pooling's input.
    source = max(fields, key=lambda number: (fields[number] or 0, number))
    before, cause = _before(module, trace, found[source], trace.nodes[source])
    return ReceptiveField(before, output, cause or output_cause or "both methods agree")


def awake_field(module: nn.Module, pooling: GlobalPooling, least: float) -> tuple[int | None, bool]:
    """Before the pooling, by the recurrence alone, of what changes the logits by `least` or more.

    And whether that is every branch.
    """
    trace = run(module, digits(BATCH, seed=1), values=False)
    faint = faint_branches(module, trace, follow(trace), least)
    found = follow(trace, without=faint)
    sources = [mean.source for mean in pooling.means if mean.source in found]
    fields = [_number(found[source]) for source in sources]
    lost = any(found[source].unknown for source in sources)
    return (None if lost or not fields else max(fields)), not faint


def _number(geometry: Geometry) -> int:
    field = geometry.receptive_field
    everywhere = geometry.everywhere[HEIGHT] and geometry.everywhere[WIDTH]
    if field is None or (everywhere and field > SIDE):
        return SIDE
    return int(field)


def _output(module: nn.Module, trace: Trace, found: dict[int, Geometry]) -> tuple[int | None, str]:
    geometry = logits_geometry(trace, found)
    if geometry is None:
        return None, "the logits do not depend on the image"
    if geometry.unknown:
        return None, geometry.unknown
    geometry = reduce(geometry, geometry.spatial, keep=True)
    target = expected(geometry, SIDE, None)
    seen = footprint(module, SIDE, target, None, None, slack=geometry.slack)
    if not agree(target, seen, geometry.slack):
        return None, _disagreement("the output", target, seen)
    return SIDE if any(geometry.everywhere[1:]) else _number(geometry), ""


def _before(
    module: nn.Module, trace: Trace, geometry: Geometry, node: Node
) -> tuple[int | None, str]:
    side, shape = SIDE, node.outputs[0].shape
    large = _enlarged(module, node)
    if large is not None and large[0].extent == geometry.extent:
        side = ENLARGED
        geometry, shape = large
    position = tuple(shape[i] // 2 if i in geometry.spatial else 0 for i in range(len(shape)))
    target = expected(geometry, side, position)
    seen = footprint(module, side, target, trace.label(node), position, slack=geometry.slack)
    if seen is None or not agree(target, seen, geometry.slack):
        return None, _disagreement("the global pooling", target, seen)
    number = _number(geometry)
    if geometry.slack and side == ENLARGED:  # the footprint is the more exact of the two
        number = min(number, seen[1] - seen[0], seen[3] - seen[2])
    axis = next((i for i, d in enumerate(geometry.dims) if any(step[0] for _, step in d)), 0)
    if length(geometry.dims[axis]) > BATCH:  # several views of each image
        one = largest_sample(module, side, trace.label(node), position, axis)
        number = min(number, one or number)
    return number, ""


def _enlarged(module: nn.Module, node: Node) -> tuple[Geometry, tuple[int, ...]] | None:
    """The same operation on an enlarged input, or None where the model takes none."""
    image = digits(BATCH, seed=1).repeat(1, 1, 3, 3)
    tracer = make_tracer(module, image, values=False)
    # What comes after the map need not fit.
    with contextlib.suppress(Exception):
        run(module, image, partial=tracer)
    nodes = tracer.trace.nodes
    if node.number >= len(nodes) or nodes[node.number].name != node.name:
        return None
    geometry = follow(tracer.trace).get(node.number)
    if geometry is None or geometry.unknown or len(geometry.dims) != len(node.outputs[0].shape):
        return None
    return geometry, tuple(length(dim) for dim in geometry.dims)


def _disagreement(place: str, target: Box, seen: Box | None) -> str:
    def size(box: Box) -> str:
        return f"{box[1] - box[0]}x{box[3] - box[2]}"

    found = "no gradient" if seen is None else f"a gradient over {size(seen)} pixels"
    return f"the two methods disagree at {place}: recurrence {size(target)}, {found}"
