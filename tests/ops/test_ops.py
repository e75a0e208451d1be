"""Every op: its values, its first and second derivatives, and its dtypes, on every device."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.case import SEEDS, Case, Drawn
from ops.cases import CASES

import tinygrad_lstm as tg
from tinygrad_lstm.ops import (
    activation,
    attention,
    clamping,
    comparison,
    cumulative,
    elementwise,
    indexing,
    linalg,
    padding,
    pooling,
    reduction,
    rounding,
    scattering,
    shape,
    sorting,
    spectral,
    trigonometric,
)
from tinygrad_lstm.ops.rules import Functions

HostArray = np.ndarray[Any, Any]

FAMILIES = [
    elementwise,
    trigonometric,
    rounding,
    activation,
    clamping,
    comparison,
    reduction,
    cumulative,
    sorting,
    shape,
    padding,
    pooling,
    spectral,
    indexing,
    scattering,
    linalg,
    attention,
]
TOLERANCE = {"float16": 2e-2, "float32": 2e-5, "float64": 1e-12}
STEP = 1e-5

every_case = pytest.mark.parametrize("case", CASES, ids=str)
differentiable = pytest.mark.parametrize("case", [case for case in CASES if case.differentiable], ids=str)


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def as_integers(array: HostArray, dtype: str) -> HostArray:
    """Integers away from zero where the array is: domains keep their meaning."""
    return (np.sign(array) * np.ceil(np.abs(array))).astype(dtype)


def assert_near(actual: HostArray, expected: Any, tolerance: float) -> None:
    expected = np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))))
    np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, tolerance * scale)


def expected_dtype(case: Case, dtype: str) -> str:
    if case.out == "same":
        return dtype
    if case.out == "sum":  # of integers and bool, in int64
        return dtype if dtype.startswith("float") else "int64"
    if case.out == "float":
        return dtype if dtype.startswith("float") else "float32"
    return case.out


def test_every_public_op_has_a_case() -> None:
    public = {name for family in FAMILIES for name in family.__all__}
    without = {"allclose", "equal", "nonzero", "unique"}  # a Python bool, and results whose shapes depend on values
    assert {case.name for case in CASES} == public - without


def test_every_public_op_says_what_it_does() -> None:
    for name in sorted({name for family in FAMILIES for name in family.__all__}):
        assert inspect.getdoc(getattr(tg, name)), name


def test_ops_are_named_after_their_functions() -> None:
    """A reader who knows `stack` finds `stack_op`, and no op has a second name."""
    functions = [value for family in Functions.families for value in vars(family).values() if inspect.isfunction(value)]
    functions = [function for function in functions if hasattr(function, "op")]
    assert len(functions) > 100
    for function in functions:
        name, shown = function.__name__, function.op.name
        public = inspect.getmodule(function).__all__  # type: ignore[union-attr]
        assert name == (shown if name in public or shown not in dir(tg.Tensor) + public else f"{shown}_op"), name


@every_case
@settings(max_examples=15)
@given(st.data())
def test_value_and_dtype(case: Case, device: str, data: st.DataObject) -> None:
    drawn = data.draw(case.drawn)
    dtypes = ["float64", "float32", "float16"] + ["int64", "int32"] * case.ints + ["bool"] * (case.ints and case.bools)
    dtype = data.draw(st.sampled_from(dtypes))
    if dtype.startswith("float"):
        arrays = [array.astype(dtype) for array in drawn.arrays]
        exact = [array.astype(np.float64) for array in arrays]
    else:
        arrays = [as_integers(array, dtype) for array in drawn.arrays]
        exact = [array.astype(np.float64) for array in arrays] if case.out == "float" else arrays
    results = as_list(case.call(*[tg.tensor(array, device=device) for array in arrays], **drawn.settings))
    references = as_list(case.reference(*exact, **drawn.settings))
    assert len(results) == len(references)
    for result, reference in zip(results, references, strict=True):
        assert result.device == device
        assert result.dtype == expected_dtype(case, dtype)
        assert not result.requires_grad
        assert_near(result.cpu().numpy(), reference, TOLERANCE.get(dtype, TOLERANCE["float32"]))


def gradients(
    case: Case, drawn: Drawn, device: str, arrays: Sequence[HostArray], cotangents: Sequence[HostArray], weights: Any
) -> tuple[list[Any], list[Any]]:
    """The gradients of the results' products with the cotangents; and those of their products with the weights."""
    tensors = [tg.tensor(array, device=device, requires_grad=True) for array in arrays]
    along = [tg.tensor(cotangent, device=device, requires_grad=True) for cotangent in cotangents]
    results = as_list(case.call(*tensors, **drawn.settings))
    for result in results:
        assert result.requires_grad
    # No gradient reaches a condition.
    found = tg.grad(results, tensors, along, create_graph=True, allow_unused=True)
    first = [tg.zeros_like(x, requires_grad=True) if g is None else g for g, x in zip(found, tensors, strict=True)]
    if weights is None:
        return first, []
    weighted = [tg.tensor(weight, device=device) for weight in weights]
    return first, list(tg.grad(first, tensors + along, weighted, allow_unused=True))


