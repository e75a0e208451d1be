"""How numbers, lists and arrays become the array of a tensor, and how other libraries get it without a copy."""

from typing import Any, ClassVar

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import (
    DType,
    check_bounds,
    check_integers,
    checked_dtype,
    dtype_of_numbers,
    exact_integers,
    is_integer,
)

from .device import Device, device_of
from .in_place import InPlace
from .methods import T
from .mode import mode

__all__ = ["Exchange", "to_array"]


def to_array(data: Any, dtype: DType, device: Device) -> Array:
    """A new array on the device."""
    wanted = None if dtype is None else checked_dtype(dtype)
    is_tensor = hasattr(data, "_node")
    owner = data.device if is_tensor else device_of(data)
    if owner is not None:
        if is_tensor:
            data._show_array()
        array = data._array if is_tensor else data
        wanted = wanted or checked_dtype(array.dtype)
        with device.making("tensor"):
            return device.backend.from_device(array, owner.backend).astype(wanted, copy=False)
    try:
        array = np.array(data)
    except ValueError as error:
        raise ValueError(f"tensor: {error}; give nested lists of equal lengths") from error
    if wanted is not None:
        array = exact_integers(data, array) if is_integer(wanted) else array
        check_bounds("tensor", array, wanted)
    else:
        array_like = isinstance(data, np.generic) or _holds_arrays(data)
        if not array_like:
            check_integers("tensor", data, array)
        wanted = checked_dtype(array.dtype if array_like else dtype_of_numbers(array.dtype))
    with device.making("tensor"):
        return device.backend.from_host(array.astype(wanted, copy=False))


def _holds_arrays(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(isinstance(part, np.ndarray | np.generic) for part in data)


class Exchange(InPlace[T]):
    """The part of a Tensor that other libraries' arrays are made of.

    What is written to an array is seen by no graph. So an array that shares memory with a tensor that requires a
    gradient, or with a parameter, is read-only; `.data` is the array itself, which can always be written to.
    """

    __slots__ = ()

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

    def _show_array(self) -> None:
        tracer = mode().value.tracer
        if tracer is not None:
            tracer.see_array(self)

    def _host_array(self, asked: str) -> HostArray:
        self._show_array()
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
        self._show_array()
        if self._node is not None:
            raise BufferError("__dlpack__: this tensor requires a gradient, which DLPack cannot carry; use .detach()")
        array = self._guarded(self._array) if self.device == "cpu" else self._array
        with self.device.current():  # what takes it over waits for what is queued there
            return array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind: tuple[int, int] = self._array.__dlpack_device__()
        return kind
