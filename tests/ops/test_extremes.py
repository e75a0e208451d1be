"""Every differentiable op at extremes: values and first derivatives are the limits, NaN only where there is none.

Extremes are 0 and -0, ±inf, NaN, the largest and smallest numbers of a dtype, and equal numbers. What is expected is
computed in extended precision, by the reference of the op's case and by a derivative that is written down here.

NumPy warns where it makes an infinity or a NaN, which is then in the result. Where all that comes out is finite, no
warning may escape.
"""

import functools
import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.case import SEEDS, Case
from ops.cases import CASES
from ops.cases_elementwise import erf, sigmoid
from ops.limits import DTYPES, INF, NAN, HostArray, Slopes, check, every_dtype, extremes, run
from ops.test_extremes_of_rows import REDUCTIONS

import tinygrad_lstm as tg
from tinygrad_lstm.ops import (
    activation,
    attention,
    clamping,
    elementwise,
    indexing,
    linalg,
    padding,
    pooling,
    rounding,
    scattering,
    shape,
    spectral,
    trigonometric,
)

# -- ops of one element ------------------------------------------------------------------------------------------------

# The derivative in each input, of the inputs and the op's settings.
SLOPES: dict[str, Slopes] = {
    "neg": lambda x: [-1],
    "abs": lambda x: [np.sign(x)],
    "sign": lambda x: [0],
    "floor": lambda x: [0],
    "round": lambda x: [0],
    "ceil": lambda x: [0],
    "trunc": lambda x: [0],
    "square": lambda x: [2 * x],
    "clamp": lambda x, min=None, max=None: [
        1 - ((x < (-INF if min is None else min)) | (x > (INF if max is None else max)))
    ],
    "clamp-by-tensors": lambda x, min, max: [
        1 - ((x < min) | (x > max)),
        (x < min) & (min < max),
        (x > max) | (max < min),
    ],
    "clamp_min": lambda x, min: [1 - (x < min), x < min],
    "clamp_max": lambda x, max: [1 - (x > max), x > max],
    "clip": lambda x, min=None, max=None: [
        1 - ((x < (-INF if min is None else min)) | (x > (INF if max is None else max)))
    ],
    "clone": lambda x: [1],
    "astype": lambda x, dtype: [1],
    "exp": lambda x: [np.exp(x)],
    "expm1": lambda x: [np.exp(x)],
    "log": lambda x: [1 / x],
    "log1p": lambda x: [1 / (1 + x)],
    "log2": lambda x: [1 / x / np.log(np.longdouble(2))],
    "log10": lambda x: [1 / x / np.log(np.longdouble(10))],
    "nan_to_num": lambda x, **options: [np.isfinite(x)],
    "sqrt": lambda x: [0.5 / np.sqrt(x)],
    "rsqrt": lambda x: [-0.5 / (np.sqrt(x) * x)],
    "reciprocal": lambda x: [-1 / x / x],
    "sin": lambda x: [np.cos(x)],
    "cos": lambda x: [-np.sin(x)],
    "tan": lambda x: [1 + np.tan(x) ** 2],
    "asin": lambda x: [1 / np.sqrt(1 - x * x)],
    "acos": lambda x: [-1 / np.sqrt(1 - x * x)],
    "atan": lambda x: [1 / (1 + x * x)],
    "sinh": lambda x: [np.cosh(x)],
    "cosh": lambda x: [np.sinh(x)],
    "asinh": lambda x: [1 / np.sqrt(1 + x * x)],
    "acosh": lambda x: [1 / np.sqrt(x - 1) / np.sqrt(x + 1)],
    "atanh": lambda x: [1 / (1 - x * x)],
    "tanh": lambda x: [1 / np.cosh(x) ** 2],
    "sigmoid": lambda x: [sigmoid(x) * sigmoid(-x)],
    "softplus": lambda x, beta=1.0, threshold=20.0: [np.where(x * beta > threshold, 1, sigmoid(x * beta))],
    "logsigmoid": lambda x: [sigmoid(-x)],
    "relu": lambda x: [1 - (x <= 0)],
    "leaky_relu": lambda x, negative_slope=0.01: [
        np.where((x > 0) | (np.isnan(x) & (negative_slope == 0)), 1, negative_slope)
    ],
    "elu": lambda x, alpha=1.0: [np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))],
    "silu": lambda x: [sigmoid(x) * (1 + x * sigmoid(-x))],
    "gelu": lambda x, approximate="none": [gelu_slope(x, approximate)],
    "mish": lambda x: [mish_slope(x)],
    "selu": lambda x: [1.0507009873554805 * np.where(x > 0, 1, 1.6732632423543772 * np.exp(np.minimum(x, 0)))],
    "prelu": lambda x, weight: [np.where(x > 0, 1, weight), np.minimum(x, 0)],
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: [1 - ((x <= min_val) | (x >= max_val))],
    "relu6": lambda x: [1 - ((x <= 0) | (x >= 6))],
    "hardsigmoid": lambda x: [(1 - ((x <= -3) | (x >= 3))) / 6],
    "softsign": lambda x: [(1 + np.abs(x)) ** -2],
    "erf": lambda x: [2 / math.sqrt(math.pi) * np.exp(-x * x)],
    "add": lambda x, y: [1, 1],
    "sub": lambda x, y: [1, -1],
    "mul": lambda x, y: [y, x],
    "div": lambda x, y: [1 / y, -(x / y) / y],
    "div-floor": lambda x, y: [0, 0],
    "div-trunc": lambda x, y: [0, 0],
    "pow": lambda x, y: [base_slope(x, y), exponent_slope(x, y)],
    "pow-number": lambda x, **options: [base_slope(x, options["y"])],
    "pow-of-number": lambda x: [exponent_slope(1.5, x)],
    "floor_divide": lambda x, y: [0, 0],
    "remainder": lambda x, y: [1, -np.floor_divide(x, y)],
    "atan2": lambda y, x: [over_square(x, x, y), over_square(-y, x, y)],
    "hypot": lambda x, y: [np.sin(np.arctan2(x, np.abs(y))), np.sin(np.arctan2(y, np.abs(x)))],
    "logaddexp": lambda x, y: [sigmoid(apart(x, y)), sigmoid(apart(y, x))],
    "maximum": lambda x, y: [chosen(x, y), chosen(y, x)],
    "minimum": lambda x, y: [chosen(-x, -y), chosen(-y, -x)],
    "lerp": lambda x, y, w: [1 - w, w, y - x],
    "where": lambda c, x, y: [0, c > 0, ~(c > 0)],
}

