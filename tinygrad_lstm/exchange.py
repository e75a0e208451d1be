"""How a tensor's values are handed to NumPy, and by DLPack to other libraries, without a copy."""

from typing import Any, ClassVar

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from .device import Device
from .graph import GraphNode
from .in_place import Version

__all__ = ["Exchange"]


class Exchange:
    """The part of a Tensor that other libraries' arrays are made of.

    What is written to an array is seen by no graph. So an array that shares memory with a tensor that requires a
    gradient, or with a parameter, is read-only; `.data` is the array itself, which can always be written to.
    """

    __slots__ = ()

    _array: Array
    _node: GraphNode | None
    _version: Version | None
    device: Device
    shared_read_only: ClassVar[bool] = False
    """Whether arrays that share its memory are read-only in any case."""

    def numpy(self) -> HostArray:
        """The values as a NumPy array, which shares memory with the tensor.

        It is read-only if a graph may need the values: those of a `.detach()`, or of a parameter. Change a `.copy()`,
        or the tensor itself under `tg.no_grad()`.

        Raises:
            RuntimeError: the tensor is not on the CPU, or requires a gradient; say `.cpu()` or `.detach()` first.
        """
        return self._host_array("numpy")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> HostArray:
        return np.array(self._host_array("np.asarray"), dtype=dtype, copy=copy)

    def _host_array(self, asked: str) -> HostArray:
        if self._node is not None:
            raise RuntimeError(f"{asked}: this tensor requires a gradient, which an array cannot carry; use .detach()")
        if self.device != "cpu":
            raise RuntimeError(f"{asked}: this tensor is on {str(self.device)!r}; move it with .cpu() first")
        array: HostArray = self._array
        return self._guarded(array)

    def _guarded(self, array: HostArray) -> HostArray:
        """The array, as a read-only view if a graph may need its values."""
        if self.shared_read_only or (self._version is not None and self._version.in_graph):
            array = array.view()
            array.flags.writeable = False
        return array

    def __dlpack__(self, **options: Any) -> Any:
        """A DLPack capsule; of memory on the CPU that is read-only to NumPy, marked as such, which not all obey."""
        if self._node is not None:
            raise BufferError("__dlpack__: this tensor requires a gradient, which DLPack cannot carry; use .detach()")
        array = self._guarded(self._array) if self.device == "cpu" else self._array
        with self.device.current():  # what takes it over waits for what is queued there
            return array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind: tuple[int, int] = self._array.__dlpack_device__()
        return kind
