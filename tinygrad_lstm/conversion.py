"""How numbers, lists and arrays become the array of a tensor."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import (
    DEFAULT_FLOAT,
    FLOAT64,
    DType,
    check_bounds,
    check_integers,
    checked_dtype,
    exact_integers,
    is_integer,
)

from .device import Device, device_of

__all__ = ["to_array"]


def to_array(data: Any, dtype: DType, device: Device) -> Array:
    """A new array on the device."""
    wanted = None if dtype is None else checked_dtype(dtype)
    is_tensor = hasattr(data, "_node")
    owner = data.device if is_tensor else device_of(data)
    if owner is not None:
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
        wanted = DEFAULT_FLOAT if array.dtype == FLOAT64 and not array_like else checked_dtype(array.dtype)
    with device.making("tensor"):
        return device.backend.from_host(array.astype(wanted, copy=False))


def _holds_arrays(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(isinstance(part, np.ndarray | np.generic) for part in data)