# Where a formula gives NaN at -inf or inf though there is a limit: value and derivative.
LIMITS = {name: {-INF: (0, 0), INF: (INF, 1)} for name in ("silu", "gelu", "mish")} | {
    "leaky_relu": {-INF: (0, 0)},
    "softsign": {-INF: (-1, 0), INF: (1, 0)},
}


def mish_slope(x: HostArray) -> HostArray:
    inner = np.log1p(np.exp(x))
    return np.asarray(np.tanh(inner) + x * sigmoid(x) / np.cosh(inner) ** 2)


def over_square(z: Any, x: Any, y: Any) -> Any:
    """z / (x² + y²): 0 at the origin and at infinity."""
    square = x * x + y * y
    return np.where((square == 0) | np.isinf(square), 0, z / square)


def apart(x: Any, y: Any) -> Any:
    """x - y, of equal infinities 0."""
    return np.where(x == y, 0, x - y)


def gelu_slope(x: HostArray, approximate: str) -> HostArray:
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
        return np.asarray(0.5 * (1 + np.tanh(inner)) + 0.5 * x * slope / np.cosh(inner) ** 2)
    return np.asarray(0.5 * (1 + erf(x / math.sqrt(2))) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def base_slope(x: Any, y: Any) -> Any:
    """Of xʸ in x: 0 where xʸ is 1 whatever x is, and where x to an infinite power stays 0."""
    power = np.power(x, y - 1)
    return np.where((y == 0) | ((power == 0) & np.isinf(y)), 0, y * power)


def exponent_slope(x: Any, y: Any) -> Any:
    """Of xʸ in y: 0 where xʸ stays 0, and at 0⁰."""
    power = np.power(x, y)
    return np.where((power == 0) | ((x == 0) & (y == 0)), 0, power * np.log(x))


def chosen(x: Any, other: Any) -> Any:
    """The share of x in max(x, other): half of a tie; all where either is NaN."""
    return np.where(x < other, 0, np.where(x == other, 0.5, 1))


def swept(case: Case, dtype: str) -> list[HostArray]:
    """Each extreme, or each combination of them for several inputs."""
    inputs = {"add": 2, "sub": 2, "mul": 2, "div": 2, "pow": 2, "maximum": 2, "minimum": 2, "lerp": 3, "where": 3}
    inputs |= {"floor_divide": 2, "remainder": 2, "atan2": 2, "hypot": 2, "logaddexp": 2, "prelu": 2}
    inputs |= {"clamp-by-tensors": 3, "clamp_min": 2, "clamp_max": 2, "div-floor": 2, "div-trunc": 2}
    number = inputs.get(str(case), 1 if case.variant else inputs.get(case.name, 1))
    values = extremes(dtype)
    if case.name in ("lerp", "pow"):
        # Of what is rounded before: the largest exponent less 1 is the same, a small number added to another has gone.
        values = values[(values == 0) | ~(np.abs(values) < 0.25) & ~(np.abs(values) == np.finfo(dtype).max)]
    arrays = [grid.reshape(-1) for grid in np.meshgrid(*[values] * number)]
    if case.name == "pow":  # at -inf C's pow and sqrt differ, and powers of negative numbers are NaN
        arrays = [array[arrays[0] != -INF] for array in arrays]
    return arrays


# The settings to try, where there are some; else none.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "clamp": [{}, {"min": -1.0}, {"max": 0.5}, {"min": -1.0, "max": 0.5}],
    "softplus": [{}, {"beta": 3.0, "threshold": 10.0}, {"beta": 0.5}],
    "leaky_relu": [{}, {"negative_slope": 0.0}, {"negative_slope": 0.5}],
    "elu": [{}, {"alpha": 0.5}],
    "hardtanh": [{}, {"min_val": -0.5, "max_val": 2.0}],
    "nan_to_num": [{"nan": -1.5, "posinf": 3.0, "neginf": -2.0}],
    "gelu": [{}, {"approximate": "tanh"}],
    "astype": [{"dtype": dtype} for dtype in DTYPES],
    "pow-number": [{"y": y} for y in (-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3)],
}

