"""Cases of the ops that work element by element: arithmetic, activations, comparisons and others."""

import functools
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from ops.case import (
    SEEDS,
    Drawn,
    above_minus_one,
    above_one,
    between_integers,
    case,
    distinct,
    distinct_of_halves,
    inside_one,
    nonzero,
    positive,
    settings,
    several,
    some_divisors,
    some_equal,
    unary,
)

import tinygrad_lstm as tg


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def selu(x: Any) -> Any:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


def glu(x: Any) -> Any:
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return a * sigmoid(b)


def pair_of_rows(length: int, seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    return Drawn([nonzero(rng, (length,)), nonzero(rng, (length,))])


def gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


BOUNDS = settings(min=st.sampled_from([None, -1.1, -0.1]), max=st.sampled_from([None, 0.1, 1.1]))
EXPONENTS = st.fixed_dictionaries({"y": st.sampled_from([-2, -1.5, -1, 0, 0.5, 1, 2, 2.5, 3])})
SLOPES = st.sampled_from([0.0, 0.01, 0.5])

case("neg", np.negative, unary(), out="same", bools=False)
case("abs", np.abs, unary(), out="same")
case("sign", np.sign, unary(), out="same", bools=False)
case("floor", np.floor, unary(between_integers), out="same")
case("round", np.round, unary(between_integers), out="same", bools=False)
case("ceil", np.ceil, unary(between_integers), out="same")
case("trunc", np.trunc, unary(between_integers), out="same")
case("square", np.square, unary(), out="same", bools=False)
case("clamp", lambda x, min=None, max=None: np.clip(x, min, max), unary(distinct, BOUNDS), out="same", ints=False)
case("clip", lambda x, min=None, max=None: np.clip(x, min, max), unary(distinct, BOUNDS), out="same", ints=False)
BETWEEN = several(nonzero, distinct_of_halves, between_integers)
case("clamp", np.clip, BETWEEN, out="same", bools=False, variant="by-tensors")
case("clamp_min", np.maximum, several(nonzero, distinct_of_halves), out="same")
case("clamp_max", np.minimum, several(nonzero, distinct_of_halves), out="same")
case("clone", np.copy, unary(), out="same")
case("exp", np.exp, unary())
case("expm1", np.expm1, unary())
case("log", np.log, unary(positive))
case("log1p", np.log1p, unary(above_minus_one), ints=False)
case("sqrt", np.sqrt, unary(positive))
case("rsqrt", lambda x: 1 / np.sqrt(x), unary(positive))
case("reciprocal", lambda x: 1 / x, unary())
case("log2", np.log2, unary(positive))
case("log10", np.log10, unary(positive))
case(
    "nan_to_num",
    np.nan_to_num,
    unary(settings=settings(nan=st.just(-1.5), posinf=st.just(3.0), neginf=st.just(-2.0))),
    out="same",
)
case("sin", np.sin, unary())
case("cos", np.cos, unary())
case("tan", np.tan, unary(inside_one), ints=False)
case("asin", np.arcsin, unary(inside_one), ints=False)
case("acos", np.arccos, unary(inside_one), ints=False)
case("atan", np.arctan, unary())
case("sinh", np.sinh, unary())
case("cosh", np.cosh, unary())
case("asinh", np.arcsinh, unary())
case("acosh", np.arccosh, unary(above_one))
case("atanh", np.arctanh, unary(inside_one), ints=False)
case("tanh", np.tanh, unary())
case("sigmoid", sigmoid, unary())
case(
    "softplus",
    lambda x, beta=1.0, threshold=20.0: np.where(x * beta > threshold, x, np.log1p(np.exp(x * beta)) / beta),
    unary(settings=settings(beta=st.sampled_from([0.5, 3.0]), threshold=st.just(10.0))),
)
case("logsigmoid", lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), unary(), bools=False)
case("relu", lambda x: np.maximum(x, 0), unary(), out="same", bools=False)
case(
    "leaky_relu",
    lambda x, negative_slope=0.01: np.where(x > 0, x, x * negative_slope),
    unary(settings=settings(negative_slope=SLOPES)),
)
case(
    "elu",
    lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    unary(settings=settings(alpha=st.sampled_from([0.5, 1.0, 2.0]))),
)
case("silu", lambda x: x * sigmoid(x), unary())
case("gelu", gelu, unary(settings=settings(approximate=st.sampled_from(["none", "tanh"]))))
case("mish", lambda x: x * np.tanh(np.log1p(np.exp(x))), unary())
case("selu", selu, unary())
case(
    "prelu",
    lambda x, weight: np.where(x > 0, x, x * weight),
    st.builds(pair_of_rows, st.integers(1, 4), SEEDS),
    lambda x, weight: tg.prelu(x.reshape(1, -1), weight).reshape(-1),
    out="same",
    bools=False,
)
case(
    "hardtanh",
    lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
    unary(distinct, settings(min_val=st.just(-0.31), max_val=st.just(0.51))),
    ints=False,
)
case("relu6", lambda x: np.clip(x, 0, 6), unary(distinct), bools=False)
case("hardsigmoid", lambda x: np.clip((x + 3) / 6, 0, 1), unary())
case("softsign", lambda x: x / (1 + np.abs(x)), unary())
case("glu", glu, unary(least=1).filter(lambda drawn: drawn.arrays[0].shape[-1] == 2))
case("erf", erf, unary())
case("isnan", np.isnan, unary(), out="bool", differentiable=False)
case("isinf", np.isinf, unary(), out="bool", differentiable=False)
case("isfinite", np.isfinite, unary(), out="bool", differentiable=False)
case("logical_not", np.logical_not, unary(some_equal), out="bool", differentiable=False)
case(
    "astype",
    lambda x, dtype: x.astype(np.float64),
    unary(settings=lambda shape: st.just({"dtype": "float64"})),
    out="float64",
)

