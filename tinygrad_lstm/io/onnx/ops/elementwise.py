"""Ops that work element by element, in ONNX."""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_bool, is_float, is_integer, limits, widened_dtype

from ....ops import activation, clamping, comparison, elementwise, loss, rounding, trigonometric
from ....programs.program import Constant, Operand, Value
from ..graph import Graph, Input
from .entries import ENTRIES, Entry, as_dtype, wide, write_alike, writes


def _unary(kind: str) -> Entry:
    return lambda g, x: g.node(kind, x)


def _arithmetic(kind: str) -> Entry:
    """An op that computes in the dtype of its result, to which its operands and numbers are cast."""

    def entry(g: Graph, *operands: Any) -> str:
        dtype = g.call.result.dtype
        if is_bool(dtype):
            raise ValueError(
                f"export_onnx: op {g.call.name!r} is given bool tensors, with which ONNX does not compute; use "
                "tg.logical_and and its kin, or astype before"
            )
        return g.node(kind, *(as_dtype(g, dtype, x) for x in operands))

    return entry


write_alike(
    _unary,
    {
        elementwise.neg: "Neg",
        elementwise.abs: "Abs",
        elementwise.sign: "Sign",
        elementwise.exp: "Exp",
        elementwise.log: "Log",
        elementwise.sqrt: "Sqrt",
        elementwise.reciprocal: "Reciprocal",
        trigonometric.sin: "Sin",
        trigonometric.cos: "Cos",
        trigonometric.tan: "Tan",
        trigonometric.asin: "Asin",
        trigonometric.acos: "Acos",
        trigonometric.atan: "Atan",
        trigonometric.sinh: "Sinh",
        trigonometric.cosh: "Cosh",
        trigonometric.asinh: "Asinh",
        trigonometric.acosh: "Acosh",
        trigonometric.atanh: "Atanh",
        elementwise.tanh: "Tanh",
        activation.sigmoid: "Sigmoid",
        activation.log1pexp: "Softplus",
        activation.relu: "Relu",
        elementwise.erf: "Erf",
    },
)

write_alike(
    _arithmetic,
    {
        elementwise.add: "Add",
        elementwise.sub: "Sub",
        elementwise.mul: "Mul",
        rounding.div: "Div",
        elementwise.maximum: "Max",
        elementwise.minimum: "Min",
    },
)


@writes(elementwise.pow)
def _pow(g: Graph, x: Any, y: Any) -> str:
    integers, by_values = is_integer(g.call.result.dtype), isinstance(y, Value)
    if integers and by_values:
        raise ValueError(
            "export_onnx: op 'pow' is given integers as exponents, of which it refuses negative ones, and an ONNX file "
            "cannot; make a tensor of floats before, as by x.astype('float32')"
        )
    name: str = _arithmetic("Pow")(g, x, y)
    return name


@writes(loss.weigh)
def _weigh(g: Graph, weight: Operand, y: Operand) -> str:
    """A product in which 0 times an infinity is 0."""
    dtype = g.call.result.dtype
    zero, weight_name, y_name = g.number(0, dtype), g.name(g.cast(weight, dtype)), g.name(g.cast(y, dtype))
    nothing = g.node("And", g.node("Equal", weight_name, zero), g.node("IsInf", wide(g, y)))
    return g.node("Mul", weight_name, g.node("Where", nothing, zero, y_name))


@writes(loss.binary_cross_entropy_op)
def _binary_cross_entropy(g: Graph, x: Operand, target: Operand) -> str:
    """Each logarithm is -100 at least."""
    dtype = g.call.result.dtype
    x_name, t = g.name(as_dtype(g, dtype, x)), g.name(as_dtype(g, dtype, target))
    lowest, one = g.number(-100, dtype), g.number(1, dtype)
    rest = _log1p_of(g, g.node("Neg", x_name), dtype)
    parts = [("Mul", t, g.node("Max", g.node("Log", x_name), lowest))]
    parts.append(("Mul", g.node("Sub", one, t), g.node("Max", rest, lowest)))
    return g.node("Neg", g.node("Add", *(g.node(*part) for part in parts)))


@writes(rounding.floor)
def _floor(g: Graph, x: Operand) -> str:
    return g.node("Floor", x) if is_float(x.dtype) else g.name(x)


@writes(rounding.ceil)
def _ceil(g: Graph, x: Operand) -> str:
    return g.node("Ceil", x) if is_float(x.dtype) else g.name(x)


@writes(rounding.trunc)
def _trunc(g: Graph, x: Operand) -> str:
    return _towards_zero(g, g.name(x), x.dtype) if is_float(x.dtype) else g.name(x)


