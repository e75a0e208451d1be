"""Normalization.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from typing import Any

from tinygrad_lstm.backends.dtypes import widened_dtype

from ..... import ops
from ....._tensor import Tensor
from ...rules import Statistic, rule

__all__: list[str] = []


@rule("BatchNormalization", since=7)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Statistic,
    var: Statistic,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Any:
    if not spatial:  # until version 8: each element of a row has a mean
        return (x - mean) * ops.rsqrt(var + epsilon) * scale + bias
    if not training_mode:
        return ops.batch_norm(x, mean, var, scale, bias, eps=epsilon)
    dims = (0, *range(2, x.ndim))
    means, variances = ops.mean(x, dims), ops.var(x, dims, correction=0)
    y = ops.batch_norm(x, None, None, scale, bias, training=True, eps=epsilon)
    return y, momentum * mean + (1 - momentum) * means, momentum * var + (1 - momentum) * variances


@rule("LayerNormalization")
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    outputs: int,
) -> Any:
    axis %= x.ndim
    shape = x.shape[axis:]
    if outputs == 1 and scale.shape == shape and (bias is None or bias.shape == shape):
        return ops.layer_norm(x, shape, scale, bias, epsilon)
    dims = tuple(range(axis, x.ndim))
    wide = x.astype(widened_dtype(x.dtype))
    mean = ops.mean(wide, dims, keepdim=True)
    inverse = ops.rsqrt(ops.var(wide, dims, correction=0, keepdim=True) + epsilon)
    y = ops.layer_norm(x, shape, eps=epsilon) * scale
    return y if bias is None else y + bias, mean, inverse


@rule("RMSNormalization")
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return ops.rms_norm(x, x.shape[axis:], eps=epsilon) * scale


@rule("InstanceNormalization", since=6)
def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    return ops.group_norm(x, x.shape[1], scale, bias, epsilon)


@rule("GroupNormalization", since=18)
def group_normalization_by_groups(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5
) -> Tensor:
    """Until version 20 each group has a scale and a bias."""
    per_group = x.shape[1] // num_groups
    scale, bias = (ops.repeat_interleave(each, per_group) for each in (scale, bias))
    return ops.group_norm(x, num_groups, scale, bias, epsilon)


@rule("GroupNormalization", since=21)
def group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return ops.group_norm(x, num_groups, scale, bias, epsilon)


@rule("LpNormalization")
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    norm = ops.norm(x, p, axis, keepdim=True)
    return x / ops.masked_fill(norm, norm == 0, 1)


@rule("MeanVarianceNormalization")
def mean_variance_normalization(x: Tensor, *, axes: list[int] | None = None) -> Tensor:
    dims = tuple([0, 2, 3] if axes is None else axes)
    mean, std = ops.mean(x, dims, keepdim=True), ops.std(x, dims, correction=0, keepdim=True)
    return (x - mean) / (std + 1e-9)


@rule("LRN")
def lrn(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """Divides by the squares of `size` channels around each."""
    widths = [0, 0] * (x.ndim - 2) + [(size - 1) // 2, math.ceil((size - 1) / 2)]
    squares = ops.unfold(ops.pad(ops.square(x), widths), 1, size, 1)
    return x / (bias + alpha / size * ops.sum(squares, -1)) ** beta
