"""Derivatives along a direction: of every op, of fused layers, of any order; against walks back and differences."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.case import SEEDS, Case
from ops.cases import CASES

import tinygrad_lstm as tg
from tinygrad_lstm import func
from tinygrad_lstm.models import GRU, LSTM, RNN
from tinygrad_lstm.ops import _softmax, class_loss, convolution, ctc, loss, margin_loss, normalization

differentiable = pytest.mark.parametrize("case", [case for case in CASES if case.differentiable], ids=str)
every_kind = pytest.mark.parametrize("kind", [LSTM, GRU, RNN], ids=lambda kind: kind.__name__)


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def host(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy() if isinstance(value, tg.Tensor) else value)


def product(arrays: Sequence[Any], others: Sequence[Any]) -> float:
    return float(sum(np.sum(host(a) * host(b)) for a, b in zip(arrays, others, strict=True)))


def bent(x: tg.Tensor) -> tg.Tensor:
    return x.sin() * x.exp() + x**3


def bent_derivative(x: Any, order: int) -> Any:
    """Of sin(x)·exp(x) + x³; each derivative of the first turns it by 45° and stretches it by √2."""
    cube = {0: x**3, 1: 3 * x**2, 2: 6 * x, 3: 6 + 0 * x}[order]
    return 2 ** (order / 2) * np.sin(x + order * np.pi / 4) * np.exp(x) + cube


# -- every op ----------------------------------------------------------------------------------------------------------


@differentiable
@settings(max_examples=10)
@given(st.data())
def test_every_op(case: Case, device: str, data: st.DataObject) -> None:
    """J·t is the central difference along t; and v·(J·t) is (v·J)·t, for any v, which holds J·t to the walk back."""
    drawn = data.draw(case.drawn)
    rng = np.random.default_rng(data.draw(SEEDS))

    def like(arrays: Sequence[Any]) -> list[np.ndarray]:
        return [np.asarray(rng.uniform(-1, 1, np.shape(array))) for array in arrays]

    def function(*tensors: tg.Tensor) -> list[tg.Tensor]:
        return as_list(case.call(*tensors, **drawn.settings))

    directions = like(drawn.arrays)
    primals = tuple(tg.tensor(array, device=device) for array in drawn.arrays)
    tangents = tuple(tg.tensor(direction, device=device) for direction in directions)
    value, tangent = func.jvp(function, primals, tangents)
    again, push = func.linearize(function, *primals)
    for one, other, out, repeated in zip(tangent, push(*tangents), value, again, strict=True):
        assert (one.shape, one.dtype, one.device) == (out.shape, out.dtype, out.device)
        np.testing.assert_array_equal(host(one), host(other))
        np.testing.assert_array_equal(host(out), host(repeated))

    step = 1e-5
    ends = [
        as_list(case.reference(*[x + sign * step * t for x, t in zip(drawn.arrays, directions)], **drawn.settings))
        for sign in (1, -1)
    ]
    for one, ahead, behind in zip(tangent, *ends, strict=True):
        np.testing.assert_allclose(host(one), (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)

    cotangents = like(tangent)
    _, pull = func.vjp(function, tuple(range(len(primals))))(*primals)
    pulled = pull([tg.tensor(cotangent, device=device) for cotangent in cotangents])
    assert product(tangent, cotangents) == pytest.approx(product(pulled, directions), rel=1e-10, abs=1e-10)


@differentiable
@settings(max_examples=8)
@given(st.data())
def test_every_op_twice(case: Case, data: st.DataObject) -> None:
    """The derivative of J·t along another direction u is t·H·u, as walking back twice computes it."""
    drawn = data.draw(case.drawn)
    rng = np.random.default_rng(data.draw(SEEDS))
    t, u = ([np.asarray(rng.uniform(-1, 1, array.shape)) for array in drawn.arrays] for _ in range(2))

    def function(*tensors: tg.Tensor) -> tg.Tensor:
        return sum((out * out).sum() for out in as_list(case.call(*tensors, **drawn.settings))) + tg.zeros(
            (), dtype="float64"
        )

    primals, places = tuple(drawn.arrays), tuple(range(len(drawn.arrays)))
    _, second = func.jvp(lambda *x: func.jvp(function, x, tuple(t))[1], primals, tuple(u))
    expected = product(func.hvp(function, places)(*primals, tuple(u)), t)
    assert host(second) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    mixed = func.grad(lambda *x: func.jvp(function, x, tuple(t))[1], places)(*primals)
    assert product(mixed, u) == pytest.approx(expected, rel=1e-8, abs=1e-8)


NETWORKS = (_softmax, class_loss, convolution, ctc, loss, margin_loss, normalization)
LOSSES: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
    "cross_entropy": lambda x: tg.cross_entropy(x, tg.tensor([1, 0, 2]), label_smoothing=0.1),
    "nll_loss": lambda x: tg.nll_loss(x, tg.tensor([1, 0, 2])),
    "mse_loss": lambda x: tg.mse_loss(x, tg.ones_like(x)),
    "binary_cross_entropy_with_logits": lambda x: tg.binary_cross_entropy_with_logits(x, tg.ones_like(x)),
    "l1_loss": lambda x: tg.l1_loss(x, tg.ones_like(x), reduction="none"),
    "smooth_l1_loss": lambda x: tg.smooth_l1_loss(x, tg.ones_like(x)),
    "softmax": lambda x: tg.softmax(x, 0),
    "log_softmax": lambda x: tg.log_softmax(x, 1),
    "huber_loss": lambda x: tg.huber_loss(x, tg.ones_like(x)),
    "kl_div": lambda x: tg.kl_div(x, tg.ones_like(x) / 4, reduction="sum"),
    "gaussian_nll_loss": lambda x: tg.gaussian_nll_loss(x, tg.ones_like(x), x.exp()),
    "binary_cross_entropy": lambda x: tg.binary_cross_entropy(x.sigmoid(), tg.ones_like(x) / 3),
    "cosine_similarity": lambda x: tg.cosine_similarity(x, tg.ones_like(x)),
    "cosine_embedding_loss": lambda x: tg.cosine_embedding_loss(x, tg.ones_like(x), tg.tensor([1, -1, 1])),
    "hinge_embedding_loss": lambda x: tg.hinge_embedding_loss(x, tg.ones_like(x)),
    "margin_ranking_loss": lambda x: tg.margin_ranking_loss(x, x * 3, tg.ones_like(x)),
    "soft_margin_loss": lambda x: tg.soft_margin_loss(x, tg.ones_like(x)),
    "triplet_margin_loss": lambda x: tg.triplet_margin_loss(x, tg.ones_like(x), x.sin()),
    "ctc_loss": lambda x: tg.ctc_loss(x, [1, 2], [3], [2]),
    "layer_norm": lambda x: tg.layer_norm(x, (4,)),
    "rms_norm": lambda x: tg.rms_norm(x, (4,)),
    "group_norm": lambda x: tg.group_norm(x, 2),
    "batch_norm": lambda x: tg.batch_norm(x, None, None, training=True),
    "conv1d": lambda x: tg.conv1d(x.reshape(1, 3, 4), tg.ones(2, 3, 2, dtype="float64").cumsum(0), padding=1),
    "conv2d": lambda x: tg.conv2d(x.reshape(1, 1, 3, 4), tg.ones(2, 1, 2, 3, dtype="float64").cumsum(0), padding=1),
    "conv_transpose1d": lambda x: tg.conv_transpose1d(x, tg.ones(3, 2, 2, dtype="float64").cumsum(0), stride=2),
}


def test_every_loss_and_layer_is_there() -> None:
    public = {name for module in NETWORKS for name in module.__all__}
    assert set(LOSSES) == public


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_layers_of_networks(name: str) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    _, tangent = func.jvp(LOSSES[name], (x,), (t,))
    np.testing.assert_allclose(tangent, np.tensordot(func.jacobian(LOSSES[name])(x), t, 2), atol=1e-12)


# -- fused layers ------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("lengths", [None, [3, 0, 2]], ids=["full", "lengths"])
def test_fused_layers(kind: Any, lengths: Any, device: str) -> None:
    """Two layers in both directions, with lengths: the result is that of the Jacobian by reverse mode."""
    tg.manual_seed(3)
    layer = kind(2, 2, num_layers=2, bidirectional=True).to(device, "float64")
    x, t = (tg.randn(3, 3, 2, dtype="float64", device=device) for _ in range(2))

    def function(x: tg.Tensor) -> Any:
        return layer(x, lengths=lengths)[0]

    with tg.no_grad():
        value, tangent = func.jvp(function, (x,), (t,))
        np.testing.assert_array_equal(host(value), host(layer(x, lengths=lengths)[0]))
        expected = np.tensordot(host(func.jacobian(function)(x)), host(t), 3)
    np.testing.assert_allclose(host(tangent), expected, rtol=1e-10, atol=1e-12)


@every_kind
def test_fused_layers_in_third_order(kind: Any, compiled: bool) -> None:
    tg.manual_seed(3)
    layer = kind(2, 2).to(dtype="float64")
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal((3, 1, 2)), rng.standard_normal((3, 1, 2))

    def along(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: func.jvp(function, (x,), (t,))[1]

    def loss(x: tg.Tensor) -> tg.Tensor:
        return (layer(x, lengths=[2])[0] ** 2).sum()

    second, third = along(along(loss)), along(along(along(loss)))
    assert second(x) == pytest.approx(np.sum(func.hvp(loss)(x, t) * t), rel=1e-10)
    step = 1e-5
    assert third(x) == pytest.approx((second(x + step * t) - second(x - step * t)) / (2 * step), rel=1e-6)
    np.testing.assert_allclose(func.grad(along(loss))(x), func.hvp(loss)(x, t), rtol=1e-10, atol=1e-13)


# -- orders and nesting ------------------------------------------------------------------------------------------------


@given(st.floats(-2, 2))
def test_orders_of_a_float(x: float) -> None:
    def along(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: func.jvp(function, (x,), (1.0,))[1]

    value, tangent = func.jvp(bent, (x,), (1.0,))
    assert type(value) is type(tangent) is float
    functions: list[Callable[[Any], Any]] = [bent]
    for order in (1, 2, 3):
        expected = bent_derivative(x, order)
        functions = [transform(function) for function in functions for transform in (along, func.grad)]
        for function in functions:  # every way to nest the two
            assert function(x) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_hessian_by_columns_and_jacobian_of_jvp() -> None:
    x = np.array([0.3, -0.4, 1.0])

    def function(x: tg.Tensor) -> tg.Tensor:
        return bent(x).sum() * x.prod()

    hessian = func.hessian(function)(x)
    _, push = func.linearize(func.grad(function), x)
    np.testing.assert_allclose(np.stack([push(e) for e in np.eye(3)], 1), hessian, atol=1e-12)
    t = np.array([1.0, -2.0, 0.5])
    mixed = func.jacobian(lambda x: func.jvp(func.grad(function), (x,), (t,))[1])(x)
    third = func.jacobian(func.hessian(function))(x)
    np.testing.assert_allclose(mixed, np.einsum("ijk,j->ik", third, t), atol=1e-10)


def test_inner_functions_see_outer_arguments() -> None:
    # d/dx x · (d/dy (x + y) at 1) = 1; mixing the two variables up would give 2.
    inner = lambda x: func.jvp(lambda y: x + y, (1.0,), (1.0,))[1]  # noqa: E731
    assert func.jvp(lambda x: x * inner(x), (3.0,), (1.0,)) == (3.0, 1.0)
    # d/dx x · (d/dy x·y at 1) = d/dx x²
    inner = lambda x: func.jvp(lambda y: x * y, (1.0,), (1.0,))[1]  # noqa: E731
    assert func.jvp(lambda x: x * inner(x), (3.0,), (1.0,)) == (9.0, 6.0)
    assert func.grad(lambda x: x * inner(x))(3.0) == 6.0
    # the value of the inner one
    assert func.jvp(lambda x: func.jvp(lambda y: x * x * y, (2.0,), (1.0,))[0], (3.0,), (1.0,)) == (18.0, 12.0)


def test_tangents_are_differentiated_too() -> None:
    x, t = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    slope = func.grad(lambda t: (func.jvp(bent, (x,), (t,))[1] ** 2).sum())(t)
    np.testing.assert_allclose(slope, 2 * bent_derivative(x, 1) ** 2 * t)
    tangent = tg.tensor(t, requires_grad=True)
    value, along = func.jvp(bent, (x,), (tangent,))
    assert type(value) is np.ndarray and isinstance(along, tg.Tensor)
    along.sum().backward()
    np.testing.assert_allclose(tangent.grad.data, bent_derivative(x, 1))


def test_tensors_stay_in_the_graph() -> None:
    x = tg.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    value, tangent = func.jvp(bent, (x,), (tg.ones(2, dtype="float64"),))
    assert value.requires_grad and tangent.requires_grad and x.grad is None
    (second,) = tg.grad(tangent.sum(), x)
    np.testing.assert_allclose(second.data, bent_derivative(x.data, 2))
    w = tg.tensor(2.0, dtype="float64", requires_grad=True)
    _, tangent = func.jvp(lambda x: (x * x * w).sum(), (x.detach(),), (tg.ones(2, dtype="float64"),))
    assert tg.grad(tangent, w)[0].item() == 6.0
    _, tangent = func.jvp(lambda x: (x * x * w).sum(), (x.data,), (np.ones(2),))
    assert type(tangent) is np.float64 or type(tangent) is np.ndarray  # a constant to arrays
    with tg.no_grad():
        value, tangent = func.jvp(bent, (x,), (tg.ones(2, dtype="float64"),))
    assert not value.requires_grad and not tangent.requires_grad
    np.testing.assert_allclose(tangent.data, bent_derivative(x.data, 1))


# -- linearize ---------------------------------------------------------------------------------------------------------


@given(SEEDS)
def test_linearize_runs_the_function_once_and_is_linear(seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, x, t, u = (rng.standard_normal(shape) for shape in ((2, 3), 3, 3, 3))
    calls = 0

    def function(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
        nonlocal calls
        calls += 1
        return (w @ x).tanh() * y

    value, push = func.linearize(function, x, 2.0)
    np.testing.assert_allclose(value, np.tanh(w @ x) * 2)
    np.testing.assert_allclose(push(3 * t + u, 7.0), 3 * push(t, 2.0) + push(u, 1.0), atol=1e-12)
    np.testing.assert_allclose(push(t, 0.5), func.jvp(function, (x, 2.0), (t, 0.5))[1], atol=1e-14)
    assert calls == 2  # one of linearize, one of jvp
    jacobian = func.jacobian(function)(x, 2.0)
    np.testing.assert_allclose(np.stack([push(e, 0.0) for e in np.eye(3)], 1), jacobian, atol=1e-12)
    assert not np.shares_memory(push(t, 0.5), push(t, 0.5))


def test_linearize_is_differentiated_in_primals_and_tangents() -> None:
    x = 0.7
    assert func.grad(lambda x: func.linearize(bent, x)[1](2.0))(x) == pytest.approx(2 * bent_derivative(x, 2))
    _, push = func.linearize(bent, x)
    assert func.grad(lambda t: push(t) ** 2)(3.0) == pytest.approx(6 * bent_derivative(x, 1) ** 2)
    assert type(push(3.0)) is float


def test_linearize_repeats_dropped_units_and_noise() -> None:
    x = np.ones(100)
    value, push = func.linearize(lambda x: tg.dropout(x, 0.5) * tg.rand(100, dtype="float64"), x)
    np.testing.assert_array_equal(push(x), value)
    value, tangent = func.jvp(lambda x: tg.dropout(x, 0.5), (x,), (3 * x,))
    np.testing.assert_array_equal(tangent, 3 * value)


# -- corners -----------------------------------------------------------------------------------------------------------


def test_where_a_branch_is_masked_its_infinities_do_not_show() -> None:
    with np.errstate(divide="ignore"):
        _, tangent = func.jvp(lambda x: tg.where(x > 0, x.sqrt(), 0.0), (np.array([0.0, 4.0]),), (np.ones(2),))
        assert tangent.tolist() == [0.0, 0.25]
        with tg.detect_anomaly():
            _, tangent = func.jvp(tg.sqrt, (np.array([0.0, 4.0]),), (np.ones(2),))
        assert tangent.tolist() == [np.inf, 0.25]
        assert func.jvp(tg.log, (0.0,), (1.0,)) == (-np.inf, np.inf)


def test_large_derivatives_times_small_tangents_are_finite() -> None:
    _, tangent = func.jvp(lambda x: x.exp() * x.exp(), (350.0,), (1e-200,))
    assert tangent == pytest.approx(2 * np.exp(700) * 1e-200)
    # In float16 the derivative, 70000, is infinite.
    _, tangent = func.jvp(lambda x: x * 280 * 250, (np.float16(0.5),), (np.float16(0.25),))
    assert tangent == np.float16(17500) and tangent.dtype == np.float16


def test_what_does_not_depend_on_the_argument_has_tangent_zero() -> None:
    constant = tg.tensor([3.0, 4.0], dtype="float64", requires_grad=True)
    value, tangent = func.jvp(lambda x: [constant * 2, x, {"sign": x.sign()}], (2.0,), (5.0,))
    assert value[0].tolist() == [6.0, 8.0] and value[1:] == [2.0, {"sign": 1.0}]
    assert tangent[0].tolist() == [0.0, 0.0] and tangent[1:] == [5.0, {"sign": 0.0}]
    value, tangent = func.jvp(lambda x, y: y * y, (np.ones(3), 2.0), (np.ones(3), 1.0))
    assert value == 4.0 and tangent == 4.0
    assert func.jvp(lambda: tg.ones(2, dtype="float64"), (), ())[1].tolist() == [0.0, 0.0]


def test_arguments_that_are_returned_repeated_or_viewed() -> None:
    x, t = np.arange(6.0).reshape(2, 3), np.ones((2, 3)).cumsum(1)
    _, (same, again, turned, part) = func.jvp(lambda x: (x, x, x.T, x[1]), (x,), (t,))
    assert np.array_equal(same, t) and np.array_equal(again, t) and not np.shares_memory(same, t)
    assert np.array_equal(turned, t.T) and np.array_equal(part, t[1])


def test_writes_in_place_within_the_function() -> None:
    def function(x: tg.Tensor) -> tg.Tensor:
        y = x * x
        y[0] = x[1] * 10
        y.add_(x.sin())
        return y

    jacobian = func.jacobian(function)(np.array([2.0, 3.0]))
    _, tangent = func.jvp(function, (np.array([2.0, 3.0]),), (np.array([1.0, 10.0]),))
    np.testing.assert_allclose(tangent, jacobian @ [1.0, 10.0])


@pytest.mark.parametrize("transform", [func.grad, func.vjp, func.jacobian, lambda f: lambda x: func.jvp(f, (x,), (x,))])
def test_writes_into_an_argument_raise(transform: Any) -> None:
    def function(x: tg.Tensor) -> tg.Tensor:
        x[0] = 3.0
        return (x * x).sum()

    x = tg.ones(3, requires_grad=True)
    for argument in (x, x.detach(), np.ones(3)):
        for unnoticed in (function, tg.no_grad()(lambda x: x.zero_().sum())):  # by the graph
            with pytest.raises(RuntimeError, match="in place"):
                transform(unnoticed)(argument)
    assert x.tolist() == [1.0] * 3


def test_checkpointed_functions() -> None:
    x, t = np.array([0.5, -1.0]), np.array([1.0, 3.0])
    _, tangent = func.jvp(lambda x: tg.checkpoint(bent, x) * x, (x,), (t,))
    np.testing.assert_allclose(tangent, (bent_derivative(x, 1) * x + bent_derivative(x, 0)) * t)
    _, push = func.linearize(lambda x: tg.checkpoint(bent, x), x)
    for _ in range(2):
        np.testing.assert_allclose(push(t), bent_derivative(x, 1) * t)
    second = func.jvp(lambda x: func.jvp(lambda x: tg.checkpoint(bent, x), (x,), (t,))[1], (x,), (t,))[1]
    np.testing.assert_allclose(second, bent_derivative(x, 2) * t * t)


def test_an_op_of_the_users(device: str) -> None:
    @tg.op(x=lambda g, x: g * 3 * x * x)
    def cube(xp: Any, x: tg.Array) -> Any:
        return x * x * x

    x = tg.tensor([1.0, 2.0], dtype="float64", device=device)
    _, tangent = func.jvp(lambda x: func.jvp(cube, (x,), (tg.ones_like(x),))[1], (x,), (tg.ones_like(x),))
    assert tangent.tolist() == [6.0, 12.0]


def test_through_conversions_and_moves(device: str) -> None:
    def function(x: tg.Tensor) -> tg.Tensor:
        return (x.to(dtype="float32") * 3).to("cpu").to(dtype="float64") ** 2

    x = tg.tensor([1.0, 2.0], dtype="float64", device=device)
    value, tangent = func.jvp(function, (x,), (tg.ones_like(x),))
    assert value.device == tangent.device == "cpu"
    assert tangent.dtype == np.float64 and tangent.tolist() == [18.0, 36.0]


def test_a_hook_takes_part_as_on_the_way_back() -> None:
    def function(x: tg.Tensor) -> tg.Tensor:
        y = x * x
        y.register_hook(lambda g: -g)  # as a layer that reverses gradients does
        return y * x

    x, t = np.array([1.0, 2.0]), np.array([1.0, 0.5])
    np.testing.assert_array_equal(func.jvp(function, (x,), (t,))[1], func.jacobian(function)(x) @ t)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_and_structures_are_kept(dtype: Any) -> None:
    state = {"h": np.array([1.0, 2.0], dtype), "c": [np.array(3.0, dtype)]}
    function = lambda s, x: {"out": (s["h"] * s["c"][0], x)}  # noqa: E731
    tangents = ({"c": [1.0], "h": [10.0, 20.0]}, 0.5)  # numbers take the dtype of their place
    value, tangent = func.jvp(function, (state, 2.0), tangents)
    h, x = tangent["out"]
    assert type(h) is np.ndarray and h.dtype == value["out"][0].dtype == dtype and h.tolist() == [31.0, 62.0]
    assert x == 0.5 and x.dtype == np.float64


def test_arrays_of_a_device_come_back_from_it(device: str) -> None:
    place = tg.zeros(1, device=device).device
    x, t = (place.backend.from_host(np.array(values)) for values in ([1.0, 2.0], [1.0, 0.5]))
    value, tangent = func.jvp(lambda x: x * x, (x,), (t,))
    assert place.backend.owns(value) and place.backend.owns(tangent)
    assert place.backend.to_host(tangent).tolist() == [2.0, 2.0]


def test_errors() -> None:
    x = np.array([1.0, 2.0])
    with pytest.raises(TypeError, match=r"^jvp: primals must be a tuple, with an entry for each argument, got ndarray"):
        func.jvp(tg.sin, x, (x,))
    with pytest.raises(TypeError, match=r"^jvp: tangents must be a tuple"):
        func.jvp(tg.sin, (x,), x)
    with pytest.raises(ValueError, match=r"^jvp: expected a tuple of 1 parts, as the primals are"):
        func.jvp(tg.sin, (x,), (x, x))
    with pytest.raises(ValueError, match=r"^jvp: expected a dict with the keys 'a', as the primals are"):
        func.jvp(lambda d: d["a"], ({"a": x},), ({"b": x},))
    with pytest.raises(ValueError, match=r"^jvp: an argument has shape \(2,\), got \(3,\)"):
        func.jvp(tg.sin, (x,), (np.ones(3),))
    with pytest.raises(TypeError, match=r"^jvp: expected floats, .* got int64 ndarray"):
        func.jvp(tg.sin, (np.arange(3),), (np.ones(3),))
    with pytest.raises(TypeError, match=r"^jvp: the function returned a Tensor of int64"):
        func.jvp(lambda x: x.argmax(), (x,), (x,))
    _, push = func.linearize(tg.sin, x)
    with pytest.raises(ValueError, match=r"^linearize: expected a tuple of 1 parts, as the primals are"):
        push(x, x)
