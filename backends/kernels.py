"""The base class of kernels that are written with an array module only."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .base import Array, HostArray
from .dtypes import INT64
from .scatter import write_last
from .unflagged import unflagged

if TYPE_CHECKING:
    from .emit.schedule import Backward, Forward
    from .emit.sequence import ArraySequence

__all__ = ["ArrayKernels"]


class ArrayKernels:
    """The methods of a backend that need only an array module; backends inherit them."""

    xp: Any

    @property
    def functions(self) -> Any:
        """See `Backend`."""
        return self.xp

    def from_host(self, array: HostArray) -> Array:
        raise NotImplementedError

    def matmul(self, x: Array, y: Array) -> Array:
        """The matrix product of arrays of two or more dimensions."""
        return unflagged(self.xp, self.xp.matmul, x, y)

    def write(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] = values` in place; of several values for one element, the last one stays."""
        write_last(self.xp, target, index, values)

    def sorting_order(self, x: Array, axis: int, descending: bool, first: int | None = None) -> Array:
        """The indices that sort x along a non-negative axis; see `Backend`."""
        xp = self.xp
        order = xp.argsort(xp.flip(x, axis) if descending else x, axis=axis, kind="stable")
        if descending:
            order = x.shape[axis] - 1 - xp.flip(order, axis)
        if first is not None:
            order = order[(*(slice(None),) * axis, slice(first))].copy()  # a view would keep all of them
        return order.astype(INT64, copy=False)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array with arbitrary contents."""
        return self.xp.empty(shape, dtype)

    def one_pass(self, dtype: Any) -> Callable[..., Any] | None:
        """By default a device does not compute elementwise functions in one pass; see `Backend`."""
        return None

    def sequence(self, forward: "Forward", backward: "Backward | None") -> "ArraySequence":
        """The functions of a step over a sequence; see `Backend`."""
        from .emit.sequence import ArraySequence

        return ArraySequence(forward, backward)
