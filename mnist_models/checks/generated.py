"""Weights that are stored nowhere: drawn, computed or spelled out in the forward pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from mnist_models.trace import Node, Operand, Taint, Trace

_WEIGHING = {"convolution", "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "addbmm"}
_ELEMENTWISE = {"mul", "div", "where", "masked_fill", "lerp", "addcmul", "addcdiv", "pow"}
_ELEMENTWISE |= {"ldexp", "copysign", "xlogy", "_foreach_mul", "_foreach_div"}
_INDEXING = {"index", "index_select", "gather", "embedding"}
# What these give says only a part of what they are given.
_CUTS = {"round", "floor", "ceil", "trunc", "frac", "fmod", "remainder", "floor_divide", "sign"}
_CUTS |= {"frexp"}
_CUTS |= {"gt", "ge", "lt", "le", "eq", "ne", "lshift", "rshift", "and", "or", "xor"}
_DEFAULTS = {-1, 0, 1, 1e-5}  # such as the factor of an addition, the epsilon of BatchNorm
_FORMULA = 8  # distinct numbers of an activation written by hand
_USES = 100  # a few dozen layers use each of them once
_SEEN = Taint.IMAGE | Taint.PARAMETER | Taint.STORED
_FLOWS = Taint.IMAGE | Taint.PARAMETER | Taint.STORED | Taint.RANDOM


def unstored(first: Trace, again: Trace, other: Trace) -> dict[str, int]:
    """How many numbers a forward uses as weights that lie in no memory, by where they come from.

    Args:
        first: a forward in evaluation.
        again: on the same images, from another state of the generators.
        other: on other images, from the same state.
    """
    shown = without_false_features(first, other)
    return {
        "drawn at random in the forward pass": random_weights(shown, again),
        "computed in the forward pass and used as weights": generated_weights(shown),
        "unpacked from other numbers": unpacked_weights(shown),
        "written as literals": literals(first, other),
    }


def made_of_nothing(trace: Trace) -> set[int]:
    """Numbers of the operations that make or take what depends on nothing stored and no image."""
    return {
        node.number
        for node in trace.nodes
        if any(o.tensor.numel() and not o.taint & _SEEN for o in node.inputs + node.outputs)
    }


def without_false_features(first: Trace, second: Trace) -> Trace:
    """The first of two forwards, without `Taint.IMAGE` on what other images leave as it is.

    Such as weights to which zero times the image was added.
    """
    same: dict[int, Operand] = {}  # id of an operand -> the same without it
    for here, there in zip(first.nodes, second.nodes, strict=False):
        if here.name != there.name:
            break  # the image decided what runs
        pairs = zip(here.inputs + here.outputs, there.inputs + there.outputs, strict=False)
        same |= {id(a): replace(a, taint=a.taint & ~Taint.IMAGE) for a, b in pairs if _alike(a, b)}

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        return same.get(id(value), value)

    if not same:
        return first
    nodes = [
        replace(
            node,
            arguments={name: plain(value) for name, value in node.arguments.items()},
            inputs=plain(node.inputs),
            outputs=plain(node.outputs),
        )
        for node in first.nodes
    ]
    return replace(first, nodes=nodes)


def _alike(here: Operand, there: Operand) -> bool:
    if Taint.IMAGE not in here.taint or here.value is None or there.value is None:
        return False
    strided = here.value.layout == there.value.layout == torch.strided
    return strided and torch.equal(here.value, there.value)


def random_weights(first: Trace, second: Trace) -> int:
    """Elements drawn in evaluation that are the same in each, or are used as weights.

    The two forwards start from different states of the generators, so that what comes out
    the same was seeded. Noise that is fresh each time holds nothing.
    """
    if first.logits is None:
        return 0
    reach = first.ancestors(first.logits.writers)
    counts: dict[int, int] = {}
    weights = {
        operand.storage
        for node in first.nodes
        for operand in _weights(node)
        if not _by_image(node, operand)
    }
    roots = {
        number
        for operand_storage in weights
        for number in first.ancestors(first.storages[operand_storage].writers)
        if Taint.RANDOM in first.storages[operand_storage].taint
    }
    children = first.children()
    for node in first.nodes:
        if not node.random or node.number not in reach or not node.outputs:
            continue
        out = node.outputs[0]
        if Taint.IMAGE in out.taint or (not _floating(out) and _indexes(first, node, children)):
            continue
        if node.number in roots or _same(node, second):
            counts[out.storage] = max(counts.get(out.storage, 0), math.prod(out.shape))
    return sum(counts.values())


def _by_image(node: Node, operand: Operand) -> bool:
    """Each image of the batch is multiplied with numbers of its own, as by a mask of Dropout."""
    if node.name in _WEIGHING:
        return False
    features = next(other for other in node.inputs if Taint.IMAGE in other.taint)
    alike = operand.shape[:1] == features.shape[:1] and len(operand.shape) == len(features.shape)
    return alike and operand.stride[:1] != (0,)


def _floating(operand: Operand) -> bool:
    return operand.dtype.is_floating_point or operand.dtype.is_complex


def _indexes(trace: Trace, node: Node, children: dict[int, list[int]]) -> bool:
    readers = [trace.nodes[number] for number in children[node.number]]
    return all(
        reader.name in _INDEXING
        and (source := reader.operand("self")) is not None
        and Taint.IMAGE in source.taint
        for reader in readers
    )


def _same(node: Node, other: Trace) -> bool:
    if node.number >= len(other.nodes) or other.nodes[node.number].name != node.name:
        return True
    here, there = node.outputs[0].value, other.nodes[node.number].outputs[0].value
    if here is None or there is None or here.shape != there.shape:
        return True
    return bool((here == there).all())


def generated_weights(trace: Trace) -> int:
    """Elements of non-uniform computed tensors that weigh features, alone or with parameters."""
    mixed: dict[int, dict[int, int]] = {}  # storage -> computed storage in it -> elements
    counts: dict[int, int] = {}
    for node in trace.nodes:
        taint = Taint.NONE
        for operand in node.inputs:
            taint |= operand.taint
        if Taint.IMAGE in taint:
            for operand in _weights(node):
                if _computed(operand):
                    counts[operand.storage] = _elements(operand)
                for storage, number in mixed.get(operand.storage, {}).items():
                    counts[storage] = max(number, counts.get(storage, 0))
        elif taint & _FLOWS and not node.view:
            found: dict[int, int] = {}
            for operand in node.inputs:
                found |= mixed.get(operand.storage, {})
                if _computed(operand) and node.name not in _INDEXING:
                    found[operand.storage] = _elements(operand)
            for operand in node.outputs:
                mixed.setdefault(operand.storage, {}).update(found)
    return sum(counts.values())


def _weights(node: Node) -> list[Operand]:
    """What this operation weighs features with: the operands that are no features."""
    if node.name in _WEIGHING:
        pair = [node.operand("weight")] if node.name == "convolution" else node.inputs[-2:]
    elif node.name.rstrip("_") in _ELEMENTWISE:
        features = [operand for operand in node.inputs if Taint.IMAGE in operand.taint]
        # A window over positions is no weight; what tells channels apart is.
        pair = [o for o in node.inputs if features and _by_channel(o, features[0])]
    elif "norm" in node.name or "prelu" in node.name:
        pair = [node.operand("weight"), node.operand("bias")]
    else:
        return []
    if not any(Taint.IMAGE in operand.taint for operand in node.inputs):
        return []
    return [o for o in pair if o is not None and Taint.IMAGE not in o.taint]


def _by_channel(operand: Operand, features: Operand) -> bool:
    if len(features.shape) < 4:
        return True
    return math.prod(operand.shape[:-2]) > 1


def _computed(operand: Operand) -> bool:
    """Made in this forward from nothing stored, and not the same number throughout."""
    value = operand.value
    if operand.taint & _FLOWS or value is None or not value.numel():
        return False
    return bool((value != value.flatten()[0]).any())


def _elements(operand: Operand) -> int:
    if not operand.stride:  # sparse, or a single number
        return math.prod(operand.shape)
    return math.prod(size for size, step in zip(operand.shape, operand.stride, strict=True) if step)


def unpacked_weights(trace: Trace) -> int:
    """Elements by which weights that were cut out of other numbers outnumber these.

    Such as signs from the bits of integers, or two small numbers from the digits of one.
    """
    roots: dict[int, dict[int, int]] = {}  # storage -> stored tensors in it -> elements
    cut: set[int] = set()
    weights: dict[int, int] = {}
    origins: dict[int, int] = {}
    for node in trace.nodes:
        if any(Taint.IMAGE in operand.taint for operand in node.inputs):
            for operand in _weights(node):
                if operand.storage in cut:
                    origins |= roots[operand.storage]
                    held = weights.get(operand.storage, 0)
                    weights[operand.storage] = max(held, _elements(operand))
            continue
        found: dict[int, int] = {}
        for operand in node.inputs:
            if operand.stored:
                whole = roots.setdefault(operand.storage, {operand.storage: 0})
                whole[operand.storage] = max(whole[operand.storage], _elements(operand))
            found |= roots.get(operand.storage, {})
        for operand in node.outputs if found else []:
            if operand.storage not in found:
                roots.setdefault(operand.storage, {}).update(found)
                if _cuts(node) or any(each.storage in cut for each in node.inputs):
                    cut.add(operand.storage)
    return max(0, sum(weights.values()) - sum(origins.values()))


def _cuts(node: Node) -> bool:
    name = node.name.strip("_")
    if name == "div":
        return node.arguments.get("rounding_mode") is not None
    if name in _CUTS or name.startswith("bitwise"):
        return True
    if name != "to_copy" or not node.outputs:
        return False
    before, after = node.inputs[0].dtype, node.outputs[0].dtype
    return after.itemsize < before.itemsize or (
        before.is_floating_point and not after.is_floating_point
    )


def literals(trace: Trace, other: Trace) -> int:
    """Distinct numbers that the code writes into the arguments of operations.

    What other images change, such as the mean by which each of them is normalised, is not written.
    Every use of one counts where these are so many, and the numbers themselves more than a
    formula has: then they are the levels of quantised weights.
    """
    written = {number for node in other.nodes for number in node.scalars()} - _DEFAULTS
    used = [number for node in trace.nodes for number in node.scalars() if number in written]
    distinct = len(set(used))
    return len(used) if distinct > _FORMULA and len(used) > _USES else distinct
