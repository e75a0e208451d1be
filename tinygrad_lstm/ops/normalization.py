"""Normalization: of layers, batches and groups of channels, and by the root of the mean square."""

import math
from collections.abc import Sequence
from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import DEFAULT_FLOAT, is_float, resolution, widened_dtype
from tinygrad_lstm.backends.sums import average, inverse_deviations, scales_and_variances, total, total_of_products

from .._tensor import Tensor, operand
from ..arguments import integer, integers
from ..mode import no_grad
from .define import composite, op, shown_whole
from .elementwise import rsqrt
from .reduction import count, mean, narrowed, widened

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]


def _centred(xp: Any, x: Array, dims: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """x minus its mean, and 1 / √(variance + eps), at least in float32: the squares overflow float16."""
    wide = x.astype(widened_dtype(x.dtype), copy=False)
    centred = wide - average(xp, wide, dims, True)
    return centred, inverse_deviations(xp, centred, dims, eps)


def _normalized_rule(g: Any, x: Any, out: Any, dims: tuple[int, ...], eps: float, F: Any) -> Any:
    """The components of g along the mean and along the scale of x are removed."""
    share = 1 / count(x.shape, dims)
    along = (F.sum(g, dims, True) + out * F.sum(g * out, dims, True)) * share
    return (g - along) * F.inverse_deviation(x, dims, eps)


def _inverse_deviation_rule(g: Any, x: Any, out: Any, dims: tuple[int, ...], F: Any) -> Any:
    share = 1 / count(x.shape, dims)
    centred = x - F.sum(x, dims, True) * share
    return g * (out * out * out) * centred * -share


@op(promotion="float", x=_normalized_rule)
def normalized(xp: Any, x: Array, dims: tuple[int, ...], eps: float) -> Array:
    """(x - mean) / √(variance + eps) over `dims`."""
    centred, scale = _centred(xp, x, dims, eps)
    centred *= scale
    return centred.astype(x.dtype, copy=False)


@op(promotion="float", x=_inverse_deviation_rule)
def inverse_deviation(xp: Any, x: Array, dims: tuple[int, ...], eps: float) -> Array:
    """1 / √(variance + eps) over `dims`, which are kept."""
    return _centred(xp, x, dims, eps)[1].astype(x.dtype, copy=False)


def _composed_layer_norm(inputs: Sequence[Tensor | None], shape: tuple[int, ...], eps: float) -> Tensor:
    x, weight, bias = inputs
    assert x is not None
    out: Tensor = normalized(x, tuple(range(x.ndim - len(shape), x.ndim)), eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _layer_norm_rule(
    backend: Any,
    g: Array,
    inputs: Sequence[Array | None],
    saved: tuple[Array, Array],
    shape: tuple[int, ...],
    needs_grad: Sequence[bool],
) -> list[Array | None]:
    x, weight, _ = inputs
    rows = (_rows(array, shape) for array in (g, x))
    gradients = backend.layer_norm_backward((*rows, _rows(weight, ()), *saved), needs_grad)
    return [
        None if gradient is None or like is None else gradient.reshape(like.shape)
        for gradient, like in zip(gradients, inputs, strict=True)
    ]


def _rows(array: Array | None, shape: tuple[int, ...]) -> Array | None:
    """The array with its last dimensions, those of `shape`, flattened; or all dimensions, if the shape is ()."""
    if array is None:
        return None
    return array.reshape(-1, math.prod(shape)) if shape else array.reshape(-1)


@op(promotion="float", composed=_composed_layer_norm, fresh=True, inputs=_layer_norm_rule, name="layer_norm")
def layer_norm_op(
    backend: Any, inputs: Sequence[Array], shape: tuple[int, ...], eps: float, saving: bool = False
) -> tuple[Array, Any]:
    """x (..., *shape) normalized over its last dimensions, times weight, plus bias (each of `shape`, or None)."""
    x, weight, bias = inputs
    out, kept = backend.layer_norm_forward((_rows(x, shape), _rows(weight, ()), _rows(bias, ())), eps)
    return out.reshape(x.shape), kept


@composite
def layer_norm(
    x: Tensor, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias, over the last dimensions (Ba et al. 2016).

    Args:
        x: (..., *normalized_shape).
        normalized_shape: the lengths of the dimensions to normalize over.
        weight: of shape `normalized_shape`.
        bias: of shape `normalized_shape`.
        eps: keeps the divisor above 0. The variance is the biased one.

    Raises:
        ValueError: the shapes do not match, there is nothing to normalize over, or `eps` is negative or NaN.
    """
    shape = _ending("layer_norm", x, normalized_shape)
    _check_eps("layer_norm", eps)
    affine = [_of_shape("layer_norm", "weight", weight, shape, x), _of_shape("layer_norm", "bias", bias, shape, x)]
    out: Tensor = layer_norm_op([x, *affine], shape, float(eps))
    return out


@composite
def rms_norm(x: Tensor, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """x / √(mean of x² + eps) · weight, over the last dimensions (Zhang & Sennrich 2019).

    Args:
        x: (..., *normalized_shape).
        normalized_shape: the lengths of the dimensions to normalize over.
        weight: of shape `normalized_shape`.
        eps: keeps the divisor above 0; by default the distance from 1 to the next larger number of x's dtype.

    Raises:
        ValueError: the shapes do not match, there is nothing to normalize over, or `eps` is negative or NaN.
    """
    shape = _ending("rms_norm", x, normalized_shape)
    x = x if is_float(x.dtype) else x.astype(DEFAULT_FLOAT)
    eps = resolution(x.dtype) if eps is None else eps
    _check_eps("rms_norm", eps)
    weight = _of_shape("rms_norm", "weight", weight, shape, x)
    wide = widened(x)  # float16 cannot hold the squares
    out = narrowed(wide * rsqrt(mean(wide * wide, tuple(range(-len(shape), 0)), keepdim=True) + eps), x)
    return out if weight is None else out * weight


def _composed_affine_norm(
    inputs: Sequence[Tensor | None], dims: tuple[int, ...], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    x, weight, bias = inputs
    assert x is not None
    wide = widened(x)
    means = mean(wide, dims, keepdim=True)
    centred = wide - means
    variances = mean(centred * centred, dims, keepdim=True)
    out = centred * rsqrt(variances + eps)
    out = out if weight is None else out * weight
    return narrowed(out if bias is None else out + bias, x), means, variances


def _affine_norm_rule(
    backend: Any,
    g: tuple[Array, Array, Array],
    inputs: Sequence[Array | None],
    saved: tuple[Array, Array],
    dims: tuple[int, ...],
    needs_grad: Sequence[bool],
) -> list[Array | None]:
    xp, (x, weight, bias), (means, scales), (g_out, g_means, g_variances) = backend.xp, inputs, saved, g
    assert x is not None
    g_out = g_out.astype(means.dtype, copy=False)
    centred = x - means
    # The dimensions along which all elements have the same weight and bias are summed first.
    affine = next((each.shape for each in (weight, bias) if each is not None), ())
    affine = (1,) * (x.ndim - len(affine)) + affine
    alike = tuple(d for d in dims if affine[d] == 1)
    sums, products = total(xp, g_out, alike, True), total_of_products(xp, g_out, centred, alike) * scales
    batch = tuple(d for d, length in enumerate(affine) if length == 1)
    of_weight, of_bias = (
        None if each is None else total(xp, part, batch).reshape(each.shape).astype(each.dtype, copy=False)
        for each, part in ((weight, products), (bias, sums))
    )
    if not needs_grad[0]:
        return [None, of_weight, of_bias]
    if weight is not None:
        sums, products = sums * weight, products * weight
    # Changes of the mean or the scale of x have no effect on the output.
    share = 1 / count(x.shape, dims)
    along_mean = (total(xp, sums, dims, True) * scales - g_means) * share
    along_scale = (total(xp, products, dims, True) * scales - 2 * g_variances / scales) * share
    of_x = g_out * (scales if weight is None else scales * weight)
    centred *= along_scale * scales
    of_x -= centred
    of_x -= along_mean
    return [of_x.astype(x.dtype, copy=False), of_weight, of_bias]


@op(promotion="float", composed=_composed_affine_norm, fresh=True, inputs=_affine_norm_rule)
def affine_norm(
    backend: Any, inputs: Sequence[Array], dims: tuple[int, ...], eps: float, saving: bool = False
) -> tuple[tuple[Array, Array, Array], Any]:
    """x normalized over `dims`, times weight, plus bias (each broadcasts, or is None); and means and variances."""
    xp, (x, weight, bias) = backend.xp, inputs
    wide = x.astype(widened_dtype(x.dtype), copy=False)  # float16 cannot hold the squares
    means = average(xp, wide, dims, True)
    out = wide - means
    scales, variances = scales_and_variances(xp, out, dims, eps)
    out *= scales if weight is None else scales * weight
    if bias is not None:
        out += bias
    return (out.astype(x.dtype, copy=False), means, variances), (means, scales)


def _composed_group_norm(inputs: Sequence[Tensor | None], eps: float) -> Tensor:
    x = inputs[0]
    assert x is not None
    return _composed_affine_norm(inputs, tuple(range(2, x.ndim)), eps)[0]


def _group_norm_rule(
    backend: Any, g: Array, inputs: Sequence[Array | None], saved: tuple[Array, Array], needs_grad: Sequence[bool]
) -> list[Array | None]:
    x, weight, bias = inputs
    rows, weight, _ = _groups(x, weight, bias)
    if weight is None and bias is not None:
        weight = backend.xp.ones(bias.shape[:2], bias.dtype)
    gradients = backend.layer_norm_backward((g.reshape(rows.shape), rows, weight, *saved), needs_grad)
    return [
        None if gradient is None or like is None else gradient.reshape(like.shape)
        for gradient, like in zip(gradients, inputs, strict=True)
    ]


def _groups(x: Any, *affine: Array | None) -> tuple[Any, ...]:
    """Each group of x (N, G, K, ...) as a row; and the weights as (G, K)."""
    rows = x.reshape(x.shape[0] * x.shape[1], math.prod(x.shape[2:]))
    return rows, *(None if each is None else each.reshape(each.shape[:2]) for each in affine)


@op(promotion="float", composed=_composed_group_norm, fresh=True, inputs=_group_norm_rule, name="group_norm")
def group_norm_op(backend: Any, inputs: Sequence[Array], eps: float, saving: bool = False) -> tuple[Array, Any]:
    """x (N, G, K, ...) normalized for each of N and G, times weight, plus bias (each (G, K, 1 ...), or None)."""
    x, weight, bias = inputs
    out, kept = backend.layer_norm_forward(_groups(x, weight, bias), eps)
    return out.reshape(x.shape), kept


@composite
def group_norm(x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias, over each group of channels (Wu & He 2018).

    Args:
        x: (N, C, ...).
        num_groups: the number of groups, each of C / num_groups adjacent channels.
        weight: (C,).
        bias: (C,).
        eps: keeps the divisor above 0. The variance is the biased one. A group of one element becomes 0.

    Raises:
        TypeError: `num_groups` is not an integer.
        ValueError: the shapes do not match, `num_groups` does not divide C, or `eps` is negative or NaN.
    """
    _check_channels("group_norm", x)
    N, C, *rest = x.shape
    groups = integer("group_norm", "num_groups", num_groups)
    if groups < 1 or C % groups or not math.prod((C, *rest)):
        raise ValueError(
            f"group_norm: num_groups {groups} must divide the channels of x of shape {x.shape}, which holds elements"
        )
    _check_eps("group_norm", eps)
    shape = (groups, C // groups, *[1] * len(rest))
    given = (_per_channel("group_norm", what, value, x) for what, value in (("weight", weight), ("bias", bias)))
    affine = [None if each is None else each.reshape(shape) for each in given]
    grouped = x.reshape(N, groups, C // groups, *rest)
    out: Tensor = group_norm_op([grouped, *affine], float(eps))
    return out.reshape(x.shape)


@composite
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias, for each channel (Ioffe & Szegedy 2015).

    In training, mean and variance are those of x over all dimensions but the second. Running statistics are changed in
    place: to (1 - momentum) times themselves plus momentum times the mean and the unbiased variance of x. Otherwise
    mean and variance are the running ones.

    Args:
        x: (N, C, ...).
        running_mean, running_var: (C,); in training they may be None.
        weight: (C,).
        bias: (C,).
        momentum: a number, or a tensor of one element.
        eps: keeps the divisor above 0.

    Raises:
        ValueError: the shapes do not match, `eps` is negative or NaN, running statistics are missing, or a channel of x
            has fewer than two elements in training.
    """
    _check_channels("batch_norm", x)
    _check_eps("batch_norm", eps)
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    means, variances, weight, bias = (_per_channel("batch_norm", what, value, x) for what, value in given.items())
    if not training:
        if means is None or variances is None:
            raise ValueError("batch_norm: running_mean and running_var are needed when training is False")
        return with_statistics(x, means, variances, weight, bias, float(eps))
    dims = (0, *range(2, x.ndim))
    number = count(x.shape, dims)
    if number < 2:
        raise ValueError(f"batch_norm: x of shape {x.shape} needs two or more elements in each channel in training")
    affine = [None if each is None else each.reshape(_across(x)) for each in (weight, bias)]
    out: Tensor
    out, means, variances = affine_norm([x, *affine], dims, float(eps))
    with no_grad():
        for running, now in ((running_mean, means), (running_var, variances * (number / (number - 1)))):
            if running is not None:
                running.copy_(running * (1 - momentum) + now.reshape(running.shape) * momentum)
    return out


@shown_whole
def with_statistics(
    x: Tensor, means: Tensor, variances: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """`batch_norm` with given statistics, (C,) as are the weight and the bias."""
    scale = rsqrt(variances + eps) if weight is None else rsqrt(variances + eps) * weight
    shift = -means * scale if bias is None else bias - means * scale
    out = x * scale.reshape(_across(x)) + shift.reshape(_across(x))
    return out.astype(x.dtype) if is_float(x.dtype) else out


def _across(x: Tensor) -> tuple[int, ...]:
    """The shape in which an element for each channel broadcasts against x, (N, C, ...)."""
    return (-1, *[1] * (x.ndim - 2))


# -- arguments ---------------------------------------------------------------------------------------------------------


def _ending(name: str, x: Tensor, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    given = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    shape = integers(name, "normalized_shape", given, "an integer or several")
    if not shape or not math.prod(shape) or x.shape[-len(shape) :] != shape:
        raise ValueError(f"{name}: x of shape {x.shape} must end in normalized_shape {shape}, which holds elements")
    return shape


def _check_eps(name: str, eps: float) -> None:
    if not eps >= 0:
        raise ValueError(f"{name}: eps is {eps}; expected a number of 0 or more")


def _check_channels(name: str, x: Tensor) -> None:
    if x.ndim < 2:
        raise ValueError(f"{name}: x of shape {x.shape} must have the shape (N, C, ...)")


def _of_shape(name: str, what: str, value: Any, shape: tuple[int, ...], x: Tensor) -> Tensor | None:
    tensor = None if value is None else operand(value, x.device)
    if tensor is not None and tensor.shape != shape:
        raise ValueError(f"{name}: {what} of shape {tensor.shape} must have normalized_shape {shape}")
    return tensor


def _per_channel(name: str, what: str, value: Any, x: Tensor) -> Tensor | None:
    tensor = None if value is None else operand(value, x.device)
    if tensor is not None and tensor.shape != x.shape[1:2]:
        raise ValueError(f"{name}: {what} of shape {tensor.shape} must have an element for each channel of {x.shape}")
    return tensor
