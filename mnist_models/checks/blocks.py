"""Is every spatial convolution followed by something before the next one?"""

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


def uncovered(trace: Trace, sites: list[Node]) -> list[Node]:
    """The convolutions on the way to the logits that no site follows before the next one."""
    reach = trace.ancestors(trace.logits.writers) if trace.logits is not None else set()
    convolutions = [node for node in spatial_convolutions(trace) if node.number in reach]
    stops = {node.number for node in convolutions}
    goals = {node.number for node in sites}
    children = trace.children()
    return [node for node in convolutions if not _meets(node.number, goals, stops, children)]


def _meets(start: int, goals: set[int], stops: set[int], children: dict[int, list[int]]) -> bool:
    seen: set[int] = set()
    queue = list(children[start])
    while queue:
        number = queue.pop()
        if number in goals:
            return True
        if number not in seen and number not in stops:
            seen.add(number)
            queue += children[number]
    return False


def name(node: Node) -> str:
    """A name for people: the module's path, or the operation's number."""
    return node.path or f"{node.name} (operation {node.number})"
