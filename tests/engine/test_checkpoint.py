"""`checkpoint`: the same gradients, and nothing of the inside is kept."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from leaves import F64, given, leaf

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor


def chain(x: Tensor, w: Tensor) -> Tensor:
    for _ in range(3):
        x = (x * w).tanh() + x.exp() * 0.1
    return x


def first_and_second(run: Callable[[Tensor, Tensor], Tensor]) -> list[np.ndarray[Any, Any]]:
    x, w = leaf(0.3, -0.5), leaf(0.7, 1.1)
    y = run(x, w)
    gx, gw = tg.grad(y.sum(), [x, w], create_graph=True)
    hx, hw = tg.grad((gx * gw).sum(), [x, w])
    (y2 := run(x, w)).sum().backward()
    assert x.grad is not None and w.grad is not None
    return [value.detach().data for value in (y, y2, gx, gw, hx, hw, x.grad, w.grad)]


@pytest.mark.parametrize(
    "run",
    [
        lambda x, w: tg.checkpoint(chain, x, w),
        lambda x, w: tg.checkpoint(lambda x: chain(x, w), x),
        lambda x, w: tg.checkpoint(lambda: chain(x, w)),
        lambda x, w: tg.checkpoint(lambda a, b: chain(*tg.checkpoint(lambda c, d: (c * 1, d * 1), a, b)), x, w),
        lambda x, w: tg.checkpoint(lambda x: tg.checkpoint(chain, x, w), x),
        lambda x, w: tg.checkpoint(lambda x: tg.checkpoint(lambda x: x * 1, x * 1).clone(), tg.checkpoint(chain, x, w)),
    ],
    ids=["arguments", "closure", "all-closure", "nested-several-outputs", "nested", "nested-thrice"],
)
def test_checkpoint_changes_no_value_and_no_derivative(run: Callable[[Tensor, Tensor], Tensor]) -> None:
    for value, expected in zip(first_and_second(run), first_and_second(chain), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_checkpoint_computes_gradients_for_closures_without_arguments() -> None:
    w = leaf(2.0)
    tg.checkpoint(lambda x: x * w, tg.tensor(5.0, dtype=F64)).backward()
    assert given(w) == 5.0


def test_checkpoint_keeps_nothing_of_the_inside() -> None:
    kept: list[weakref.ref[Any]] = []

    def function(x: Tensor) -> Tensor:
        for _ in range(8):
            x = x.sin()
            kept.append(weakref.ref(x.data))
        return x

    x = tg.ones(10, dtype=F64, requires_grad=True)
    y = function(x)
    gc.collect()
    assert sum(array() is not None for array in kept) == 8
    kept.clear()
    z = tg.checkpoint(function, x)
    gc.collect()
    assert sum(array() is not None for array in kept) == 1  # the result itself
    z.sum().backward()
    through = given(x)
    x.grad = None
    y.sum().backward()
    assert through == given(x)
    del y, z
    gc.collect()
    assert sum(array() is not None for array in kept) == 0


def test_checkpoint_repeats_random_numbers() -> None:
    tg.manual_seed(3)
    noise, *stream = tg.rand(50), tg.rand(3).tolist(), tg.rand(3).tolist()
    tg.manual_seed(3)
    x = tg.ones(50, requires_grad=True)
    y = tg.checkpoint(lambda x: x * x * tg.rand(50), x)
    assert tg.rand(3).tolist() == stream[0]
    y.sum().backward()
    assert tg.rand(3).tolist() == stream[1]  # the second run leaves the stream where it was
    assert given(x) == (noise * 2).tolist()


def test_checkpoint_repeats_dropout() -> None:
    x = tg.ones(1000, requires_grad=True)
    y = tg.checkpoint(lambda x: tg.dropout(x * 2, 0.5, training=True).sin(), x)
    y.sum().backward()
    zeros = y.detach().data == 0
    assert x.grad is not None and 400 < zeros.sum() < 600
    np.testing.assert_array_equal(x.grad.data == 0, zeros)


def test_checkpointed_graphs_are_freed_and_retained_as_others() -> None:
    x = leaf(0.5)
    y = tg.checkpoint(lambda x: x.exp().sin(), x)
    y.backward(retain_graph=True)
    y.backward()
    assert given(x) == pytest.approx(2 * np.cos(np.exp(0.5)) * np.exp(0.5))
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


@pytest.mark.parametrize("function", [lambda x, w: (x * w).exp(), lambda x, w: (x + w).exp()])
def test_checkpoint_raises_where_what_it_uses_was_changed(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    for changed in range(2):
        x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
        y = tg.checkpoint(lambda x, w=w: function(x, w), x)
        with tg.no_grad():
            [x, w][changed].add_(1)
        with pytest.raises(RuntimeError, match=r"changed in place.*clone"):
            y.sum().backward()
        assert x.grad is None and w.grad is None


def test_nested_checkpoints_raise_where_what_they_use_was_changed() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = tg.checkpoint(lambda x: tg.checkpoint(lambda x: x + w, x).exp(), x)
    with tg.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_checkpoint_raises_where_the_function_changes_what_it_uses() -> None:
    x, count = leaf(1.0), tg.zeros(1, dtype=F64)

    def function(x: Tensor) -> Tensor:
        count.add_(1)
        return (x * count).exp()

    y = tg.checkpoint(function, x)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_checkpoint_may_change_its_own_tensors_in_place() -> None:
    x = leaf(1.0, 2.0)

    def function(x: Tensor) -> Tensor:
        y = x * 2
        y[0] = x[1] * 3
        y.add_(1)
        return y.exp()

    (expected,) = tg.grad(function(x).sum(), x)
    tg.checkpoint(function, x).sum().backward()
    assert given(x) == expected.tolist()


@pytest.mark.parametrize("operate", [lambda x, fresh: x * fresh * x, lambda x, fresh: tg.stack([x, fresh]).prod(0)])
def test_checkpoint_may_fill_new_tensors_in_place_before_their_use(operate: Callable[..., Tensor]) -> None:
    x = leaf(1.0, 2.0)

    def function(x: Tensor) -> Tensor:
        return operate(x, tg.nn.init.uniform_(tg.zeros(2, dtype=F64), 1.0, 2.0)).sum()

    for order in (1, 2):
        found = []
        for run in (function, lambda x: tg.checkpoint(function, x)):
            tg.manual_seed(0)
            (g,) = tg.grad(run(x), x, create_graph=order == 2)
            found.append(g if order == 1 else tg.grad(g.square().sum(), x, allow_unused=True)[0])
        assert found[0] is found[1] is None or found[0].tolist() == found[1].tolist()


def test_checkpoint_raises_where_the_function_fills_a_new_tensor_after_its_use() -> None:
    def function(x: Tensor) -> Tensor:
        fresh = tg.ones(2, dtype=F64)
        y = (x * fresh).sum()
        fresh.fill_(3)
        return y

    for run in (function, lambda x: tg.checkpoint(function, x)):
        with pytest.raises(RuntimeError, match="'mul' needs for its derivative was changed in place"):
            run(leaf(1.0, 2.0)).backward()


def test_checkpoint_raises_where_the_function_does_other_ops() -> None:
    turns = iter([lambda x: x.exp(), lambda x: x.sin(), lambda x: x.exp(), lambda x: x.exp().exp()])
    for message in ("'exp' at first, but 'sin'", "recorded 1 ops at first, but 2"):
        x = leaf(1.0)
        y = tg.checkpoint(lambda x: next(turns)(x), x)
        with pytest.raises(RuntimeError, match=message):
            y.backward()
        assert x.grad is None


def test_checkpoint_under_no_grad_just_calls() -> None:
    with tg.no_grad():
        assert not tg.checkpoint(lambda x: x * 2, leaf(1.0)).requires_grad


def test_second_derivatives_through_a_checkpoint_within_a_checkpoint() -> None:
    x = tg.tensor(0.7, dtype="float64", requires_grad=True)

    def twice(x: tg.Tensor, checkpoint: Any) -> tuple[tg.Tensor, tg.Tensor]:
        h = checkpoint(lambda x: x.sin(), x)
        return h, h * h.exp() * h

    def plain(function: Any, *args: Any) -> Any:
        return function(*args)

    results = []
    for outer, inner in ((plain, plain), (tg.checkpoint, tg.checkpoint), (tg.checkpoint, plain)):
        h, y = outer(twice, x, inner)
        (g,) = tg.grad(y, h, create_graph=True)
        (second,) = tg.grad(g, h, retain_graph=True)
        (to_x,) = tg.grad(g, x)
        results.append((second.item(), to_x.item()))
    assert results[0] == pytest.approx(results[1], rel=1e-12)
    assert results[0] == pytest.approx(results[2], rel=1e-12)
