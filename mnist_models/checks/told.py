"""Numbers that the image decides and Python hands back: computed where the trace does not look."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from torch import Tensor

from mnist_models.checks.elements import content
from mnist_models.trace import Node, Taint, Trace, address

_PER_IMAGE = 2  # such as the mean and the spread by which an image is normalised
_ASKED = 4  # of each image: its extremes as well, or which branch is its own


def told_outside(first: Trace, second: Trace) -> str | None:
    """Why two forwards on other images were given more than a few other numbers, or gave, if so.

    Such as the answers of a network in NumPy, fed by `item()` and read back number by number, or
    as the one element that is picked of a row.
    """
    same = _same_operations(first, second)
    pairs = zip(first.nodes[:same], second.nodes[:same], strict=True)
    told = sum(_differing(here, there) for here, there in pairs)
    told += _scalars(first.nodes[same:], second.nodes[same:])
    told += _made(first.nodes[same:], second.nodes[same:])
    images = first.image.shape[0] if first.image is not None else 1
    if told > _PER_IMAGE * images:
        return (
            f"{told} numbers that the forward pass is given differ with the image: computed "
            "outside torch's operations"
        )
    asked = sum(map(_asks, first.nodes))
    if asked > _ASKED * images:
        return (
            f"the forward pass takes {asked} single numbers out of the features of {images} "
            "images: what is made of them is computed outside torch's operations"
        )
    return None


def _asks(node: Node) -> bool:
    """Python is given a number of what depends on the image."""
    return node.name == "_local_scalar_dense" and Taint.IMAGE in node.inputs[0].taint


def _same_operations(first: Trace, second: Trace) -> int:
    """How many of them run before the image decides which."""
    pairs = zip(first.nodes, second.nodes, strict=False)
    ends = (number for number, (here, there) in enumerate(pairs) if here.name != there.name)
    return next(ends, min(len(first.nodes), len(second.nodes)))


def _differing(here: Node, there: Node) -> int:
    pairs = zip(here.scalars(), there.scalars(), strict=False)
    return sum(a != b and not (isnan(a) and isnan(b)) for a, b in pairs)


def _scalars(here: list[Node], there: list[Node]) -> int:
    """Those that the other forward was never given, however often it ran what."""
    others = {number for node in there for number in node.scalars()}
    return len({number for node in here for number in node.scalars()} - others)


def _made(here: list[Node], there: list[Node]) -> int:
    """Elements of tensors from outside torch whose memory, and its content, only one forward met.

    Both traces keep their tensors, so that no address is used twice.
    """
    others = list(_stored(there))
    known, contents = {address(each) for each in others}, set(map(content, others))
    found = {
        address(each): each.numel()
        for each in _stored(here)
        if address(each) not in known and content(each) not in contents
    }
    return sum(found.values())


def _stored(nodes: list[Node]) -> Iterator[Tensor]:
    seen: set[object] = set()
    for node in nodes:
        for operand in node.inputs:
            if operand.stored and operand.storage not in seen:
                seen.add(operand.storage)
                yield operand.tensor