def _towards_zero(g: Graph, x: str, dtype: Any) -> str:
    return g.node("Where", g.node("Less", x, g.number(0, dtype)), g.node("Ceil", x), g.node("Floor", x))


@writes(rounding.trunc_divide)
def _trunc_divide(g: Graph, x: Any, y: Any) -> str:
    """Div of integers rounds towards 0."""
    dtype = g.call.result.dtype
    quotient = g.node("Div", g.name(as_dtype(g, dtype, x)), g.name(as_dtype(g, dtype, y)))
    return _towards_zero(g, quotient, dtype) if is_float(dtype) else quotient


@writes(rounding.remainder)
def _remainder(g: Graph, x: Any, y: Any) -> str:
    """Mod of floats has the sign of x, and that of integers the sign of y."""
    dtype = g.call.result.dtype
    x_name, y_name = g.name(as_dtype(g, dtype, x)), g.name(as_dtype(g, dtype, y))
    if not is_float(dtype):
        return g.node("Mod", x_name, y_name)
    rest, opposite = _rest(g, x_name, y_name, dtype)
    return g.node("Where", opposite, g.node("Add", rest, y_name), rest)


@writes(rounding.floor_divide)
def _floor_divide(g: Graph, x: Any, y: Any) -> str:
    dtype = g.call.result.dtype
    x_name, y_name = g.name(as_dtype(g, dtype, x)), g.name(as_dtype(g, dtype, y))
    if not is_float(dtype):
        return g.node("Div", g.node("Sub", x_name, g.node("Mod", x_name, y_name)), y_name)
    rest, opposite = _rest(g, x_name, y_name, dtype)
    quotient = g.node("Round", g.node("Div", g.node("Sub", x_name, rest), y_name))
    below = g.node("Where", opposite, g.node("Sub", quotient, g.number(1, dtype)), quotient)
    return g.node("Where", g.node("Equal", y_name, g.number(0, dtype)), g.node("Div", x_name, y_name), below)


def _rest(g: Graph, x: str, y: str, dtype: Any) -> tuple[str, str]:
    """The remainder of floats with the sign of x, and whether it is not 0 and y has the opposite sign."""
    zero, rest = g.number(0, dtype), g.node("Mod", x, y, fmod=1)
    differ = g.node("Xor", g.node("Less", rest, zero), g.node("Less", y, zero))
    return rest, g.node("And", differ, g.node("Not", g.node("Equal", rest, zero)))


@writes(rounding.round)
def _round(g: Graph, x: Operand, decimals: int) -> str:
    if not is_float(x.dtype):
        if decimals < 0:
            raise ValueError("export_onnx: op 'round' is to round integers to tens; ONNX rounds only floats")
        return g.name(x)
    if not decimals:
        return g.node("Round", x)
    dtype = widened_dtype(x.dtype)  # float16 would overflow
    if 10 ** abs(decimals) > limits(dtype)[1]:
        raise ValueError(f"export_onnx: op 'round' is to round to {decimals} decimals, whose power of ten overflows")
    scale = g.number(10.0 ** abs(decimals), dtype)
    there, back = ("Mul", "Div") if decimals > 0 else ("Div", "Mul")
    scaled = g.node(there, wide(g, x), scale)
    rounded = g.node(back, g.node("Round", scaled), scale)
    if decimals > 0:  # where scaling overflows, x has no such decimals
        rounded = g.node("Where", g.node("IsInf", scaled), wide(g, x), rounded)
    return g.name(g.cast(rounded, x.dtype, dtype))


def _logarithm(base: float) -> Entry:
    return lambda g, x: g.node("Mul", g.node("Log", x), g.number(1 / math.log(base), x.dtype))


writes(elementwise.log2)(_logarithm(2))
writes(elementwise.log10)(_logarithm(10))


@writes(elementwise.logaddexp)
def _logaddexp(g: Graph, x: Any, y: Any) -> str:
    """The larger one, and the logarithm of 1 + e^-|x - y|. The difference of equal infinities would be NaN."""
    dtype = g.call.result.dtype
    x_name, y_name = g.name(as_dtype(g, dtype, x)), g.name(as_dtype(g, dtype, y))
    apart = g.node("Neg", g.node("Abs", g.node("Sub", x_name, y_name)))
    apart = g.node("Where", g.node("Equal", x_name, y_name), g.number(0, dtype), apart)
    return g.node("Add", g.node("Max", x_name, y_name), g.node("Softplus", apart))


