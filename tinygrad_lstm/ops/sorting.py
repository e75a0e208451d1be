"""Sorting and searching. NaN is larger than all numbers, as in torch.

`unique` and `nonzero` wait for the values, since the shapes of their results depend on them.
"""

from typing import Any

import numpy as np

from tinygrad_lstm.backends import ordering
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT64, INT64, is_float
from tinygrad_lstm.backends.ordering import places_in_rows, places_in_sequence

from .._tensor import Tensor, operand
from ..arguments import integer
from ..creation import full
from .comparison import isfinite, isnan
from .define import composite, op
from .elementwise import where
from .indexing import gather, getitem
from .reduction import ValuesIndices, dim_of, narrowed, share_of_equal, taken_along, widened
from .shape import cat, flatten, movedim, stack

__all__ = [
    "argsort",
    "bucketize",
    "median",
    "nanmedian",
    "nonzero",
    "quantile",
    "searchsorted",
    "sort",
    "topk",
    "unique",
]


def _at_least_1d(name: str, x: Tensor, dim: int) -> tuple[Tensor, int]:
    """x, if it is 0-d with a dimension of length 1; and the non-negative dimension."""
    return x if x.ndim else x.reshape(1), dim_of(name, dim, x.shape, zero_d=True)


@op(name="argsort")
def argsort_op(backend: Any, x: Array, dim: int, descending: bool, first: int | None = None) -> Array:
    """The indices that sort x along `dim` (not negative), or the first of them; equal elements keep their order."""
    return backend.sorting_order(x, dim, descending, first)


@composite
def argsort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort x along `dim`. Equal elements keep their order, whatever `stable` is.

    Raises:
        IndexError: `dim` is out of range.
    """
    wide, dim = _at_least_1d("argsort", x, dim)
    return argsort_op(wide, dim, descending).reshape(x.shape)


@composite
def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
    """x sorted along `dim`: a named pair (values, indices). Equal elements keep their order, whatever `stable` is.

    Raises:
        IndexError: `dim` is out of range.

    >>> import tinygrad_lstm as tg
    >>> values, indices = tg.sort(tg.tensor([2.0, 3.0, 1.0]), descending=True)
    >>> values
    tensor([3., 2., 1.])
    """
    wide, dim = _at_least_1d("sort", x, dim)
    indices = argsort_op(wide, dim, descending)
    return ValuesIndices(taken_along(wide, indices, dim).reshape(x.shape), indices.reshape(x.shape))


@composite
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """The k largest (or smallest) elements along `dim`, the first of them first: a named pair (values, indices).

    They are sorted whatever `sorted` is. Of equal elements, those with smaller indices come first.

    Raises:
        IndexError: `dim` is out of range.
        TypeError: k is not an integer.
        ValueError: k is negative, or larger than the length of the dimension.

    >>> import tinygrad_lstm as tg
    >>> tg.topk(tg.tensor([2.0, 3.0, 1.0]), 2).indices
    tensor([1, 0])
    """
    wide, dim = _at_least_1d("topk", x, dim)
    k = integer("topk", "k", k)
    least, most = 0 if x.ndim else 1, wide.shape[dim]
    if not least <= k <= most:
        raise ValueError(f"topk: k is {k}; expected {least} to {most}, the length of dim {dim} of shape {x.shape}")
    indices = argsort_op(wide, dim, largest, k)
    values = taken_along(wide, indices, dim)
    return ValuesIndices(values, indices) if x.ndim else ValuesIndices(values.reshape(()), indices.reshape(()))


# -- places in what is sorted ------------------------------------------------------------------------------------------


@op()
def median_index(backend: Any, x: Array, dim: int, skip_nan: bool) -> Array:
    """The index of the lower median along `dim` (not negative, and kept); of the first NaN, unless they are skipped."""
    return ordering.median_index(backend, x, dim, skip_nan)


@op(x=lambda g, x, out, F: share_of_equal(g, x, out, None, F))
def median_of_all(backend: Any, x: Array, skip_nan: bool) -> Array:
    """The lower median of a 1-D x. Equal elements share the gradient."""
    return x[ordering.median_index(backend, x, 0, skip_nan)].reshape(())


def _median(name: str, x: Tensor, dim: int | None, keepdim: bool) -> Any:
    wide, along = (flatten(x), 0) if dim is None else _at_least_1d(name, x, dim)
    if not wide.shape[along]:
        raise ValueError(f"{name}: nothing to search in shape {x.shape} over dim {dim}; give at least one element")
    if dim is None:
        return median_of_all(wide, name == "nanmedian").reshape((1,) * x.ndim if keepdim else ())
    indices = median_index(wide, along, name == "nanmedian")
    values = taken_along(wide, indices, along)
    shape = x.shape if not x.ndim else values.shape if keepdim else x.shape[:along] + x.shape[along + 1 :]
    return ValuesIndices(values.reshape(shape), indices.reshape(shape))


@composite
def median(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median: of an even number of elements the lower of the middle two. NaN if there is a NaN.

    Over one `dim`, it is a named pair (values, indices), and the gradient goes to the element at the index. Without
    `dim`, equal elements share the gradient. The mean of the middle two is `quantile(x, 0.5)`.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: there are no elements.
    """
    return _median("median", x, dim, keepdim)


