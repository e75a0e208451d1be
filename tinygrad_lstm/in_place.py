"""Writes in place: they are counted, so that a derivative that needs what was overwritten raises."""

from collections.abc import Callable
from typing import Any, Self

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import can_store, check_differentiable

from .device import Device
from .graph import GraphNode, Leaf, Node, Pick, next_number
from .methods import OpMethods, T
from .mode import mode

__all__ = ["InPlace", "Version", "output_version"]


class Version:
    """When an array that a tensor shares with its views was last written to, in node numbers.

    Attributes:
        written: the last time at all.
        recorded: the last time with the graph noting it, after which older views are out of date.
        maker: the node whose output the array is, if any: it is told, since it may have kept it.
        in_graph: whether one of the tensors requires a gradient, or did: arrays handed out are read-only then.
    """

    __slots__ = ("in_graph", "maker", "recorded", "written")

    def __init__(self, maker: GraphNode | None, in_graph: bool = True) -> None:
        self.maker = maker
        self.in_graph = in_graph
        self.written = -1
        self.recorded = -1


def output_version(node: Node) -> Version:
    """When the output of a node was last written to."""
    extras = node.with_extras()
    found: Version = extras.version or Version(None)
    extras.version = found
    return found


class InPlace(OpMethods[T]):
    """The part of a Tensor that is written to: `x[i] = v`, and the methods whose names end in `_`."""

    __slots__ = ()

    _array: Array
    _node: GraphNode | None
    _version: Version | None
    _viewed_at: int | None
    device: Device

    _matching: Callable[[Any], Any]

    def _shared_version(self) -> Version:
        if self._version is None:
            self._version = Version(self._node, self._node is not None)  # type: ignore[misc]
        return self._version

    def _share_version(self, *views: Any) -> None:
        """Notes that the views share this tensor's memory."""
        version, now = self._shared_version(), next_number()
        for view in views:
            view._version = version
            view._viewed_at = now

    def _check_current(self, asker: str) -> None:
        """Raises if this is a view of a tensor into whose graph something was written after the view was taken."""
        if self._viewed_at is not None and self._shared_version().recorded > self._viewed_at:
            raise RuntimeError(
                f"{asker}: an input of shape {self._array.shape} is a view of a tensor that was changed in place "
                "later; take the view again"
            )

    def _mark_written(self) -> None:
        version = self._shared_version()
        version.written = next_number()
        maker = version.maker.parents[0] if isinstance(version.maker, Pick) else version.maker
        if isinstance(maker, Node):
            output_version(maker).written = version.written

    def _write(self, name: str, result: Any) -> Self:
        """Puts the result of an op on this tensor in its place, in memory and in the graph."""
        shape, dtype = self._array.shape, self._array.dtype
        if result.shape != shape:
            raise ValueError(f"{name}: the result has shape {result.shape}, which does not fit into {shape}")
        if not can_store(result.dtype, dtype):
            raise TypeError(f"{name}: the result is {result.dtype}, which does not fit into a {dtype} tensor")
        self._check_in_place(name, result.requires_grad)
        if result.dtype != dtype:
            result = result.to(dtype=dtype)
        with self.device.current():
            self._array[...] = result._array
        self._note_in_place(result._node)
        return self

    def _show_write(self) -> None:
        """Shows a tracer that the values are to be changed."""
        tracer = mode().value.tracer
        if tracer is not None:
            tracer.see_write(self)

    def _check_in_place(self, name: str, recorded: bool) -> None:
        self._show_write()
        if self._shares_elements():
            raise RuntimeError(
                f"{name}: this tensor of shape {self._array.shape} is a read-only view, such as expand gives, in which "
                "elements may share memory; change a .clone() of it"
            )
        requires_grad = self._node is not None
        if not (mode().value.recording and (recorded or requires_grad)):
            return
        if isinstance(self._node, Leaf):
            raise RuntimeError(f"{name}: a leaf that requires a gradient cannot be changed in place; use tg.no_grad()")
        if self._viewed_at is not None:
            raise RuntimeError(
                f"{name}: this is a view of another tensor, whose graph would not see the change; "
                "change the other by x[index] = value, or a .clone() of this one"
            )
        check_differentiable(self._array.dtype)

    def _shares_elements(self) -> bool:
        """Whether this is a broadcast view, which some devices do not make read-only, or read-only."""
        array = self._array
        if not getattr(array.flags, "writeable", True):
            return True
        if 0 not in array.strides or 0 in array.shape:
            return False
        return any(not stride and n > 1 for stride, n in zip(array.strides, array.shape))

    def _note_in_place(self, node: GraphNode | None) -> None:
        self._mark_written()
        if node is not None:
            version = self._shared_version()
            version.recorded, version.maker, version.in_graph = version.written, None, True
            self._node = node  # type: ignore[misc]

    def add_(self, other: Any, *, alpha: float = 1) -> Self:
        """Adds `alpha · other` in place."""
        return self._write("add_", self + (other if alpha == 1 else other * alpha))

    def sub_(self, other: Any, *, alpha: float = 1) -> Self:
        """Subtracts `alpha · other` in place."""
        return self._write("sub_", self - (other if alpha == 1 else other * alpha))

    def mul_(self, other: Any) -> Self:
        """Multiplies in place."""
        return self._write("mul_", self * other)

    def div_(self, other: Any, *, rounding_mode: str | None = None) -> Self:
        """Divides in place; integers only with a `rounding_mode`."""
        return self._write("div_", self.div(other, rounding_mode=rounding_mode))

    def clamp_(self, min: Any = None, max: Any = None) -> Self:
        """Limits to a range in place."""
        return self._write("clamp_", self.clamp(min, max))

    def masked_fill_(self, mask: Any, value: Any) -> Self:
        """Writes `value` where `mask` is true."""
        return self._write("masked_fill_", self.masked_fill(mask, value))

    def masked_scatter_(self, mask: Any, source: Any) -> Self:
        """Writes the elements of `source`, in order, where `mask` is true."""
        return self._write("masked_scatter_", self.masked_scatter(mask, source))

    def copy_(self, source: Any) -> Self:
        """Writes the values of `source`, which broadcasts, and may have a different device or dtype."""
        self[...] = source.to(self.device) if hasattr(source, "_node") else source
        return self

    def fill_(self, value: Any) -> Self:
        """Writes one value everywhere."""
        self[...] = value
        return self

    def zero_(self) -> Self:
        """Writes zeros."""
        return self.fill_(0)

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writes in place; differentiable in the tensor and in `value`.

        Raises:
            OverflowError, ValueError: as `tg.tensor`, of numbers that this tensor's integer dtype cannot hold.
        """
        given = value.to(dtype=self._array.dtype) if hasattr(value, "_node") else self._matching(value)
        self._check_in_place("setitem", given.requires_grad)
        written: Any = self._put(given, index)
        self._note_in_place(written._node)
