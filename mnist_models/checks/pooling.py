"""Global average pooling that the logits hang on, or a fully connected layer."""

from __future__ import annotations

from mnist_models.checks.forwards import Forwards, noise
from mnist_models.checks.result import CheckResult, worded
from mnist_models.checks.silenced import SILENCED, silenced
from mnist_models.receptive_field.global_pooling import GlobalPooling, global_pooling
from mnist_models.trace import Node, Operand, Taint, Trace

_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv"}
_HELP = "end in nn.AdaptiveAvgPool2d(1) over a map larger than 1x1, and pass nothing around it"


def check_pooling(forwards: Forwards, evaluation: GlobalPooling, wanted: str) -> CheckResult:
    """In both modes the whole map is averaged and the image has no other way to the logits.

    Raises:
        Exception: whatever the module's forward raises.
    """
    found = evaluation
    if found.bottleneck and found.means:
        found = global_pooling(forwards.module, training=True, batch=forwards.batch)
        if found.bottleneck and found.means:
            return _result(True, "global average pooling", wanted, evaluation.cause)
    if wanted == "gap-or-fc" and (place := _connected(forwards)) is not None:
        cause = f"a fully connected layer ({place or 'functional'}) is on the way to the logits"
        return _result(True, "fully connected", wanted, cause)
    if gone := silenced(forwards):
        return _result(False, "none", wanted, gone, SILENCED)
    return _result(False, "none", wanted, found.cause)


def _result(
    passed: bool, measured: str, wanted: str, cause: str, advice: str = _HELP
) -> CheckResult:
    limit = worded("global-average-pooling", wanted)
    advice = "" if passed else advice
    return CheckResult("global-average-pooling", passed, measured, limit, "head", cause, advice)


def _connected(forwards: Forwards) -> str | None:
    for training in (True, False):
        nodes = _products(forwards.trace(training))
        effective = forwards.effective(training, nodes, noise)
        if not effective:
            return None
    return effective[-1].path


def _products(trace: Trace) -> list[Node]:
    return [node for node in trace.nodes if node.name in _PRODUCTS and _of_features(node)]


def _of_features(node: Node) -> bool:
    operands: list[Operand] = node.inputs[-2:]
    image = [Taint.IMAGE in operand.taint for operand in operands]
    weight = [Taint.PARAMETER in operand.taint for operand in operands]
    return (image[0] and not image[1] and weight[1]) or (image[1] and not image[0] and weight[0])
