"""Is a map the whole of what a kernel computed, or cut out of a larger one?

Averaging many small cuts of a map is a fully connected layer over their places, not global
average pooling.
"""

from __future__ import annotations

from mnist_models.receptive_field.geometry import HEIGHT, WIDTH, Geometry
from mnist_models.trace import Node, Taint, Trace

# Neither these nor views and elementwise operations compute a map of their own.
_PASSING = {
    "clone",
    "_to_copy",
    "copy_",
    "cat",
    "stack",
    "index",
    "index_select",
    "constant_pad_nd",
    "roll",
    "flip",
    "native_dropout",
    "native_group_norm",
    "native_layer_norm",
}


class WholeMaps:
    """Answers for the maps of one trace."""

    def __init__(self, trace: Trace, geometry: dict[int, Geometry]) -> None:
        self._geometry = geometry
        self._sources: dict[int, list[Node]] = {}
        made: dict[tuple[object, ...], Node] = {}
        for node in trace.nodes:
            self._sources[node.number] = [
                made[operand.place]
                for operand in node.inputs
                if Taint.IMAGE in operand.taint and operand.place in made
            ]
            for operand in node.outputs:
                made[operand.place] = node

    def whole(self, node: Node) -> bool:
        """On some way up to a kernel, no map has more positions than this one."""
        if not _passes(node):
            return True
        above = [source for source in self._sources[node.number] if self._positions(source) > 1]
        if not above:
            return True
        own = self._positions(node)
        return any(self._positions(source) <= own and self.whole(source) for source in above)

    def _positions(self, node: Node) -> int:
        geometry = self._geometry.get(node.number)
        if geometry is None:
            return 1
        count = 1
        for dim in geometry.dims:
            for size, step in dim:
                count *= size if step[HEIGHT] or step[WIDTH] else 1
        return count


def _passes(node: Node) -> bool:
    if node.view or node.pointwise or node.name in _PASSING or "batch_norm" in node.name:
        return True
    weight = node.operand("weight")
    single = weight is not None and all(size == 1 for size in weight.shape[2:])
    return node.name == "convolution" and single
