"""Ops that read from and write to places: every NumPy index, and what is built on it."""

import math
from typing import Any

import numpy as np

from ..backends.base import Array
from ..device import Device, device_of
from ..tensor import Tensor, as_tensor
from .define import composite, op
from .elementwise import where
from .reduction import dims_of

__all__ = ["embedding", "gather", "getitem", "index_select", "masked_fill", "take_along_axis"]


def _is_basic(index: Any) -> bool:
    """Whether an index takes a view: it has no arrays in it."""
    parts = index if isinstance(index, tuple) else (index,)
    return not any(hasattr(part, "dtype") or isinstance(part, list | bool) for part in parts)


def _may_repeat(index: Any) -> bool:
    """Whether an index can name a place twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(hasattr(part, "dtype") and part.dtype.kind in "iu" for part in parts)


def _prepared(index: Any, x: Tensor) -> Any:
    """The index with tensors and lists in it as arrays of x's device; those that come from the host are checked."""
    if not isinstance(index, tuple):
        return _prepared_part(index, x, 0 if x.ndim else None)
    if _is_basic(index) and not any(isinstance(part, Tensor) for part in index):
        return index
    dims = _dims_indexed(index, x)
    return tuple(_prepared_part(part, x, dim) for part, dim in zip(index, dims, strict=True))


def _dims_indexed(index: tuple[Any, ...], x: Tensor) -> list[int | None]:
    """For each part of an index the dimension of x that it stands at."""
    taken = [_dims_taken(part) for part in index]
    dims: list[int | None] = []
    at = 0
    for part, number in zip(index, taken, strict=True):
        dims.append(at if number else None)
        at += x.ndim - sum(taken) if part is Ellipsis else number
    return dims


def _dims_taken(part: Any) -> int:
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    is_mask = getattr(part, "dtype", None) == np.bool_ or (isinstance(part, list) and np.asarray(part).dtype == bool)
    return np.ndim(part) if isinstance(part, list) else len(part.shape) if is_mask else 1


def _prepared_part(part: Any, x: Tensor, dim: int | None) -> Any:
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, list):
        part = np.asarray(part, dtype=None if part else np.int64)
    if isinstance(part, Tensor):
        if part.device is not x.device:
            raise RuntimeError(f"getitem: a tensor on {str(x.device)!r} indexed by one on {str(part.device)!r}")
        part = part._array
    if not hasattr(part, "dtype"):
        return part
    if part.dtype.kind not in "iub":
        raise IndexError(f"getitem: index arrays must be integers or bool, got {part.dtype}")
    if isinstance(part, np.ndarray):
        if dim is not None and part.dtype.kind in "iu" and dim < x.ndim:
            check_range("getitem", part, x.shape[dim], dim)
        return _on_device(part, x.device)
    return part


def check_range(name: str, index: np.ndarray[Any, Any], length: int, dim: int, lowest: int | None = None) -> None:
    """Raises IndexError if an index is out of range: devices wrap such indices silently, the host can look."""
    lowest = -length if lowest is None else lowest
    if index.size and (index.min() < lowest or index.max() >= length):
        wrong = index[(index < lowest) | (index >= length)].flat[0]
        raise IndexError(f"{name}: index {wrong} is out of range for dim {dim} of length {length}")


def _on_device(array: Array, device: Device) -> Array:
    return array if device_of(array) is device else device.backend.from_host(array)


@op()
def add_at(backend: Any, buffer: Array, index: Any, values: Array) -> Array:
    """Adds the values to the places of `index` in the buffer itself; places named twice receive both."""
    if _may_repeat(index):
        backend.scatter_add(buffer, index, values)
    else:
        buffer[index] += values
    return buffer


@op(
    x=lambda g, index, x_shape, F: F.spread_at(g, index, x_shape),
    into={"x": lambda buffer, g, index, F: F.add_at(buffer, index, g)},
    view=lambda x, index: _is_basic(index),
)
def get(xp: Any, x: Array, index: Any) -> Array:
    """The elements at `index`."""
    return x[index]


