"""PyTorch's functions of layers: convolutions, normalizations, pools, embeddings and recurrent cells.

Reference: PyTorch's `aten/src/ATen/native/native_functions.yaml`.
"""

import math
from collections.abc import Sequence
from typing import Any

from tinygrad_lstm.models.activations import ACTIVATIONS

from .... import creation, ops
from ...._tensor import Tensor
from ..shared.pools import average_pool, max_pool
from ..shared.windows import conv, conv_transpose
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


@aten("tanhshrink")
def tanhshrink(x: Tensor) -> Any:
    return x - ops.tanh(x)


@aten("hardshrink")
def hardshrink(x: Tensor, lambd: float = 0.5) -> Any:
    return ACTIVATIONS["hard_shrink"](x, lambd)


@aten("softshrink")
def softshrink(x: Tensor, lambd: float = 0.5) -> Any:
    return ACTIVATIONS["soft_shrink"](x, lambd)


@aten("embedding")
def embedding(weight: Tensor, ids: Tensor, padding_idx: int = -1, *others: Any) -> Any:
    return ops.embedding(ids, weight, None if padding_idx < 0 else padding_idx)


@aten("bags")
def bags(
    ids: Tensor,
    weight: Tensor,
    mode: str,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
    offsets: Tensor | None = None,
    per_sample_weights: Tensor | None = None,
) -> Any:
    """The bags of the layer EmbeddingBag: the rows of ids (B, N), or ids (N,) with offsets."""
    if ids.ndim == 2:
        offsets = creation.arange(0, ids.size, ids.shape[1], device=ids.device)
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.flatten()
    if offsets is None:
        raise ValueError("EmbeddingBag: ids of one dimension need offsets")
    number = ("sum", "mean", "max").index(mode)
    found = embedding_bag(
        weight, ids.flatten(), offsets, False, number, False, per_sample_weights, include_last_offset, padding_idx
    )
    return found[0]


