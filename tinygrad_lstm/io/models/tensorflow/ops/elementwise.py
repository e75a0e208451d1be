"""Elementwise arithmetic, comparisons, logic, and dtypes.

Reference: https://www.tensorflow.org/api_docs/python/tf/raw_ops
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_float

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange, full, linspace, ones_like, rand, randn, zeros_like
from ...rules import MOST_ON_HOST, Ints, Value, host_ints
from ...shared.elementwise import divided
from ..rules import rule

__all__: list[str] = []

# -- functions without attributes --------------------------------------------------------------------------------------


def _rule_of_tensor(op: str, function: Callable[[Any], Any]) -> None:
    """Registers a function of one tensor."""

    @rule(op)
    def computed(x: Tensor) -> Any:
        return function(x)


def _rule_of_tensors(op: str, function: Callable[[Any, Any], Any]) -> None:
    """Registers a function of two tensors."""

    @rule(op)
    def computed(x: Tensor, y: Tensor) -> Any:
        return function(x, y)


def _rule_of_value(op: str, function: Callable[[Any], Any]) -> None:
    """Registers a function of NumPy's of one value, or an operator."""

    @rule(op)
    def computed(x: Value) -> Any:
        return function(x)


def _rule_of_values(op: str, function: Callable[[Any, Any], Any]) -> None:
    """Registers a function of NumPy's of two values, or an operator."""

    @rule(op)
    def computed(x: Value, y: Value) -> Any:
        return function(x, y)


