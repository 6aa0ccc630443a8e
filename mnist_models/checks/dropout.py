"""Dropout that draws anew in training, is the identity in evaluation, and matters."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mnist_models.checks.blocks import name, uncovered
from mnist_models.checks.forwards import Forwards, half, logits, noise
from mnist_models.checks.result import CheckResult
from mnist_models.probe import digits, relative_change, run, walk
from mnist_models.receptive_field.global_pooling import CHANGES
from mnist_models.trace import Node, Operand, Taint, Trace
from mnist_models.tracer import Replace

_SMALLEST = 0.01  # drop probability that the rules ask for
_DRAWN = 100_000  # mask elements after which a share of 0.01 is known to 0.0003
_FORWARDS = 30
_PLAIN = {"bernoulli", "div", "mul", "empty", "empty_like", "new_empty", "ones_like"}
_HELP = "call nn.Dropout(p >= 0.01) on the features in training mode and pass its output on"


@dataclass
class Site:
    """One operation that may drop, and what was seen of it so far.

    Attributes:
        dropped, drawn: elements of its masks.
        values: distinct values of the masks, three at most of each.
        fresh: two forwards dropped different elements.
        felt: the logits change when what was dropped is put back.
        redrawn: the logits change when something else is dropped.
        exact: the drop probability, where it is an argument.
    """

    node: Node
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
        if not self.drawn or not self.dropped:
            return self.drawn >= _DRAWN
        if not (self.fresh and self.felt and self.redrawn):
            return self.drawn >= _DRAWN / 10  # the same zeros again and again
        sigma = (self.share * (1 - self.share) / self.drawn) ** 0.5
        return self.exact is not None or self.drawn >= _DRAWN or self.share - 4 * sigma > _SMALLEST

    @property
    def enough(self) -> bool:
        """Whether the share dropped reaches the smallest that counts as Dropout."""
        if self.exact is not None:
            return round(self.exact, 6) >= _SMALLEST
        sigma = (_SMALLEST * (1 - _SMALLEST) / max(1, self.drawn)) ** 0.5
        return self.dropped > 0 and self.share + 3 * sigma >= _SMALLEST


def check_dropout(forwards: Forwards, wanted: str) -> CheckResult:
    """Judge every product of the features with a two-valued random mask.

    Raises:
        Exception: whatever the module's forward raises.
    """
    trace = forwards.trace(training=True)
    found = [node for node in trace.nodes if _features(node) is not None]
    fed = [node for node in found if forwards.depends(True, node, _features)]
    effective = forwards.effective(True, fed, half)
    sites = _measured(forwards, trace, effective)
    two_valued = [site for site in sites if len(site.values) <= 2 and site.share < 1]
    drawn = [site for site in two_valued if site.enough]
    fresh = [site for site in drawn if site.fresh]
    good = [site for site in fresh if site.felt and site.redrawn]
    lasting = forwards.lasting(True, [site.node for site in good])
    if good and not lasting:
        return _result(False, 0, wanted, f"{name(good[0].node)} runs in small batches only")
    good = [site for site in good if site.node in lasting]
    same = relative_change(forwards.logits(False), forwards.logits(False, seed=1)) < 1e-4
    if not same:
        cause = "two evaluations of the same images differ: something random runs in evaluation"
        advice = "pass training=self.training to F.dropout, or use nn.Dropout"
        return _result(False, len(good), wanted, cause, advice)
    if not good:
        cause = _why_none((found, fed, effective), (two_valued, drawn, fresh))
        idle = "" if found else _declared(forwards)
        return _result(False, 0, wanted, f"{cause}{idle}")
    rates = ", ".join(sorted({f"{site.share:.2g}" for site in good}))
    missing = uncovered(trace, [site.node for site in good]) if wanted == "each-block" else ""
    if missing:
        cause = f"no Dropout {missing}"
        return _result(False, len(good), wanted, cause)
    cause = f"Dropout operations that reach the logits: {len(good)}, p = {rates}"
    return _result(True, len(good), wanted, cause)


def _result(passed: bool, count: int, wanted: str, cause: str, advice: str = _HELP) -> CheckResult:
    limit = "after each convolution" if wanted == "each-block" else ">= 1 with p >= 0.01"
    return CheckResult("dropout", passed, count, limit, "layers", cause, "" if passed else advice)


def _why_none(nodes: tuple[list[Node], ...], sites: tuple[list[Site], ...]) -> str:
    """The first of the conditions that nothing kept, said of the last that came so far."""
    found, fed, effective = nodes
    two_valued, drawn, fresh = sites
    if not found:
        return "nothing random is multiplied with the features in training mode"
    if not fed:
        return f"what {name(found[0])} drops from does not depend on the image"
    if not effective:
        return f"the output of {name(fed[0])} does not change the logits"
    where = name((fresh or drawn or two_valued or [Site(effective[0])])[0].node)
    if not two_valued:
        cause = "multiplies with what is no mask of zeros and one value"
    elif not drawn:
        cause = f"drops a share of {two_valued[0].share:.4f}, less than 0.01"
    elif not fresh:
        cause = "drops the same elements in every forward"
    else:
        cause = "drops only what does not change the logits"
    return f"{where} {cause}"


def _declared(forwards: Forwards) -> str:
    """The Dropout layers that the module has all the same, in words."""
    names = [
        path for path, part in walk(forwards.module).items() if "Dropout" in type(part).__name__
    ]
    return f"; declared, but dropping nothing there: {', '.join(names[:3])}" if names else ""


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


def _features(node: Node) -> Operand | None:
    if node.name == "native_dropout":
        features = node.operand("input")
        return features if _is_image(features) and node.arguments.get("train") else None
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


def _measured(forwards: Forwards, trace: Trace, nodes: list[Node]) -> list[Site]:
    """Draw until the share that each of them drops is known."""
    sites = [Site(node, exact=_exact(trace, node)) for node in nodes]
    last: dict[int, Tensor] = {}
    numbers = frozenset(node.number for node in nodes)
    for seed in range(_FORWARDS if nodes else 0):
        if seed >= 3 and all(site.settled for site in sites):
            break
        images = digits(64, seed=30)
        plain = run(forwards.module, images, training=True, seed=seed, values=numbers)
        drawn = plain.nodes
        for site in sites:
            number = site.node.number
            here = _dropped(drawn[number]) if number < len(drawn) else None
            if here is None:
                continue
            mask, values = here
            site.dropped += int(mask.sum())
            site.drawn += mask.numel()
            site.values |= values
            if number in last:
                site.fresh |= not torch.equal(mask, last[number])
            last[number] = mask
            if not site.felt and mask.any():
                back = {number: _putting_back(mask)}
                undone = run(
                    forwards.module, images, training=True, seed=seed, replace=back, values=False
                )
                site.felt = relative_change(logits(plain), logits(undone)) >= CHANGES
            if not site.redrawn:
                drawn_by = _draws(plain, drawn[number])
                other = run(
                    forwards.module,
                    images,
                    training=True,
                    seed=seed,
                    redraw=drawn_by,
                    values=False,
                )
                site.redrawn = relative_change(logits(plain), logits(other)) >= CHANGES
    return [site for site in sites if 0.0 in site.values or site.dropped == 0]


def _draws(trace: Trace, node: Node) -> set[int]:
    """The numbers of the operations that drew what this one drops."""
    pair = _pair(node)
    before = {node.number} if pair is None else trace.ancestors(pair[1].writers)
    return {number for number in before if trace.nodes[number].random}


def _putting_back(mask: Tensor) -> Replace:
    """Replaces what was dropped, and that alone."""

    def replace(tensor: Tensor) -> Tensor:
        return torch.where(mask, noise(tensor), tensor)

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