@aten("functional.embedding_bag")
def functional_embedding_bag(
    ids: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    if max_norm is not None:
        raise ValueError(f"embedding_bag: max_norm={max_norm} is not supported")
    return bags(ids, weight, mode, include_last_offset, padding_idx, offsets, per_sample_weights)


@aten("embedding_bag", "_embedding_bag_forward_only", "_embedding_bag")
def embedding_bag(
    weight: Tensor,
    ids: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Any, ...]:
    """ids (N,), of which bag k has those from offsets[k] on: (bags, E). Modes: 0 sum, 1 mean, 2 max."""
    bags = offsets.shape[0] - include_last_offset
    bag = ops.sum((offsets[:bags, None] <= creation.arange(ids.shape[0], device=ids.device)).astype(ids.dtype), 0) - 1
    counted = (bag == creation.arange(bags, device=ids.device)[:, None]).astype(weight.dtype)  # (bags, N)
    if padding_idx is not None and padding_idx >= 0:
        counted = counted * (ids != padding_idx).astype(weight.dtype)
    rows = ops.embedding(ids, weight)  # (N, E)
    numbers = ops.sum(counted, 1, keepdim=True)
    if mode == 2:
        inside = ops.unsqueeze(counted, 2) > 0
        largest = ops.amax(ops.where(inside, rows, -math.inf), 1)
        return ops.where(numbers > 0, largest, 0.0), None, None, None
    if per_sample_weights is not None:
        rows = rows * ops.unsqueeze(per_sample_weights, 1)
    total = counted @ rows
    return (total if mode == 0 else total / ops.clamp(numbers, 1.0)), None, None, None


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
    if transposed:
        return transposed_convolution(x, weight, bias, stride, padding, output_padding, groups, dilation)
    if weight.ndim == 5:
        return conv3d(x, weight, bias, stride, padding, dilation, groups)
    run = ops.conv1d if weight.ndim == 3 else ops.conv2d
    return run(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


@aten("conv3d")
def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    sizes: dict[str, Any] = {"strides": _listed(stride, 3), "dilations": _listed(dilation, 3), "group": groups}
    if isinstance(padding, str):
        return conv(x, weight, bias, auto_pad={"same": "SAME_UPPER", "valid": "VALID"}[padding], **sizes)
    return conv(x, weight, bias, pads=_listed(padding, 3) * 2, **sizes)


@aten("padded_convolution")
def padded_convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, dilation: Any, groups: int, mode: str, padding: Any
) -> Any:
    """A convolution of a layer whose `padding_mode` is not zeros; `padding` is that of `pad`."""
    run = {3: ops.conv1d, 4: ops.conv2d, 5: conv3d}[weight.ndim]
    return run(ops.pad(x, tuple(padding), mode), weight, bias, tuple(stride), 0, tuple(dilation), groups)


@aten("conv_transpose2d", "conv_transpose3d")
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
    strides, pads, more, dilations = (_listed(each, weight.ndim - 2) for each in given)
    return conv_transpose(
        x, weight, bias, dilations=dilations, group=groups, output_padding=more, pads=pads * 2, strides=strides
    )


@aten("_convolution_mode")
def convolution_mode(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: str, dilation: Any, groups: int
) -> Any:
    run = {3: ops.conv1d, 4: ops.conv2d, 5: conv3d}[weight.ndim]
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


@aten("tracked_instance_norm")
def tracked_instance_norm(
    x: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, tracked: bool, training: bool, eps: float
) -> Any:
    """The layers InstanceNorm.

    Raises:
        ValueError: in training, it has running statistics, which would change.
    """
    if tracked and training:
        raise ValueError(
            "InstanceNorm with track_running_stats=True is not supported in training; to train the model with the "
            "statistics that it has, call eval() of this layer after model.train()"
        )
    return instance_norm(x, weight, bias, running_mean, running_var, not tracked, 0.0, eps)


@aten("local_response_norm")
def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Divides by a power of the mean square of the channels around each."""
    channels = ops.pad((x * x).swapaxes(1, -1), (size // 2, (size - 1) // 2)).swapaxes(1, -1)
    return x / (alpha * ops.mean(ops.unfold(channels, 1, size, 1), -1) + k) ** beta


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


@aten("max_pool3d")
def max_pool3d(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    return max_pool(
        x,
        kernel_shape=_listed(kernel_size, 3),
        strides=_listed(stride or kernel_size, 3),
        pads=_listed(padding, 3) * 2,
        dilations=_listed(dilation, 3),
        ceil_mode=int(ceil_mode),
        outputs=1,
    )[0]


@aten("avg_pool3d")
def avg_pool3d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    kernel = _listed(kernel_size, 3)
    mean = average_pool(
        x,
        kernel_shape=kernel,
        strides=_listed(stride or kernel_size, 3),
        pads=_listed(padding, 3) * 2,
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad or divisor_override is not None),
    )
    return mean if divisor_override is None else mean * (math.prod(kernel) / divisor_override)


@aten("lp_pool")
def lp_pool(x: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(N, C, ...): the norms of windows; of the sum of powers, whose sign PyTorch keeps."""
    dims = x.ndim - 2
    kernel, pool = _listed(kernel_size, dims), ops.avg_pool1d if dims == 1 else ops.avg_pool2d
    means = pool(x**norm_type, tuple(kernel), _per_dim(stride), 0, ceil_mode)
    return (ops.sign(means) * ops.relu(ops.abs(means)) * math.prod(kernel)) ** (1 / norm_type)


@aten("adaptive_avg_pool3d")
def adaptive_avg_pool3d(x: Tensor, output_size: Any) -> Any:
    """The mean over the last two dimensions, then over the first: parts do not depend on the other dimensions."""
    depth, *others = _per_dim(output_size) if not isinstance(output_size, int) else [output_size] * 3
    *outer, D, H, W = x.shape
    flat = ops.adaptive_avg_pool2d(x.reshape((-1, D, H, W)), tuple(others))
    rows = flat.reshape((*flat.shape[:2], -1)).swapaxes(1, 2)
    return (
        ops.adaptive_avg_pool1d(rows, D if depth is None else depth)
        .swapaxes(1, 2)
        .reshape((*outer, -1, *flat.shape[2:]))
    )


def _listed(value: Any, dims: int) -> list[int]:
    """A setting for each dimension, as a list."""
    return [value] * dims if isinstance(value, int) else [*value] * (dims if len(value) == 1 else 1)


def _per_dim(value: Any) -> Any:
    """A setting for each dimension; an empty list of strides is the default."""
    return (tuple(value) or None) if isinstance(value, Sequence) else value


@aten("einsum")
def einsum(equation: str, operands: Sequence[Tensor], path: Any = None) -> Any:
    return ops.einsum(equation, *operands)


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
