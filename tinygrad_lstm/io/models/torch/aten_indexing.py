"""PyTorch's functions that select, write and arrange elements.

Reference: PyTorch's `aten/src/ATen/native/native_functions.yaml`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .... import creation, ops
from ...._tensor import Tensor
from ..shared.indexing import scatter_elements
from .aten import aten, reshape, select, slice_, t

__all__ = ["WRITTEN_BACK", "written_back"]


# -- selecting ---------------------------------------------------------------------------------------------------------


@aten("searchsorted")
def searchsorted(
    sorted_sequence: Tensor,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    return ops.searchsorted(sorted_sequence, values, right=right, side=side, sorter=sorter)


@aten("bucketize")
def bucketize(x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    return ops.bucketize(x, boundaries, right=right)


@aten("nonzero")
def nonzero(x: Tensor) -> Any:
    return ops.nonzero(x)


@aten("tensor_split")
def tensor_split(x: Tensor, parts: Any, dim: int = 0) -> list[Tensor]:
    """A number of parts, the first of which are one longer; or the places between parts."""
    whole = x.shape[dim]
    if isinstance(parts, int):
        short, longer = divmod(whole, parts)
        return list(ops.split(x, [short + (k < longer) for k in range(parts)], dim))
    ends = [*parts, whole]
    return [slice_(x, dim, start, end) for start, end in zip([0, *parts], ends, strict=True)]


# -- writing -----------------------------------------------------------------------------------------------------------


@aten("index_put", "_unsafe_index_put")
def index_put(x: Tensor, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    given = [slice(None) if each is None else each for each in indices]
    return ops.index_put(x, given, _like(values, x), accumulate)


def _like(values: Any, x: Tensor) -> Any:
    return values.astype(x.dtype) if isinstance(values, Tensor) and values.dtype != x.dtype else values


@aten("copy")
def copy(x: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    return ops.broadcast_to(source.astype(x.dtype), x.shape)


@aten("fill")
def fill(x: Tensor, value: Any) -> Any:
    if isinstance(value, Tensor):
        return copy(x, value)
    return creation.full_like(x, value)


@aten("zero")
def zero(x: Tensor) -> Tensor:
    return creation.zeros_like(x)


@aten("slice_scatter")
def slice_scatter(
    x: Tensor, source: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    places = range(*slice(start, end, step).indices(x.shape[dim]))
    if len(places) == x.shape[dim]:
        return copy(x, source)
    return ops.index_copy(x, dim, np.asarray(places, np.int64), source.astype(x.dtype))


@aten("select_scatter")
def select_scatter(x: Tensor, source: Tensor, dim: int, index: int) -> Tensor:
    value = ops.unsqueeze(ops.broadcast_to(source.astype(x.dtype), select(x, dim, index).shape), dim)
    return ops.index_copy(x, dim, [index % x.shape[dim]], value)


_REDUCTIONS = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}


@aten("scatter")
def scatter(x: Tensor, dim: int, index: Tensor, src: Any, reduce: str | None = None) -> Any:
    if reduce == "multiply":
        factors = src if isinstance(src, Tensor) else creation.full(index.shape, src, x.dtype, x.device)
        return scatter_reduce(x, dim, index, factors, "prod")
    return ops.scatter(x, dim, index, src, reduce=reduce)


@aten("scatter_reduce")
def scatter_reduce(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, include_self: bool = True) -> Tensor:
    if reduce not in _REDUCTIONS:
        raise ValueError(f"scatter_reduce: reduce={reduce!r} is not supported")
    if not include_self:
        neutral = {"sum": 0.0, "prod": 1.0, "amax": -np.inf, "amin": np.inf}[reduce]
        x = ops.scatter(x, dim, index, neutral)
    part = src[tuple([slice(length) for length in index.shape])]
    return scatter_elements(x, index, part, axis=dim, reduction=_REDUCTIONS[reduce])


def written_back(name: str, source: Any, part: Any, args: Sequence[Any]) -> Any:
    """The tensor that an op made a view of, after the view was replaced by `part`.

    Args:
        name, args: the op and its arguments after the tensor.
    """
    return WRITTEN_BACK[name](source, part, *args)


def _reshaped(source: Tensor, part: Tensor, *_: Any) -> Any:
    return reshape(part, source.shape)


WRITTEN_BACK: dict[str, Callable[..., Any]] = {
    "select": lambda source, part, dim, index=0: select_scatter(source, part, dim, index),
    "slice": lambda source, part, *args: slice_scatter(source, part, *args),
    "narrow": lambda source, part, dim, start, length: slice_scatter(source, part, dim, start, start + length),
    "transpose": lambda source, part, a, b: part.swapaxes(a, b),
    "t": lambda source, part: t(part),
    "permute": lambda source, part, dims: part.permute(*np.argsort([dim % part.ndim for dim in dims]).tolist()),
    **dict.fromkeys(("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "view_as"), _reshaped),
    **dict.fromkeys(("detach", "alias"), lambda source, part: part),
}
"""For each op that returns a view, the tensor with the view replaced."""
