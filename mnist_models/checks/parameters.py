"""How many stored numbers the forward pass uses, wherever they are kept."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnist_models.checks.aged import aged
from mnist_models.checks.elements import Elements, content
from mnist_models.checks.exemptions import Exemptions
from mnist_models.checks.forwards import BATCH, training_batch
from mnist_models.checks.generated import literals, made_of_nothing, unstored
from mnist_models.checks.layout import told_by_layout
from mnist_models.checks.told import told_outside
from mnist_models.checks.unseen import unseen_write
from mnist_models.checks.unwritten import Unwritten
from mnist_models.module_state import parameters
from mnist_models.probe import digits, grey_levels, randomise, run
from mnist_models.trace import Node, Operand, Taint, Trace, address

_SCORED = (25, 100, 256)  # images at once, as records, and most test loops, are scored
_SEVERAL = 100  # of these: what is told of each image outnumbers what is told of a whole batch
_SEEDS = 16  # forwards of training in which a block that half of them skip surely runs once
_LITERALS = 32  # distinct numbers in the code of an honest forward pass; more spell weights out


@dataclass(frozen=True)
class Count:
    """The number of parameters, or None, and one sentence on what it is made of."""

    total: int | None
    cause: str


@dataclass
class _Pair:
    """Two forwards on different images, from the same generator state."""

    first: Trace
    second: Trace


def count_parameters(module: nn.Module) -> Count:
    """Count on the values as they are, then on random ones, and keep the smaller reading.

    What is exempt must be so in one of them only: a zero-initialised scale makes honest features
    constant, and drawing parameters at random can do the same to trained running statistics.

    Raises:
        Exception: whatever the module's forward raises.
    """
    if (cause := told_by_layout(module)) is not None:
        return Count(None, cause)
    batch = training_batch(module)
    found = [_count(module, batch)]
    saved = {name: tensor.detach().clone() for name, tensor in parameters(module).items()}
    randomise(module, seed=2, statistics=False)
    found.append(_count(module, batch))
    with torch.no_grad():
        for name, tensor in parameters(module).items():
            tensor.copy_(saved[name])
    for count in found:
        if count.total is None:
            return count
    return min(found, key=lambda count: count.total or 0)


def _count(module: nn.Module, batch: int) -> Count:
    evaluation = _Pair(run(module, digits(4, seed=50)), run(module, digits(4, seed=51)))
    if (cause := _outside(evaluation)) is not None:
        return Count(None, cause)
    scored = {count: run(module, digits(count, seed=53), values=False) for count in _SCORED}
    others = run(module, digits(_SEVERAL, seed=54), values=False)
    if (cause := told_outside(scored[_SEVERAL], others)) is not None:
        return Count(None, cause)
    training = _Pair(
        run(module, digits(batch, seed=50), training=True),
        run(module, digits(batch, seed=51), training=True),
    )
    last = [run(module, digits(3, seed=52)), *_other_ways(module, batch), *scored.values()]
    again = run(module, digits(4, seed=50), seed=1)
    if (cause := unseen_write(evaluation.first) or unseen_write(training.first)) is not None:
        return Count(None, cause)
    registered = Elements()
    for tensor in parameters(module).values():
        registered.add(tensor)
    exempt = Exemptions(module)
    exempt.learn(evaluation.first, evaluation.second)
    exempt.learn(training.first, training.second)
    for trace in last:
        exempt.learn(trace, trace)
    last += _until_updated(module, exempt, batch)
    for trace in (training.first, *last):
        if trace.opaque:
            return Count(None, trace.opaque)
    traces = [evaluation.first, evaluation.second, training.first, training.second, *last]
    stored, readers = _stored(traces, registered, exempt)
    parts = {
        "registered": registered.count(),
        f"stored in other tensors, read by {_listed(readers)}": stored,
    }
    unseen = [unstored(evaluation.first, again, evaluation.second)]
    unseen += [_unstored(module, count, trace) for count, trace in scored.items()]
    for what in unseen[0]:
        number = max(each[what] for each in unseen)
        parts[what] = number if "literals" not in what or number > _LITERALS else 0
    cause = " + ".join(f"{number:,} {what}" for what, number in parts.items() if number)
    return Count(sum(parts.values()), cause or "the forward pass uses no stored number")


def _other_ways(module: nn.Module, batch: int) -> list[Trace]:
    """Batches as in training and testing, and what else a forward may ask for."""
    few = digits(2, seed=53)
    trains = few if batch == BATCH else digits(batch, seed=53)
    special: list[Trace] = []
    # One that fails so hides nothing there.
    with contextlib.suppress(Exception):
        special.append(run(module, digits(1, seed=52)))
    with contextlib.suppress(Exception), aged(module, batch):
        special.append(run(module, few, values=False))
        special.append(run(module, trains, training=True, values=False))
    with contextlib.suppress(Exception), torch.autocast("cpu", dtype=torch.bfloat16):
        special.append(run(module, few, values=False))
    return [
        *special,
        run(module, grey_levels(few), values=False),
        run(module, digits(128, seed=53), training=True, values=False),
        run(module, trains, training=True, grad=False, values=False),
        run(module, few, grad=True, values=False),
        run(module, few, inference=True, values=False),
    ]


def _unstored(module: nn.Module, count: int, first: Trace) -> dict[str, int]:
    """What lies in no memory, in a forward of as many images as are scored at once."""
    image = digits(count, seed=53)
    again = other = first
    if kept := made_of_nothing(first):  # few networks compute with what is neither stored nor seen
        first = run(module, image, values=kept)
        again = run(module, image, seed=1, values=kept)
    if literals(first, first) > _LITERALS:
        other = run(module, digits(count, seed=54), values=False)
    return unstored(first, again, other)


def _until_updated(module: nn.Module, exempt: Exemptions, batch: int) -> list[Trace]:
    """Further forwards of training, for blocks that it leaves out at random."""
    found: list[Trace] = []
    for seed in range(1, _SEEDS):
        if not exempt.awaited:
            break
        image = digits(batch, seed=50)
        found.append(run(module, image, training=True, seed=seed, values=False))
        exempt.learn(found[-1], found[-1])
    return found


def _listed(readers: Counter[str]) -> str:
    return ", ".join(name for name, _ in readers.most_common(3))


def _outside(pair: _Pair) -> str | None:
    """Why the trace does not show all that depends on the image, if so."""
    for trace in (pair.first, pair.second):
        if trace.opaque:
            return trace.opaque
        if trace.escaped:
            return f"the forward pass calls {trace.escaped}() on features: computed outside torch"
    memory = Unwritten()
    for here, there in zip(pair.first.nodes, pair.second.nodes, strict=False):
        if here.name != there.name:
            break  # the image decided what runs
        read = [memory.read(here, a) for a in here.inputs]
        memory.run(here)
        parts = read + [memory.shown(a) for a in here.outputs]
        pairs = zip(here.inputs + here.outputs, there.inputs + there.outputs, strict=False)
        for part, (a, b) in zip(parts, pairs, strict=False):
            if _other(a, b, part) and not _noise(here, a):
                return (
                    f"what {here.name} handles depends on the image by a way outside torch's"
                    " operations"
                )
    return _outside_logits(pair, memory)


def _outside_logits(pair: _Pair, memory: Unwritten) -> str | None:
    first, second = pair.first.logits, pair.second.logits
    part = False if first is None else memory.used(first)
    if first is None or (second is not None and not _other(first, second, part)):
        return None
    return "the logits depend on the image by a way outside torch's operations"


def _noise(node: Node, operand: Operand) -> bool:
    """Memory that RReLU is given to write to, with any content."""
    return operand is node.arguments.get("noise")


def _other(a: Operand, b: Operand, part: Tensor | bool) -> bool:
    """Two forwards differ in this part of an operand: in all of it, none, or marked elements."""
    if part is False or (isinstance(part, Tensor) and not part.any()):
        return False
    if a.value is None or b.value is None or a.shape != b.shape:
        return a.shape != b.shape
    if a.value.layout != torch.strided:
        return False
    first, second = a.value, b.value
    if isinstance(part, Tensor):
        first, second = first[part], second[part]
    return not torch.equal(torch.nan_to_num(first), torch.nan_to_num(second))


def _stored(
    traces: list[Trace], registered: Elements, exempt: Exemptions
) -> tuple[int, Counter[str]]:
    """Elements that any forward reads beyond the registered ones, and what reads them."""
    everything, seen = Elements(), Counter[object]()
    readers: Counter[str] = Counter()
    shown: dict[object, Tensor] = {}
    for trace in traces:
        met: set[object] = set()
        passing = _made_for_training(trace)
        for node in trace.nodes:
            for operand in [] if node.view else node.inputs:
                if operand.storage in passing:
                    continue
                if operand.stored and not exempt.holds(trace, operand):
                    everything.add(operand.tensor)
                    key = address(operand.tensor)
                    met.add(key)
                    shown[key] = operand.tensor
                    if Taint.PARAMETER not in operand.taint:
                        readers[node.name] += 1
        seen.update(met)
    total = 0
    contents: set[str] = set()
    for key in everything.keys:
        if seen[key] == 1 and key not in registered.keys:
            mark = content(shown[key])
            if mark in contents:
                continue
            contents.add(mark)
        total += everything.count(key) - everything.overlap(key, registered)
    return total, readers


def _made_for_training(trace: Trace) -> set[int]:
    """Storages of tensors that a forward of training makes from numbers of Python's.

    Such as the angles of an augmentation. What evaluation reads too is counted there; what it
    does not read is no part of the network that is scored.
    """
    if not trace.training:
        return set()
    made = (node for node in trace.nodes if node.name == "lift_fresh")
    return {operand.storage for node in made for operand in node.outputs}
