"""Weights too faint to matter, in kernels that are computed or frozen: they reach nowhere.

A 3x3 kernel, padded with 1e-20 to 9x9, would otherwise see 9x9 pixels at no cost. The entries
of parameters are drawn alike before anything is measured; those of what is computed from them,
such as normalised or masked weights, remain within a small factor of each other or are zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from mnist_models.intervention import Replace
from mnist_models.trace import Node, Operand, Taint, Trace

FAINT = 1e-3  # of the largest entry of the kernel; drawn ones are within a factor of three
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "mul"}


@contextlib.contextmanager
def faint_ones_zeroed(trace: Trace) -> Iterator[None]:
    """Faint entries of stored weights are zero meanwhile, wherever they are kept.

    `trace` is of a forward whose parameters were drawn: what is faint in it is frozen or is none.
    """
    saved: list[tuple[Tensor, Tensor, Tensor]] = []
    for operand in (each for node in trace.nodes for each in _weights(node)):
        weight = operand.tensor.detach()
        real = weight.layout == torch.strided and operand.dtype.is_floating_point
        if operand.stored and real and weight.numel() and (small := _faint(weight)).any():
            # By its places in memory: of an expanded one several are the same.
            memory = torch.empty(0, dtype=weight.dtype).set_(weight.untyped_storage())
            places = torch.arange(len(memory)).as_strided(
                operand.shape, operand.stride, operand.offset
            )
            where = places[small].unique()
            saved.append((memory, where, memory[where].clone()))
    try:
        for memory, where, _ in saved:
            memory[where] = 0
        yield
    finally:
        for memory, where, values in saved:
            memory[where] = values


def overwritten_weights(trace: Trace) -> set[int]:
    """Numbers of operations whose computed weights were written to once more later on.

    What they were can only be told from a forward that keeps the values of these operations.
    """
    return {
        node.number
        for node, weight in _computed_weights(trace)
        if weight.writers != trace.storages[weight.storage].writers
    }


def without_faint_weights(trace: Trace) -> dict[int, Replace]:
    """What to put in place of which operations' outputs, so that faint weights become zero.

    Empty where there are none. Holds for forwards that run the same operations on the same image.
    """
    faint: dict[int, Tensor] = {}  # storage -> flag per element
    found: dict[int, Replace] = {}
    for _, weight in _computed_weights(trace):
        small = _faint(weight.tensor if weight.value is None else weight.value)
        if not small.any():
            continue
        count = weight.tensor.untyped_storage().nbytes() // weight.dtype.itemsize
        flags = faint.setdefault(weight.storage, torch.zeros(count, dtype=torch.bool))
        places = torch.arange(count).as_strided(weight.shape, weight.stride, weight.offset)
        flags[places[small]] = True
        # Autograd would take what is written over it later for the weights.
        for number in trace.storages[weight.storage].writers:
            output = trace.nodes[number].outputs[0]
            if (output.storage, output.dtype) == (weight.storage, weight.dtype):
                found[number] = _zeroing(flags, output)
    return found


def _computed_weights(trace: Trace) -> Iterator[tuple[Node, Operand]]:
    """What operations weight features with, where the forward itself computed it."""
    for node in trace.nodes:
        for operand in _weights(node):
            computed = operand.writers and not operand.stored
            if computed and operand.dtype.is_floating_point and 0 not in operand.shape:
                yield node, operand


def _weights(node: Node) -> list[Operand]:
    if node.name == "convolution":
        weight = node.operand("weight")
        return [] if weight is None else [weight]
    # Of a product only what does not depend on the image: honest attention may be faint.
    if node.name in _PRODUCTS and any(Taint.IMAGE in o.taint for o in node.inputs):
        return [operand for operand in node.inputs if Taint.IMAGE not in operand.taint]
    return []


def _faint(weight: Tensor) -> Tensor:
    size = weight.detach().abs()
    return (size > 0) & (size < FAINT * size.max())


def _zeroing(flags: Tensor, output: Operand) -> Replace:
    def replace(tensor: Tensor) -> Tensor:
        return tensor.masked_fill(flags.as_strided(output.shape, output.stride, output.offset), 0)

    return replace