def product(arrays: Sequence[Any], others: Sequence[Any]) -> float:
    return math.fsum(float(np.sum(np.asarray(a) * b)) for a, b in zip(arrays, others, strict=True))


def central_difference(function: Callable[[float], float]) -> float:
    return (function(STEP) - function(-STEP)) / (2 * STEP)


@differentiable
@settings(max_examples=15)
@given(st.data())
def test_first_and_second_derivative(case: Case, device: str, data: st.DataObject) -> None:
    """Along a random direction, each is that of a central difference of what it is the derivative of."""
    drawn = data.draw(case.drawn)
    rng = np.random.default_rng(data.draw(SEEDS))

    def like(arrays: Sequence[Any]) -> list[HostArray]:
        return [np.asarray(rng.uniform(-1, 1, np.shape(array))) for array in arrays]

    arrays = drawn.arrays
    references = as_list(case.reference(*arrays, **drawn.settings))
    if not references:
        return
    cotangents, directions, weights = like(references), like(arrays), like(arrays)
    turns = like(cotangents)

    def moved(by: float) -> list[HostArray]:
        return [np.asarray(array + by * direction) for array, direction in zip(arrays, directions, strict=True)]

    def value(by: float) -> float:
        return product(as_list(case.reference(*moved(by), **drawn.settings)), cotangents)

    def slope(by: float) -> float:
        turned = [np.asarray(v + by * turn) for v, turn in zip(cotangents, turns, strict=True)]
        first, _ = gradients(case, drawn, "cpu", moved(by), turned, None)
        return product([g.detach().numpy() for g in first], weights)

    first, second = gradients(case, drawn, device, arrays, cotangents, weights)
    for g, array in zip(first, arrays, strict=True):
        assert (g.shape, g.dtype, g.device) == (array.shape, np.float64, device)
    on_host = [g.detach().cpu().numpy() for g in first]
    expected = central_difference(value)
    assert product(on_host, directions) == pytest.approx(expected, rel=1e-6, abs=1e-7)

    on_host = [np.zeros(()) if g is None else g.cpu().numpy() for g in second]
    expected = central_difference(slope)
    assert product(on_host, directions + turns) == pytest.approx(expected, rel=1e-5, abs=1e-6)


# -- the other ways to call an op --------------------------------------------------------------------------------------

ALIASES = {"dim": "axis", "keepdim": "keepdims"}


