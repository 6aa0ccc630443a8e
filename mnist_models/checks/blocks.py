"""Is every spatial convolution followed by something before the next one, or the logits?"""

from __future__ import annotations

from mnist_models.trace import Node, Taint, Trace


def spatial_convolutions(trace: Trace) -> list[Node]:
    """Convolutions of the image that see more than one position of a map that has several."""
    found: list[Node] = []
    for node in trace.nodes:
        weight, map_ = node.operand("weight"), node.operand("input")
        if node.name != "convolution" or weight is None or map_ is None:
            continue
        wide = max(weight.shape[2:], default=1) > 1 and max(map_.shape[2:], default=1) > 1
        if wide and Taint.IMAGE in map_.taint:
            found.append(node)
    return found


def uncovered(trace: Trace, sites: list[Node]) -> str:
    """Where the first convolution on the way to the logits is that no site follows.

    Between it and the next one, or the logits where there is no next one; "" if there is none.
    """
    reach = trace.ancestors(trace.logits.writers) if trace.logits is not None else set()
    convolutions = {node.number: node for node in spatial_convolutions(trace)}
    stops = {number for number in convolutions if number in reach}
    goals = {node.number for node in sites}
    children = trace.children()
    for number in sorted(stops):
        found = _reached(number, goals | stops, children)
        if not found & goals:
            next_one = "the next one" if found else "the logits"
            return f"between the convolution {name(convolutions[number])} and {next_one}"
    return ""


def _reached(start: int, ends: set[int], children: dict[int, list[int]]) -> set[int]:
    """The first of these ends on every way that begins here."""
    found: set[int] = set()
    seen: set[int] = set()
    queue = list(children[start])
    while queue:
        number = queue.pop()
        if number in ends:
            found.add(number)
        elif number not in seen:
            seen.add(number)
            queue += children[number]
    return found


def name(node: Node) -> str:
    """A name for people: the module's path, or the operation's number."""
    return node.path or f"{node.name} (operation {node.number})"
