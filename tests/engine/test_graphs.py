"""Graphs of many shapes: long ones, diamonds, ops with several outputs; what they keep, and for how long."""

import gc
import weakref
from typing import Any

import numpy as np
from leaves import given, leaf

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor

# -- graphs of many shapes ---------------------------------------------------------------------------------------------


LONG = 100_000


def long_chain(x: Tensor) -> Tensor:
    for _ in range(LONG):
        x = x + 1.0
    return x


def test_a_long_chain_is_built_walked_and_deleted() -> None:
    x = leaf(1.0, 2.0)
    y = long_chain(x)
    y.sum().backward()
    assert given(x) == [1.0, 1.0]
    node = weakref.ref(y._node)
    del y
    assert node() is None


def test_a_long_chain_is_deleted_without_backward() -> None:
    y = long_chain(leaf(1.0, 2.0))
    node = weakref.ref(y._node)
    del y
    assert node() is None


def test_a_long_chain_is_walked_with_a_graph() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y * 1.0
    (g,) = tg.grad(y * x, x, create_graph=True)
    assert g.item() == 2.0
    assert tg.grad(g, x)[0].item() == 2.0


def test_each_node_is_visited_once() -> None:
    calls: list[int] = []

    def rule(g: Any) -> Any:
        calls.append(1)
        return g * 2

    @tg.op(x=rule)
    def doubled(xp: Any, x: tg.Array) -> Any:
        return x * 2

    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    doubled(y).backward()
    assert given(x) == 2.0**61 and len(calls) == 1
    z = x
    for _ in range(30):
        z = doubled(z) * 0.25 + doubled(z) * 0.25
    calls.clear()
    x.grad = None
    z.backward()
    assert given(x) == 1.0 and len(calls) == 60


def test_diamonds_of_the_second_order() -> None:
    x = leaf(1.0)
    y = x * x
    for _ in range(20):
        y = y * 0.5 + y * 0.5
    (g,) = tg.grad(y, x, create_graph=True)
    assert g.item() == 2.0 and tg.grad(g, x)[0].item() == 2.0


def test_memory_is_freed_during_the_walk() -> None:
    alive: list[int] = []
    arrays: list[weakref.ref[Any]] = []

    def rule(g: Any, x: Any) -> Any:
        alive.append(sum(array() is not None for array in arrays))
        return g

    @tg.op(x=rule)
    def kept(xp: Any, x: tg.Array) -> Any:
        return x * 1

    x = tg.ones(10, requires_grad=True) * 1
    for _ in range(10):
        arrays.append(weakref.ref(x.data))
        x = kept(x)
    y = x.sum()
    del x
    y.backward()
    assert alive == list(range(10, 0, -1))
    assert not any(array() is not None for array in arrays)


def test_what_no_rule_asks_for_is_not_kept() -> None:
    x = tg.ones(10, requires_grad=True)
    y = x * 2
    array = weakref.ref(y.data)
    z = (y + 1).sum() * 3 - y.reshape(2, 5).mean()
    del y
    gc.collect()
    assert array() is None
    z.backward()
    np.testing.assert_allclose(given(x), [2 * (3 - 0.1)] * 10, rtol=1e-6)


def test_a_graph_dies_with_its_last_tensor() -> None:
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = (x.exp() * x).sum()
        array, node = weakref.ref(y.data), weakref.ref(y._node)
        del y
        assert node() is None and array() is None
    finally:
        gc.enable()


def test_a_deleted_leaf_is_skipped() -> None:
    x, w = leaf(2.0), leaf(3.0)
    y = x + w
    del w
    y.backward()
    assert given(x) == 1.0


# -- ops with several outputs ------------------------------------------------------------------------------------------


def test_some_outputs_of_split_unused() -> None:
    x = tg.tensor(np.arange(12.0).reshape(6, 2), requires_grad=True)
    first, _, third = x.split([1, 2, 3])
    (third * third).sum().backward(retain_graph=True)
    expected = np.zeros((6, 2))
    expected[3:] = 2 * x.data[3:]
    np.testing.assert_array_equal(given(x), expected)
    (first * 5 + third.sum()).sum().backward()
    expected *= 1
    expected[:1] += 5
    expected[3:] += 2
    np.testing.assert_array_equal(given(x), expected)


def test_unbind_and_iteration() -> None:
    x = leaf(1.0, 2.0, 3.0)
    a, _, c = x
    (a * c).backward()
    assert given(x) == [3.0, 0.0, 1.0]
    assert tg.gradgradcheck(lambda x: x.unbind()[0] * x.unbind()[2] ** 2, x)


def test_grad_with_respect_to_one_of_several_outputs() -> None:
    x = leaf(1.0, 2.0, 3.0)
    a, b, _ = x.unbind()
    y = a * a * b
    ga, gx = tg.grad(y, [a, x])
    assert ga.item() == 4.0 and gx.tolist() == [4.0, 1.0, 0.0]


def test_integer_outputs_carry_no_gradient() -> None:
    x = leaf(1.0, 3.0, 2.0)
    for y in (x.argmax(), x > 1, x == x, x.to(dtype="int32"), x.isnan()):
        assert not y.requires_grad
    (x * (x > 1)).sum().backward()
    assert given(x) == [0.0, 1.0, 1.0]
