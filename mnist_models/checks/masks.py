"""Where a forward pass may drop features, and what many forwards show of each such operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor

from mnist_models.checks.forwards import Forwards, noise
from mnist_models.intervention import Changes, Replace
from mnist_models.probe import answer, digits, relative_change, run
from mnist_models.receptive_field.global_pooling import CHANGES
from mnist_models.trace import Label, Node, Operand, Taint, Trace

_SMALLEST = 0.01  # drop probability that the rules ask for
_DRAWN = 100_000  # mask elements after which a share of 0.01 is known to 0.0003
_FORWARDS = 30
_PLAIN = {"bernoulli", "div", "mul", "empty", "empty_like", "new_empty", "ones_like"}


@dataclass
class Site:
    """One operation that may drop, and what was seen of it so far.

    Attributes:
        forwards: those observed.
        masks: forwards in which it ran.
        dropped, drawn: elements of its masks.
        values: distinct values of the masks, three at most of each.
        fresh: two forwards dropped different elements.
        felt: the logits change when what was dropped is put back.
        redrawn: the logits change when something else is dropped.
        exact: the drop probability, where it is an argument.
    """

    node: Node
    forwards: int = 0
    masks: int = 0
    dropped: int = 0
    drawn: int = 0
    values: set[float] = field(default_factory=set)
    fresh: bool = False
    felt: bool = False
    redrawn: bool = False
    exact: float | None = None

    @property
    def share(self) -> float:
        """The share of elements dropped."""
        if self.exact is not None:
            return self.exact
        return self.dropped / max(1, self.drawn)

    @property
    def settled(self) -> bool:
        """More draws would not change the verdict."""
        if self.masks < 3:
            return False  # a branch that not every forward takes
        if not self.drawn or not self.dropped:
            return self.drawn >= _DRAWN
        if not (self.fresh and self.felt and self.redrawn):
            return self.drawn >= _DRAWN / 10  # the same zeros again and again
        sigma = (self.share * (1 - self.share) / self.drawn) ** 0.5
        return self.exact is not None or self.drawn >= _DRAWN or self.share - 4 * sigma > _SMALLEST

    @property
    def enough(self) -> bool:
        """Whether the share dropped reaches the smallest that counts as Dropout.

        Over all forwards, those in which it does not run included.
        """
        if self.exact is not None:
            return round(self.exact * self._often, 6) >= _SMALLEST
        sigma = (_SMALLEST * (1 - _SMALLEST) / max(1, self.drawn)) ** 0.5
        return self.dropped > 0 and (self.share + 3 * sigma) * self._often >= _SMALLEST

    @property
    def _often(self) -> float:
        """The largest share of forwards in which it may run, by those that were observed."""
        ran = self.masks / max(1, self.forwards)
        return min(1.0, ran + 3 * sqrt(ran * (1 - ran) / max(1, self.forwards)))


def _random(operand: Operand | None) -> bool:
    if operand is None:
        return False
    return Taint.RANDOM in operand.taint and Taint.IMAGE not in operand.taint


def _is_image(operand: Operand | None) -> bool:
    return operand is not None and Taint.IMAGE in operand.taint


def _pair(node: Node) -> tuple[Operand, Operand] | None:
    """The features and the mask of an operation that may drop."""
    kind = node.name.rstrip("_")
    if kind == "mul":
        left, right = node.operand("self"), node.operand("other")
    elif kind == "masked_fill":
        left, right = node.operand("self"), node.operand("mask")
    elif kind == "where":
        chosen = [node.operand("self"), node.operand("other")]
        left = next((operand for operand in chosen if _is_image(operand)), None)
        right = None if all(map(_is_image, chosen)) else node.operand("condition")
    elif kind == "index_put":
        indices = [i for i in node.arguments["indices"] or [] if i is not None]
        left, right = node.operand("self"), indices[0] if len(indices) == 1 else None
        right = right if right is not None and right.dtype == torch.bool else None
        right = None if _is_image(node.operand("values")) else right
    else:
        return None
    if left is None or right is None:
        return None
    if kind == "mul" and _random(left) and _is_image(right):
        left, right = right, left
    return (left, right) if _is_image(left) and _random(right) else None


def features(node: Node) -> Operand | None:
    """What an operation may drop from; None if it drops nothing."""
    if node.name == "native_dropout":
        given = node.operand("input")
        return given if _is_image(given) and node.arguments.get("train") else None
    pair = _pair(node)
    return None if pair is None else pair[0]


def _dropped(node: Node) -> tuple[Tensor, set[float]] | None:
    """True where this forward dropped, and the distinct values of the mask (three at most)."""
    if node.name == "native_dropout":
        kept = node.outputs[1].value
        return None if kept is None else (~kept, {0.0, 1.0})
    pair = _pair(node)
    if pair is None or pair[1].value is None:
        return None
    mask = pair[1].value
    values = set(mask.flatten()[:50_000].double().unique()[:3].tolist())
    kind = node.name.rstrip("_")
    if kind in {"masked_fill", "index_put"}:
        return mask.bool(), values
    if kind == "where" and not _is_image(node.operand("self")):
        return mask.bool(), values
    return mask == 0, values


def observe(forwards: Forwards, trace: Trace, nodes: list[Node]) -> list[Site]:
    """Draw until the share that each of them drops is known."""
    sites = [Site(node, exact=_exact(trace, node)) for node in nodes]
    last: dict[Label, Tensor] = {}
    labels = _labels(trace)
    here = {labels[node.number]: node for node in nodes}
    for seed in range(_FORWARDS if nodes else 0):
        if seed >= 3 and all(site.settled for site in sites):
            break
        plain, here = _forward(forwards, seed, [labels[node.number] for node in nodes], here)
        for site in sites:
            site.forwards += 1
            label = labels[site.node.number]
            found = _dropped(here[label]) if label in here else None
            if found is None:
                continue
            mask, values = found
            site.masks += 1
            site.dropped += int(mask.sum())
            site.drawn += mask.numel()
            site.values |= values
            if label in last:
                site.fresh |= not torch.equal(mask, last[label])
            last[label] = mask
            if not site.felt and mask.any():
                back = {here[label].number: _putting_back(mask, features(here[label]))}
                undone = _again(forwards, seed, replace=back)
                site.felt = relative_change(plain.answer(), undone) >= CHANGES
            if not site.redrawn:
                other = _again(forwards, seed, redraw=_draws(plain, here[label]))
                site.redrawn = relative_change(plain.answer(), other) >= CHANGES
    return [site for site in sites if 0.0 in site.values or site.dropped == 0]


def _forward(
    forwards: Forwards, seed: int, labels: Collection[Label], before: Mapping[Label, Node]
) -> tuple[Trace, dict[Label, Node]]:
    """A forward in training, and those of its operations that have these labels, with values.

    They are sought first where they were `before`.
    """
    numbers = frozenset(node.number for node in before.values())
    for _ in range(2):  # again where a random branch moved them
        trace = run(forwards.module, _images(), training=True, seed=seed, values=numbers)
        names = _labels(trace)
        found = {names[n]: trace.nodes[n] for n in names if names[n] in labels}
        wanted = frozenset(node.number for node in found.values())
        if wanted <= numbers:
            break
        numbers = wanted
    return trace, found


def _again(
    forwards: Forwards,
    seed: int,
    replace: Mapping[int, Replace] | None = None,
    redraw: Collection[int] = (),
) -> Tensor:
    """The logits of that forward with something changed."""
    changes = Changes(replace or {}, redraw)
    return answer(forwards.module, _images(), changes, training=True, seed=seed)


def _images() -> Tensor:
    return digits(64, seed=30)


def _labels(trace: Trace) -> dict[int, Label]:
    """Number -> name of an operation that may drop, which holds from forward to forward.

    It counts such operations alone: what else runs may depend on chance, as augmentation does,
    or on the size of the batch.
    """
    found: dict[int, Label] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for node in trace.nodes:
        if features(node) is not None:
            kind = (node.name, node.path)
            found[node.number] = (*kind, seen[kind])
            seen[kind] += 1
    return found


def _draws(trace: Trace, node: Node) -> set[int]:
    """The numbers of the operations that drew what this one drops."""
    pair = _pair(node)
    before = {node.number} if pair is None else trace.ancestors(pair[1].writers)
    return {number for number in before if trace.nodes[number].random}


def _putting_back(mask: Tensor, before: Operand | None) -> Replace:
    """Replaces what was dropped, and that alone."""

    def replace(tensor: Tensor) -> Tensor:
        like = tensor
        if before is not None and before.value is not None and not tensor.any():
            like = before.value.expand_as(tensor)  # all was dropped
        return torch.where(mask, noise(like), tensor)

    return replace


def _exact(trace: Trace, node: Node) -> float | None:
    """The drop probability, where a single draw of known probability made the mask."""
    if node.name == "native_dropout":
        return float(node.arguments["p"])
    pair = _pair(node)
    if pair is None:
        return None
    made = [trace.nodes[number] for number in trace.ancestors(pair[1].writers)]
    drawn = [other for other in made if other.random]
    if len(drawn) != 1 or drawn[0].name != "bernoulli_":
        return None
    # Arithmetic that keeps zeros zero; anything else is measured.
    if not {other.name.rstrip("_") for other in made} <= _PLAIN:
        return None
    probability = drawn[0].arguments.get("p")
    return 1 - probability if isinstance(probability, float) else None
