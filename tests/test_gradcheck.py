"""gradcheck and gradgradcheck: what is right passes, and each kind of wrong is named."""

import itertools
import re
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg


def leaf(*shape: int, seed: int = 0) -> tg.Tensor:
    return tg.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


@tg.op(x=lambda g, x: g * 3 * x)  # should be 2x
def wrong_square(xp: Any, x: tg.Array) -> Any:
    return x * x


@tg.op(x=lambda g: g * 2)
def doubled(xp: Any, x: tg.Array) -> Any:
    return x * 2


@tg.op(x=lambda g, x, F: g * F(doubled)(F(detached)(x)))  # right, but its own derivative is lost
def square_once(xp: Any, x: tg.Array) -> Any:
    return x * x


@tg.op()
def detached(xp: Any, x: tg.Array) -> Any:
    return x * 1


def test_right_derivatives_pass() -> None:
    x, y = leaf(2, 3), leaf(3, seed=1)
    assert tg.gradcheck(lambda x, y: ((x * y).sin(), x.sum(1)), [x, y])
    assert tg.gradgradcheck(lambda x, y: ((x * y).sin(), x.sum(1)), [x, y])
    assert tg.gradcheck(lambda x: x.exp(), x) and tg.gradcheck(lambda x: x.sum(), leaf(0, 2))
    assert tg.gradcheck(lambda x, n, name: x**n, (x, 3, "name"))
    assert x.grad is None and y.grad is None


def test_integer_outputs_and_constants_are_passed_over() -> None:
    x, index = leaf(4), tg.tensor([2, 0])
    assert tg.gradcheck(lambda x, index: (x[index] ** 2, x.argmax()), (x, index))


def test_inputs_may_be_reached_without_being_arguments() -> None:
    x = leaf(3)
    assert tg.gradcheck(lambda *_: x * x, x) and tg.gradgradcheck(lambda *_: x**3, x)
    with pytest.raises(RuntimeError, match="gradcheck"):
        tg.gradcheck(lambda *_: wrong_square(x), x)


def test_inputs_keep_their_values_and_memory() -> None:
    x = leaf(2, 2)
    array, values = x.data, x.data.copy()
    tg.gradcheck(lambda x: x @ x, x)
    with pytest.raises(RuntimeError):
        tg.gradcheck(wrong_square, x)
    assert x.data is array and np.array_equal(array, values)


