"""Indexing: reading and writing with every NumPy index, and the ops built on it."""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import BOOL, INT64, count_dtype, is_bool, is_integer

from .._tensor import Tensor, as_tensor
from ..arguments import integer
from ..creation import arange
from ..device import Device, device_of, get_device
from ..mode import mode
from .define import composite, op, shown_whole
from .elementwise import where
from .reduction import dim_of
from .rules import AddsInto
from .shape import reshape_op, unsqueeze

__all__ = ["embedding", "gather", "getitem", "index_select", "masked_fill", "take_along_axis", "take_along_dim"]


def _is_basic(index: Any) -> bool:
    """Whether an index returns a view: it contains no arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    return not any(hasattr(part, "dtype") or isinstance(part, bool) for part in parts)


def _may_repeat(index: Any) -> bool:
    """Whether an index can select an element twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(hasattr(part, "dtype") and is_integer(part.dtype) for part in parts)


def prepared(index: Any, x: Tensor) -> Any:
    """The index with its tensors and lists as arrays on x's device. Arrays from the host are checked."""
    if not isinstance(index, tuple):
        return _prepared_part(as_array(index), x, 0 if x.ndim else None)
    index = tuple([as_array(part) for part in index])
    if _is_basic(index):
        return index
    dims = _dims_indexed(index, x)
    return tuple([_prepared_part(part, x, dim) for part, dim in zip(index, dims, strict=True)])


def as_array(part: Any) -> Any:
    """A part of an index, with sequences converted to arrays as NumPy does."""
    if not isinstance(part, list | tuple | range):
        return part
    return np.asarray(part, dtype=None if len(part) else np.int64)


def _dims_indexed(index: tuple[Any, ...], x: Tensor) -> list[int | None]:
    """For each part of an index, the dimension of x that it indexes."""
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
    return len(part.shape) if hasattr(part, "dtype") and is_bool(part.dtype) else 1


def _prepared_part(part: Any, x: Tensor, dim: int | None) -> Any:
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, Tensor):
        if part.device is not x.device:
            raise RuntimeError(f"getitem: a tensor on {str(x.device)!r} indexed by one on {str(part.device)!r}")
        part = part._array
    if not hasattr(part, "dtype"):
        return part
    if not (is_integer(part.dtype) or is_bool(part.dtype)):
        raise IndexError(f"getitem: index arrays must be integers or bool, got {part.dtype}")
    if isinstance(part, np.ndarray) and dim is not None and is_integer(part.dtype) and dim < x.ndim:
        check_range("getitem", part, x.shape[dim], dim)
    return _own_copy(part, x.device)


def check_range(name: str, index: np.ndarray[Any, Any], length: int, dim: int, lowest: int | None = None) -> None:
    """Raises IndexError if an index on the host is out of range, which devices would wrap silently."""
    lowest = -length if lowest is None else lowest
    if index.size and (index.min() < lowest or index.max() >= length):
        wrong = index[(index < lowest) | (index >= length)].flat[0]
        raise IndexError(f"{name}: index {wrong} is out of range for dim {dim} of length {length}")


def _own_copy(array: Array, device: Device) -> Array:
    """A copy of the index array on the device, so that later changes to the user's array do not change gradients.

    Integers become int64, so that arithmetic with them does not overflow.
    """
    kept = BOOL if is_bool(array.dtype) else INT64
    if device_of(array) is not device:
        copied = device.backend.from_host(array.astype(kept, copy=False))
    else:
        with device.current():
            copied = array.astype(kept)
    tracer = mode().value.tracer
    if tracer is not None:
        tracer.see_copy(array, copied)
    return copied


def _added(backend: Any, into: Array, index: Any, values: Array) -> Array:
    """`into`, after the values are added at `index`; an element selected twice receives both."""
    if _may_repeat(index):
        backend.scatter_add(into, index, values)
    else:
        into[index] += values
    return into


