"""Normalizations. Their axes are any dimensions except the batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from .... import ops
from ...._tensor import Tensor, tensor
from ....creation import ones, zeros
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
    axis: Any = -1,
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
) -> Layer:
    if renorm or virtual_batch_size:
        raise UnsupportedError("renorm or virtual_batch_size")
    number = len(weights["moving_mean"])
    module = _scaled(BatchNorm1d(number, epsilon, 1 - momentum), weights, number)
    for name, role in (("running_mean", "moving_mean"), ("running_var", "moving_variance")):
        module.register_buffer(name, tensor(weights[role]))
    run = _by_channel if trainable else _frozen
    return Layer(partial(run, axis=_single(axis)), module, mask="keep")


def _frozen(module: Module, x: Tensor, axis: int, mask: Any = None) -> Tensor:
    """A batch normalization that is not trainable: it uses the moving statistics in training, too."""
    training = module.training
    module.train(training and any(each.requires_grad for each in module.parameters()))
    try:
        return _by_channel(module, x, axis)
    finally:
        module.train(training)


def _by_channel(module: Module, x: Tensor, axis: int, mask: Any = None) -> Tensor:
    """A module of (B, C, ...) whose C is this axis of x. A mask, which Keras uses in training, is ignored."""
    out: Tensor = x.movedim(axis, 1)
    shape = out.shape
    out = module(out.reshape(*shape[:2], -1) if out.ndim > 3 else out).reshape(shape)
    return out.movedim(1, axis)


@layer("LayerNormalization", weights=("gamma if scale", "beta if center"))
def layer_normalization(
    weights: Weights,
    *,
    axis: Any = -1,
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
def rms_normalization(weights: Weights, *, axis: Any = -1, epsilon: float = 1e-6) -> Layer:
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
def unit_normalization(*, axis: Any = -1) -> Layer:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return Layer(partial(normalized, axis=axes, epsilon=1e-6), mask="keep")
