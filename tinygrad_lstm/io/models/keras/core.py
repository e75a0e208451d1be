"""Layers that are products, tables and functions of single elements, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.models.activations import ACTIVATIONS

from .... import ops
from ...._tensor import Tensor, tensor
from ....creation import randn_like
from ....nn import Dropout, Embedding, Linear, Module, Parameter
from ..shared.noise import alpha_dropout, kept
from .functions import Function, activation_function
from .rules import Layer, UnsupportedError, Weights, layer

__all__ = ["activated", "parameter", "same"]


def parameter(array: HostArray) -> Parameter:
    """A parameter with the values of an array."""
    return Parameter(tensor(array))


def same(x: Tensor) -> Tensor:
    return x


def activated(module: Module, x: Tensor, activation: Function) -> Tensor:
    """A module's output, then a function of it."""
    return activation(module(x))


@layer("InputLayer")
def input_layer(*, sparse: bool = False, ragged: bool = False, optional: bool = False) -> Layer:
    if sparse or ragged:
        raise UnsupportedError("sparse or ragged inputs")
    return Layer(same)


@layer("Dense", weights=("kernel", "bias if use_bias"))
def dense(weights: Weights, *, units: int, activation: Any = None, use_bias: bool = True, keras: int) -> Layer:
    inputs, outputs = weights["kernel"].shape
    linear = Linear(inputs, outputs, bias=use_bias)
    linear.weight = parameter(weights["kernel"].T)
    if use_bias:
        linear.bias = parameter(weights["bias"])
    return Layer(partial(activated, activation=activation_function(activation, keras)), linear, mask="keep")


class EinsumDense(Module):
    """A sum of products of x and `kernel`, by an equation as of `tg.einsum`, plus `bias`."""

    def __init__(self, equation: str, kernel: HostArray, bias: HostArray | None) -> None:
        self.equation = equation
        self.kernel = parameter(kernel)
        self.bias = None if bias is None else parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = ops.einsum(self.equation, x, self.kernel)
        return out if self.bias is None else out + self.bias


@layer("EinsumDense", weights=("kernel", "bias if bias_axes"))
def einsum_dense(
    weights: Weights, *, equation: str, output_shape: Any, activation: Any = None, bias_axes: Any = None, keras: int
) -> Layer:
    module = EinsumDense(equation, weights["kernel"], weights.get("bias"))
    return Layer(partial(activated, activation=activation_function(activation, keras)), module)


@layer("Embedding", weights=("embeddings",))
def embedding(
    weights: Weights, *, input_dim: int, output_dim: int, mask_zero: bool = False, input_length: Any = None
) -> Layer:
    table = weights["embeddings"]
    module = Embedding(*table.shape)
    module.weight = parameter(table)
    return Layer(_embedded, module, mask=_not_zero if mask_zero else None, makes_mask=mask_zero)


def _embedded(module: Module, ids: Tensor) -> Tensor:
    out: Tensor = module(ids.astype("int64") if is_float(ids.dtype) else ids)
    return out


def _not_zero(ids: Tensor, mask: Any) -> Tensor:
    return ids != 0


@layer("Masking")
def masking(*, mask_value: float = 0.0) -> Layer:
    return Layer(partial(_masked, value=mask_value), mask=partial(_differs, value=mask_value), makes_mask=True)


def _differs(x: Tensor, mask: Any, value: float) -> Tensor:
    found: Tensor = ops.any(x != value, dim=-1)
    return found


def _masked(x: Tensor, value: float) -> Tensor:
    return ops.where(_differs(x, None, value).unsqueeze(-1), x, 0.0)


# -- functions of single elements --------------------------------------------------------------------------------------


@layer("Activation")
def activation(*, activation: Any, keras: int) -> Layer:
    return Layer(activation_function(activation, keras), mask="keep")


@layer("Identity")
def identity(*, keras: int) -> Layer:
    return Layer(same, mask="keep" if keras > 2 else None)


@layer("ActivityRegularization")
def activity_regularization(*, l1: float = 0.0, l2: float = 0.0) -> Layer:
    return Layer(same, mask="keep")


@layer("ReLU")
def relu(*, max_value: float | None = None, negative_slope: float | None = 0.0, threshold: float | None = 0.0) -> Layer:
    function = partial(_relu, largest=max_value, slope=negative_slope or 0.0, threshold=threshold or 0.0)
    return Layer(function, mask="keep")


def _relu(x: Tensor, largest: float | None, slope: float, threshold: float) -> Tensor:
    out = ops.where(x >= threshold, x, (x - threshold) * slope) if slope or threshold else ops.relu(x)
    return out if largest is None else ops.minimum(out, largest)


@layer("LeakyReLU")
def leaky_relu(*, negative_slope: float | None = None, alpha: float = 0.3) -> Layer:
    slope = float(alpha if negative_slope is None else negative_slope)
    return Layer(partial(ACTIVATIONS["leaky_relu"], alpha=slope), mask="keep")


@layer("ELU")
def elu(*, alpha: float = 1.0) -> Layer:
    return Layer(partial(ops.elu, alpha=float(alpha)), mask="keep")


@layer("ThresholdedReLU")
def thresholded_relu(*, theta: float = 1.0) -> Layer:
    return Layer(partial(_above, theta=theta), mask="keep")


def _above(x: Tensor, theta: float) -> Tensor:
    return ops.where(x > theta, x, 0.0)


class PReLU(Module):
    """x if x > 0, else `alpha` x."""

    def __init__(self, alpha: HostArray) -> None:
        self.alpha = parameter(alpha)

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x) - self.alpha * ops.relu(-x)


