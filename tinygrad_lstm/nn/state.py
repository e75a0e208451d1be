"""Functions for all tensors of a module: a snapshot, loading values, and moving them."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType, checked_dtype, is_float

from .._tensor import Tensor, cast_like
from ..device import Device, get_device
from ..mode import no_grad
from ..printable import printable

__all__ = ["IncompatibleKeys", "load", "move", "snapshot"]


class IncompatibleKeys(NamedTuple):
    """The names that are missing from the mapping of `load_state_dict`, and the unexpected names in it."""

    missing: list[str]
    unexpected: list[str]


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, HostArray]:
    """NumPy copies of the tensors; see `Module.state_dict`."""
    return {name: tensor.device.backend.to_host(tensor._array).copy() for name, tensor in tensors.items()}


def load(tensors: Mapping[str, Tensor], values: Mapping[str, Any], strict: bool, owner: str) -> IncompatibleKeys:
    """Copies values into the tensors of the same names; see `Module.load_state_dict`.

    Args:
        owner: the name of the module's class, for errors.
    """
    missing = [name for name in tensors if name not in values]
    unexpected = [name for name in values if name not in tensors]
    cast: dict[str, Tensor] = {}
    misfits: list[str] = []
    for name, tensor in tensors.items():
        try:
            if name in values:
                cast[name] = cast_like(values[name], tensor)
        except ValueError as error:
            misfits.append(f"{name} ({error})")
    faults = [("missing", missing), ("unexpected", unexpected)] if strict else []
    faults.append(("invalid", misfits))
    if any(names for _, names in faults):
        listed = "; ".join(f"{fault}: {printable(', '.join(names))}" for fault, names in faults if names)
        raise ValueError(f"load_state_dict: the values do not fit this {owner}: {listed}")
    with no_grad():
        for name, value in cast.items():
            tensors[name].copy_(value)
    return IncompatibleKeys(missing, unexpected)


def move(tensors: Iterable[Tensor], device: str | Device | None, dtype: DType) -> None:
    """Moves tensors to a device, and float tensors to a dtype, in place; see `Module.to`."""
    place = None if device is None else get_device(device)
    if dtype is not None and not is_float(checked_dtype(dtype)):
        raise TypeError(f"to: a module's dtype must be float16, float32 or float64, got {checked_dtype(dtype)}")
    once = {id(tensor): tensor for tensor in tensors}.values()
    with no_grad():  # all are moved before any is changed: if memory runs out, nothing changes
        moved = [tensor.to(place, dtype if is_float(tensor.dtype) else None) for tensor in once]
    for tensor, now in zip(once, moved, strict=True):
        if now is not tensor:
            _become(tensor, now)


def _become(tensor: Tensor, moved: Tensor) -> None:
    """Gives a leaf the array and device of `moved`. The backward pass of a graph that saved the old values raises."""
    tensor._mark_written()
    tensor._array = moved._array
    tensor.device = moved.device
    tensor._own_leaf().device = moved.device