@op(g=lambda g, index, F: F.get(g, index))
def spread_at(backend: Any, g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of that shape, with the values added at the places of `index`."""
    buffer = backend.xp.zeros(shape, g.dtype)
    if _may_repeat(index):
        backend.scatter_add(buffer, index, g)
    else:
        buffer[index] += g
    return buffer


@op(x=lambda g, index, F: F.cleared_at(g, index))
def cleared_at(xp: Any, x: Array, index: Any) -> Array:
    """x with zeros at the places of `index`."""
    cleared = x.copy()
    cleared[index] = 0
    return cleared


@op()
def last_written(xp: Any, x: Array, index: Any) -> Array:
    """1 for each element of `index` that is the last to name its place, else 0: that one stays when all are written."""
    places = xp.arange(math.prod(x.shape)).reshape(x.shape)[index]
    order = xp.arange(math.prod(places.shape)).reshape(places.shape)
    written = xp.zeros(math.prod(x.shape), order.dtype)
    written[places] = order
    return (written[places] == order).astype(x.dtype)


def _value_gradient(g: Any, index: Any, value_shape: tuple[int, ...], F: Any) -> Any:
    taken = F.get(g, index)
    if _may_repeat(index):
        taken = taken * F.last_written(g, index)
    return F.sum_to(taken.reshape(_aligned(taken.shape, value_shape)), value_shape)


def _aligned(shape: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with leading ones where a written value has more dimensions than the places it is written to."""
    return (*(1,) * (len(to) - len(shape)), *shape)


@op(x=lambda g, index, F: F.cleared_at(g, index), value=_value_gradient)
def assign(xp: Any, x: Array, value: Array, index: Any) -> Array:
    """Writes the value to the places of `index` in x itself."""
    x[index] = value
    return x


@composite
def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index], for every NumPy index: ints, slices, None, ..., integer arrays (repeats allowed), boolean masks.

    Ints and slices give a view. The gradient of a place named twice is the sum.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU excepted, which are not read), or no integer.
    """
    return get(x, _prepared(index, x))


@composite
def setitem(x: Tensor, value: Any, index: Any) -> Tensor:
    """Writes `value`, which broadcasts, to x[index] in place. Of several values for one place the last stays."""
    return assign(x, value, _prepared(index, x))


@composite
def gather(x: Tensor, dim: int, index: Any) -> Tensor:
    """out[i, j, ...] = x[i, ..., index[i, j, ...], ...], with `index` at `dim`; index has x's number of dimensions.

    Raises:
        ValueError: it has another number.
        IndexError: an index is out of range.
    """
    (dim,) = dims_of("gather", dim, x.shape)
    index = as_tensor(index, x.device)
    if index.ndim != x.ndim:
        raise ValueError(f"gather: index of shape {index.shape} must have {x.ndim} dimensions, as x of shape {x.shape}")
    if x.device == "cpu":
        check_range("gather", index._array, x.shape[dim], dim)
    others = [
        index if d == dim else np.arange(length).reshape([-1 if k == d else 1 for k in range(x.ndim)])
        for d, length in enumerate(index.shape)
    ]
    return getitem(x, tuple(others))


@composite
def take_along_axis(x: Tensor, indices: Any, dim: int) -> Tensor:
    """NumPy's name and argument order for `gather`; other dimensions broadcast."""
    (dim,) = dims_of("take_along_axis", dim, x.shape)
    indices = as_tensor(indices, x.device)
    shape = [indices.shape[d] if d == dim else max(indices.shape[d], length) for d, length in enumerate(x.shape)]
    wide = [length if d != dim else x.shape[dim] for d, length in enumerate(shape)]
    return gather(x.broadcast_to(wide), dim, indices.broadcast_to(shape))


@composite
def index_select(x: Tensor, dim: int, index: Any) -> Tensor:
    """The slices of x along `dim` that a 1-D index names."""
    (dim,) = dims_of("index_select", dim, x.shape)
    return getitem(x, (*(slice(None),) * dim, as_tensor(index, x.device)))


@composite
def masked_fill(x: Tensor, mask: Any, value: Any) -> Tensor:
    """x with `value` where the mask, which broadcasts to x's shape, is true."""
    return where(mask, value, x)


def embedding(ids: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of `weight` (N, E) that `ids` (any shape, integers) name: (*ids.shape, E).

    On a device whose values are not read on the host, a row out of range is NaN.

    Raises:
        IndexError: an id is negative, or not below N.
        TypeError: the ids are not integers.

    Args:
        padding_idx: a row that gets no gradient.
    """
    ids = as_tensor(ids, weight.device)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: ids must be integers, got {ids.dtype} of shape {ids.shape}")
    if weight.device == "cpu":
        check_range("embedding", ids._array, weight.shape[0], 0, lowest=0)
        rows = getitem(weight, ids)
    else:
        known = (ids >= 0) & (ids < weight.shape[0])
        rows = where(known.unsqueeze(-1), getitem(weight, ids.clamp(0, weight.shape[0] - 1)), math.nan)
    if padding_idx is None:
        return rows
    return where((ids == padding_idx % weight.shape[0]).unsqueeze(-1), rows.detach(), rows)
