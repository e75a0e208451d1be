"""Reductions, and cumulative sums."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_float

from ..... import ops
from ....._tensor import Tensor
from ...rules import Ints
from ..rules import rule

__all__: list[str] = []


def _rule_of_reduction(op: str, function: Callable[..., Any], of_host: Callable[..., Any] | None) -> None:
    """Registers a reduction; `of_host` is that of arrays on the host."""

    @rule(op)
    def reduced(x: Any, axes: Ints, *, keep_dims: bool = False) -> Any:
        dims = tuple(axes)
        if not dims:
            return x
        if not isinstance(x, Tensor):
            assert of_host is not None
            return of_host(x, axis=dims, keepdims=keep_dims)
        return function(x, dims, keepdim=keep_dims)


def _euclidean(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    return ops.norm(x, 2, dims, keepdim=keepdim)


def _mean(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The mean; of integers it is rounded toward zero."""
    if is_float(x.dtype):
        return ops.mean(x, dims, keepdim=keepdim)
    number = math.prod([x.shape[dim] for dim in dims])
    return ops.sum(x, dims, keepdim=keepdim).div(number, rounding_mode="trunc").astype(x.dtype)


def _mean_on_host(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    mean = np.mean(x, axis=axis, keepdims=keepdims)
    return mean if is_float(x.dtype) else np.trunc(mean.astype(np.float64)).astype(np.int64)


def _as_x(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Returns a function whose result has the dtype of its input."""
    return lambda x, dims, keepdim: function(x, dims, keepdim=keepdim).astype(x.dtype)


_rule_of_reduction("Sum", _as_x(ops.sum), np.sum)
_rule_of_reduction("Prod", _as_x(ops.prod), np.prod)
_rule_of_reduction("Mean", _mean, _mean_on_host)
_rule_of_reduction("Max", ops.amax, np.max)
_rule_of_reduction("Min", ops.amin, np.min)
_rule_of_reduction("All", ops.all, np.all)
_rule_of_reduction("Any", ops.any, np.any)
_rule_of_reduction("EuclideanNorm", _euclidean, None)


@rule("Cumsum")
def cumsum(x: Tensor, axis: Ints, *, exclusive: bool = False, reverse: bool = False) -> Tensor:
    return _cumulative(ops.cumsum, x, axis[0], exclusive, reverse, 0)


@rule("Cumprod")
def cumprod(x: Tensor, axis: Ints, *, exclusive: bool = False, reverse: bool = False) -> Tensor:
    return _cumulative(ops.cumprod, x, axis[0], exclusive, reverse, 1)


def _cumulative(
    function: Callable[..., Tensor], x: Tensor, dim: int, exclusive: bool, reverse: bool, first: int
) -> Tensor:
    x = ops.flip(x, dim) if reverse else x
    if exclusive:
        dim %= x.ndim
        shifted = ops.pad(x, [0, 0] * (x.ndim - 1 - dim) + [1, 0], "constant", first)
        x = shifted[(slice(None),) * dim + (slice(0, x.shape[dim]),)]
    total = function(x, dim).astype(x.dtype)
    return ops.flip(total, dim) if reverse else total


@rule("L2Loss")
def l2_loss(x: Tensor) -> Tensor:
    return ops.sum(x * x) / 2