def _written(backend: Any, into: Array, index: Any, value: Array) -> Array:
    """`into`, after the value is written at `index`; of several values for one element, the last one stays."""
    if _may_repeat(index):
        backend.write(into, index, value)
    else:
        into[index] = value
    return into


@op(
    x=AddsInto(
        lambda g, index, x_shape, F: F.spread_at(g, index, x_shape),
        add=lambda buffer, g, index, F: F.add_at(buffer, g, index),
    ),
    view=lambda x, index: _is_basic(index),
    name="getitem",
)
def getitem_op(xp: Any, x: Array, index: Any) -> Array:
    """The elements at `index`."""
    return x[index]


@op(values=lambda g, index, F: F.getitem_op(g, index))
def spread_at(backend: Any, values: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of this shape with the values added at `index`."""
    buffer = backend.xp.zeros(shape, values.dtype)
    if _may_repeat(index):
        backend.scatter_add(buffer, index, values)
    else:
        buffer[index] = values
    return buffer


@op(x=lambda g, index, F: F.cleared_at(g, index))
def cleared_at(xp: Any, x: Array, index: Any) -> Array:
    """x with zeros at `index`."""
    cleared = x.copy()
    cleared[index] = 0
    return cleared


@op()
def last_written(backend: Any, values: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """1 for each of the values, written at `index` of a tensor of this shape, that stays; 0 for overwritten ones."""
    dtype = count_dtype(values.size)
    owners = backend.xp.empty(shape, dtype)
    numbers = backend.xp.arange(values.size, dtype=dtype).reshape(values.shape)
    backend.write(owners, index, numbers)
    return (owners[index] == numbers).astype(values.dtype)


def _value_gradient(g: Any, index: Any, value_shape: tuple[int, ...], F: Any) -> Any:
    taken = F.getitem_op(g, index)
    if _may_repeat(index):
        taken = taken * F.last_written(taken, index, g.shape)
    return _summed_to(taken, value_shape, F)


def _summed_to(taken: Any, shape: tuple[int, ...], F: Any) -> Any:
    """The gradient of a value of this shape that was broadcast to the elements taken."""
    return taken if taken.shape == shape else F.sum_to(taken.reshape(_aligned(taken.shape, shape)), shape)


def _aligned(shape: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with leading ones, if the written value has more dimensions than the elements it is written to."""
    return (*(1,) * (len(to) - len(shape)), *shape)


_WRITING: dict[str, Any] = {"into": lambda g, index, F: F.cleared_at(g, index), "value": _value_gradient}
_ADDING: dict[str, Any] = {
    "into": lambda g: g,
    "values": lambda g, index, values_shape, F: _summed_to(F.getitem_op(g, index), values_shape, F),
}


@op(view=True, **_WRITING)
def setitem(backend: Any, into: Array, value: Array, index: Any) -> Array:
    """Writes the value to `into` at `index`, in place."""
    return _written(backend, into, index, value)


@op(**_WRITING)
def written_at(backend: Any, into: Array, value: Array, index: Any) -> Array:
    """A copy of `into` with the value written at `index`."""
    return _written(backend, into.copy(), index, value)


@op(view=True, **_ADDING)
def add_at(backend: Any, into: Array, values: Array, index: Any) -> Array:
    """Adds the values to `into` at `index`, in place."""
    return _added(backend, into, index, values)


@op(**_ADDING)
def added_at(backend: Any, into: Array, values: Array, index: Any) -> Array:
    """A copy of `into` with the values added at `index`."""
    return _added(backend, into.copy(), index, values)


@composite
def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index], for every NumPy index: ints, slices, None, ..., integer arrays (repeats allowed), boolean masks.

    Ints and slices return a view. The gradient of an element selected twice is the sum.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU are not checked) or not an integer, or there are
            more indices than dimensions.
        RuntimeError: an index tensor is on a different device.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 0, 2]].sum().backward()
    >>> x.grad
    tensor([2., 0., 1.])
    """
    return getitem_op(x, prepared(index, x))


def _put(x: Tensor, value: Any, index: Any) -> Tensor:
    """Writes `value`, which broadcasts, to x[index] in place. If several values go to one element, the last stays.

    Raises:
        IndexError: as `getitem`.
        ValueError: the value does not broadcast to the shape of x[index].
    """
    return setitem(x, value, prepared(index, x))


setattr(Tensor, "_put", _put)  # noqa: B010


def index_tensor(
    name: str, given: Any, lengths: tuple[int, ...], dim: int, device: Device, lowest: int | None = None
) -> Tensor:
    """A copy of an index for dimension `dim` of a tensor of these lengths, as int64 on its device.

    Values on the host are checked.
    """
    return Tensor(_checked_index(name, given, lengths, dim, device, lowest), np.int64, device)


def _checked_index(
    name: str, given: Any, lengths: tuple[int, ...], dim: int, device: Device, lowest: int | None = None
) -> Tensor:
    """The index as a tensor, which may be the given one, or be on the host."""
    travels = not isinstance(given, Tensor) and device_of(given) in (None, get_device("cpu"))
    index = as_tensor(given, "cpu") if travels else as_tensor(given)
    if not travels and index.device is not device:
        raise RuntimeError(f"{name}: a tensor on {str(device)!r}, an index on {str(index.device)!r}; use .to(device)")
    if not index.size:
        index = index.astype(np.int64)
    if not is_integer(index.dtype):
        raise TypeError(f"{name}: an index must be of integers, got {index.dtype} of shape {index.shape}")
    if index.device == "cpu":
        check_range(name, index._array, lengths[dim], dim, lowest)
    return index


@composite
@shown_whole
def gather(x: Tensor, dim: int, index: Any) -> Tensor:
    """out[i, j, ...] = x[i, ..., index[i, j, ...], ...], with `index` at `dim`; index has x's number of dimensions.

    The result has the shape of `index`, whose other lengths are at most x's.

    Raises:
        ValueError: `index` has a different number of dimensions, or is longer.
        IndexError: an index is out of range (index tensors on a GPU are not checked).
    """
    return getitem_op(reshape_op(x, (x.size,)), places_along("gather", x, dim, index)._array)


def places_along(name: str, x: Tensor, dim: int, index: Any) -> Tensor:
    """For an index as `gather` takes it, the positions of the elements among all elements of x; of its shape.

    Raises:
        ValueError: `index` has a different number of dimensions than x, or is longer.
        IndexError: an index is out of range (index tensors on a GPU are not checked).
    """
    lengths = x.shape or (1,)
    dim = dim_of(name, dim, x.shape, zero_d=True)
    index = _checked_index(name, index, lengths, dim, x.device).to(x.device, INT64)
    wide = index if index.ndim else unsqueeze(index, 0)
    if wide.ndim != len(lengths) or any(n > lengths[d] for d, n in enumerate(wide.shape) if d != dim):
        raise ValueError(
            f"{name}: index of shape {index.shape} must have the {x.ndim} dimensions of x, of shape {x.shape}, "
            f"and be no longer except in dim {dim}"
        )
    return reshape_op(_places(wide, dim, lengths), index.shape)


def _places(index: Tensor, dim: int, lengths: tuple[int, ...]) -> Tensor:
    """The positions in flattened elements of these lengths; a dimension of length 1 is broadcast to the index's."""
    steps = [math.prod(lengths[d + 1 :]) for d in range(len(lengths))]
    places = from_start(index, lengths[dim])
    if steps[dim] > 1:
        places = places * steps[dim]
    offsets: Any = 0
    for d, number in enumerate(index.shape):
        if d != dim and lengths[d] > 1:
            numbers = arange(number, device=index.device) * steps[d]
            offsets = offsets + numbers.reshape(tuple([-1 if k == d else 1 for k in range(len(lengths))]))
    made: Tensor = places + offsets
    return made


