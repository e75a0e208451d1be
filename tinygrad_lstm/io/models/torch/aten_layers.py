"""PyTorch's functions of layers: convolutions, normalizations, pools, embeddings and recurrent cells.

Reference: PyTorch's `aten/src/ATen/native/native_functions.yaml`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.models.activations import ACTIVATIONS

from .... import ops
from ...._tensor import Tensor
from ..onnx.ops.windows import conv_transpose
from .aten import aten

__all__: list[str] = []


@aten("hardswish")
def hardswish(x: Tensor) -> Any:
    return x * ops.hardsigmoid(x)


@aten("softmin")
def softmin(x: Tensor, dim: int) -> Any:
    return ops.softmax(-x, dim)


@aten("softsign")
def softsign(x: Tensor) -> Any:
    return ops.softsign(x)


@aten("threshold")
def threshold(x: Tensor, threshold: float, value: float) -> Any:
    return ops.where(x > threshold, x, value)


@aten("celu")
def celu(x: Tensor, alpha: float = 1.0) -> Any:
    return ACTIVATIONS["celu"](x, alpha)


@aten("hardshrink")
def hardshrink(x: Tensor, lambd: float = 0.5) -> Any:
    return ACTIVATIONS["hard_shrink"](x, lambd)


@aten("softshrink")
def softshrink(x: Tensor, lambd: float = 0.5) -> Any:
    return ACTIVATIONS["soft_shrink"](x, lambd)


@aten("embedding")
def embedding(weight: Tensor, ids: Tensor, padding_idx: int = -1, *others: Any) -> Any:
    return ops.embedding(ids, weight, None if padding_idx < 0 else padding_idx)


@aten("_convolution", "convolution")
def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *others: Any,
) -> Any:
    if weight.ndim not in (3, 4):
        raise ValueError(f"a convolution in {weight.ndim - 2} dimensions is not supported")
    if transposed:
        return transposed_convolution(x, weight, bias, stride, padding, output_padding, groups, dilation)
    run = ops.conv1d if weight.ndim == 3 else ops.conv2d
    return run(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


@aten("conv_transpose2d")
def transposed_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    given = (stride, padding, output_padding, dilation)
    strides, pads, more, dilations = (
        [each] * (weight.ndim - 2) if isinstance(each, int) else [*each] for each in given
    )
    return conv_transpose(
        x, weight, bias, dilations=dilations, group=groups, output_padding=more, pads=pads * 2, strides=strides
    )


@aten("_convolution_mode")
def convolution_mode(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: str, dilation: Any, groups: int
) -> Any:
    run = ops.conv1d if weight.ndim == 3 else ops.conv2d
    return run(x, weight, bias, tuple(stride), padding, tuple(dilation), groups)


@aten("batch_norm")
def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *others: Any,
) -> Any:
    return ops.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


@aten("_native_batch_norm_legit_no_training")
def batch_norm_no_training(
    x: Tensor, weight: Any, bias: Any, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, None, None]:
    return ops.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps), None, None


@aten("layer_norm")
def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *others: Any
) -> Any:
    return ops.layer_norm(x, tuple(shape), weight, bias, eps)


@aten("group_norm")
def group_norm(x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *others: Any) -> Any:
    return ops.group_norm(x, groups, weight, bias, eps)


@aten("instance_norm")
def instance_norm(
    x: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *others: Any,
) -> Any:
    if not use_input_stats:
        return ops.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return ops.group_norm(x, x.shape[1], weight, bias, eps)


@aten("_weight_norm")
def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Any:
    others = tuple([each for each in range(v.ndim) if each != dim]) if dim != -1 else None
    return v * (g / ops.norm(v, 2, others, others is not None))


@aten("max_pool1d")
def max_pool1d(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    return ops.max_pool1d(x, _per_dim(kernel_size), _per_dim(stride), _per_dim(padding), _per_dim(dilation), ceil_mode)


@aten("max_pool2d")
def max_pool2d(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    return ops.max_pool2d(x, _per_dim(kernel_size), _per_dim(stride), _per_dim(padding), _per_dim(dilation), ceil_mode)


@aten("avg_pool1d")
def avg_pool1d(x: Tensor, kernel_size: Any, stride: Any = None, *others: Any) -> Any:
    return ops.avg_pool1d(x, _per_dim(kernel_size), _per_dim(stride), *map(_per_dim, others))


@aten("avg_pool2d")
def avg_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, *others: Any) -> Any:
    return ops.avg_pool2d(x, _per_dim(kernel_size), _per_dim(stride), *map(_per_dim, others))


@aten("adaptive_avg_pool1d")
def adaptive_avg_pool1d(x: Tensor, output_size: Any) -> Any:
    return ops.adaptive_avg_pool1d(x, output_size[0])


@aten("adaptive_avg_pool2d")
def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Any:
    return ops.adaptive_avg_pool2d(x, tuple(output_size))


@aten("adaptive_max_pool1d")
def adaptive_max_pool1d(x: Tensor, output_size: Any) -> Any:
    return ops.adaptive_max_pool1d(x, output_size[0], return_indices=True)


@aten("adaptive_max_pool2d")
def adaptive_max_pool2d(x: Tensor, output_size: Any) -> Any:
    return ops.adaptive_max_pool2d(x, tuple(output_size), return_indices=True)


def _per_dim(value: Any) -> Any:
    """A setting for each dimension; an empty list of strides is the default."""
    return (tuple(value) or None) if isinstance(value, Sequence) else value


@aten("einsum")
def einsum(equation: str, operands: Sequence[Tensor], path: Any = None) -> Any:
    return ops.einsum(equation, *operands)


@aten("upsample_nearest1d", "upsample_nearest2d")
def upsample_nearest(x: Tensor, output_size: Any = None, scales: Any = None, *others: Any) -> Any:
    factors = scales if isinstance(scales, Sequence) else [scales, *others][: x.ndim - 2]
    return interpolate(x, output_size or None, factors)


@aten("interpolate")
def interpolate(x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *others: Any) -> Any:
    """Each element is that of the nearest place before it. Places are computed in float32, as by PyTorch."""
    if mode != "nearest":
        raise ValueError(f"interpolate: the mode {mode!r} is not supported, only 'nearest' is")
    for dim in range(2, x.ndim):
        before = x.shape[dim]
        factor = _of_dim(scale_factor, dim)
        after = _of_dim(size, dim) if size is not None else math.floor(before * factor)
        by = np.float32(1 / factor if factor else before / after)
        places = np.minimum(np.floor(np.arange(after, dtype=np.float32) * by).astype(np.int64), before - 1)
        x = ops.index_select(x, dim, places)
    return x


def _of_dim(value: Any, dim: int) -> Any:
    return value[dim - 2] if isinstance(value, Sequence) else value


# -- recurrent cells ---------------------------------------------------------------------------------------------------


@aten("lstm_cell")
def lstm_cell(
    x: Tensor, state: Sequence[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> Any:
    h, c = state
    i, f, g, o = ops.chunk(ops.linear(x, w_ih, b_ih) + ops.linear(h, w_hh, b_hh), 4, -1)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(c), c


@aten("gru_cell")
def gru_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
    r, z, n = ops.chunk(ops.linear(x, w_ih, b_ih), 3, -1)
    r_h, z_h, n_h = ops.chunk(ops.linear(h, w_hh, b_hh), 3, -1)
    z, n = ops.sigmoid(z + z_h), ops.tanh(n + ops.sigmoid(r + r_h) * n_h)
    return (1 - z) * n + z * h


@aten("rnn_tanh_cell")
def rnn_tanh_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
    return ops.tanh(ops.linear(x, w_ih, b_ih) + ops.linear(h, w_hh, b_hh))


@aten("rnn_relu_cell")
def rnn_relu_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
    return ops.relu(ops.linear(x, w_ih, b_ih) + ops.linear(h, w_hh, b_hh))
