"""Reductions.

Reference: https://onnx.ai/onnx/operators/
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_float, limits

from ..... import ops
from ....._tensor import Tensor
from .....creation import full
from ...rules import Ints, Value, is_known, rule, tensors

__all__: list[str] = []

Dims = tuple[int, ...]
Reduction = Callable[[Any, Dims, bool], Tensor]


def _rule_of_reduction(op: str, function: Reduction, of_host: Callable[..., Any] | None = None) -> None:
    """Registers a reduction; `of_host` is that of arrays on the host, if there is one."""

    def reduced(x: Any, axes: Sequence[int] | None, keepdims: int, noop: int = 0) -> Any:
        dims = tuple(axes or (() if noop else range(x.ndim)))
        if not isinstance(x, Tensor):
            if of_host is not None:
                found = of_host(x, dims, keepdims=bool(keepdims))
                return np.asarray(found, x.dtype) if is_known(x) else found
            (x,) = tensors(x)
        return function(x, dims, bool(keepdims)).astype(x.dtype)

    @rule(op)
    def over_axes(data: Value, *, axes: list[int] | None = None, keepdims: int = 1) -> Any:
        return reduced(data, axes, keepdims)

    @rule(op, since=13 if op == "ReduceSum" else 18)
    def over(data: Value, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        return reduced(data, axes, keepdims, noop_with_empty_axes)


def _or_extreme(function: Reduction, end: int) -> Reduction:
    """The maximum or minimum; of no elements, the smallest or largest number of the dtype."""

    def extreme(x: Tensor, dims: Dims, keepdim: bool) -> Tensor:
        if all(x.shape[dim] for dim in dims):
            return function(x, dims, keepdim)
        shape = [1 if d in {dim % x.ndim for dim in dims} else length for d, length in enumerate(x.shape)]
        number = (-float("inf"), float("inf"))[end] if is_float(x.dtype) else limits(x.dtype)[end]
        filled = full(shape, number, x.dtype, x.device)
        return filled if keepdim else ops.squeeze(filled, dims)

    return extreme


_rule_of_reduction("ReduceSum", ops.sum, np.sum)
_rule_of_reduction("ReduceProd", ops.prod, np.prod)
_rule_of_reduction("ReduceMax", _or_extreme(ops.amax, 0), np.max)
_rule_of_reduction("ReduceMin", _or_extreme(ops.amin, 1), np.min)
_rule_of_reduction("ReduceMean", ops.mean)
_rule_of_reduction("ReduceL1", lambda x, dims, keepdim: ops.sum(ops.abs(x), dims, keepdim))
_rule_of_reduction("ReduceL2", lambda x, dims, keepdim: ops.norm(x, 2, dims, keepdim))
_rule_of_reduction("ReduceSumSquare", lambda x, dims, keepdim: ops.sum(ops.square(x), dims, keepdim))
_rule_of_reduction("ReduceLogSum", lambda x, dims, keepdim: ops.log(ops.sum(x, dims, keepdim)))
_rule_of_reduction("ReduceLogSumExp", ops.logsumexp)


def _rule_of_index(op: str, function: Callable[..., Tensor]) -> None:
    @rule(op)
    def index(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        if not select_last_index:
            return function(x, axis, bool(keepdims))
        return x.shape[axis] - 1 - function(ops.flip(x, axis), axis, bool(keepdims))


_rule_of_index("ArgMax", ops.argmax)
_rule_of_index("ArgMin", ops.argmin)


@rule("CumSum")
def cumsum(x: Tensor, axis: Ints, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _cumulated(ops.cumsum, 0, x, axis[0], exclusive, reverse)


@rule("CumProd")
def cumprod(x: Tensor, axis: Ints, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _cumulated(ops.cumprod, 1, x, axis[0], exclusive, reverse)


def _cumulated(
    function: Callable[..., Tensor], start: int, x: Tensor, dim: int, exclusive: int, reverse: int
) -> Tensor:
    if reverse:
        return ops.flip(_cumulated(function, start, ops.flip(x, dim), dim, exclusive, 0), dim)
    if exclusive:  # the start, then all except the last
        length = x.shape[dim]
        pads = [0, 0] * (x.ndim - 1 - dim % x.ndim) + [1, 0]
        x = ops.pad(x, pads, value=start)[(slice(None),) * (dim % x.ndim) + (slice(0, length),)]
    return function(x, dim, dtype=x.dtype)
