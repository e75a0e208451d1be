"""Elementwise arithmetic, comparisons, logic, and dtypes.

Reference: https://onnx.ai/onnx/operators/
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_bool, is_float, limits

from ..... import ops
from ....._tensor import Tensor
from .....creation import full_like, zeros_like
from ...rules import Operand, Value, is_known, rule
from ...shared.elementwise import divided

__all__ = ["rule_of_tensor"]

# -- functions without attributes --------------------------------------------------------------------------------------


def rule_of_tensor(op: str, function: Callable[[Any], Any], domain: str = "") -> None:
    """Registers a function of one tensor."""

    @rule(op, domain=domain)
    def computed(x: Tensor) -> Any:
        return function(x)


def _rule_of_values(op: str, function: Callable[..., Any]) -> None:
    """Registers a function of NumPy's, or an operator."""

    @rule(op)
    def computed(*values: Operand) -> Any:
        return function(*values)


_OF_TENSOR: dict[str, Any] = {
    "Round": ops.round,
    "Exp": ops.exp,
    "Log": ops.log,
    "Sqrt": ops.sqrt,
    "Reciprocal": ops.reciprocal,
    "Sin": ops.sin,
    "Cos": ops.cos,
    "Tan": ops.tan,
    "Asin": ops.asin,
    "Acos": ops.acos,
    "Atan": ops.atan,
    "Sinh": ops.sinh,
    "Cosh": ops.cosh,
    "Asinh": ops.asinh,
    "Acosh": ops.acosh,
    "Atanh": ops.atanh,
    "Erf": ops.erf,
    "IsNaN": ops.isnan,
}
_OF_VALUES: dict[str, Any] = {
    "Abs": abs,
    "Neg": operator.neg,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Sign": np.sign,
    "Not": np.logical_not,
    "BitwiseNot": operator.invert,
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.not_equal,
    "BitwiseAnd": operator.and_,
    "BitwiseOr": operator.or_,
    "BitwiseXor": operator.xor,
    "Sum": lambda *values: functools.reduce(operator.add, values),
    "Min": lambda *values: functools.reduce(np.minimum, values),
    "Max": lambda *values: functools.reduce(np.maximum, values),
    "Mean": lambda *values: functools.reduce(operator.add, values) / len(values),
}
for _op, _function in _OF_TENSOR.items():
    rule_of_tensor(_op, _function)
for _op, _function in _OF_VALUES.items():
    _rule_of_values(_op, _function)

# -- division and powers -----------------------------------------------------------------------------------------------


rule("Div", since=7)(divided)


@rule("Mod")
def mod(a: Operand, b: Operand, *, fmod: int = 0) -> Any:
    remainder: Any = np.remainder
    if fmod:  # the remainder of positive numbers is exact
        return np.sign(a) * remainder(abs(a), abs(b))
    return remainder(a, b)


@rule("Pow", since=7)
def pow(a: Value, b: Operand) -> Any:
    """A power has the dtype of `a`: that of an integer is rounded toward zero."""
    if isinstance(a, Tensor) or is_known(a, b):
        power: Any = np.power
        return power(a, b).astype(a.dtype)
    return np.frompyfunc(_power, 2, 1)(a, b)


def _power(a: Any, b: Any) -> Any:
    return a**b if isinstance(a, float) else math.trunc(a**b)


@rule("BitShift")
def bit_shift(a: Tensor, b: Tensor, *, direction: str) -> Tensor:
    bits = 8 * a.dtype.itemsize
    left, signed = direction == "LEFT", limits(a.dtype)[0] < 0
    most = bits if left or not signed else bits - 1  # 2 to the power of `most` is too large to divide by
    factors = ops.pow(full_like(a, 2), ops.clamp(b, 0, most - 1))
    shifted, rest = (a * factors, zeros_like(a)) if left else (ops.floor_divide(a, factors), -(a < 0).astype(a.dtype))
    return ops.where((b >= 0) & (b < most), shifted, rest)


@rule("IsInf")
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    return ops.isinf(x) & ((x < 0) & bool(detect_negative) | (x > 0) & bool(detect_positive))


# -- dtypes ------------------------------------------------------------------------------------------------------------


@rule("Cast")
def cast(x: Value, *, to: np.dtype[Any] | None, saturate: int = 1, round_mode: str = "up") -> Any:
    assert to is not None
    if isinstance(x, Tensor) or x.dtype != object or is_bool(to):
        return x.astype(to)
    convert: Any = (lambda number: number * 1.0) if is_float(to) else math.trunc
    return np.frompyfunc(convert, 1, 1)(x)


@rule("CastLike")
def cast_like(x: Value, target: Any, *, saturate: int = 1, round_mode: str = "up") -> Any:
    return cast(x, to=target.dtype)


# -- choices -----------------------------------------------------------------------------------------------------------


@rule("Where")
def where(condition: Value, x: Value, y: Value) -> Any:
    return np.where(condition.astype(np.bool_), x, y)
