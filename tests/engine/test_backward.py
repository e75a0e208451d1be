"""`backward` and `grad`: which gradients they compute, of any order, and when a graph is freed."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from leaves import F64, given, leaf

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor
from tinygrad_lstm.backends.base import Array

# -- backward ----------------------------------------------------------------------------------------------------------


def test_backward_of_a_scalar() -> None:
    x = leaf(1.0, 2.0, 3.0)
    (x * x).sum().backward()
    assert given(x) == [2.0, 4.0, 6.0]
    assert x.grad is not None and not x.grad.requires_grad


@pytest.mark.parametrize("wrong", [
    lambda g: g.astype("float32"),
    lambda g: g[:1],
    lambda g: 1.0,
    lambda g: 1 / 0,
])  # fmt: skip
@pytest.mark.parametrize("first", [False, True])
def test_no_grad_changes_where_the_rule_of_one_leaf_is_wrong(wrong: Callable[[Any], Any], first: bool) -> None:
    @tg.op(x=wrong)
    def copied(xp: Any, x: Array) -> Array:
        return x.copy()

    leaves = [leaf(1.0, 2.0) for _ in range(4)]
    for x in leaves[1:]:
        x.grad = tg.tensor([5.0, 6.0], dtype=F64)
    faulty = 0 if first else 3
    parts = [copied(x) if k == faulty else x * 2 for k, x in enumerate(leaves)]
    with pytest.raises((RuntimeError, ZeroDivisionError)):
        tg.stack(parts).sum().backward()
    assert leaves[0].grad is None and [given(x) for x in leaves[1:]] == [[5.0, 6.0]] * 3


def test_no_grad_changes_where_one_cannot_be_added_to() -> None:
    leaves = [leaf(1.0, 2.0) for _ in range(3)]
    leaves[1].grad = tg.zeros(3, dtype=F64)
    with pytest.raises(ValueError):
        tg.stack(leaves).sum().backward()
    assert leaves[0].grad is None and given(leaves[1]) == [0.0] * 3 and leaves[2].grad is None


def test_backward_takes_the_outputs_gradient() -> None:
    x = leaf(1.0, 2.0)
    (x * x).backward(tg.tensor([1.0, 10.0]))
    assert given(x) == [2.0, 40.0]


@pytest.mark.parametrize("grad", [[1.0, 10.0], np.array([1.0, 10.0], np.float32), (1, 10)])
def test_backward_takes_what_makes_a_tensor(grad: Any) -> None:
    x = leaf(1.0, 2.0)
    (x * x).backward(grad)
    assert given(x) == [2.0, 40.0]


def test_python_floats_keep_their_precision_beside_float64() -> None:
    x, y = leaf(1.0, 2.0), tg.zeros(4, dtype=F64)
    x.backward([0.1, 0.2])
    assert given(x) == [0.1, 0.2]
    y[0] = 0.1
    y[1:3] = [0.2, 0.3]
    assert y.tolist() == [0.1, 0.2, 0.3, 0.0]
    assert y.fill_(0.1).tolist() == [0.1] * 4
    assert y.copy_([0.1, 0.2, 0.3, 0.4]).tolist() == [0.1, 0.2, 0.3, 0.4]


def test_backward_of_one_element_needs_no_gradient() -> None:
    x = tg.ones(1, 1, requires_grad=True)
    (x * 3).backward()
    assert given(x) == [[3.0]]


def test_backward_of_several_elements_needs_one() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"shape \(2,\).*one-element"):
        (x * x).backward()
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        (x * x).backward(tg.ones(3))
    assert x.grad is None


def test_backward_of_nothing_recorded() -> None:
    with pytest.raises(RuntimeError, match="requires no gradient"):
        tg.ones(1).backward()
    with tg.no_grad():
        y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match="requires no gradient"):
        y.backward()


def test_backward_of_a_leaf() -> None:
    x = leaf(5.0)
    x.backward()
    assert given(x) == 1.0


def test_backward_to_chosen_inputs_only() -> None:
    x, y = leaf(2.0), leaf(3.0)
    z = x * y
    (z * z).backward(inputs=[x, z])
    assert given(x) == 36.0 and given(z) == 12.0 and y.grad is None


def test_gradients_are_cast_to_the_dtype_of_the_leaf() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = leaf(3.0, 4.0)
    (x * y).sum().backward()
    assert x.grad is not None and x.grad.dtype == np.float32 and given(x) == [3.0, 4.0]
    assert y.grad is not None and y.grad.dtype == F64


def test_accumulation_never_changes_an_array_that_was_given_out() -> None:
    x = leaf(1.0, 2.0)
    seen = []
    for k in range(1, 4):
        (x * x).sum().backward()
        assert x.grad is not None
        seen.append((x.grad, x.grad.data, x.grad.data.copy()))
        assert x.grad.tolist() == [2.0 * k, 4.0 * k]
    for tensor, array, values in seen:
        assert tensor.data is array and np.array_equal(array, values)


def arrays_of(*tensors: Tensor | None) -> list[Any]:
    return [tensor.data for tensor in tensors if tensor is not None]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    "combine",
    [
        lambda x, y: x + y,
        lambda x, y: x - (-y),
        lambda x, y: (x + y).reshape(3, 1).reshape(3),
        lambda x, y: tg.cat([x, y])[:3] + y,
        lambda x, y: x.clone() + y.clone(),
    ],
)
def test_no_two_gradients_share_memory(combine: Callable[[Tensor, Tensor], Tensor], create_graph: bool) -> None:
    x, y, seed = leaf(1.0, 2.0, 3.0), leaf(4.0, 5.0, 6.0), tg.ones(3, dtype=F64)
    z = combine(x, y)
    z.backward(seed, create_graph=create_graph)
    first = arrays_of(x.grad, y.grad)
    both = [x, y]
    second = arrays_of(*tg.grad(combine(x, y), both, seed, create_graph=create_graph))
    arrays = [*first, *second, x.data, y.data, z.data, seed.data]
    assert len(arrays) == 8
    for k, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:k])
    x.grad = y.grad = None  # gradients that are part of a graph refer to their leaf


def test_the_gradient_of_a_leaf_is_not_the_array_given() -> None:
    x, seed = leaf(1.0, 2.0), tg.ones(2, dtype=F64)
    x.backward(seed)
    assert x.grad is not None and not np.shares_memory(x.grad.data, seed.data)


def test_requires_grad_taken_back_stops_accumulation() -> None:
    x, y = leaf(2.0), leaf(3.0)
    z = x * y
    x.requires_grad = False
    z.backward(retain_graph=True)
    assert x.grad is None and given(y) == 2.0
    x.requires_grad = True
    z.backward()
    assert given(x) == 3.0


# -- grad --------------------------------------------------------------------------------------------------------------


def test_grad_touches_no_grad() -> None:
    x, y = leaf(2.0), leaf(5.0)
    gx, gy = tg.grad(x * x * y, [x, y])
    assert (gx.item(), gy.item()) == (20.0, 4.0)
    assert x.grad is None and y.grad is None


def test_grad_with_respect_to_intermediate_tensors() -> None:
    x = leaf(2.0)
    y = x * x
    z = y * y * x
    gy, gx = tg.grad(z, [y, x])
    assert (gy.item(), gx.item()) == (2 * 4.0 * 2.0, 5 * 2.0**4)


def test_grad_of_several_outputs_is_that_of_their_sum() -> None:
    x = leaf(3.0)
    (g,) = tg.grad([x * x, x * 5, x], x)
    assert g.item() == 6.0 + 5.0 + 1.0


def test_grad_outputs_weigh_the_outputs() -> None:
    x = leaf(1.0, 2.0)
    (g,) = tg.grad([x * x, x.sum()], x, [tg.tensor([1.0, 2.0]), None])
    assert g.tolist() == [2.0 + 1.0, 8.0 + 1.0]


def test_grad_of_an_output_with_respect_to_itself() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    (g,) = tg.grad(y, y, tg.tensor([3.0, 4.0]))
    assert g.tolist() == [3.0, 4.0]


def test_unused_inputs() -> None:
    x, y = leaf(2.0), leaf(5.0)
    with pytest.raises(RuntimeError, match=r"input 1 .*allow_unused"):
        tg.grad(x * x, [x, y])
    gx, gy = tg.grad(x * x, [x, y], allow_unused=True)
    assert gx.item() == 4.0 and gy is None


def test_bad_arguments_of_grad() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"input 0 .*does not require"):
        tg.grad(x.sum(), tg.ones(2))
    with pytest.raises(RuntimeError, match=r"output 0 .*requires no gradient"):
        tg.grad(tg.ones(1), x)
    with pytest.raises(RuntimeError, match="one-element"):
        tg.grad(x * x, x)
    with pytest.raises(ValueError, match="1 outputs, but 2 gradients"):
        tg.grad(x.sum(), x, [None, None])
    with pytest.raises(ValueError, match=r"shape \(2,\), its gradient \(3,\)"):
        tg.grad(x * x, x, tg.ones(3))


def test_grad_takes_any_iterable_of_tensors() -> None:
    layer = tg.nn.Linear(2, 3)
    loss = layer(tg.ones(1, 2)).sum()
    assert [g.shape for g in tg.grad(loss, layer.parameters(), retain_graph=True)] == [(3, 2), (3,)]
    loss.backward(inputs=layer.parameters())
    assert layer.weight.grad is not None


# -- higher orders -----------------------------------------------------------------------------------------------------


def test_derivatives_of_a_polynomial_of_every_order() -> None:
    x = leaf(2.0)
    y = 3 * x**4 - 2 * x**3 + x
    expected = [12 * 8.0 - 6 * 4.0 + 1, 36 * 4.0 - 12 * 2.0, 72 * 2.0 - 12, 72.0, 0.0]
    for value in expected:
        (y,) = tg.grad(y, x, create_graph=True)
        assert y.item() == value


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_derivatives_of_a_sine_through_backward(order: int) -> None:
    x = leaf(0.7)
    y = x.sin()
    for _ in range(order):
        x.grad = None
        y.backward(create_graph=True)
        assert x.grad is not None
        y = x.grad
    x.grad = None
    assert y.item() == pytest.approx(np.sin(0.7 + order * np.pi / 2), rel=1e-14)


def test_mixed_second_derivative() -> None:
    x, y = leaf(2.0), leaf(3.0)
    (gx,) = tg.grad(x**2 * y**3, x, create_graph=True)
    (gxy,) = tg.grad(gx, y)
    assert gxy.item() == 2 * 2.0 * 3 * 9.0


def test_second_derivative_with_respect_to_grad_outputs() -> None:
    x, weight = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (g,) = tg.grad(x.exp(), x, weight, create_graph=True)
    (gw,) = tg.grad(g.sum(), weight)
    np.testing.assert_allclose(gw.data, np.exp([1.0, 2.0]))


def test_gradient_penalty_accumulates_on_top_of_a_gradient() -> None:
    x = leaf(1.5)
    (g,) = tg.grad(x**3, x, create_graph=True)
    (x**3 + g * g).backward()
    assert given(x) == pytest.approx(3 * 1.5**2 + 2 * (3 * 1.5**2) * (6 * 1.5))


def test_create_graph_keeps_the_graph() -> None:
    x = leaf(2.0)
    y = x.exp()
    tg.grad(y, x, create_graph=True)
    assert tg.grad(y, x)[0].item() == pytest.approx(np.exp(2.0))
    with pytest.raises(RuntimeError, match="freed"):
        tg.grad(y, x)


def test_nothing_here_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = leaf(1.0, 2.0)
        (x.exp() / x).sum().backward(create_graph=True)
        x.grad = None


# -- retain_graph ------------------------------------------------------------------------------------------------------


def test_walking_a_freed_graph_raises_and_changes_nothing() -> None:
    x, y = leaf(2.0), leaf(3.0)
    shared = x * y
    (shared * 2).backward()
    before = given(x), given(y)
    second = x * 10 + shared * y
    with pytest.raises(RuntimeError, match=r"'mul' kept was freed.*retain_graph=True"):
        second.backward()
    assert (given(x), given(y)) == before
    assert tg.grad(x * 10, x)[0].item() == 10.0


def test_a_graph_that_failed_for_one_freed_part_still_holds_its_own() -> None:
    x = leaf(2.0)
    freed, whole = x * x, x.exp()
    freed.backward()
    with pytest.raises(RuntimeError, match="freed"):
        (freed + whole).backward()
    assert tg.grad(whole, x)[0].item() == pytest.approx(np.exp(2.0))


def test_retain_graph_walks_again() -> None:
    x = leaf(2.0)
    y = x * x
    for k in range(1, 4):
        y.backward(retain_graph=True)
        assert given(x) == 4.0 * k


def test_ops_that_keep_nothing_can_be_walked_again() -> None:
    x = leaf(2.0)
    y = x + x + 1
    y.backward()
    y.backward()
    assert given(x) == 4.0


def test_freed_parts_off_the_way_do_not_matter() -> None:
    x, y = leaf(2.0), leaf(3.0)
    squared = x * x
    squared.backward()
    z = squared + y
    assert tg.grad(z, y)[0].item() == 1.0
    assert tg.grad(z, squared)[0].item() == 1.0
