"""What may be changed in place, and what raises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from leaves import F64, given, leaf

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor

CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "add_": lambda t: t.add_(1),
    "setitem": lambda t: t.__setitem__(0, 9.0),
    "view": lambda t: t[:1].zero_(),
    "view of a view": lambda t: t.reshape(2, 1)[0].zero_(),
    "detached": lambda t: t.detach().mul_(2),
    "copy_": lambda t: t.copy_([7.0, 8.0]),
    "data": lambda t: setattr(t, "data", np.array([7.0, 8.0])),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mul", lambda x: x * x),
        ("sin", lambda x: x.sin()),
        ("matmul", lambda x: x.reshape(2, 1) @ x.reshape(1, 2)),
    ],
    ids=["mul", "sin", "matmul"],
)
def test_a_kept_input_that_was_changed_raises(
    name: str, function: Callable[[Tensor], Tensor], change: Callable[[Tensor], Any]
) -> None:
    x = leaf(1.0, 2.0)
    y = function(x).sum()
    with tg.no_grad():
        change(x)
    with pytest.raises(RuntimeError, match=rf"op '{name}' needs for its derivative was changed in place.*clone"):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "sqrt"])
def test_a_kept_output_that_was_changed_raises(name: str, change: Callable[[Tensor], Any]) -> None:
    x = leaf(1.0, 2.0)
    y = getattr(x, name)()
    z = y.sum()
    with tg.no_grad():
        change(y)
    with pytest.raises(RuntimeError, match=f"its output that op '{name}' needs .*changed in place"):
        z.backward()
    assert x.grad is None


def test_changes_by_recorded_methods_raise_too() -> None:
    x = leaf(1.0, 2.0)
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match="'exp'"):
        y.sum().backward()
    y = x * 1
    z = y.sin()
    y[0] = 3.0
    with pytest.raises(RuntimeError, match="'sin'"):
        z.sum().backward()


def test_what_no_rule_needs_may_be_changed() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    z = (y + 1).sum()
    with tg.no_grad():
        y.zero_()
    z.backward()
    assert given(x) == [3.0, 3.0]


def test_a_change_after_the_first_derivative_raises_in_the_second() -> None:
    x, weight = leaf(1.0, 2.0), leaf(1.0, 1.0)
    y = x.exp()
    (g,) = tg.grad(y, x, weight, create_graph=True)
    with tg.no_grad():
        y.zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        tg.grad(g.sum(), weight)


def test_parameters_change_between_iterations() -> None:
    w, x = leaf(1.0, 2.0), tg.tensor([3.0, 4.0], dtype=F64)
    for _ in range(3):
        w.grad = None
        (w * w * x).sum().backward()
        assert w.grad is not None
        expected = 2 * w.data * x.data
        np.testing.assert_array_equal(w.grad.data, expected)
        with tg.no_grad():
            w.sub_(w.grad * 0.1)


def test_leaves_cannot_be_changed_while_recording() -> None:
    x = leaf(1.0, 2.0)
    for change in (lambda: x.add_(1), lambda: x.__setitem__(0, 5.0), lambda: x.zero_()):
        with pytest.raises(RuntimeError, match=r"leaf .*no_grad"):
            change()
    assert x.tolist() == [1.0, 2.0] and x.requires_grad and x.is_leaf


def test_views_cannot_be_changed_while_recording() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    view = y[:1]
    with pytest.raises(RuntimeError, match="view of another tensor"):
        view.add_(1)
    assert y.tolist() == [2.0, 4.0]
    y.sum().backward()
    assert given(x) == [2.0, 2.0]


def test_views_from_before_a_recorded_change_are_out_of_date() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    view = y[1:]
    y[0] = 7.0
    for use in (lambda: view * 2, lambda: view.sum(), lambda: tg.cat([view]), lambda: view.backward()):
        with pytest.raises(RuntimeError, match="view of a tensor that was changed in place later"):
            use()
    (y[1:] * y[:1]).sum().backward()
    assert given(x) == [0.0, 14.0]


def test_views_from_before_an_unrecorded_change_see_it() -> None:
    x = tg.zeros(2)
    view = x[:1]
    x[0] = 7.0
    assert (view * 2).tolist() == [14.0]


def test_setitem_is_differentiable_in_both() -> None:
    x, v = leaf(1.0, 2.0, 3.0), leaf(10.0, 20.0)
    y = x * 1
    y[1:] = v * v
    (y * tg.tensor([1.0, 2.0, 3.0], dtype=F64)).sum().backward()
    assert given(x) == [1.0, 0.0, 0.0] and given(v) == [2 * 2 * 10.0, 3 * 2 * 20.0]


def test_setitem_makes_a_constant_part_of_a_graph() -> None:
    buffer, v = tg.zeros(3, dtype=F64), leaf(2.0)
    for k in range(3):
        buffer[k] = v * (k + 1)
    assert buffer.requires_grad and not buffer.is_leaf
    (buffer * buffer).sum().backward()
    assert given(v) == 2 * 2.0 * (1 + 4 + 9)


def test_setitem_broadcasts_and_has_second_derivatives() -> None:
    x, v = tg.ones(2, 3, dtype=F64, requires_grad=True), leaf(2.0)

    def function(x: Tensor, v: Tensor) -> Tensor:
        y = x * x
        y[:, 1:] = v**3
        y[0] = y[0].clone() * v
        return (y * y).sum()

    assert tg.gradcheck(function, [x, v]) and tg.gradgradcheck(function, [x, v])


def test_in_place_methods_are_differentiable() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)

    def function(x: Tensor, w: Tensor) -> Tensor:
        y = x * 1
        y += w
        y -= w * 0.5
        y *= 3.0
        y /= 2.0
        y.masked_fill_(tg.tensor([False, True]), 5.0)
        return y * w

    assert tg.gradcheck(function, [x, w])


def test_in_place_results_must_have_the_tensors_shape_and_dtype() -> None:
    x, y = tg.zeros(2), tg.zeros(2, dtype="int64")
    with pytest.raises(ValueError, match=r"add_.*\(3, 2\).*\(2,\)"):
        x.add_(tg.ones(3, 2))
    with pytest.raises(TypeError, match=r"mul_.*int64"):
        y.mul_(0.5)
    assert x.tolist() == [0.0, 0.0] and y.tolist() == [0, 0]


def test_index_arrays_may_be_changed_after_use() -> None:
    for index in (np.array([0, 1]), tg.tensor([0, 1])):
        x = leaf(1.0, 2.0, 3.0)
        y = x[index]
        index[...] = 2
        y.sum().backward()
        assert given(x) == [1.0, 1.0, 0.0]


def test_an_array_that_is_filled_anew_before_the_walk() -> None:
    """A buffer that batches are read into: what an op was given is what its derivative sees."""
    x, buffer = tg.ones(3, requires_grad=True), np.ones(3, np.float32)
    for use in (lambda: x * buffer, lambda: x.matmul(buffer), lambda: tg.where(buffer > 0, x, 0.0) * buffer):
        x.grad, buffer[:] = None, 1
        y = use().sum()
        buffer[:] = 5
        y.backward()
        assert given(x) == [1.0, 1.0, 1.0]