ELEMENTWISE_FAMILIES = (activation, clamping, elementwise, rounding, trigonometric)
ELEMENTWISE = [
    case
    for case in CASES
    if case.differentiable
    and case.name in {name for family in ELEMENTWISE_FAMILIES for name in family.__all__} - {"glu"}
]


def limited(x: HostArray, values: Any, limits: dict[float, float]) -> HostArray:
    """The values of a formula at x, or the known limits where it computes NaN."""
    values = np.array(np.broadcast_to(np.asarray(values, "longdouble"), x.shape))
    for place, limit in limits.items():
        values[(x == place) & np.isnan(values)] = limit
    return values


@every_dtype
@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
def test_an_op_of_single_elements(case: Case, dtype: str, device: str) -> None:
    limits = LIMITS.get(case.name, {})
    for options in SETTINGS.get(str(case), [{}]):
        call, plain, slopes = (
            functools.partial(function, **options) for function in (case.call, case.reference, SLOPES[str(case)])
        )
        made = options.get("dtype", dtype)

        def reference(x: HostArray, *others: HostArray, plain: Any = plain) -> HostArray:
            return limited(x, plain(x, *others), {at: value for at, (value, _) in limits.items()})

        def derivatives(x: HostArray, *others: HostArray, slopes: Any = slopes) -> list[HostArray]:
            known = {at: slope for at, (_, slope) in limits.items()}
            return [limited(x, slope, known) for slope in slopes(x, *others)]

        check(call, reference, derivatives, swept(case, dtype), dtype, device, f"{case} {options}", made)


