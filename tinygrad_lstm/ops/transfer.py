"""Moving between devices: the only op whose output is on a different device than its input."""

from collections.abc import Sequence
from typing import Any

from .._tensor import Tensor
from ..device import Device
from ..graph import Derivative, Node, Parents, record, watch
from ..mode import mode


class _Move(Derivative):
    """The derivative of a copy to a different device: the gradient is copied back."""

    def pull(self, node: Node, g: Any, parents: Parents) -> Sequence[Any]:
        """The gradient on the device that the tensor came from."""
        source: Device = node.saved[0]
        return (source.backend.from_device(g, node.device.backend),)

    def pull_recorded(self, node: Node, g: Any, parents: Parents) -> Sequence[Any]:
        """The same, as part of a graph."""
        return (g.to(node.saved[0]),)


_MOVE = _Move("to")


def move(x: Tensor, device: Device) -> Tensor:
    """x on a different device; differentiable."""
    node = None
    now = mode().value
    if x._node is not None and now.recording:
        node = record(_MOVE, (x._node,), device, x._array, saved=(x.device,))
        if now.watched:
            watch(node)
    with device.making("to"):
        return Tensor._wrap(device.backend.from_device(x._array, x.device.backend), device, node)


setattr(Tensor, "_move", move)  # noqa: B010
