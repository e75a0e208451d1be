"""Derivatives of plain functions: against closed forms and differences, nested, and of the kind that was given."""

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_lstm as tg
from tinygrad_lstm import func
from tinygrad_lstm.func.trees import leaves

ARRAYS = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3), elements=st.floats(-2, 2)
)
VECTORS = hnp.arrays(np.float64, st.integers(1, 4), elements=st.floats(-2, 2))


def bent(x: tg.Tensor) -> tg.Tensor:
    return (x.sin() * x.exp() + x**3).sum()


def bent_gradient(x: Any) -> Any:
    return np.cos(x) * np.exp(x) + np.sin(x) * np.exp(x) + 3 * x**2


def bent_second(x: Any) -> Any:
    return 2 * np.cos(x) * np.exp(x) + 6 * x


# -- values ------------------------------------------------------------------------------------------------------------


@given(ARRAYS)
def test_grad_of_an_array(x: Any) -> None:
    before = x.copy()
    g = func.grad(bent)(x)
    assert type(g) is np.ndarray and g.shape == x.shape and g.dtype == x.dtype
    np.testing.assert_allclose(g, bent_gradient(x), rtol=1e-12, atol=1e-12)
    assert not np.shares_memory(g, x)
    np.testing.assert_array_equal(x, before)


@given(st.floats(-2, 2))
def test_grad_of_a_float(x: float) -> None:
    value, g = func.value_and_grad(bent)(x)
    assert type(g) is float and type(value) is float
    assert g == pytest.approx(bent_gradient(x), rel=1e-12)
    assert value == pytest.approx(np.sin(x) * np.exp(x) + x**3)
    assert type(func.hessian(bent)(x)) is float
    assert func.hessian(bent)(x) == pytest.approx(bent_second(x), abs=1e-12)
    assert func.hvp(bent)(x, 3.0) == pytest.approx(3 * bent_second(x), abs=1e-12)