case("add", np.add, several(nonzero, nonzero), out="same")
case("sub", np.subtract, several(nonzero, nonzero), out="same", bools=False)
case("mul", np.multiply, several(nonzero, nonzero), out="same")
case("div", np.true_divide, several(nonzero, nonzero))
for mode, function in {"floor": np.floor_divide, "trunc": lambda x, y: np.trunc(np.true_divide(x, y))}.items():
    case(
        "div",
        function,
        several(distinct_of_halves, some_divisors),
        functools.partial(tg.div, rounding_mode=mode),
        out="same",
        bools=False,
        variant=mode,
    )
case("pow", np.power, several(positive, positive), out="same", bools=False)
case("pow", lambda x, y: x**y, unary(positive, lambda shape: EXPONENTS), ints=False, variant="number")
case("pow", lambda x: 1.5**x, unary(), lambda x: 1.5**x, variant="of-number")
case("floor_divide", np.floor_divide, several(distinct_of_halves, some_divisors), out="same", bools=False)
case("remainder", np.remainder, several(distinct_of_halves, some_divisors), out="same", bools=False)
case("atan2", np.arctan2, several(nonzero, nonzero))
case("hypot", np.hypot, several(nonzero, nonzero))
case("logaddexp", np.logaddexp, several(nonzero, nonzero))
case("maximum", np.maximum, several(nonzero, nonzero, apart=True), out="same")
case("minimum", np.minimum, several(nonzero, nonzero, apart=True), out="same")
case("lerp", lambda x, y, w: x + w * (y - x), several(nonzero, nonzero, nonzero), out="same", bools=False)
case(
    "where",
    lambda c, x, y: np.where(c > 0, x, y),
    several(nonzero, nonzero, nonzero),
    lambda c, x, y: tg.where(c > 0, x, y),
    out="same",
)
for _name, _function in {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}.items():
    case(_name, _function, several(some_equal, some_equal), out="bool", differentiable=False)
case("isclose", np.isclose, several(some_equal, some_equal), out="bool", differentiable=False)
for _name, _function in {
    "bitwise_and": np.logical_and,
    "bitwise_or": np.logical_or,
    "bitwise_xor": np.logical_xor,
}.items():
    case(
        _name,
        lambda x, y, function=_function: function(x > 0, y > 0),
        several(some_equal, some_equal),
        lambda x, y, name=_name: getattr(tg, name)(x > 0, y > 0),
        out="bool",
        differentiable=False,
    )
case(
    "bitwise_not",
    lambda x: x <= 0,
    unary(some_equal),
    lambda x: tg.bitwise_not(x > 0),
    out="bool",
    differentiable=False,
)
