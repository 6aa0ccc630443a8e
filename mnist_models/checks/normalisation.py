"""BatchNorm that really normalises by the batch, on the way to the logits."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mnist_models.checks.blocks import name, uncovered
from mnist_models.checks.forwards import Forwards, noise
from mnist_models.checks.result import CheckResult, worded
from mnist_models.checks.silenced import SILENCED, silenced
from mnist_models.module_state import walk
from mnist_models.receptive_field.arguments import batch_statistics
from mnist_models.receptive_field.geometry import Geometry
from mnist_models.receptive_field.operations import follow
from mnist_models.trace import Node, Operand

_HELP = "call nn.BatchNorm2d on the features in both modes and pass its output on"
_OTHERS = {"native_group_norm": "GroupNorm", "native_layer_norm": "LayerNorm"}


def check_batch_norm(forwards: Forwards, wanted: str) -> CheckResult:
    """A batch normalisation counts if it takes its statistics from several samples.

    It must use these in training and running ones in evaluation, and change the logits in both.

    Raises:
        Exception: whatever the module's forward raises.
    """
    training = forwards.trace(training=True)
    geometry = follow(training)
    nodes = [node for node in training.nodes if is_batch_norm(node)]
    fresh = [node for node in nodes if batch_statistics(node)]
    mixing = [node for node in fresh if _mixes(node, geometry.get(node.number))]
    fed = [node for node in mixing if forwards.depends(True, node, _input)]
    effective = forwards.effective(True, fed, noise)
    evaluation = [node for node in forwards.trace(training=False).nodes if is_batch_norm(node)]
    running = [node for node in evaluation if not batch_statistics(node)]
    stays = [n for n in running if forwards.depends(False, n, _input)]
    if effective and not forwards.effective(False, stays, noise):
        cause = "no BatchNorm with running statistics reaches the logits in evaluation"
        advice = _HELP
        if untracked := _untracked(forwards.module):
            cause += f"; of the batch, there too, are those of {untracked}"
            advice = "leave track_running_stats at True"
        return _result(False, 0, wanted, cause, advice)
    lasting = forwards.lasting(True, effective)
    if effective and not lasting:
        return _result(False, 0, wanted, f"{name(effective[0])} runs in small batches only")
    effective = lasting
    if effective and not forwards.mixes():
        cause = "what BatchNorm does is undone: no logits depend on the other images of the batch"
        return _result(False, 0, wanted, cause)
    if not effective:
        gone = silenced(forwards) if fed else ""
        cause = gone or _why_none(training.nodes, nodes, fresh, mixing, fed)
        return _result(False, 0, wanted, cause, SILENCED if gone else _HELP)
    missing = uncovered(training, effective) if wanted == "each-block" else ""
    if missing:
        cause = f"no BatchNorm {missing}"
        return _result(False, len(effective), wanted, cause)
    cause = f"BatchNorm operations that reach the logits: {len(effective)}"
    return _result(True, len(effective), wanted, cause)


def _result(passed: bool, count: int, wanted: str, cause: str, advice: str = _HELP) -> CheckResult:
    limit = worded("batch-norm", wanted)
    return CheckResult(
        "batch-norm", passed, count, limit, "layers", cause, "" if passed else advice
    )


def _untracked(module: nn.Module) -> str:
    """The layers that keep no running statistics, in words."""
    names = [
        path or type(part).__name__
        for path, part in walk(module).items()
        if isinstance(part, _BatchNorm) and not part.track_running_stats
    ]
    return ", ".join(names[:3])


def is_batch_norm(node: Node) -> bool:
    """Whether an operation is one of torch's batch normalisations."""
    kind = node.name
    return "batch_norm" in kind and "backward" not in kind and "::" not in kind


def _input(node: Node) -> Operand | None:
    return node.operand("input", "self")


def _mixes(node: Node, geometry: Geometry | None) -> bool:
    """Several samples share the statistics of a channel; InstanceNorm has one batch of B x C."""
    operand = _input(node)
    if operand is None:
        return False
    if geometry is None or geometry.unknown:
        return operand.shape[0] > 1
    samples = [any(step[0] and size > 1 for size, step in dim) for dim in geometry.dims]
    return any(samples[:1] + samples[2:])


def _why_none(
    all_nodes: list[Node], nodes: list[Node], fresh: list[Node], mixing: list[Node], fed: list[Node]
) -> str:
    others = sorted({_OTHERS[node.name] for node in all_nodes if node.name in _OTHERS})
    if not nodes:
        if others:
            return f"{' and '.join(others)} runs, but no BatchNorm"
        return "no batch normalisation runs in training mode (of torch: by hand is not recognised)"
    if not fresh:
        return f"BatchNorm {name(nodes[0])} uses its running statistics in training mode too"
    if not mixing:
        return f"{name(fresh[0])} normalises each sample by itself, as InstanceNorm does"
    if not fed:
        return f"the input of BatchNorm {name(mixing[0])} does not depend on the image"
    return f"the output of BatchNorm {name(fed[0])} does not change the logits"
