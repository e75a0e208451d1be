"""Normalizations. Their axes are any dimensions except the batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from .... import ops
from ...._tensor import Tensor, tensor
from ....creation import ones, zeros
from ....mode import no_grad
from ....nn import BatchNorm1d, GroupNorm, Module, RMSNorm
from .core import parameter
from .operations import normalized
from .rules import Layer, UnsupportedError, Weights, layer

__all__: list[str] = []


def _scaled(module: Any, weights: Weights, number: int) -> Any:
    """A module with the weights gamma and beta, or constants in their place."""
    for name, role, make in (("weight", "gamma", ones), ("bias", "beta", zeros)):
        if role in weights:
            setattr(module, name, parameter(weights[role].reshape(-1)))
        else:
            delattr(module, name)
            module.register_buffer(name, make(number))
    return module


def _single(axis: Any) -> int:
    axes = [axis] if isinstance(axis, int) else list(axis)
    if len(axes) != 1:
        raise UnsupportedError(f"the axes {axes}")
    return int(axes[0])


@layer(
    "BatchNormalization",
    "BatchNormalizationV1",
    "BatchNormalizationV2",
    "SyncBatchNormalization",
    weights=("gamma if scale", "beta if center", "moving_mean", "moving_variance"),
)
def batch_normalization(
    weights: Weights,
    *,
    axis: int | Sequence[int] = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    synchronized: bool = False,
    renorm: bool = False,
    renorm_momentum: float = 0.99,
    renorm_clipping: Any = None,
    fused: Any = None,
    virtual_batch_size: Any = None,
    trainable: bool = True,
    keras: int,
) -> Layer:
    if renorm or virtual_batch_size:
        raise UnsupportedError("renorm or virtual_batch_size")
    number = len(weights["moving_mean"])
    module = _scaled(BatchNormalization(number, epsilon, 1 - momentum), weights, number)
    for name, role in (("running_mean", "moving_mean"), ("running_var", "moving_variance")):
        module.register_buffer(name, tensor(weights[role]))
    run = partial(_normalized, axis=_single(axis), trainable=trainable, fused=keras < 3)
    return Layer(run, module, mask="keep", takes_mask=True)


class BatchNormalization(BatchNorm1d):
    """A batch normalization with the statistics that Keras has in training.

    The moving variance follows the variance of the batches, where PyTorch's follows the unbiased one.
    """

    def normalized(self, x: Tensor, counts: Tensor | None) -> Tensor:
        """The outputs (..., C) of inputs (..., C) in training.

        Args:
            counts: of the shape of x: which elements count in the statistics; by default all.
        """
        dims = tuple(range(x.ndim - 1))
        if counts is None:
            mean, variance = ops.mean(x, dims), ops.var(x, dims, 0)
        else:
            number = ops.sum(counts.astype(x.dtype), dims) + 1e-7
            mean = ops.sum(ops.where(counts, x, 0.0), dims) / number
            variance = ops.sum(ops.where(counts, x - mean, 0.0) ** 2, dims) / number
        with no_grad():
            for running, now in ((self.running_mean, mean), (self.running_var, variance)):
                if running is not None and self.momentum is not None:
                    running.copy_(running * (1 - self.momentum) + now * self.momentum)
        return (x - mean) * ops.rsqrt(variance + self.eps) * self.weight + self.bias


def _normalized(
    module: BatchNormalization, x: Tensor, mask: Tensor | None = None, *, axis: int, trainable: bool, fused: bool
) -> Tensor:
    """A batch normalization. One that is not trainable uses the moving statistics in training, too.

    Args:
        fused: whether pictures are normalized as by TensorFlow's kernel, whose variance is unbiased as PyTorch's, and
            which ignores masks.
    """
    training = module.training and (trainable or any(each.requires_grad for each in module.parameters()))
    if training and not (fused and x.ndim == 4):
        if mask is not None and mask.ndim != x.ndim - 1:
            raise ValueError(f"BatchNormalization: expected a mask of {x.ndim - 1} dimensions, got {mask.shape}")
        counts = None if mask is None else mask.unsqueeze(-1).expand(*x.shape).movedim(axis, -1)
        return module.normalized(x.movedim(axis, -1), counts).movedim(-1, axis)
    before = module.training
    module.train(training)
    try:
        return _by_channel(module, x, axis)
    finally:
        module.train(before)


def _by_channel(module: Module, x: Tensor, axis: int) -> Tensor:
    """A module of (B, C, ...) whose C is this axis of x."""
    out: Tensor = x.movedim(axis, 1)
    shape = out.shape
    out = module(out.reshape(*shape[:2], -1) if out.ndim > 3 else out).reshape(shape)
    return out.movedim(1, axis)


@layer("LayerNormalization", weights=("gamma if scale", "beta if center"))
def layer_normalization(
    weights: Weights,
    *,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    rms_scaling: bool = False,
) -> Layer:
    if rms_scaling:
        raise UnsupportedError("rms_scaling")
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return Layer(Module.__call__, AxesNorm(axes, weights, epsilon), mask="keep")


class AxesNorm(Module):
    """Normalizes to mean 0 and variance 1 along axes. `weight` and `bias` have an element for each of theirs.

    Keras takes these elements in the order of the dimensions, whatever the order of the axes.
    """

    def __init__(self, axes: Sequence[int], weights: Weights, epsilon: float) -> None:
        self.axes = tuple(axes)
        self.epsilon = epsilon
        self.weight = parameter(weights["gamma"]) if "gamma" in weights else None
        self.bias = parameter(weights["beta"]) if "beta" in weights else None

    def forward(self, x: Tensor) -> Tensor:
        axes = sorted(axis % x.ndim for axis in self.axes)
        last = list(range(x.ndim - len(axes), x.ndim))
        moved = x if axes == last else x.movedim(axes, last)
        shape = moved.shape[x.ndim - len(axes) :]
        weight, bias = (None if each is None else each.reshape(shape) for each in (self.weight, self.bias))
        out = ops.layer_norm(moved, shape, weight, bias, self.epsilon)
        return out if axes == last else out.movedim(last, axes)


@layer("RMSNormalization", weights=("scale",))
def rms_normalization(weights: Weights, *, axis: int | Sequence[int] = -1, epsilon: float = 1e-6) -> Layer:
    if _single(axis) != -1:
        raise UnsupportedError(f"the axis {axis}")
    module = RMSNorm(weights["scale"].shape, epsilon)
    module.weight = parameter(weights["scale"])
    return Layer(Module.__call__, module)


@layer("GroupNormalization", weights=("gamma if scale", "beta if center"))
def group_normalization(
    weights: Weights,
    *,
    groups: int = 32,
    axis: int = -1,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
) -> Layer:
    if not weights:
        raise UnsupportedError("neither scale nor center")
    number = next(iter(weights.values())).size
    module = _scaled(GroupNorm(number if groups == -1 else groups, number, epsilon), weights, number)
    return Layer(partial(_by_channel, axis=axis), module, mask="keep")


@layer("UnitNormalization")
def unit_normalization(*, axis: int | Sequence[int] = -1) -> Layer:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return Layer(partial(normalized, axis=axes, epsilon=1e-6), mask="keep")
