"""Branches too faint to change the logits: what they see is not seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnist_models.intervention import Changes
from mnist_models.probe import answer, digits, relative_change
from mnist_models.receptive_field.geometry import ZERO, Geometry
from mnist_models.receptive_field.global_pooling import CHANGES
from mnist_models.trace import Node, Taint, Trace

BATCH = 4  # images in a forward


def faint_branches(
    module: nn.Module, trace: Trace, geometry: dict[int, Geometry], least: float = CHANGES
) -> frozenset[int]:
    """Numbers of operations that join a map with another view of the image, and do nothing.

    Adding a billionth of a widely blurred map would otherwise widen the field. What they
    compute is replaced by noise of the same size; parameters should be random by now. `least` is
    the smallest effect, in standard deviations of the logits.
    """
    if trace.logits is None:
        return frozenset()
    reach = trace.ancestors(trace.logits.writers)
    suspects = sorted(_suspects(trace, geometry) & reach)
    image = digits(BATCH, seed=1)
    plain = trace.answer()
    found: set[int] = set()
    for number in suspects:
        changed = answer(module, image, Changes({number: noise}))
        if relative_change(plain, changed) < least:
            found.add(number)
    return frozenset(found)


def _suspects(trace: Trace, geometry: dict[int, Geometry]) -> set[int]:
    """Where regions that are not the same are joined: what computed them."""
    made: dict[tuple[object, ...], Node] = {}
    found: set[int] = set()
    pixel = (ZERO, (1, 1, 1), (False, False, False))
    for node in trace.nodes:
        features = [operand for operand in node.inputs if Taint.IMAGE in operand.taint]
        sources = {made[operand.place].number for operand in features if operand.place in made}
        regions = {
            (geometry[n].offset, geometry[n].extent, geometry[n].everywhere)
            for n in sources
            if n in geometry
        }
        if any(operand.place not in made for operand in features):
            regions.add(pixel)  # the image itself
        if len(regions) > 1:
            found |= {n for n in sources if trace.nodes[n].outputs[0].dtype.is_floating_point}
        for operand in node.outputs:
            made[operand.place] = node
    return found


def noise(tensor: Tensor) -> Tensor:
    """Fixed noise of the mean and spread of `tensor`: what it says is lost, its scale is not."""
    generator = torch.Generator().manual_seed(7)
    drawn = torch.randn(tuple(tensor.shape), generator=generator).to(tensor)
    spread = tensor.std() if tensor.numel() > 1 else tensor.abs().sum()
    return tensor.mean() + drawn * torch.nan_to_num(spread)