@pytest.mark.parametrize("case", [case for case in CASES if case.called_plainly], ids=str)
@given(st.data())
def test_numpys_names_and_the_method_compute_the_same(case: Case, data: st.DataObject) -> None:
    drawn = data.draw(case.drawn)
    tensors = [tg.tensor(array) for array in drawn.arrays]
    settings = {ALIASES.get(name, name): value for name, value in drawn.settings.items()}
    expected = as_list(getattr(tg, case.name)(*tensors, **drawn.settings))
    for found in (
        getattr(tg, case.name)(*tensors, **settings),
        getattr(tensors[0], case.name)(*tensors[1:], **settings),
    ):
        for one, other in zip(as_list(found), expected, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", ["sum", "mean", "argmax", "flip", "chunk"])
def test_two_names_for_one_argument_raise(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        getattr(tg, name)(tg.ones(2, 3), dim=0, axis=1)


@pytest.mark.parametrize("join", [tg.cat, tg.concat, tg.stack])
def test_two_names_for_one_dim_raise(join: Any) -> None:
    x = tg.ones(2, 3)
    for dim in (0, 1):
        with pytest.raises(TypeError, match=r"axis= is another name for dim="):
            join([x, x], dim=dim, axis=1)
    np.testing.assert_array_equal(join([x, x], axis=1).numpy(), join([x, x], 1).numpy())
    np.testing.assert_array_equal(join([x, x], axis=0).numpy(), join([x, x]).numpy())


def test_where_as_a_method(device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    result = x.where(x > 1, -1.0)
    assert result.tolist() == [-1.0, 2.0]
    assert tg.grad(result.sum(), x)[0].tolist() == [0.0, 1.0]


# -- memory ------------------------------------------------------------------------------------------------------------


@every_case
@given(st.data())
def test_a_result_that_shares_memory_is_known_as_a_view(case: Case, data: st.DataObject) -> None:
    """What is written into it in place is then seen by the graphs that kept its source."""
    drawn = data.draw(case.drawn)
    dtypes = ["float64"] + ["int64"] * case.ints + ["bool"] * (case.ints and case.bools)
    dtype = data.draw(st.sampled_from(dtypes))
    arrays = drawn.arrays if dtype == "float64" else [as_integers(array, dtype) for array in drawn.arrays]
    tensors = [tg.tensor(array, dtype) for array in arrays]
    for result in as_list(case.call(*tensors, **drawn.settings)):
        for x in tensors:
            if result is not x and np.shares_memory(result.data, x.data):
                assert result._viewed_at is not None


@pytest.mark.parametrize("turned", [lambda x: x.flip(0), lambda x: tg.einsum("ij->ji", x)])
def test_writing_into_a_result_does_not_change_gradients_silently(turned: Callable[[Any], Any]) -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 1
    squared = (y * y).sum()
    with tg.no_grad():
        turned(y).fill_(0.0)
    if y.tolist() == x.tolist():
        assert tg.grad(squared, x)[0].tolist() == [[2.0, 4.0], [6.0, 8.0]]
    else:
        with pytest.raises(RuntimeError, match="changed in place"):
            tg.grad(squared, x)


# -- dtypes ------------------------------------------------------------------------------------------------------------

BINARY = [case for case in CASES if case.name in ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "where")]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("number", [True, 2, 0.5, -1.5])
@pytest.mark.parametrize("name", [
    "add", "sub", "mul", "div", "maximum", "minimum", "logaddexp", "hypot", "atan2", "remainder", "eq", "lt",
])  # fmt: skip
def test_numbers_keep_a_floats_dtype(name: str, number: float, dtype: str, device: str) -> None:
    x = tg.tensor([1.0, 2.0], dtype=dtype, device=device, requires_grad=True)
    for result in (getattr(tg, name)(x, number), getattr(tg, name)(number, x)):
        if name in ("eq", "lt"):
            assert result.dtype == np.bool_
            continue
        assert result.dtype == dtype
        for create_graph in (True, False):
            (g,) = tg.grad(result.sum(), x, create_graph=create_graph)
            assert g.dtype == dtype


@pytest.mark.parametrize("other", ["bool", "uint8", "int32", "int64"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("case", BINARY[:5], ids=str)
def test_integers_never_widen_a_float(case: Case, dtype: str, other: str, device: str) -> None:
    x = tg.tensor([1.0, 2.0], dtype=dtype, device=device, requires_grad=True)
    y = tg.tensor([[1], [1]], dtype=other, device=device)
    if case.variant:
        y = 2
    result = getattr(tg, case.name)(x, y)
    assert result.dtype == dtype
    (g,) = tg.grad(result.sum(), x)
    assert g.dtype == dtype


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_integers_with_floats_and_divided_are_float32(dtype: str, device: str) -> None:
    x = tg.tensor([1, 1], dtype=dtype, device=device)
    for result in (x / 2, 2 / x, x / x, x + 0.5, 0.5 * x, x.mean(), x.exp(), x.maximum(0.5), x.masked_fill(x > 0, 0.5)):
        assert result.dtype == np.float32
    assert (x.to(dtype="int64").clamp(0.5, 0.7)).tolist() == pytest.approx([0.7, 0.7])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # division by zero
@pytest.mark.parametrize("number", [2, 300, -3])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "floor_divide", "remainder", "maximum", "minimum"])
def test_an_integer_beside_bool_keeps_its_value(name: str, number: int, device: str) -> None:
    array, function = np.array([True, False]), getattr(np, name)
    x = tg.tensor(array, device=device)
    for found, expected in (
        (function(x, number), function(array, number)),
        (function(number, x), function(number, array)),
    ):
        np.testing.assert_array_equal(found.cpu().numpy(), expected)
        assert found.dtype == np.int64


def test_of_two_floats_the_wider_stays(device: str) -> None:
    x = tg.tensor([1.0], dtype="float32", device=device, requires_grad=True)
    y = tg.tensor([2.0], dtype="float64", device=device, requires_grad=True)
    result = x * y
    assert result.dtype == np.float64
    result.sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)
    assert tg.cat([x, y]).dtype == np.float64
    assert tg.where(x > 0, x, y).dtype == np.float64


def test_where_of_two_numbers(device: str) -> None:
    condition = tg.tensor([True, False], device=device)
    assert tg.where(condition, 1.0, 0.0).dtype == np.float32
    assert tg.where(condition, 1, 0).dtype == np.int64
    assert tg.where(condition, 1.0, 0).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [(tg.softmax, 1 / 70_000), (tg.log_softmax, -math.log(70_000)), (tg.logsumexp, math.log(70_000))],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_float16_exponentials_are_summed_in_a_wider_dtype(function: Any, expected: float, device: str) -> None:
    result = function(tg.zeros(70_000, dtype="float16", device=device), -1)
    assert result.dtype == np.float16
    np.testing.assert_allclose(result.cpu().numpy().astype(np.float64), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, math.inf])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
def test_a_norm_of_integers_is_float32(p: float, dtype: str, device: str) -> None:
    x = tg.tensor([[1, 0], [0, 0]], dtype=dtype, device=device)
    assert (x.norm(p).dtype, x.norm(p).item()) == (np.float32, 1.0)


@pytest.mark.parametrize("reduce", [tg.mean, tg.var, tg.std, tg.norm])
def test_float16_is_reduced_in_a_wider_dtype(reduce: Any, device: str) -> None:
    x = tg.tensor(np.linspace(300, 500, 2000), dtype="float16", device=device, requires_grad=True)
    result = reduce(x)
    expected = reduce(tg.tensor(x.detach().cpu().numpy().astype(np.float64)))
    assert result.dtype == np.float16
    assert result.item() == pytest.approx(expected.item(), rel=2e-3)
    (g,) = tg.grad(result, x)
    assert g.dtype == np.float16