@layer("PReLU", weights=("alpha",))
def prelu(weights: Weights, *, shared_axes: Any = None) -> Layer:
    return Layer(Module.__call__, PReLU(weights["alpha"]), mask="keep")


@layer("Softmax")
def softmax(*, axis: int | Sequence[int] = -1) -> Layer:
    axes = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    return Layer(partial(_softmax, axes=axes), mask="keep", takes_mask=True)


def _softmax(x: Tensor, axes: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
    if mask is not None:
        x = x + ops.where(mask, 0.0, -3.4028235e38)
    if len(axes) == 1:
        return ops.softmax(x, dim=axes[0])
    return ops.exp(x - ops.logsumexp(x, dim=axes, keepdim=True))


@layer("Rescaling")
def rescaling(*, scale: Any, offset: Any = 0.0, keras: int) -> Layer:
    numbers = {name: _number(value) for name, value in (("scale", scale), ("offset", offset))}
    return Layer(partial(_rescaled, **numbers), mask="keep" if keras > 2 else None)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else tuple(map(_number, value))


def _rescaled(x: Tensor, scale: Any, offset: Any) -> Tensor:
    scale, offset = (
        tensor(each, dtype=x.dtype, device=x.device) if isinstance(each, tuple) else each for each in (scale, offset)
    )
    out: Tensor = x * scale + offset
    return out


@layer("Normalization", weights=("mean if not mean", "variance if not mean", "count if not mean"))
def normalization(
    weights: Weights,
    *,
    axis: int | Sequence[int] | None = -1,
    mean: Any = None,
    variance: Any = None,
    invert: bool = False,
    keras: int,
) -> Layer:
    given = {"mean": mean, "variance": variance}
    numbers = [tensor(weights[name] if name in weights else _number(value)) for name, value in given.items()]
    module = Normalization(numbers[0], numbers[1], axis, invert)
    return Layer(Module.__call__, module, mask="keep" if keras > 2 else None)


class Normalization(Module):
    """(x - mean) / √variance along axes, or the inverse."""

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Tensor, variance: Tensor, axis: Any, invert: bool) -> None:
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)
        self.axis = [axis] if isinstance(axis, int) else list(axis or ())
        self.invert = invert

    def forward(self, x: Tensor) -> Tensor:
        kept = {axis % x.ndim for axis in self.axis}
        shape = [x.shape[dim] if dim in kept else 1 for dim in range(x.ndim)]
        mean, variance = (
            each.reshape(shape) if each.size > 1 else each.reshape(()) for each in (self.mean, self.variance)
        )
        deviation = ops.clamp(ops.sqrt(variance), 1e-7, None)
        out: Tensor = mean + x * deviation if self.invert else (x - mean) / deviation
        return out


# -- noise, in training ------------------------------------------------------------------------------------------------


@layer("Dropout")
def dropout(*, rate: float, noise_shape: Sequence[int | None] | None = None) -> Layer:
    module = Dropout(rate) if noise_shape is None else SharedDropout(rate, tuple(noise_shape))
    return Layer(Module.__call__, module, mask="keep")


@layer("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
def spatial_dropout(
    *, rate: float, data_format: str | None = None, noise_shape: Sequence[int | None] | None = None
) -> Layer:
    return Layer(Module.__call__, SharedDropout(rate, None, data_format == "channels_first"), mask="keep")


class SharedDropout(Module):
    """Dropout whose choices are shared along dimensions.

    Args:
        rate: the probability.
        shape: the shape of the choices, with None for a dimension's own length; by default that of whole channels.
        channels_first: whether the channels are dimension 1 instead of the last one.
    """

    def __init__(self, rate: float, shape: tuple[int | None, ...] | None, channels_first: bool = False) -> None:
        self.rate = rate
        self.shape = shape
        self.channels_first = channels_first

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        channel = 1 if self.channels_first else x.ndim - 1
        shape = self.shape or tuple(None if dim in (0, channel) else 1 for dim in range(x.ndim))
        return x * kept(x, self.rate, _lengths(shape, x))


def _lengths(shape: Sequence[int | None], x: Tensor) -> list[int]:
    """A shape in which None is the length of x."""
    return [own if length is None else length for length, own in zip(shape, x.shape, strict=True)]


@layer("GaussianNoise")
def gaussian_noise(*, stddev: float) -> Layer:
    return Layer(Module.__call__, Noise(stddev, multiplies=False), mask="keep")


@layer("GaussianDropout")
def gaussian_dropout(*, rate: float) -> Layer:
    return Layer(Module.__call__, Noise((rate / (1 - rate)) ** 0.5, multiplies=True), mask="keep")


class Noise(Module):
    """In training, adds normal noise of this deviation, or multiplies by one plus it."""

    def __init__(self, deviation: float, multiplies: bool) -> None:
        self.deviation = deviation
        self.multiplies = multiplies

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = randn_like(x) * self.deviation
        return x * (noise + 1.0) if self.multiplies else x + noise


@layer("AlphaDropout")
def selu_dropout(*, rate: float, noise_shape: Sequence[int | None] | None = None) -> Layer:
    return Layer(Module.__call__, AlphaDropout(rate, None if noise_shape is None else tuple(noise_shape)), mask="keep")


class AlphaDropout(Module):
    """Dropout for selu, in training.

    Args:
        rate: the probability.
        shape: the shape of the choices, with None for a dimension's own length; by default each element has its own.
    """

    def __init__(self, rate: float, shape: tuple[int | None, ...] | None) -> None:
        self.rate = rate
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        return alpha_dropout(x, self.rate, _lengths(self.shape or (None,) * x.ndim, x))
