"""Activation functions.

Reference: https://onnx.ai/onnx/operators/
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.models.activations import ACTIVATIONS

from ..... import ops
from ....._tensor import Tensor
from .....creation import zeros_like
from ...rules import Value, rule
from .elementwise import rule_of_tensor

__all__: list[str] = []

_OF_TENSOR: dict[str, Any] = {
    "HardSwish": ACTIVATIONS["hard_silu"],
    "Relu": ops.relu,
    "Sigmoid": ops.sigmoid,
    "Tanh": ops.tanh,
    "Softplus": ops.softplus,
    "Softsign": ops.softsign,
    "Mish": ops.mish,
}
for _op, _function in _OF_TENSOR.items():
    rule_of_tensor(_op, _function)

# -- of an element -----------------------------------------------------------------------------------------------------


@rule("Elu")
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return ops.elu(x, alpha)


@rule("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return ACTIVATIONS["celu"](x, alpha)


@rule("Selu")
def selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    return gamma * ops.elu(x, alpha)


@rule("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return ops.leaky_relu(x, alpha)


@rule("PRelu")
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return ops.where(x < 0, x * slope, x)


@rule("ThresholdedRelu")
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return ops.masked_fill(x, x <= alpha, 0)


@rule("Shrink")
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    return ops.where(x < -lambd, x + bias, ops.where(x > lambd, x - bias, zeros_like(x)))


@rule("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return ACTIVATIONS["hard_sigmoid"](x, alpha, beta)


@rule("Swish")
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return x * ops.sigmoid(alpha * x)


@rule("SwiGLU")
def swiglu(a: Tensor, b: Tensor, *, alpha: float = 1.0) -> Tensor:
    return swish(a, alpha=alpha) * b


@rule("Gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return ops.gelu(x, approximate)


@rule("Clip", since=6)
def clip_to(x: Tensor, *, min: float | None = None, max: float | None = None) -> Tensor:
    return ops.clamp(x, min, max)


@rule("Clip", since=11)
def clip(x: Tensor, min: Value | None = None, max: Value | None = None) -> Tensor:
    low, high = (limit.item() if isinstance(limit, np.ndarray) else limit for limit in (min, max))
    return ops.clamp(x, low, high)


# -- over a dimension --------------------------------------------------------------------------------------------------


def _rule_of_rows(op: str, function: Callable[[Tensor, int], Tensor]) -> None:
    """Registers a function along a dimension. Until version 12 it is along all dimensions from `axis` on."""

    @rule(op)
    def flattened(x: Tensor, *, axis: int = 1) -> Tensor:
        rows = x.reshape((*x.shape[:axis], -1)) if axis else x.reshape(-1)
        return function(rows, -1).reshape(x.shape)

    @rule(op, since=13)
    def along(x: Tensor, *, axis: int = -1) -> Tensor:
        return function(x, axis)


def _hardmax(x: Tensor, dim: int) -> Tensor:
    rows = x.swapaxes(dim, -1)
    return ops.one_hot(ops.argmax(rows, -1), x.shape[dim]).astype(x.dtype).swapaxes(dim, -1)


_rule_of_rows("Softmax", ops.softmax)
_rule_of_rows("LogSoftmax", ops.log_softmax)
_rule_of_rows("Hardmax", _hardmax)
