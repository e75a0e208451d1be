"""Hooks on tensors, and `retain_grad`."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from leaves import F64, given, leaf

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor


def test_a_hook_on_a_leaf_sees_the_whole_gradient_once() -> None:
    x, seen = leaf(1.0, 2.0), []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * x + x).sum().backward()
    assert seen == [[3.0, 5.0]] and given(x) == [3.0, 5.0]


def test_a_hook_on_an_intermediate_tensor_replaces_its_gradient() -> None:
    x = leaf(2.0)
    y = x * 3
    y.register_hook(lambda g: g * 10)
    (y * y).backward()
    assert given(x) == 2 * 6.0 * 10 * 3


def test_hooks_run_in_order_and_can_be_removed() -> None:
    x = leaf(1.0)
    order: list[str] = []

    def note(name: str, factor: float | None) -> Callable[[Tensor], Tensor | None]:
        def hook(g: Tensor) -> Tensor | None:
            order.append(f"{name}{g.item()}")
            return None if factor is None else g * factor

        return hook

    x.register_hook(note("a", 2.0))
    middle = x.register_hook(note("b", None))
    x.register_hook(note("c", 5.0))
    y = x * 1
    y.backward(retain_graph=True)
    assert order == ["a1.0", "b2.0", "c2.0"] and given(x) == 10.0
    middle.remove()
    middle.remove()
    order.clear()
    y.backward()
    assert order == ["a1.0", "c2.0"]


def test_hooks_with_a_graph_are_differentiated() -> None:
    x = leaf(3.0)
    x.register_hook(lambda g: g * x)
    (g,) = tg.grad(x * x, x, create_graph=True)
    assert g.item() == 18.0
    assert tg.grad(g, x)[0].item() == 2 * 2 * 3.0 * 3.0  # the hook scales the second gradient by x too


def test_a_hook_is_given_a_copy_that_no_other_gradient_shares() -> None:
    for order in ((0, 1), (1, 0)):
        leaves = [leaf(1.0, 2.0), leaf(3.0, 4.0)]
        y = leaves[order[0]] + leaves[order[1]]
        kept: list[Tensor] = []

        def spoil(g: Tensor, kept: list[Tensor] = kept) -> None:
            kept.append(g)
            g.mul_(100)

        leaves[0].register_hook(spoil)
        y.backward(tg.ones(2))
        assert given(leaves[0]) == given(leaves[1]) == [1.0, 1.0]
        assert leaves[0].grad is not None and not np.shares_memory(leaves[0].grad.data, kept[0].data)


def test_what_a_hook_returns_is_not_given_out() -> None:
    x, own = leaf(1.0, 2.0), tg.tensor([5.0, 6.0], dtype=F64)
    x.register_hook(lambda g: own)
    (x + x * 2).sum().backward()
    assert given(x) == [5.0, 6.0]
    assert x.grad is not None and not np.shares_memory(x.grad.data, own.data)


def test_what_a_hook_returns_is_cast() -> None:
    x = tg.ones(2, requires_grad=True)
    x.register_hook(lambda g: tg.ones(2, dtype=F64) * 4)
    x.sum().backward()
    assert x.grad is not None and x.grad.dtype == np.float32 and given(x) == [4.0, 4.0]


def test_bad_hooks() -> None:
    with pytest.raises(RuntimeError, match="does not require"):
        tg.ones(1).register_hook(lambda g: None)
    x = leaf(1.0, 2.0)
    handle = x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"\(2,\).*\(\)"):
        x.sum().backward()
    handle.remove()
    x.register_hook(lambda g: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="expected a Tensor or None back, got int"):
        x.sum().backward()
    assert x.grad is None


def test_retain_grad() -> None:
    x = leaf(2.0)
    y = x * x
    assert y.retain_grad() is y
    y.retain_grad()
    y.register_hook(lambda g: g * 10)  # seen by .grad, though registered later
    (y * 3).backward()
    assert given(y) == 30.0 and given(x) == 120.0
    with pytest.raises(RuntimeError, match="does not require"):
        tg.ones(1).retain_grad()


def test_retain_grad_makes_no_reference_cycle() -> None:
    gc.disable()
    try:
        x = leaf(2.0)
        y = (x * x).retain_grad()
        died = weakref.ref(y)
        del y
        assert died() is None
    finally:
        gc.enable()