def test_a_wrong_derivative_is_reported_in_full() -> None:
    x, y = leaf(2), tg.tensor([[1.0, -2.0], [0.0, 4.0]], dtype="float64", requires_grad=True)

    def function(x: tg.Tensor, y: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        return x * 2, wrong_square(y)

    with pytest.raises(RuntimeError) as caught:
        tg.gradcheck(function, [x, y])
    message = str(caught.value)
    assert message.startswith("gradcheck: the derivative of output 1 in input 1 is wrong in 3 of 16 elements")
    worst = re.search(r"d output\[1, 1\] / d input\[1, 1\] is 12 analytically, (\S+) numerically", message)
    assert worst is not None and float(worst[1]) == pytest.approx(8)
    assert "\n" not in message and "atol 1e-05, rtol 0.001" in message
    assert tg.gradcheck(function, [x, y], raise_exception=False) is False


def test_tolerances() -> None:
    x = leaf(3)
    near = lambda x: x * x + wrong_square(x) * 1e-4  # noqa: E731
    assert tg.gradcheck(near, x)
    assert not tg.gradcheck(near, x, atol=1e-9, rtol=1e-6, raise_exception=False)


def test_a_lost_derivative_is_found() -> None:
    x = leaf(3)
    with pytest.raises(RuntimeError, match="output 0 in input 0 is wrong in 3 of 9"):
        tg.gradcheck(lambda x: x.detach() * x, x)
    with pytest.raises(RuntimeError, match="output 1 in input 0 is wrong in 3 of 9"):
        tg.gradcheck(lambda x: (x, x.detach()), x)


def test_a_wrong_second_derivative_is_found() -> None:
    x = leaf(3)
    assert tg.gradcheck(square_once, x)
    with pytest.raises(RuntimeError, match="gradgradcheck: the derivative of output 0 in input 0 is wrong in 3 of 9"):
        tg.gradgradcheck(square_once, x)
    assert tg.gradgradcheck(square_once, x, raise_exception=False) is False


def test_grad_outputs_of_gradgradcheck() -> None:
    x = leaf(3)
    assert tg.gradgradcheck(lambda x: (x**3, x.sum()), x, [np.ones(3), tg.tensor(2.0, dtype="float64")])
    with pytest.raises(ValueError, match="2 float outputs, but 1 grad_outputs"):
        tg.gradgradcheck(lambda x: (x**3, x.sum()), x, np.ones(3))


def test_functions_that_are_not_the_same_each_time() -> None:
    turns = itertools.count()
    with pytest.raises(RuntimeError, match="returns different values when it is called again"):
        tg.gradcheck(lambda x: x * float(next(turns)), leaf(2))


def test_rules_that_are_not_the_same_each_time() -> None:
    turns = itertools.count(1)

    @tg.op(x=lambda g: g * float(next(turns)))
    def moody(xp: Any, x: tg.Array) -> Any:
        return x * 1

    with pytest.raises(RuntimeError, match="two backward passes return different gradients"):
        tg.gradcheck(moody, leaf(2))


def test_functions_and_rules_that_change_what_they_are_given() -> None:
    def scribble(array: Any) -> Any:
        array *= 2
        return array

    @tg.op(x=lambda g: scribble(g))
    def changes_gradient(xp: Any, x: tg.Array) -> Any:
        return x * 1

    @tg.op(x=lambda g, x: (scribble(x), g)[1])
    def changes_input(xp: Any, x: tg.Array) -> Any:
        return x * 0 + 1

    @tg.op(x=lambda g: g)
    def changes_at_once(xp: Any, x: tg.Array) -> Any:
        return scribble(x) * 0

    with pytest.raises(RuntimeError, match="the backward pass changes the gradient that it was given"):
        tg.gradcheck(changes_gradient, leaf(2))
    with pytest.raises(RuntimeError, match="the backward pass changes the inputs"):
        tg.gradcheck(changes_input, leaf(2))
    with pytest.raises(RuntimeError, match="the function changes its inputs"):
        tg.gradcheck(changes_at_once, leaf(2))


def test_bad_arguments() -> None:
    x = leaf(2)
    with pytest.raises(TypeError, match=r"gradcheck: an input of shape \(2,\) is float32; .*\.double\(\)"):
        tg.gradcheck(tg.exp, tg.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="gradgradcheck: none of the 1 inputs"):
        tg.gradgradcheck(tg.exp, tg.ones(2))
    with pytest.raises(TypeError, match="gradcheck: the function returned a float; it must return Tensors"):
        tg.gradcheck(lambda x: x.sum().item(), x)
    with pytest.raises(ValueError, match="gradcheck: the function returned no Tensor of floats"):
        tg.gradcheck(lambda x: x > 0, x)
    with pytest.raises(ValueError, match="gradgradcheck: no output of the function requires a gradient"):
        tg.gradgradcheck(lambda x: x.detach(), x)


def test_on_every_device(device: str) -> None:
    x = leaf(2, 3).detach().to(device).requires_grad_()
    assert tg.gradcheck(lambda x: (x.tanh() @ x.T).exp(), x) and tg.gradgradcheck(lambda x: x.tanh() * x.sum(), x)
    with pytest.raises(RuntimeError, match="wrong in"):
        tg.gradcheck(wrong_square, x)


def test_recording_is_on_within() -> None:
    with tg.no_grad():
        assert tg.gradcheck(tg.tanh, leaf(2)) and tg.gradgradcheck(tg.tanh, leaf(2))
