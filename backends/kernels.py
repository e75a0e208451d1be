"""What kernels that are written over an array module alone stand on."""

from typing import Any

from .base import Array, HostArray
from .scatter import write_last

__all__ = ["ArrayKernels"]


class ArrayKernels:
    """The little that they need of a backend."""

    xp: Any

    def from_host(self, array: HostArray) -> Array:
        raise NotImplementedError

    def matmul(self, x: Array, y: Array) -> Array:
        """The matrix product of arrays of two or more dimensions."""
        return self.xp.matmul(x, y)

    def write(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] = values` in place, where of several values for one place the last stays."""
        write_last(self.xp, target, index, values)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array with arbitrary contents."""
        return self.xp.empty(shape, dtype)
