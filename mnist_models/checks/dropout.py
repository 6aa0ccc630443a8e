"""Dropout that draws anew in training, is the identity in evaluation, and matters."""

from __future__ import annotations

from mnist_models.checks.blocks import name, uncovered
from mnist_models.checks.forwards import Forwards, half
from mnist_models.checks.masks import Site, features, observe
from mnist_models.checks.result import CheckResult, worded
from mnist_models.checks.silenced import SILENCED, silenced
from mnist_models.module_state import walk
from mnist_models.probe import relative_change
from mnist_models.trace import Node, Trace

_SEEDS = 12  # what four forwards in five drop is kept in one of them, 14 times in 15
_HELP = "call nn.Dropout(p >= 0.01) on the features in training mode and pass its output on"


def check_dropout(forwards: Forwards, wanted: str) -> CheckResult:
    """Judge every product of the features with a two-valued random mask.

    Raises:
        Exception: whatever the module's forward raises.
    """
    seed = _seed(forwards)
    trace = forwards.trace(True, seed=seed)
    found = _found(trace)
    fed = [node for node in found if forwards.depends(True, node, features, seed)]
    effective = forwards.effective(True, fed, half, seed)
    sites = observe(forwards, trace, effective)
    two_valued = [site for site in sites if len(site.values) <= 2 and site.share < 1]
    drawn = [site for site in two_valued if site.enough]
    fresh = [site for site in drawn if site.fresh]
    good = [site for site in fresh if site.felt and site.redrawn]
    lasting = forwards.lasting(True, [site.node for site in good], seed)
    if good and not lasting:
        return _result(False, 0, wanted, f"{name(good[0].node)} runs in small batches only")
    good = [site for site in good if site.node in lasting]
    same = relative_change(forwards.logits(False), forwards.logits(False, seed=1)) < 1e-4
    if not same:
        cause = "two evaluations of the same images differ: something random runs in evaluation"
        advice = "pass training=self.training to F.dropout, or make nn.Dropout in __init__"
        return _result(False, len(good), wanted, cause, advice)
    if not good:
        if gone := silenced(forwards):
            return _result(False, 0, wanted, gone, SILENCED)
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


def _seed(forwards: Forwards) -> int:
    """Of a forward in which most of what may drop ran, and left something of the features.

    Stochastic depth drops a whole branch, and what stands in it may not even run then.
    """

    def left(seed: int) -> int:
        outputs = [node.outputs[0].value for node in _found(forwards.trace(True, seed=seed))]
        return sum(value is not None and bool(value.any()) for value in outputs)

    trace = forwards.trace(True)
    if _found(trace) and left(0) == len(_found(trace)):
        return 0
    return max(range(_SEEDS), key=left) if any(node.random for node in trace.nodes) else 0


def _found(trace: Trace) -> list[Node]:
    """What may drop."""
    return [node for node in trace.nodes if features(node) is not None]


def _result(passed: bool, count: int, wanted: str, cause: str, advice: str = _HELP) -> CheckResult:
    limit = worded("dropout", wanted)
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
    site = (fresh or drawn or two_valued or [Site(effective[0])])[0]
    if not two_valued:
        cause = "multiplies with what is no mask of zeros and one value"
    elif not drawn:
        cause = f"drops a share of {two_valued[0].share:.4f}, less than 0.01"
    elif not fresh and site.masks < 2:
        cause = "runs in hardly any forward of training"
    elif not fresh:
        cause = "drops the same elements in every forward"
    else:
        cause = "drops only what does not change the logits"
    return f"{name(site.node)} {cause}"


def _declared(forwards: Forwards) -> str:
    """The Dropout layers that the module has all the same, in words."""
    names = [
        path for path, part in walk(forwards.module).items() if "Dropout" in type(part).__name__
    ]
    return f"; declared, but dropping nothing there: {', '.join(names[:3])}" if names else ""
