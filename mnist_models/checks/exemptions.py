"""Stored tensors whose reading does not count as a parameter."""

from __future__ import annotations

from torch import nn

from mnist_models.checks.carried import STATISTICS, carried
from mnist_models.checks.forwards import differs
from mnist_models.checks.normalisation import is_batch_norm
from mnist_models.module_state import buffers
from mnist_models.receptive_field.arguments import batch_statistics
from mnist_models.trace import Node, Operand, Taint, Trace, address

_CONSTANTS = 2  # single numbers that normalise the image: a mean and a standard deviation
_MOMENTUM = 2.9e-4  # of MnasNet; less would leave what running statistics held, a training long
_COUNTING = {"add_", "add", "_local_scalar_dense", "gt", "ge", "lt", "le"}  # and a momentum of it
_INDEXING = {"index", "index_select", "gather", "index_put", "index_put_"}


class Exemptions:
    """Which reads are exempt; `learn` looks at each forward before `holds` is asked.

    Exempt are running statistics that normalise features, are updated in training and are
    read by nothing else, the
    counter of batches that stands beside them, integers that pick from features, and at most two
    single numbers applied to the image.
    """

    def __init__(self, module: nn.Module) -> None:
        tables, moved = buffers(module), carried(module)
        self._carried = moved
        self._counters = {
            address(tensor): mean if mean in moved else address(tables[mean])
            for name, tensor in tables.items()
            if name.endswith("num_batches_tracked")
            and tensor.numel() == 1
            and not tensor.is_floating_point()
            and (mean := name.replace("num_batches_tracked", "running_mean")) in tables
        }
        self._updated: set[object] = set()
        self._new: set[object] = set()
        self._holding: set[object] = set()
        self._good: dict[object, str] = {}
        self._bad: set[object] = set()

    def learn(self, first: Trace, second: Trace) -> None:
        """Judge every read of a forward; the second ran on other images."""
        for node in first.nodes:
            if node.view:
                continue
            if any(_foreign(first, node, operand) for operand in node.inputs):
                self._bad |= {self._key(first, written) for written in node.writes}
            other = second.nodes[node.number] if node.number < len(second.nodes) else node
            for operand in node.inputs:
                if operand.stored:
                    key, why = self._key(first, operand), self._reason(first, node, other, operand)
                    if not why:
                        self._bad.add(key)
                    self._good[key] = why
        constants = [key for key, why in self._good.items() if why == "constant"]
        self._bad |= {key for key in constants[_CONSTANTS:] if key not in self._bad}

    @property
    def awaited(self) -> bool:
        """Statistics are read that no training forward has updated so far."""
        return any(
            why == "statistics" and not self._updates(key) for key, why in self._good.items()
        )

    def _updates(self, key: object) -> bool:
        """Training does, or nothing has so far: such as a moving average of a new network."""
        return key in self._updated or key in self._new - self._holding

    def holds(self, trace: Trace, operand: Operand) -> bool:
        """Reading this is exempt, and so are all other reads of the same storage."""
        key = self._key(trace, operand)
        if key in self._counters:
            return key not in self._bad and self._counters[key] in self._good
        if self._good.get(key) == "statistics" and not self._updates(key):
            return False  # so no running statistics
        return key in self._good and key not in self._bad

    def _key(self, trace: Trace, operand: Operand) -> object:
        """The storage; of statistics that one mode makes from those of the other, their path."""
        place = address(operand.tensor)
        path = trace.buffers.get(place)
        return path if path in self._carried else place

    def _reason(self, trace: Trace, node: Node, other: Node, operand: Operand) -> str:
        if is_batch_norm(node) and operand in map(node.operand, STATISTICS):
            momentum = node.arguments.get("momentum")
            if batch_statistics(node) and (momentum is None or momentum >= _MOMENTUM):
                self._updated.add(self._key(trace, operand))
            if operand.value is not None:
                seen = self._new if _untouched(node) else self._holding
                seen.add(self._key(trace, operand))
            features = node.operand("input", "self")
            if features is None or features.value is None:  # judged on another forward
                return self._good.get(self._key(trace, operand), "")
            return "statistics" if _normalises(node, other) else ""
        if self._key(trace, operand) in self._counters:
            return "counter" if node.name in _COUNTING else ""
        if node.name in _INDEXING and _picks(node, operand):
            return "index"
        if node.pointwise and _on_image(trace, node, operand):
            return "constant"
        return ""


def _normalises(node: Node, other: Node) -> bool:
    """The features vary with the image, not little against what the statistics take away."""
    here, there = node.operand("input", "self"), other.operand("input", "self")
    if here is None or here.value is None or Taint.IMAGE not in here.taint:
        return False
    if there is None or there.value is None or other.name != node.name:
        return True  # the image decided what runs
    if here is there or _untouched(node):
        return True  # judged on another forward, or nothing to be judged
    if not differs(here.value, there.value):
        return False
    mean = node.operand("running_mean")
    if mean is None or mean.value is None:
        return True
    dims = [dim for dim in range(here.value.ndim) if dim != 1]
    varies = (here.value - there.value).double().square().mean().sqrt()
    away = (mean.value.double() - here.value.double().mean(dims)).square().mean().sqrt()
    return bool(varies >= 1e-2 * away)  # honest features vary about as much as they are large


def _foreign(trace: Trace, node: Node, operand: Operand) -> bool:
    """Numbers from elsewhere, by which an operation overwrites statistics, not by a batch's own."""
    if is_batch_norm(node) or not node.writes or operand.tensor.numel() == 1:
        return False
    own = operand in node.writes or address(operand.tensor) in trace.buffers
    return operand.stored and Taint.IMAGE not in operand.taint and not own


def _untouched(node: Node) -> bool:
    """Means of 0 and variances of 1, as a new BatchNorm has them: they hold nothing."""
    starts = zip(map(node.operand, STATISTICS), (0, 1), strict=True)
    return all(s is not None and s.value is not None and (s.value == n).all() for s, n in starts)


def _picks(node: Node, operand: Operand) -> bool:
    """Integers that choose among features, no more of them than there are features."""
    if operand.dtype.is_floating_point or operand.dtype.is_complex:
        return False
    source = node.operand("self")
    if source is None or operand is source or Taint.IMAGE not in source.taint:
        return False
    count = 1
    for size in operand.shape:
        count *= size
    features = 1
    for size in source.shape[1:]:
        features *= size
    return count <= features


def _on_image(trace: Trace, node: Node, operand: Operand) -> bool:
    """A single number, combined with the image or an elementwise function of it."""
    rest = [other for other in node.inputs if other is not operand]
    if operand.tensor.numel() != 1 or not rest:
        return False
    taint = Taint.NONE
    for other in rest:
        taint |= other.taint
    if Taint.IMAGE not in taint or Taint.PARAMETER in taint or Taint.RANDOM in taint:
        return False
    before = trace.ancestors(node.parents)
    return all(trace.nodes[number].pointwise for number in before)