def from_start(index: Tensor, length: int) -> Tensor:
    """An index in which no position is counted from the end."""
    if index.device == "cpu" and mode().value.tracer is None and index._array.min(initial=0) >= 0:
        return index
    return where(index < 0, index + length, index)


@composite
@shown_whole
def take_along_axis(x: Tensor, indices: Any, dim: int) -> Tensor:
    """`gather` with NumPy's name and argument order; other dimensions broadcast.

    Raises:
        ValueError: `indices` has another number of dimensions, or does not broadcast.
        IndexError: an index is out of range (index tensors on a GPU are not checked).
    """
    dim = dim_of("take_along_axis", dim, x.shape)
    indices = index_tensor("take_along_axis", indices, x.shape, dim, x.device)
    if indices.ndim != x.ndim:
        raise ValueError(f"take_along_axis: indices of shape {indices.shape} do not have the dimensions of {x.shape}")
    lengths = enumerate(zip(indices.shape, x.shape, strict=True))
    shape = [number if d == dim or length == 1 else length for d, (number, length) in lengths]
    places = _places(indices.broadcast_to(shape), dim, x.shape)
    return getitem_op(reshape_op(x, (x.size,)), places._array)


@composite
def take_along_dim(x: Tensor, indices: Any, dim: int | None = None) -> Tensor:
    """Torch's name for `take_along_axis`; without `dim`, both are flattened.

    Raises:
        ValueError: `indices` has a different number of dimensions, or does not broadcast.
        IndexError: an index is out of range (index tensors on a GPU are not checked).
    """
    if dim is None:
        indices = indices if isinstance(indices, Tensor) else np.asarray(indices)
        x, indices, dim = x.reshape(-1), indices.reshape(-1), 0
    return take_along_axis(x, indices, dim)