@composite
def nanmedian(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of the elements that are not NaN; NaN if all are. See `median`.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: there are no elements.
    """
    return _median("nanmedian", x, dim, keepdim)


_EXACT = 2**24  # the integers up to here are numbers of float32
_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@composite
def quantile(x: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, interpolation: str = "linear") -> Tensor:
    """The q-quantiles along `dim`, or of all elements; 1-D q add a first dimension. NaN if there is a NaN.

    Integers become float32, and float16 is interpolated in float32. After -inf it is -inf up to the next element.

    Args:
        q: a number in [0, 1], or a sequence or tensor of them, which may require a gradient. A tensor on a GPU is not
            checked.
        interpolation: what is taken between two elements: "linear", "lower", "higher", "midpoint" or "nearest" (at
            halves that of the even index).

    Raises:
        IndexError: `dim` is out of range.
        ValueError: there are no elements; q is not in [0, 1], or has several dimensions; unknown `interpolation`.
    """
    if interpolation not in _INTERPOLATIONS:
        raise ValueError(f"quantile: interpolation is {interpolation!r}; expected one of {', '.join(_INTERPOLATIONS)}")
    wide = widened(x)
    qs = q if isinstance(q, Tensor) else np.asarray(q, wide.dtype)
    if qs.ndim > 1:
        raise ValueError(f"quantile: q has shape {qs.shape}; expected a number or one dimension")
    if (not isinstance(qs, Tensor) or qs.device == "cpu") and not bool(((qs >= 0) & (qs <= 1)).all()):
        raise ValueError(f"quantile: q is {q}; expected numbers in [0, 1]")
    qs = qs.to(dtype=wide.dtype) if isinstance(qs, Tensor) else Tensor(qs, wide.dtype, x.device)
    wide, along = (flatten(wide), 0) if dim is None else _at_least_1d("quantile", wide, dim)
    if not wide.shape[along]:
        raise ValueError(f"quantile: nothing to search in shape {x.shape} over dim {dim}; give at least one element")
    result = _quantiles(movedim(wide, along, -1), qs.reshape(-1), interpolation)
    lengths = [1 if dim is None or d == along else length for d, length in enumerate(x.shape)]
    shape = lengths if keepdim else [] if dim is None else [*x.shape[:along], *x.shape[along + 1 :]]
    return narrowed(movedim(result, -1, 0).reshape((*qs.shape, *shape)), x)


def _quantiles(x: Tensor, q: Tensor, interpolation: str) -> Tensor:
    """The quantiles of the last dimension, as the last dimension."""
    last, number = x.shape[-1] - 1, q.size
    if last > _EXACT:
        q = q.to(dtype=FLOAT64)
    places = q * last
    low, high = places.floor(), places.ceil()
    if interpolation in ("lower", "higher", "nearest"):
        low = high = low if interpolation == "lower" else high if interpolation == "higher" else places.round()
    index = cat([low, high, full((1,), last, low.dtype, low.device)], 0).to(dtype=INT64)
    elements = gather(x, -1, getitem(argsort_op(x, x.ndim - 1, False), (..., index)))
    first, second, largest = elements.split([number, number, 1], -1)
    known = isfinite(first)  # a difference of infinities would be NaN
    difference = where(known, second, 0) - where(known, first, 0)
    result = first + difference * (0.5 if interpolation == "midpoint" else places - low)
    return where(isnan(largest), largest, result)


@op(promotion="common", name="searchsorted")
def searchsorted_op(backend: Any, sequence: Array, values: Array, right: bool) -> Array:
    search = places_in_sequence if len(sequence.shape) == 1 else places_in_rows
    return search(backend, sequence, values, right)


@composite
def searchsorted(x: Tensor, values: Any, *, right: bool = False, side: str | None = None, sorter: Any = None) -> Tensor:
    """The indices at which `values` keep a sorted x sorted: before equal elements, or after them if `right`.

    A 1-D x takes values of any shape. Otherwise the last dimension is searched, and the others are equal.

    Args:
        side: "left" or "right", another way to give `right`.
        sorter: the indices that sort x, if it is not sorted.

    Raises:
        ValueError: `side` is unknown or contradicts `right`; the shapes do not match.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ValueError(
            f"searchsorted: side is {side!r} and right is {right}; expected 'left' or 'right' in agreement"
        )
    if isinstance(values, int | float):
        values = Tensor(values, x.dtype if is_float(x.dtype) else None, x.device)
    values = operand(values)
    if not x.ndim or (x.ndim > 1 and (not values.ndim or x.shape[:-1] != values.shape[:-1])):
        raise ValueError(
            f"searchsorted: x has shape {x.shape}, and values have shape {values.shape}; expected a 1-D x, or shapes "
            "that differ in the last dimension only"
        )
    return searchsorted_op(x if sorter is None else gather(x, -1, sorter), values, right or side == "right")


@composite
def bucketize(x: Tensor, boundaries: Any, *, right: bool = False) -> Tensor:
    """`searchsorted` of x in a 1-D sequence of boundaries.

    Raises:
        ValueError: the boundaries are not 1-D.
    """
    boundaries = operand(boundaries)
    if boundaries.ndim != 1:
        raise ValueError(f"bucketize: boundaries have shape {boundaries.shape}; expected one dimension")
    return searchsorted(boundaries, x, right=right)


# -- results whose shapes depend on values -----------------------------------------------------------------------------


@composite
def unique(
    x: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements, or the different slices along `dim`, sorted whatever `sorted` is.

    It waits for the values, and has no derivative. NaNs are different from each other.

    Returns:
        The elements; with `return_inverse` also, for each element of x, its index among them; with `return_counts`
        also, for each of them, how often it is in x. If more than one is asked for, a tuple.

    Raises:
        IndexError: `dim` is out of range.

    >>> import tinygrad_lstm as tg
    >>> values, counts = tg.unique(tg.tensor([2, 1, 2]), return_counts=True)
    >>> counts
    tensor([1, 2])
    """
    return different(x, return_inverse, return_counts, dim, equal_nan=False)


def different(x: Tensor, return_inverse: bool, return_counts: bool, dim: int | None, equal_nan: bool) -> Any:
    """`unique`, with NaNs that are all equal or all different."""
    dim = None if dim is None else dim_of("unique", dim, x.shape)
    with x.device.current():
        found = x.device.xp.unique(
            x._read_on_device(), return_inverse=True, return_counts=True, axis=dim, equal_nan=equal_nan
        )
    values, inverse, counts = [Tensor._wrap(part, x.device) for part in found]
    results = [values]
    if return_inverse:
        results.append(inverse.to(dtype=INT64).reshape(x.shape if dim is None else (x.shape[dim],)))
    if return_counts:
        results.append(counts.to(dtype=INT64))
    return tuple(results) if len(results) > 1 else values


@composite
def nonzero(x: Tensor, as_tuple: bool = False) -> Any:
    """The indices of the non-zero elements: (N, ndim), or with `as_tuple` a tensor (N,) for each dimension.

    It waits for the values, and has no derivative. A 0-d tensor with `as_tuple` is treated as 1-D.

    >>> import tinygrad_lstm as tg
    >>> tg.nonzero(tg.tensor([0.0, 2.0, 1.0]))
    tensor([[1],
            [2]])
    """
    lengths = x.shape or (1,)
    with x.device.current():
        places = x.device.xp.flatnonzero(x._read_on_device())
        found = x.device.xp.unravel_index(places, lengths)
    indices = [Tensor._wrap(index, x.device).to(dtype=INT64) for index in found]
    if as_tuple:
        return tuple(indices)
    return stack(indices, -1)[:, : x.ndim]