@given(VECTORS)
def test_hessian_of_an_elementwise_sum_is_diagonal(x: Any) -> None:
    np.testing.assert_allclose(func.hessian(bent)(x), np.diag(bent_second(x)), atol=1e-12)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_hessian_of_a_quadratic_form(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, x, v = rng.standard_normal((n, n)), rng.standard_normal(n), rng.standard_normal(n)

    def quartic(x: tg.Tensor) -> tg.Tensor:
        return (x @ (a @ x)) ** 2

    q, s = x @ a @ x, a + a.T
    expected = 2 * np.outer(s @ x, s @ x) + 2 * q * s
    hessian = func.hessian(quartic)(x)
    np.testing.assert_allclose(hessian, expected, atol=1e-10)
    np.testing.assert_allclose(func.hvp(quartic)(x, v), hessian @ v, atol=1e-10)


@given(VECTORS, st.integers(0, 2**32 - 1))
def test_jacobian_agrees_with_differences_and_vjp(x: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, v = rng.standard_normal((3, 2, x.size)), rng.standard_normal((3, 2))

    def function(x: tg.Tensor) -> tg.Tensor:
        return (w @ x).tanh() * x.sum()

    jacobian = func.jacobian(function)(x)
    assert type(jacobian) is np.ndarray and jacobian.shape == (3, 2, x.size)
    for k in range(x.size):
        step = 1e-6 * np.eye(x.size)[k]
        difference = (np.tanh(w @ (x + step)) * (x + step).sum() - np.tanh(w @ (x - step)) * (x - step).sum()) / 2e-6
        np.testing.assert_allclose(jacobian[..., k], difference, atol=1e-7)
    value, pull = func.vjp(function)(x)
    np.testing.assert_allclose(value, np.tanh(w @ x) * x.sum())
    for weight in (v, 2 * v):  # as often as one likes
        np.testing.assert_allclose(pull(weight), np.einsum("ij,ijk->k", weight, jacobian), atol=1e-12)


@pytest.mark.parametrize(
    ("out", "shape"), [(lambda x: x[:0], (0, 3)), (lambda x: x.sum(), (3,)), (lambda x: x[1], (3,))]
)
def test_jacobians_shape(out: Any, shape: tuple[int, ...]) -> None:
    assert func.jacobian(out)(np.ones(3)).shape == shape


def test_jacobian_in_an_empty_array() -> None:
    assert func.jacobian(lambda x: x.sum() + tg.ones(2, dtype="float64"))(np.ones((0, 3))).shape == (2, 0, 3)


def test_what_does_not_depend_on_the_argument_has_gradient_zero() -> None:
    constant = tg.tensor(3.0, dtype="float64")
    assert func.grad(lambda x: constant)(2.0) == 0.0
    assert func.grad(lambda x, y: y * y, argnums=(0, 1))(2.0, 3.0) == (0.0, 6.0)
    assert func.hessian(lambda x: (x * 2).sum())(np.ones(2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert func.hvp(lambda x: x.sum())(np.ones(2), np.ones(2)).tolist() == [0.0, 0.0]


# -- argnums -----------------------------------------------------------------------------------------------------------


def weighted(x: tg.Tensor, y: tg.Tensor, z: tg.Tensor) -> tg.Tensor:
    return (x * y * y).sum() * z


def test_argnums() -> None:
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    np.testing.assert_array_equal(func.grad(weighted)(x, y, 2.0), 2 * y * y)
    np.testing.assert_array_equal(func.grad(weighted, 1)(x, y, 2.0), 4 * x * y)
    assert func.grad(weighted, -1)(x, y, 2.0) == (x * y * y).sum()
    gz, gx = func.grad(weighted, (2, 0))(x, y, 2.0)
    assert gz == (x * y * y).sum() and type(gz) is float
    np.testing.assert_array_equal(gx, 2 * y * y)
    (alone,) = func.grad(weighted, (1,))(x, y, 2.0)
    np.testing.assert_array_equal(alone, 4 * x * y)
    value, (gy,) = func.value_and_grad(weighted, (1,))(x, y, 2.0)
    assert value == 2 * (x * y * y).sum()
    np.testing.assert_array_equal(gy, alone)


def test_hessian_over_several_arguments() -> None:
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0])

    def function(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
        return (x * x).sum() * y.prod()

    (xx, xy), (yx, yy) = func.hessian(function, (0, 1))(x, y)
    np.testing.assert_allclose(xx, 2 * np.eye(2) * 60)
    np.testing.assert_allclose(xy, np.outer(2 * x, 60 / y))
    np.testing.assert_allclose(yx, xy.T)
    np.testing.assert_allclose(yy, 5 * (60 / np.outer(y, y)) * (1 - np.eye(3)))
    vx, vy = np.array([0.5, -1.0]), np.array([1.0, 2.0, 3.0])
    px, py = func.hvp(function, (0, 1))(x, y, (vx, vy))
    np.testing.assert_allclose(px, xx @ vx + xy @ vy)
    np.testing.assert_allclose(py, yx @ vx + yy @ vy)
    np.testing.assert_allclose(func.hvp(function, 1)(x, y, vy), yy @ vy)


def test_keyword_arguments_and_settings_pass_through() -> None:
    def function(x: tg.Tensor, power: int, *, scale: float) -> tg.Tensor:
        assert type(power) is int and type(scale) is float
        return (x**power).sum() * scale

    np.testing.assert_array_equal(func.grad(function)(np.array([1.0, 2.0]), 3, scale=2.0), [6.0, 24.0])


def test_the_function_is_given_tensors() -> None:
    def function(x: Any, y: Any, z: Any) -> tg.Tensor:
        assert isinstance(x, tg.Tensor) and x.requires_grad and x.dtype == np.float64
        assert isinstance(y, tg.Tensor) and not y.requires_grad
        assert isinstance(z["ids"][0], tg.Tensor) and z["name"] == "z"
        return (x * y[z["ids"][0]]).sum()

    np.testing.assert_array_equal(
        func.grad(function)(2.0, np.arange(3.0), {"ids": [np.array([1, 2])], "name": "z"}), 3.0
    )


# -- nesting -----------------------------------------------------------------------------------------------------------


def test_grad_of_grad_of_grad() -> None:
    function = tg.sin
    for expected in (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin):
        function = func.grad(function)
        assert type(function(0.7)) is float
        assert function(0.7) == pytest.approx(expected(0.7), rel=1e-14)


def test_inner_functions_see_outer_arguments() -> None:
    # d/dx x · (d/dy x·y at 1) = d/dx x²; a lost inner dependence would give x.
    assert func.grad(lambda x: x * func.grad(lambda y: x * y)(1.0))(3.0) == 6.0
    # d/dx x · (d/dy (x + y) at 1) = 1; mixing the two variables up would give 2.
    assert func.grad(lambda x: x * func.grad(lambda y: x + y)(1.0))(3.0) == 1.0
    # the inner one over arrays, or over Tensors that are not the outer argument
    inner = lambda x: func.grad(lambda y: (x * y * y).sum())(np.array([1.0, 2.0]))  # noqa: E731
    assert func.grad(lambda x: inner(x).sum() * x)(3.0) == 2 * 3.0 * 6.0
    inner = lambda x: func.grad(lambda y: (x * y * y).sum())(tg.tensor([1.0, 2.0], dtype="float64"))  # noqa: E731
    assert func.grad(lambda x: inner(x).sum() * x)(3.0) == 2 * 3.0 * 6.0


def test_the_inner_value_is_differentiated_too() -> None:
    def function(x: tg.Tensor) -> tg.Tensor:
        value, g = func.value_and_grad(lambda y: (y**3).sum())(x)
        return value * g

    assert func.grad(function)(2.0) == 15 * 2.0**4


def test_a_pull_is_differentiated_in_what_it_is_given() -> None:
    def function(v: tg.Tensor) -> tg.Tensor:
        _, pull = func.vjp(lambda x: x * x)(np.array([1.0, 3.0]))
        return (pull(v) * v).sum()

    np.testing.assert_array_equal(func.grad(function)(np.array([1.0, 1.0])), [4.0, 12.0])


def test_jacobian_of_a_hessian() -> None:
    x = np.array([0.3, -0.4])
    third = func.jacobian(func.hessian(bent))(x)
    assert third.shape == (2, 2, 2)
    expected = np.zeros((2, 2, 2))
    for k in range(2):
        expected[k, k, k] = 2 * np.exp(x[k]) * (np.cos(x[k]) - np.sin(x[k])) + 6
    np.testing.assert_allclose(third, expected, atol=1e-12)


def test_tensors_stay_in_the_graph() -> None:
    x = tg.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    value, g = func.value_and_grad(lambda x: (x**3).sum())(x)
    assert isinstance(g, tg.Tensor) and g.requires_grad and x.grad is None
    (second,) = tg.grad(g.sum() + value, x)
    np.testing.assert_array_equal(second.data, 6 * x.data + 3 * x.data**2)
    w = tg.tensor(2.0, dtype="float64", requires_grad=True)
    tg.grad(func.grad(lambda x: (x * w).sum() ** 2)(x.detach()).sum(), w)[0].item()
    assert w.grad is None
    np.testing.assert_array_equal(func.hessian(lambda x: (x**3).sum())(x).detach().data, np.diag(6 * x.data))


def test_tensors_without_a_graph_come_back_without_one() -> None:
    x = tg.tensor([1.0, 2.0])
    value, g = func.value_and_grad(lambda x: (x**3).sum())(x)
    assert isinstance(g, tg.Tensor) and not g.requires_grad and not value.requires_grad and g.dtype == np.float32
    value, pull = func.vjp(lambda x: x * 2)(x)
    assert not value.requires_grad and not pull(tg.ones(2)).requires_grad
    with tg.no_grad():
        g = func.grad(lambda x: (x * x).sum())(x.clone().requires_grad_())
    assert g.tolist() == [2.0, 4.0] and not g.requires_grad


def test_parameters_reached_otherwise_are_constants_to_arrays() -> None:
    w = tg.tensor(2.0, dtype="float64", requires_grad=True)
    g = func.grad(lambda x: (x * x * w).sum())(np.array([1.0, 2.0]))
    assert type(g) is np.ndarray and g.tolist() == [4.0, 8.0] and w.grad is None


# -- kinds, dtypes, nesting of arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_are_kept(dtype: Any) -> None:
    x = np.array([1.0, 2.0], dtype)
    value, g = func.value_and_grad(lambda x: (x * x).sum())(x)
    assert value.dtype == g.dtype == dtype and g.tolist() == [2.0, 4.0]
    assert func.hessian(lambda x: (x * x).sum())(x).dtype == dtype
    scalar = func.grad(lambda x: x * x)(dtype(3))
    assert type(scalar) is dtype and scalar == 6


@pytest.mark.parametrize("made", [tuple, list, lambda parts: namedtuple("State", "h c")(*parts)])
def test_tuples_and_lists_as_arguments(made: Any) -> None:
    state = made([np.array([1.0, 2.0]), 3.0])
    g = func.grad(lambda s: (s[0] * s[0]).sum() * s[1])(state)
    assert type(g) is type(state)
    assert g[0].tolist() == [6.0, 12.0] and g[1] == 5.0


def test_dicts_as_arguments() -> None:
    weights = {"w": np.array([[1.0, 2.0]]), "b": {"inner": np.array([0.5])}}
    x = np.array([1.0, -1.0])

    def loss(weights: Any, x: tg.Tensor) -> tg.Tensor:
        return ((weights["w"] @ x + weights["b"]["inner"]) ** 2).sum()

    value, g = func.value_and_grad(loss)(weights, x)
    assert value == 0.25
    np.testing.assert_allclose(g["w"], [[-1.0, 1.0]])
    np.testing.assert_allclose(g["b"]["inner"], [-1.0])
    hessian = func.hessian(loss)(weights, x)
    assert hessian["w"]["w"].shape == (1, 2, 1, 2) and hessian["w"]["b"]["inner"].shape == (1, 2, 1)
    np.testing.assert_allclose(hessian["b"]["inner"]["w"], [[[2.0, -2.0]]])


def test_functions_that_return_several_outputs() -> None:
    value, pull = func.vjp(lambda x: {"a": x * 2, "b": [x.sum()]})(np.array([1.0, 2.0]))
    assert value["a"].tolist() == [2.0, 4.0] and value["b"][0] == 3.0
    assert pull({"b": [10.0], "a": np.array([1.0, 2.0])}).tolist() == [12.0, 14.0]  # by key, not by order
    jacobian = func.jacobian(lambda x: (x * x, x.sum()))(np.array([1.0, 2.0]))
    assert jacobian[0].tolist() == [[2.0, 0.0], [0.0, 4.0]] and jacobian[1].tolist() == [1.0, 1.0]


def test_arrays_of_a_device_come_back_from_it(device: str) -> None:
    place = tg.zeros(1, device=device).device
    x = place.backend.from_host(np.array([1.0, 2.0]))
    g, gs = func.grad(lambda x, s: (x * x * s).sum(), (0, 1))(x, 3.0)
    assert place.backend.owns(g) and place.backend.to_host(g).tolist() == [6.0, 12.0]
    assert gs == 5.0
    hessian = func.hessian(lambda x: (x**3).sum())(x)
    assert place.backend.to_host(hessian).tolist() == [[6.0, 0.0], [0.0, 12.0]]


def test_names_are_kept() -> None:
    def loss(x: tg.Tensor) -> tg.Tensor:
        """What is lost."""
        return x

    assert func.grad(loss).__name__ == "loss" and func.grad(loss).__doc__ == "What is lost."


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors() -> None:
    x = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=r"^grad: the function returned \(2,\); it must return a scalar"):
        func.grad(lambda x: x * 2)(x)
    with pytest.raises(ValueError, match=r"^value_and_grad: the function returned \(\) and \(\)"):
        func.value_and_grad(lambda x: (x.sum(), x.sum()))(x)
    with pytest.raises(TypeError, match=r"^grad: expected floats, .* to differentiate in, got int$"):
        func.grad(lambda x: x * 2)(3)
    with pytest.raises(TypeError, match=r"^grad: expected floats, .* got int64 ndarray"):
        func.grad(lambda x: x.sum())(np.arange(3))
    with pytest.raises(TypeError, match=r"^jacobian: expected floats, .* got int64 Tensor"):
        func.jacobian(lambda x: x.sum())(tg.arange(3))
    with pytest.raises(TypeError, match=r"^grad: expected floats, .* got str"):
        func.grad(lambda x: x)("x")
    with pytest.raises(TypeError, match=r"^grad: expected floats, .* got complex128 ndarray"):
        func.grad(lambda x: x.sum())(np.ones(2) * 1j)
    with pytest.raises(ValueError, match=r"^grad: argnums 2 names no argument; 2 positional arguments were given"):
        func.grad(lambda x, y: x, 2)(x, x)
    with pytest.raises(TypeError, match=r"^grad: argnums must be an int or a tuple of ints, got 'x'"):
        func.grad(lambda x: x, ("x",))(x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^grad: argnums must be an int or a tuple of ints, got 0.5"):
        func.grad(lambda x: x, 0.5)(x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^grad: the function returned a float; it must return a Tensor"):
        func.grad(lambda x: x.item())(3.0)
    with pytest.raises(TypeError, match=r"^jacobian: the function returned a Tensor of int64"):
        func.jacobian(lambda x: x.argmax())(x)
    _, pull = func.vjp(lambda x: x * 2)(x)
    with pytest.raises(ValueError, match=r"^vjp: an output has shape \(2,\), got \(3,\)"):
        pull(np.ones(3))
    _, pull = func.vjp(lambda x: (x, x))(x)
    with pytest.raises(ValueError, match=r"^vjp: expected a tuple of 2 parts"):
        pull(np.ones(2))
    with pytest.raises(TypeError, match=r"^hvp: expected the function's arguments and then the vector"):
        func.hvp(lambda x: x.sum())(x)


@pytest.mark.parametrize("function", [lambda x: x.exp(), lambda x: (x.exp(),), lambda x: x])
def test_a_changed_value_does_not_change_the_derivative(function: Any) -> None:
    """The derivative of exp needs the value, which the caller may change before it is computed."""
    x = np.array([1.0, 2.0])
    for transformed in (func.vjp(function), lambda x: func.linearize(function, x)):
        value, derivative = transformed(x)
        given = (np.ones(2),) if isinstance(value, tuple) and derivative.__name__ == "pull" else np.ones(2)
        (before,) = leaves(derivative(given))
        (array,) = leaves(value)
        array *= 100
        (after,) = leaves(derivative(given))
        np.testing.assert_array_equal(after, before)


def test_an_error_in_the_function_leaves_nothing_behind() -> None:
    def fails(x: tg.Tensor) -> tg.Tensor:
        raise KeyError("inside")

    with tg.no_grad():
        with pytest.raises(KeyError, match="inside"):
            func.grad(fails)(1.0)
        assert not (tg.ones(1, requires_grad=True) * 2).requires_grad
    assert type(func.grad(lambda x: x * x)(2.0)) is float
