"""Moving between devices: the one op whose output lies elsewhere than its input."""

from collections.abc import Iterator
from typing import Any

from .._tensor import Tensor
from ..device import Device
from ..graph import GraphNode, Node, watch
from ..mode import mode


class _Move:
    """Copies a tensor to another device; the gradient comes back by the same way."""

    name = "to"
    gives_own = False

    def pull(
        self, node: Node, g: Any, needed: set[GraphNode] | None, create_graph: bool
    ) -> Iterator[tuple[GraphNode, Any]]:
        source: Device = node.saved[0]
        (parent,) = node.parents
        assert parent is not None
        yield parent, g.to(source) if create_graph else source.backend.from_device(g, node.device.backend)


_MOVE = _Move()


def move(x: Tensor, device: Device) -> Tensor:
    """x on another device; differentiable."""
    node = None
    now = mode().value
    if x.requires_grad and now.recording:
        node = Node(_MOVE, (x._graph_node(),), device, x._array, saved=(x.device,))
        if now.watched:
            watch(node)
    with device.making("to"):
        return Tensor._wrap(device.backend.from_device(x._array, x.device.backend), device, node)


Tensor._move = move
