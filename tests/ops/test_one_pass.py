"""Elementwise functions of large tensors in one pass over memory: NumPy's values and derivatives."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm import ops
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.ops.activation import _gated, log1pexp
from tinygrad_lstm.ops.calling import MANY
from tinygrad_lstm.ops.one_pass import OnePass

Function = Callable[..., tg.Tensor]

FUNCTIONS: dict[str, tuple[Function, int]] = {
    "relu": (tg.relu, 1),
    "elu": (lambda x: tg.elu(x, 0.7), 1),
    "elu, scaled": (tg.selu, 1),
    "hardtanh": (lambda x: tg.hardtanh(x, -2, 3), 1),
    "sigmoid": (tg.sigmoid, 1),
    "softsign": (tg.softsign, 1),
    "log1pexp": (log1pexp, 1),
    "softplus": (lambda x: tg.softplus(x, 2.0, 5.0), 1),
    "logsigmoid": (tg.logsigmoid, 1),
    "leaky_relu": (tg.leaky_relu, 1),
    "leaky_relu, no slope": (lambda x: tg.leaky_relu(x, 0), 1),
    "silu": (tg.silu, 1),
    "mish": (tg.mish, 1),
    "hardsigmoid": (tg.hardsigmoid, 1),
    "gated": (_gated, 2),
    "clamp": (lambda x: tg.clamp(x, -2, None), 1),
    "erf": (tg.erf, 1),
    "hypot": (tg.hypot, 2),
    "logaddexp": (tg.logaddexp, 2),
    "logaddexp, number": (lambda x: tg.logaddexp(x, 2.0), 1),
    "squared_differences": (lambda x, y: tg.mse_loss(x, y, "none"), 2),
    "smooth_l1": (lambda x, y: tg.smooth_l1_loss(x, y, "none", 2.0), 2),
    "huber": (lambda x, y: tg.huber_loss(x, y, "none", 2.0), 2),
    "logistic": (lambda x, y: tg.binary_cross_entropy_with_logits(x, y, reduction="none"), 2),
    "logistic, pos_weight": (
        lambda x, y, z: tg.binary_cross_entropy_with_logits(x, y, reduction="none", pos_weight=z),
        3,
    ),
    "gelu": (tg.gelu, 1),
    "gelu, tanh": (lambda x: tg.gelu(x, "tanh"), 1),
    "gelu, by name": (lambda x: tg.gelu(x, approximate="tanh"), 1),
}
"""Functions that run in one pass, and the numbers of their tensors."""

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 3.0, -3.0, 6.0, 1e30, -1e30]


@pytest.fixture(autouse=True)
def _needs_a_compiler() -> None:
    if why_not() is not None:
        pytest.skip("there is no C compiler")


def drawn(number: int, dtype: Any, shape: tuple[int, ...] = (40, MANY // 32)) -> list[np.ndarray[Any, Any]]:
    """Arrays of normal numbers of several scales, with all pairs of special numbers at the beginning."""
    rng = np.random.default_rng(number)
    arrays = [rng.normal(size=shape) * rng.choice([0.1, 1, 5, 100], size=shape) for _ in range(number)]
    if number == 2:
        for array, values in zip(arrays, np.meshgrid(SPECIAL, SPECIAL)):
            array.reshape(-1)[: values.size] = values.reshape(-1)
    else:
        for array in arrays:
            array.reshape(-1)[: len(SPECIAL)] = SPECIAL
    return [array.astype(dtype) for array in arrays]


def results(function: Function, arrays: list[Any], compiled: bool, weights: Any = None) -> list[Any]:
    """The value, the gradients, and the name of the op that was recorded last."""
    with tg.compiled_kernels(compiled):
        tensors = [tg.tensor(array, requires_grad=True) for array in arrays]
        with np.errstate(all="ignore"):
            out = function(*tensors)
            out.backward(tg.ones_like(out) if weights is None else tg.tensor(weights))
    name = out._node.op.name
    return [out.detach().numpy(), *[tensor.grad.numpy() for tensor in tensors], name]


def assert_equal_to_rounding(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    eps = float(np.finfo(expected.dtype).eps)
    np.testing.assert_allclose(actual, expected, rtol=40 * eps, atol=200 * eps, equal_nan=True)
    assert actual.dtype == expected.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_those_of_the_ops(name: str, dtype: Any) -> None:
    function, number = FUNCTIONS[name]
    arrays = drawn(number, dtype)
    weights = np.random.default_rng(9).normal(size=arrays[0].shape).astype(dtype)
    *found, op = results(function, arrays, True, weights)
    *expected, _ = results(function, arrays, False, weights)
    assert op == name.partition(",")[0]
    for one, other in zip(found, expected, strict=True):
        assert_equal_to_rounding(one, other)


def test_every_function_that_is_decorated_is_tested() -> None:
    modules = [importlib.import_module(f"{ops.__name__}.{each.name}") for each in pkgutil.iter_modules(ops.__path__)]
    decorated = {value.one_pass.name for module in modules for value in vars(module).values()
                 if isinstance(getattr(value, "one_pass", None), OnePass)}  # fmt: skip
    assert decorated == {name.partition(",")[0] for name in FUNCTIONS}


@pytest.mark.parametrize("name", [name for name, (_, number) in FUNCTIONS.items() if number > 1])
def test_a_gradient_of_some_of_the_tensors(name: str) -> None:
    function, number = FUNCTIONS[name]
    tensors = [tg.tensor(np.random.default_rng(k).normal(size=MANY), requires_grad=True) for k in range(number)]
    out = function(*tensors).sum()
    expected = tg.grad(out, tensors, retain_graph=True)
    for tensor, gradient in zip(tensors, expected, strict=True):
        (found,) = tg.grad(out, [tensor], retain_graph=True)
        np.testing.assert_array_equal(found.numpy(), gradient.numpy())


def test_second_derivatives_are_those_of_the_ops() -> None:
    (array,) = drawn(1, np.float64)
    array = np.nan_to_num(array).clip(-5, 5)
    found = []
    for compiled in (True, False):
        with tg.compiled_kernels(compiled):
            x = tg.tensor(array, requires_grad=True)
            (first,) = tg.grad(tg.gelu(x).sum(), [x], create_graph=True)
            found.append(tg.grad((first * first).sum(), [x])[0].numpy())
    assert_equal_to_rounding(*found)


def columns_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values, of which only the elements of a row are adjacent."""
    return np.concatenate([array, array], axis=-1)[..., : array.shape[-1]]