@writes(trigonometric.hypot)
def _hypot(g: Graph, x: Any, y: Any) -> str:
    """m·√(1 + (n / m)²), with m the larger and n the smaller of |x| and |y|; m itself if it is 0 or infinite."""
    dtype = g.call.result.dtype
    sides = [g.node("Abs", as_dtype(g, dtype, each)) for each in (x, y)]
    longer, shorter, one = g.node("Max", *sides), g.node("Min", *sides), g.number(1, dtype)
    apart = g.node("Or", g.node("Equal", longer, g.number(0, dtype)), g.node("Equal", longer, g.number(np.inf, dtype)))
    ratio = g.node("Div", shorter, g.node("Where", apart, one, longer))
    root = g.node("Sqrt", g.node("Add", g.node("Mul", ratio, ratio), one))
    return g.node("Where", apart, longer, g.node("Mul", longer, root))


@writes(trigonometric.atan2)
def _atan2(g: Graph, y: Any, x: Any) -> str:
    """The arctangent of y / x, turned by π if x < 0. Zeros have no signs here, and of two infinities it is NaN."""
    dtype = g.call.result.dtype
    y_name, x_name, zero = g.name(as_dtype(g, dtype, y)), g.name(as_dtype(g, dtype, x)), g.number(0, dtype)
    on_axis, below = g.node("Equal", x_name, zero), g.node("Less", y_name, zero)
    slope = g.node("Atan", g.node("Div", y_name, g.node("Where", on_axis, g.number(1, dtype), x_name)))
    turn = g.node("Where", below, g.number(-math.pi, dtype), g.number(math.pi, dtype))
    turned = g.node("Where", g.node("Less", x_name, zero), g.node("Add", slope, turn), slope)
    upright = g.node("Mul", g.node("Sign", y_name), g.number(math.pi / 2, dtype))
    return g.node("Where", on_axis, upright, turned)


@writes(elementwise.nan_to_num_op)
def _nan_to_num(g: Graph, x: Operand, nan: float, posinf: float, neginf: float) -> str:
    if not is_float(x.dtype):
        return g.name(x)
    name, x_wide = g.name(x), wide(g, x)
    for number, found in (
        (nan, g.node("IsNaN", x_wide)),
        (posinf, g.node("IsInf", x_wide, detect_negative=0)),
        (neginf, g.node("IsInf", x_wide, detect_positive=0)),
    ):
        name = g.node("Where", found, g.number(number, x.dtype), name)
    return name


@writes(activation.elu_op)
def _elu(g: Graph, x: Operand, alpha: float, scale: float) -> str:
    """By expm1: near 0, onnxruntime's Elu and Selu have the error of exp(x) - 1."""
    zero = g.number(0, x.dtype)
    below = g.node("Mul", _expm1(g, x), g.number(alpha, x.dtype))
    out = g.node("Where", g.node("Greater", x, zero), x, below)
    return out if scale == 1 else g.node("Mul", out, g.number(scale, x.dtype))


@writes(activation.hardtanh)
def _hardtanh(g: Graph, x: Operand, min_val: float, max_val: float) -> str:
    return g.node("Clip", x, g.number(min_val, x.dtype), g.number(max_val, x.dtype))


@writes(activation.softsign)
def _softsign(g: Graph, x: Operand) -> str:
    """Of finite numbers: Softsign of infinity is NaN."""
    return g.node("Softsign", g.node("Clip", x, *(g.number(bound, x.dtype) for bound in limits(x.dtype))))


@writes(elementwise.square)
def _square(g: Graph, x: Operand) -> str:
    return g.node("Mul", x, x)


@writes(clamping.clamp_between)
def _clamp_between(g: Graph, x: Operand, low: Any, high: Any) -> str:
    dtype = g.call.result.dtype
    limited = g.cast(x, dtype)
    limited = limited if low is None else g.node("Max", limited, as_dtype(g, dtype, low))
    return g.name(limited if high is None else g.node("Min", limited, as_dtype(g, dtype, high)))


@writes(clamping.clamp_op)
def _clamp(g: Graph, x: Operand, low: float | None, high: float | None) -> str:
    """Clip would replace infinities by the largest finite number if a bound were omitted."""
    dtype = g.call.result.dtype
    if is_float(dtype):
        low, high = -np.inf if low is None else low, np.inf if high is None else high
    bounds = [None if bound is None else g.number(bound, dtype) for bound in (low, high)]
    return g.node("Clip", g.cast(x, dtype), *bounds)


@writes(elementwise.clone)
def _clone(g: Graph, x: Operand) -> str:
    return g.name(x)


@writes(elementwise.astype_op)
def _cast(g: Graph, x: Operand, dtype: Any, original: Any) -> str:
    return g.name(g.cast(x, dtype))