def _or_zero(function: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """x · function(y), and 0 where x is 0."""
    is_zero = x == 0
    return ops.where(is_zero, zeros_like(x), x * function(ops.where(is_zero, ones_like(y), y)))


def _div_no_nan(x: Tensor, y: Tensor) -> Tensor:
    is_zero = y == 0
    return ops.where(is_zero, 0, x / ops.where(is_zero, 1, y))


def _truncated_mod(x: Value, y: Value) -> Any:
    """The remainder with the sign of x."""
    magnitudes: Any = (abs(x), abs(y))
    return np.sign(x) * np.remainder(*magnitudes)


_OF_TENSOR: dict[str, Any] = {
    **{"Exp": ops.exp, "Expm1": ops.expm1, "Log": ops.log, "Log1p": ops.log1p, "Sqrt": ops.sqrt, "Rsqrt": ops.rsqrt},
    **{"Reciprocal": ops.reciprocal, "Inv": ops.reciprocal, "Erf": ops.erf, "Rint": ops.round, "Round": ops.round},
    **{"Sin": ops.sin, "Cos": ops.cos, "Tan": ops.tan, "Asin": ops.asin, "Acos": ops.acos, "Atan": ops.atan},
    **{"Sinh": ops.sinh, "Cosh": ops.cosh, "Asinh": ops.asinh, "Acosh": ops.acosh, "Atanh": ops.atanh},
    **{"IsNan": ops.isnan, "IsInf": ops.isinf, "IsFinite": ops.isfinite, "Erfc": lambda x: 1 - ops.erf(x)},
}
_OF_TENSORS: dict[str, Any] = {
    **{"Atan2": ops.atan2, "DivNoNan": _div_no_nan, "MulNoNan": lambda x, y: ops.where(y == 0, 0, x * y)},
    **{"Xdivy": functools.partial(_or_zero, ops.reciprocal), "Xlogy": functools.partial(_or_zero, ops.log)},
    "Xlog1py": functools.partial(_or_zero, ops.log1p),
}
_OF_VALUE: dict[str, Any] = {
    **{"Abs": abs, "Neg": operator.neg, "Square": lambda x: x * x, "Floor": np.floor, "Ceil": np.ceil, "Sign": np.sign},
    **{"LogicalNot": np.logical_not, "Invert": operator.invert},
}
_OF_VALUES: dict[str, Any] = {
    **{"Add": operator.add, "AddV2": operator.add, "Sub": operator.sub, "Mul": operator.mul},
    **{"Maximum": np.maximum, "Minimum": np.minimum, "SquaredDifference": lambda x, y: (x - y) * (x - y)},
    **{"FloorDiv": operator.floordiv, "FloorMod": np.remainder, "Mod": _truncated_mod, "TruncateMod": _truncated_mod},
    **{"NotEqual": np.not_equal, "Equal": np.equal, "Less": np.less, "LessEqual": np.less_equal},
    **{"Greater": np.greater, "GreaterEqual": np.greater_equal},
    **{"LogicalAnd": np.logical_and, "LogicalOr": np.logical_or},
    **{"BitwiseAnd": operator.and_, "BitwiseOr": operator.or_, "BitwiseXor": operator.xor},
}
for _register, _functions in (
    (_rule_of_tensor, _OF_TENSOR),
    (_rule_of_tensors, _OF_TENSORS),
    (_rule_of_value, _OF_VALUE),
    (_rule_of_values, _OF_VALUES),
):
    for _op, _function in _functions.items():
        _register(_op, _function)


@rule("AddN")
def add_n(first: Value, *others: Value) -> Any:
    return functools.reduce(operator.add, others, first)


# -- division and powers -----------------------------------------------------------------------------------------------


@rule("RealDiv")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    return x / y


@rule("Div")
def div(x: Value, y: Value) -> Any:
    return divided(x, y)


@rule("TruncateDiv")
def truncate_div(x: Value, y: Value) -> Any:
    return divided(x, y)


@rule("Pow")
def pow(x: Value, y: Value) -> Any:
    return x**y


# -- dtypes, choices ---------------------------------------------------------------------------------------------------


@rule("Cast")
def cast(x: Value, *, DstT: Any, Truncate: bool = False) -> Any:
    if DstT is None:
        raise ValueError("a cast to elements that tensors cannot have")
    if not isinstance(x, Tensor) and is_float(DstT) and x.dtype == object:
        return x * 1.0
    return x if not isinstance(x, Tensor) and x.dtype == object else x.astype(DstT)


@rule("SelectV2")
def select(condition: Value, x: Value, y: Value) -> Any:
    return np.where(condition.astype(np.bool_), x, y)


@rule("Select")
def select_rows(condition: Value, x: Value, y: Value) -> Any:
    """A condition of one dimension selects rows."""
    rows = condition.ndim == 1 and x.ndim > 1
    return select(condition.reshape((-1,) + (1,) * (x.ndim - 1)) if rows else condition, x, y)


@rule("ClipByValue")
def clip_by_value(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return ops.minimum(ops.maximum(x, low), high)


# -- new tensors -------------------------------------------------------------------------------------------------------


@rule("ZerosLike")
def zeros_of(x: Any) -> Any:
    if isinstance(x, Tensor):
        return zeros_like(x)
    return x * 0 if isinstance(x, np.ndarray) else x.zeros()


@rule("OnesLike")
def ones_of(x: Value) -> Any:
    return ones_like(x) if isinstance(x, Tensor) else x * 0 + 1


@rule("Fill")
def fill(dims: Ints, value: Any) -> Any:
    if not isinstance(value, Tensor) and not is_float(value.dtype) and len(dims) == 1 and dims[0] <= MOST_ON_HOST:
        return np.full(tuple(dims), value.item())
    if isinstance(value, Tensor):
        return ops.broadcast_to(value, tuple(dims))
    return full(tuple(dims), value.item(), None if value.dtype == object else value.dtype)


@rule("Range")
def range_of(start: Value, limit: Value, delta: Value) -> Any:
    first, last, step = (each.item() for each in (start, limit, delta))
    if not isinstance(start, Tensor) and not is_float(start.dtype) and len(range(first, last, step)) <= MOST_ON_HOST:
        return host_ints(list(range(first, last, step)))
    dtype, device = (start.dtype, start.device) if isinstance(start, Tensor) else (None, None)
    return arange(first, last, step, dtype=dtype, device=device)


@rule("LinSpace")
def lin_space(start: Value, stop: Value, num: Ints) -> Tensor:
    return linspace(start.item(), stop.item(), num[0], dtype=start.dtype)


# -- random numbers, as those of a dropout that a frozen graph has kept ------------------------------------------------
# They come from the generator of `manual_seed`: the seeds of the file are those of a different generator.


@rule("RandomUniform")
def random_uniform(shape: Ints, *, dtype: Any, seed: int = 0, seed2: int = 0) -> Tensor:
    return rand(*shape, dtype=dtype)


@rule("RandomStandardNormal")
def random_standard_normal(shape: Ints, *, dtype: Any, seed: int = 0, seed2: int = 0) -> Tensor:
    return randn(*shape, dtype=dtype)