@composite
@shown_whole
def index_select(x: Tensor, dim: int, index: Any) -> Tensor:
    """The slices of x along `dim` that a 1-D index selects. A 0-d tensor is returned, by an index of one 0.

    Raises:
        ValueError: the index is not 1-D; or x is 0-d, and the index does not have one element.
        IndexError: an index is out of range (index tensors on a GPU are not checked).
    """
    dim = dim_of("index_select", dim, x.shape, zero_d=True)
    slices = x if x.ndim else x.reshape(1)
    index = index_tensor("index_select", index, slices.shape, dim, x.device)
    if index.ndim != 1 if x.ndim else index.size != 1:
        expected = "one dimension" if x.ndim else "one element, as x is 0-d"
        raise ValueError(f"index_select: index of shape {index.shape} must have {expected}")
    selected = getitem_op(slices, (*(slice(None),) * dim, index._array))
    return selected if x.ndim else selected.reshape(())


@composite
def masked_fill(x: Tensor, mask: Any, value: Any) -> Tensor:
    """x with `value` where the mask is true. The mask broadcasts to x's shape."""
    return where(mask, value, x)


@shown_whole
def embedding(ids: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of `weight` (N, E) that `ids` (any shape, integers) select: (*ids.shape, E).

    On a GPU, the row of an id that is out of range is NaN.

    Args:
        padding_idx: a row that gets no gradient.

    Raises:
        IndexError: an id is negative or at least N; `padding_idx` is out of range.
        TypeError: the ids or `padding_idx` are not integers.
        ValueError: the weight is not 2-D.
    """
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight of shape {weight.shape} must have two dimensions, (N, E)")
    ids = index_tensor("embedding", ids, weight.shape, 0, weight.device, lowest=0)
    if weight.device == "cpu":
        rows = getitem_op(weight, ids._array)
    else:
        known = (ids >= 0) & (ids < weight.shape[0])
        rows = where(known.unsqueeze(-1), getitem_op(weight, ids.clamp(0, weight.shape[0] - 1)._array), math.nan)
    if padding_idx is None:
        return rows
    padding_idx = integer("embedding", "padding_idx", padding_idx)
    if not -weight.shape[0] <= padding_idx < weight.shape[0]:
        raise IndexError(f"embedding: padding_idx {padding_idx} is out of range for a weight of shape {weight.shape}")
    return where((ids == padding_idx % weight.shape[0]).unsqueeze(-1), rows.detach(), rows)