@writes(elementwise.expm1)
def _expm1(g: Graph, x: Operand) -> str:
    """Near 0 by Kahan's formula, in which the error of exp(x) cancels: (u - 1)·x / log u, with u = exp x."""
    one = g.number(1, x.dtype)
    u = g.node("Exp", x)
    rest = g.node("Sub", u, one)
    near = g.node("Mul", rest, g.node("Div", x, g.node("Log", u)))
    return _near_zero(g, x, x.dtype, 1, g.node("Where", g.node("Equal", u, one), x, near), rest)


@writes(elementwise.log1p)
def _log1p(g: Graph, x: Operand) -> str:
    return _log1p_of(g, g.name(x), x.dtype)


def _log1p_of(g: Graph, x: str, dtype: Any) -> str:
    """Near 0 by Kahan's formula, in which the error of 1 + x cancels: log u · x / (u - 1), with u = 1 + x."""
    one = g.number(1, dtype)
    u = g.node("Add", x, one)
    log = g.node("Log", u)
    near = g.node("Mul", log, g.node("Div", x, g.node("Sub", u, one)))
    return _near_zero(g, x, dtype, 0.5, g.node("Where", g.node("Equal", u, one), x, near), log)


def _near_zero(g: Graph, x: Input, dtype: Any, within: float, near: str, elsewhere: str) -> str:
    """The result `near` where |x| is smaller than a number, and `elsewhere` elsewhere."""
    return g.node("Where", g.node("Less", g.node("Abs", x), g.number(within, dtype)), near, elsewhere)


@writes(elementwise.rsqrt)
def _rsqrt(g: Graph, x: Operand) -> str:
    return g.node("Reciprocal", g.node("Sqrt", x))


@writes(elementwise.where)
def _where(g: Graph, condition: Any, x: Any, y: Any) -> str:
    dtype = g.call.result.dtype
    return g.node("Where", as_dtype(g, np.bool_, condition), as_dtype(g, dtype, x), as_dtype(g, dtype, y))


@writes(comparison.isnan)
def _isnan(g: Graph, x: Operand) -> str:
    return g.node("IsNaN", wide(g, x))


@writes(comparison.isinf)
def _isinf(g: Graph, x: Operand) -> str:
    return g.node("IsInf", wide(g, x))


@writes(comparison.isfinite)
def _isfinite(g: Graph, x: Operand) -> str:
    x_wide = wide(g, x)
    return g.node("Not", g.node("Or", g.node("IsInf", x_wide), g.node("IsNaN", x_wide)))


# -- comparisons and logic ---------------------------------------------------------------------------------------------


def _comparison(kind: str) -> Entry:
    """A comparison, with bool cast to integers, since ONNX lacks some comparisons of bool."""

    def entry(g: Graph, x: Any, y: Any) -> str:
        like = (x if isinstance(x, Value | Constant) else y).dtype
        dtype = np.int32 if is_bool(like) else like
        return g.node(kind, as_dtype(g, dtype, x), as_dtype(g, dtype, y))

    return entry


write_alike(
    _comparison,
    {
        comparison.eq: "Equal",
        comparison.lt: "Less",
        comparison.le: "LessOrEqual",
        comparison.gt: "Greater",
        comparison.ge: "GreaterOrEqual",
    },
)


@writes(comparison.ne)
def _ne(g: Graph, x: Any, y: Any) -> str:
    return g.node("Not", ENTRIES[comparison.eq.op](g, x, y))  # type: ignore[attr-defined]


def _logic(kind: str) -> Entry:
    """A logical op; operands are true where they are not zero."""
    return lambda g, *operands: g.node(kind, *(as_dtype(g, np.bool_, x) for x in operands))


write_alike(
    _logic,
    {
        comparison.logical_and: "And",
        comparison.logical_or: "Or",
        comparison.logical_xor: "Xor",
        comparison.logical_not: "Not",
    },
)


def _bitwise(kind: str) -> Entry:
    """A bitwise op of bool. Those of integers came with opset 18."""

    def entry(g: Graph, *operands: Any) -> str:
        if not is_bool(g.call.result.dtype):
            raise ValueError(
                f"export_onnx: op {g.call.name!r} is of integers, and ONNX of this opset has it only of bool"
            )
        return g.node(kind, *(as_dtype(g, np.bool_, x) for x in operands))

    return entry


write_alike(
    _bitwise,
    {
        comparison.bitwise_and: "And",
        comparison.bitwise_or: "Or",
        comparison.bitwise_xor: "Xor",
        comparison.bitwise_not: "Not",
    },
)