@pytest.mark.parametrize("shape", [(40, 1024), (8, 30, 150), (MANY + 3,), (MANY, 1), (17, 1, 2100)])
@pytest.mark.parametrize(
    "layout", [columns_of, np.asfortranarray, lambda array: array[::-1], lambda array: array[None]]
)
def test_arrays_of_any_layout(layout: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
    """Also with the gradients of sums, which are one number for all elements, or for those along a dimension."""
    arrays = [layout(np.random.default_rng(k).normal(size=shape).astype(np.float32)) for k in range(2)]
    weights = np.random.default_rng(3).normal(size=arrays[0].shape[1:]).astype(np.float32)
    for reduced in (lambda y: y.sum(), lambda y: (y.sum(0) * tg.tensor(weights)).sum()):
        found = []
        for compiled in (True, False):
            with tg.compiled_kernels(compiled):
                x = tg.Tensor._wrap(arrays[0], tg.ones(1).device).requires_grad_()
                y = tg.tensor(arrays[1], requires_grad=True)
                out = _gated(x, y)
                reduced(out).backward()
                found.append([out.detach().numpy(), x.grad.numpy(), y.grad.numpy()])
        for one, other in zip(*found, strict=True):
            assert_equal_to_rounding(one, other)


@st.composite
def layouts(draw: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An array of this shape: with any order of dimensions in memory, gaps, reversed or repeated elements."""
    order = draw(st.permutations(range(len(shape))))
    repeated = [draw(st.integers(0, 5)) == 0 for _ in shape]
    gaps = [1 if repeated[d] else draw(st.sampled_from([1, 1, 1, 2, -1])) for d in range(len(shape))]
    made = [1 if repeated[d] else shape[d] * abs(gaps[d]) for d in order]
    array = np.random.default_rng(draw(st.integers(0, 99))).normal(size=made).transpose(np.argsort(order))
    array = array[tuple(slice(None, None, gap) for gap in gaps)]
    array = np.broadcast_to(array, shape)
    return array if draw(st.booleans()) or any(repeated) else array.copy(order="K")


@given(st.data(), st.lists(st.integers(1, 5), max_size=4).map(tuple))
def test_arrays_of_drawn_layouts(data: st.DataObject, shape: tuple[int, ...]) -> None:
    x, y, g = (tg.Tensor._wrap(data.draw(layouts(shape)), tg.ones(1).device) for _ in range(3))
    found = []
    for function in (_PRODUCT, _PRODUCT._function):
        a, b = x.detach().requires_grad_(), y.detach().requires_grad_()
        out = function(a, b)
        assert out is not None
        out.backward(g)
        found.append([out.detach().numpy(), a.grad.numpy(), b.grad.numpy()])
    for one, other in zip(*found, strict=True):
        assert_equal_to_rounding(one, other)


_PRODUCT = OnePass(lambda x, y: x * y + x, "product")


def test_small_tensors_and_float16_use_the_ops() -> None:
    for x in (tg.ones(MANY // 2, requires_grad=True), tg.ones(MANY, dtype=np.float16, requires_grad=True)):
        assert tg.gelu(x)._node.op.name == "where"


def test_anomalies_are_found_in_the_ops() -> None:
    x = tg.tensor(np.full(MANY, np.inf, np.float32), requires_grad=True)
    with tg.detect_anomaly():
        assert tg.gelu(x)._node.op.name == "where"


def test_an_invalid_setting_raises_its_error() -> None:
    with pytest.raises(ValueError, match="gelu: approximate is 'sine'"):
        tg.gelu(tg.ones(MANY), "sine")


def test_a_write_in_place_is_noticed() -> None:
    x = tg.ones(MANY, requires_grad=True) * 1
    y = tg.gelu(x).sum()
    x.fill_(2.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize("function", [tg.clamp, tg.hardtanh])
@pytest.mark.parametrize("bounds", [(2.0, 1.0), (np.inf, -np.inf), (np.nan, 1.0), (-1.0, np.nan)])
def test_unusual_bounds(function: Any, bounds: tuple[float, float]) -> None:
    """The upper of two bounds in the wrong order is the result; a bound of NaN makes all elements NaN."""
    arrays = drawn(1, np.float32)
    *found, op = results(lambda x: function(x, *bounds), arrays, True)
    *expected, _ = results(lambda x: function(x, *bounds), arrays, False)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert op == function.__name__


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_gradient_may_have_a_different_dtype(dtype: str) -> None:
    """The rule of a user-defined op may return one. The kernel must not read it as float32."""

    @tg.op(x=lambda g: g.astype(dtype) * 3)
    def tripled(xp: Any, x: tg.Array) -> Any:
        return x * 3

    x = tg.ones(MANY, requires_grad=True)
    tripled(tg.relu(x)).sum().backward()
    assert x.grad.dtype == np.float32 and (x.grad == 3).all()


def test_other_functions_use_the_ops() -> None:
    """They take a tensor from outside, are not elementwise, have no gradient for an input, or ops without C code."""
    x, y, outside = (tg.ones(3, requires_grad=True) for _ in range(3))
    assert OnePass(lambda x: x * outside, "outside")(x) is None
    assert OnePass(lambda x: x.sum(), "sum")(x) is None
    assert OnePass(lambda x, y: x * y.detach(), "detached")(x, y) is None
    assert OnePass(lambda x: x.cumsum(0), "cumsum")(x) is None
    assert OnePass(lambda x, y: x * y, "array")(x, np.ones(3)) is None
    assert OnePass(lambda x, y: x * y, "named")(x, y=y) is None
    assert OnePass(lambda x, y: x * y, "mixed")(x, y.astype(np.float64)) is None
    assert OnePass(lambda x, y: x * y, "broadcast")(x, tg.ones(2, 3)) is None


def test_settings_that_always_change_are_not_compiled() -> None:
    made = OnePass(lambda x, factor: x * factor, "scaled")
    x = tg.ones(MANY)
    assert [made(x, k) is None for k in range(20)] == [False] * 16 + [True] * 4