@every_dtype
@pytest.mark.parametrize("decimals", [-400, -3, -1, 1, 2, 5, 39, 400])
def test_round_of_floats_to_any_decimals(decimals: int, dtype: str, device: str) -> None:
    """A float without digits at that decimal is unchanged; one below half a unit becomes 0."""
    info = np.finfo(dtype)
    unit, x = Fraction(10) ** -decimals, extremes(dtype)
    expected = [float(round(Fraction(float(v)) / unit) * unit) if math.isfinite(v) else v for v in x]
    value, gradient = run(functools.partial(tg.round, decimals=decimals), [x], device)
    with np.errstate(over="ignore"):
        rounded = np.array(expected, dtype)
    np.testing.assert_allclose(value, rounded, 2 * info.eps, float(info.smallest_normal))
    assert not gradient.any()


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", INTEGERS)
@given(st.data())
def test_round_of_integers_is_exact_or_an_error(dtype: str, device: str, data: st.DataObject) -> None:
    info = np.iinfo(dtype)
    decimals = data.draw(st.integers(-21, 1))
    near = st.builds(lambda m, d: m * 10 ** max(-decimals, 0) // 2 + d, st.integers(-9, 9), st.integers(-1, 1))
    numbers = st.integers(info.min, info.max) | near.filter(lambda n: info.min <= n <= info.max)
    values = data.draw(st.lists(numbers, max_size=5))
    x = tg.tensor(values, dtype=dtype, device=device)
    expected = [round(value, decimals) for value in values]
    if all(info.min <= value <= info.max for value in expected):
        assert x.round(decimals).tolist() == expected
        with warnings.catch_warnings():  # NumPy warns of scalars
            warnings.simplefilter("error")
            assert [value.round(decimals).item() for value in x] == expected
    else:
        with pytest.raises(OverflowError, match=f"^round: .* is out of bounds for {dtype}"):
            x.round(decimals)


# -- ops that move elements --------------------------------------------------------------------------------------------

MOVING = {*shape.__all__, *padding.__all__, *indexing.__all__, *scattering.__all__, "diagonal", "trace"}
ADDING = {"scatter_add", "index_add", "trace"}
LINEAR = [case for case in CASES if case.differentiable and case.name in MOVING]


@every_dtype
@pytest.mark.parametrize("case", LINEAR, ids=str)
@given(st.data())
@settings(max_examples=8)
def test_an_op_that_moves_elements_takes_any_values(case: Case, dtype: str, device: str, data: st.DataObject) -> None:
    """Its gradient is that at ordinary numbers, since it does not depend on them."""
    drawn = data.draw(case.drawn)
    rng = np.random.default_rng(data.draw(SEEDS))
    ordinary = [array.astype(dtype) for array in drawn.arrays]
    extreme = [np.where(rng.random(a.shape) < 0.5, rng.choice(extremes(dtype), a.shape), a) for a in ordinary]
    call = functools.partial(case.call, **drawn.settings)

    def joined(*tensors: tg.Tensor) -> tg.Tensor:
        out = call(*tensors)
        pieces = [piece.flatten() for piece in (out if isinstance(out, list | tuple) else [out])]
        return tg.cat([*pieces, *(0 * tg.zeros_like(x).flatten()[:0] for x in tensors)])

    adds = case.name in ADDING or drawn.settings.get("accumulate")
    with np.errstate(all="ignore" if adds else None):
        references = case.reference(*extreme, **drawn.settings)
    if isinstance(references, list) and not references:
        return
    flat = [np.asarray(r).reshape(-1) for r in (references if isinstance(references, list) else [references])]
    with np.errstate(all="ignore" if adds else None):
        value, *gradients = run(joined, extreme, device)
    if not adds:  # sums of such numbers depend on the order
        np.testing.assert_array_equal(value, np.concatenate([*flat, np.zeros(0)]).astype(dtype))
    for mine, expected in zip(gradients, run(joined, ordinary, device)[1:], strict=True):
        np.testing.assert_array_equal(mine, expected)


# -- products ----------------------------------------------------------------------------------------------------------

PRODUCTS = {*linalg.__all__} - {"diagonal", "trace"}


@every_dtype
@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_a_product_spreads_what_its_factors_hold(name: str, dtype: str, device: str) -> None:
    """As IEEE has it, 0 · inf among it: the gradients are products too."""
    x, y = np.ones((3, 2), dtype), np.ones((2, 4), dtype)
    x[0, 0], x[1, 1], y[0, 1], y[1, 2] = NAN, INF, 0, -INF
    calls = {
        "matmul": tg.matmul,
        "linear": lambda x, y: tg.linear(x, y.T),
        "einsum": lambda x, y: tg.einsum("ij,jk->ik", x, y),
        "outer": tg.outer,
        "tensordot": lambda x, y: tg.tensordot(x, y, 1),
        "mm": tg.mm,
        "bmm": lambda x, y: tg.bmm(x.unsqueeze(0), y.unsqueeze(0))[0],
        "mv": lambda x, y: tg.stack([tg.mv(x, column) for column in y.T], 1),
        "dot": lambda x, y: tg.stack([tg.stack([tg.dot(row, column) for column in y.T]) for row in x]),
        "addmm": lambda x, y: tg.addmm(x.new_zeros(4), x, y),
        "baddbmm": lambda x, y: tg.baddbmm(x.new_zeros(4), x.unsqueeze(0), y.unsqueeze(0))[0],
    }
    with np.errstate(invalid="ignore"):
        found = run(calls[name], [x, y], device)
        ones = np.ones((3, 4), dtype)
        expected = [x @ y, ones @ y.T, x.T @ ones]
        if name == "outer":
            expected = [np.outer(x, y), np.full(x.shape, np.sum(y)), np.full(y.shape, np.sum(x))]
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, 1e-3)


def test_sigmoid_of_a_signaling_nan_does_not_warn() -> None:
    """Uninitialized memory can hold one, and steps are traced with such values."""
    signaling = np.array([0x7FA00000], np.uint32).view(np.float32)
    assert np.isnan(tg.sigmoid(tg.tensor(signaling)).numpy()).all()


def test_every_differentiable_op_is_swept() -> None:
    names = {case.name for case in ELEMENTWISE} | {case.name for case in LINEAR} | REDUCTIONS | PRODUCTS
    names |= {*attention.__all__, *pooling.__all__, *spectral.__all__}  # in test_attention.py, ...
    assert {case.name for case in CASES if case.differentiable} == names
