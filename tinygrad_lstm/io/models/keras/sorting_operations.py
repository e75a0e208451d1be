"""The functions of Keras 3 that put elements in order, or choose them by their places."""

from __future__ import annotations

from typing import Any

from .... import ops
from ...._tensor import Tensor
from .functions import sparsemax
from .operations import Axis, axes_of, operation

__all__: list[str] = []


@operation("Sort")
def sort(x: Tensor, axis: int | None = -1) -> Tensor:
    flat = x.reshape(-1) if axis is None else x
    return ops.sort(flat, -1 if axis is None else axis)[0]


@operation("Argsort")
def argsort(x: Tensor, axis: int | None = -1) -> Tensor:
    flat = x.reshape(-1) if axis is None else x
    return ops.argsort(flat, -1 if axis is None else axis, stable=True).astype("int32")


@operation("TopK")
def top_k(x: Tensor, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    values, places = ops.topk(x, k)
    return values, places.astype("int32")


@operation("TakeAlongAxis")
def take_along_axis(x: Tensor, indices: Tensor, axis: int | None = None) -> Tensor:
    flat = (x.reshape(-1), indices.reshape(-1)) if axis is None else (x, indices)
    return ops.take_along_dim(flat[0], flat[1].astype("int64"), 0 if axis is None else axis)


@operation("CountNonzero")
def count_nonzero(x: Tensor, axis: Axis = None) -> Any:
    return ops.sum((x != 0).astype("int32"), dim=axes_of(axis)).astype("int32")


@operation("Cumprod")
def cumprod(x: Tensor, axis: int | None = None, dtype: str | None = None) -> Tensor:
    out = ops.cumprod(x.reshape(-1) if axis is None else x, 0 if axis is None else axis)
    return out if dtype is None else out.astype(dtype)


@operation("Diff")
def diff(a: Tensor, n: int = 1, axis: int = -1) -> Tensor:
    return ops.diff(a, n, axis)


@operation("Tril")
def tril(x: Tensor, k: int = 0) -> Tensor:
    return ops.tril(x, k)


@operation("Triu")
def triu(x: Tensor, k: int = 0) -> Tensor:
    return ops.triu(x, k)


@operation("Sparsemax")
def sparsemax_operation(x: Tensor, axis: int = -1) -> Tensor:
    return sparsemax(x, axis)
