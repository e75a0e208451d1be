"""The functions of tensors that functional models of Keras 3 call.

A function here has the parameters of Keras's operation: first those of its call, then its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from tinygrad_lstm.models.activations import ACTIVATIONS

from .... import ops
from ...._tensor import Tensor, as_tensor
from ....creation import full, full_like, ones_like, zeros_like
from .core import same

__all__ = ["OPERATIONS", "Axis", "axes_of", "normalized", "operation", "tensors"]

Axis = int | Sequence[int] | None

OPERATIONS: dict[str, Callable[..., Any]] = {}
"""The functions by the names of operations."""


def operation(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as operations of Keras 3."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return register


def tensors(*values: Any) -> list[Tensor]:
    """Values as tensors, on the device of the first that is one, and numbers of its dtype."""
    like = next(value for value in values if isinstance(value, Tensor))
    return [
        value if isinstance(value, Tensor) else as_tensor(np.asarray(value, like.dtype), like.device)
        for value in values
    ]


def _binary(function: Callable[[Any, Any], Any], x1: Any, x2: Any) -> Any:
    first, second = tensors(x1, x2)
    return function(first, second)


def axes_of(axis: Axis) -> Any:
    return tuple(axis) if isinstance(axis, list | tuple) else axis


def _reduced(function: Callable[..., Any], x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    return function(x, dim=axes_of(axis), keepdim=keepdims)


def _variance(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return ops.var(x, dim=axes_of(axis), correction=0, keepdim=keepdims)


def _deviation(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return ops.std(x, dim=axes_of(axis), correction=0, keepdim=keepdims)


def _of_one(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": ops.add,
    "Subtract": ops.sub,
    "Multiply": ops.mul,
    "Divide": ops.div,
    "TrueDivide": ops.div,
    "Power": ops.pow,
    "Mod": ops.remainder,
    "Maximum": ops.maximum,
    "Minimum": ops.minimum,
    "Equal": ops.eq,
    "NotEqual": ops.ne,
    "Less": ops.lt,
    "LessEqual": ops.le,
    "Greater": ops.gt,
    "GreaterEqual": ops.ge,
    "LogicalAnd": ops.logical_and,
    "LogicalOr": ops.logical_or,
    "LogicalXor": ops.logical_xor,
    "Arctan2": ops.atan2,
    "Hypot": ops.hypot,
    "Logaddexp": ops.logaddexp,
    "Matmul": ops.matmul,
}
_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Absolute": ops.abs,
    "Abs": ops.abs,
    "Negative": ops.neg,
    "Square": ops.square,
    "Sqrt": ops.sqrt,
    "Rsqrt": ops.rsqrt,
    "Reciprocal": ops.reciprocal,
    "Exp": ops.exp,
    "Expm1": ops.expm1,
    "Log": ops.log,
    "Log1p": ops.log1p,
    "Log2": ops.log2,
    "Log10": ops.log10,
    "Sin": ops.sin,
    "Cos": ops.cos,
    "Tan": ops.tan,
    "Arcsin": ops.asin,
    "Arccos": ops.acos,
    "Arctan": ops.atan,
    "Arcsinh": ops.asinh,
    "Arccosh": ops.acosh,
    "Arctanh": ops.atanh,
    "Isnan": ops.isnan,
    "Isinf": ops.isinf,
    "Isfinite": ops.isfinite,
    "Sinh": ops.sinh,
    "Cosh": ops.cosh,
    "Tanh": ops.tanh,
    "Erf": ops.erf,
    "Sign": ops.sign,
    "Floor": ops.floor,
    "Ceil": ops.ceil,
    "Trunc": ops.trunc,
    "LogicalNot": ops.logical_not,
    "Copy": same,
    "Ravel": ops.flatten,
    "Relu": ops.relu,
    "Relu6": ops.relu6,
    "Sigmoid": ops.sigmoid,
    "Softplus": ops.softplus,
    "Softsign": ops.softsign,
    "Silu": ops.silu,
    "LogSigmoid": ops.logsigmoid,
    "HardSigmoid": ops.hardsigmoid,
    "HardSilu": ACTIVATIONS["hard_silu"],
    "HardTanh": ops.hardtanh,
    "Selu": ops.selu,
    "Mish": ops.mish,
    "TanhShrink": ACTIVATIONS["tanh_shrink"],
    "SparsePlus": ACTIVATIONS["sparse_plus"],
    "SparseSigmoid": ACTIVATIONS["sparse_sigmoid"],
}
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "Mean": ops.mean,
    "Sum": ops.sum,
    "Prod": ops.prod,
    "Max": ops.amax,
    "Amax": ops.amax,
    "Min": ops.amin,
    "Amin": ops.amin,
    "Any": ops.any,
    "All": ops.all,
    "Logsumexp": ops.logsumexp,
}
OPERATIONS |= {_name: partial(_binary, _function) for _name, _function in _BINARY.items()}
OPERATIONS |= {_name: partial(_of_one, _function) for _name, _function in _UNARY.items()}
OPERATIONS |= {_name: partial(_reduced, _function) for _name, _function in _REDUCTIONS.items()}
OPERATIONS |= {"Var": _variance, "Std": _deviation}


@operation("Elu")
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return ops.elu(x, alpha)


@operation("Celu")
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return ACTIVATIONS["celu"](x, alpha)


@operation("SoftShrink")
def soft_shrink(x: Tensor, threshold: float = 0.5) -> Tensor:
    return ACTIVATIONS["soft_shrink"](x, threshold)


@operation("HardShrink")
def hard_shrink(x: Tensor, threshold: float = 0.5) -> Tensor:
    return ACTIVATIONS["hard_shrink"](x, threshold)


@operation("Squareplus")
def squareplus(x: Tensor, b: float = 4.0) -> Tensor:
    return ACTIVATIONS["squareplus"](x, b)


@operation("Threshold")
def threshold(x: Tensor, threshold: float, default_value: float) -> Tensor:
    return ops.where(x > threshold, x, default_value)


@operation("LeakyRelu")
def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    return ops.leaky_relu(x, negative_slope)


@operation("Gelu")
def gelu(x: Tensor, approximate: bool = True) -> Tensor:
    return ops.gelu(x, "tanh" if approximate else "none")


@operation("Softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return ops.softmax(x, dim=axis)


@operation("LogSoftmax")
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    return ops.log_softmax(x, dim=axis)


@operation("Glu")
def glu(x: Tensor, axis: int = -1) -> Tensor:
    return ops.glu(x, axis)


@operation("Clip")
def clip(x: Tensor, x_min: float, x_max: float) -> Tensor:
    return ops.clamp(x, x_min, x_max)


@operation("DivideNoNan")
def divide_no_nan(x1: Any, x2: Any) -> Tensor:
    first, second = tensors(x1, x2)
    return ops.where(second == 0, 0.0, first / ops.where(second == 0, 1.0, second))


@operation("FloorDivide")
def floor_divide(x1: Any, x2: Any) -> Tensor:
    first, second = tensors(x1, x2)
    return ops.floor(first / second)


@operation("Where")
def where(condition: Tensor, x1: Any, x2: Any) -> Tensor:
    given = [each for each in (x1, x2) if isinstance(each, Tensor)]
    if len(given) < 2 and not given:
        return ops.where(condition, float(x1), float(x2))
    return ops.where(condition, *tensors(x1, x2))


@operation("Cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    return x.astype(dtype)


@operation("OnesLike")
def ones_of(x: Tensor, dtype: str | None = None) -> Tensor:
    return ones_like(x, dtype=dtype)


@operation("ZerosLike")
def zeros_of(x: Tensor, dtype: str | None = None) -> Tensor:
    return zeros_like(x, dtype=dtype)


@operation("FullLike")
def full_of(x: Tensor, fill_value: float, dtype: str | None = None) -> Tensor:
    return full_like(x, fill_value, dtype=dtype)


@operation("StopGradient")
def stop_gradient(variable: Tensor) -> Tensor:
    return variable.detach()


@operation("ConvertToTensor")
def convert_to_tensor(x: Tensor, dtype: str | None = None, sparse: Any = None, ragged: Any = None) -> Tensor:
    return x if dtype is None else x.astype(dtype)


@operation("Cumsum")
def cumsum(x: Tensor, axis: int | None = None, dtype: str | None = None) -> Tensor:
    out = ops.cumsum(x if axis is not None else x.reshape(-1), dim=axis or 0)
    return out if dtype is None else out.astype(dtype)


@operation("Einsum")
def einsum(*operands: Tensor, subscripts: str) -> Tensor:
    out: Tensor = ops.einsum(subscripts, *operands)
    return out


@operation("Dot")
def dot(x1: Tensor, x2: Tensor) -> Tensor:
    return x1 @ x2 if x2.ndim <= 2 else ops.tensordot(x1, x2, [[x1.ndim - 1], [x2.ndim - 2]])


@operation("Tensordot")
def tensordot(x1: Tensor, x2: Tensor, axes: Any = 2) -> Tensor:
    return ops.tensordot(x1, x2, axes)


@operation("Argmax")
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    return ops.argmax(x, axis, keepdims).astype("int32")


@operation("Argmin")
def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    return ops.argmin(x, axis, keepdims).astype("int32")


@operation("OneHot")
def one_hot(x: Tensor, num_classes: int, axis: int = -1, dtype: str | None = None, sparse: bool = False) -> Tensor:
    places = as_tensor(np.arange(num_classes), x.device)
    found = (x.unsqueeze(-1) == places).astype(dtype or "float32")
    return found if axis == -1 else found.movedim(-1, axis)


@operation("Norm")
def norm(x: Tensor, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors, or the Frobenius norm of matrices."""
    return ops.norm(x, 2 if ord in (None, "fro") else ord, dim=axes_of(axis), keepdim=keepdims)


@operation("Normalize")
def normalized(x: Tensor, axis: Any = -1, order: Literal[2] = 2, epsilon: float | None = None) -> Tensor:
    """x with the length 1 along axes; it is divided by epsilon at least."""
    squares = ops.sum(x * x, dim=axes_of(axis), keepdim=True)
    return x * ops.rsqrt(ops.clamp(squares, (epsilon or 1e-7) ** 2, None))


@operation("Full")
def filled(fill_value: float, shape: Any, dtype: str | None = None) -> Tensor:
    return full(tuple(shape), fill_value, dtype=dtype)
