"""The graph: walking back, gradients of any order, what may be changed in place, and what is kept for how long."""

import gc
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor
from tinygrad_lstm.backends.base import Array

F64 = np.float64


def leaf(*values: float) -> Tensor:
    """A float64 leaf that requires a gradient: 0-d for one value, else 1-d."""
    return tg.tensor(values[0] if len(values) == 1 else values, dtype=F64, requires_grad=True)


def given(x: Tensor) -> Any:
    """The gradient of a leaf, as nested lists."""
    assert x.grad is not None
    return x.grad.tolist()


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


def test_backward_to_chosen_inputs_alone() -> None:
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


# -- no_grad and enable_grad -------------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad_nest() -> None:
    x = leaf(1.0)
    recorded = [(x * 2).requires_grad]
    with tg.no_grad():
        recorded.append((x * 2).requires_grad)
        with tg.enable_grad():
            recorded.append((x * 2).requires_grad)
            with tg.no_grad(), tg.no_grad():
                recorded.append((x * 2).requires_grad)
            recorded.append((x * 2).requires_grad)
        recorded.append((x * 2).requires_grad)
    recorded.append((x * 2).requires_grad)
    assert recorded == [True, False, True, False, True, False, True]


def test_one_switch_entered_twice() -> None:
    switch, x = tg.no_grad(), leaf(1.0)
    with switch:
        with switch:
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_exceptions_leave_no_grad() -> None:
    x = leaf(1.0)
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_decorators() -> None:
    x = leaf(1.0)

    @tg.no_grad()
    def plain(x: Tensor, *, by: float) -> Tensor:
        """Doubles."""
        if x.ndim:
            raise ValueError
        return x * by + inner(x)

    @tg.enable_grad()
    def inner(x: Tensor) -> Tensor:
        return x * 0

    assert plain.__name__ == "plain" and plain.__doc__ == "Doubles."
    assert not plain(x, by=2.0).requires_grad
    with pytest.raises(ValueError):
        plain(leaf(1.0, 2.0), by=2.0)
    with tg.no_grad():
        assert inner(x).requires_grad
    assert (x * 2).requires_grad


def test_recording_is_each_threads_own() -> None:
    x = leaf(1.0)
    inside, looked = threading.Event(), threading.Event()
    seen: dict[str, bool] = {}

    def quiet() -> None:
        with tg.no_grad():
            inside.set()
            looked.wait(10)
            seen["quiet"] = (x * 2).requires_grad

    thread = threading.Thread(target=quiet)
    with tg.no_grad():
        thread.start()
        assert inside.wait(10)
        with tg.enable_grad():
            seen["main"] = (x * 2).requires_grad
    other = threading.Thread(target=lambda: seen.setdefault("other", (x * 2).requires_grad))
    other.start()
    other.join()
    looked.set()
    thread.join()
    assert seen == {"quiet": False, "main": True, "other": True}


def test_threads_walk_graphs_side_by_side() -> None:
    results: dict[int, float] = {}

    def work(k: int) -> None:
        x = leaf(float(k))
        for _ in range(50):
            x.grad = None
            y = x
            for _ in range(10):
                y = y * x
            y.backward()
        results[k] = given(x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {k: 11.0 * k**10 for k in range(1, 5)}


# -- requires_grad, detach ---------------------------------------------------------------------------------------------


def test_what_requires_a_gradient() -> None:
    x, constant = leaf(1.0), tg.ones(1)
    assert x.is_leaf and x.requires_grad and constant.is_leaf and not constant.requires_grad
    assert (x * constant).requires_grad and not (x * constant).is_leaf
    assert not (constant * 2).requires_grad and (constant * 2).is_leaf
    assert not (x > 0).requires_grad
    assert not x.to(dtype="int64").requires_grad
    assert x.astype("float32").requires_grad


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_have_no_gradient(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"only float tensors have gradients, this one is {dtype}"):
        tg.tensor([1, 0], dtype=dtype, requires_grad=True)
    x = tg.tensor([1, 0], dtype=dtype)
    with pytest.raises(TypeError, match=dtype):
        x.requires_grad = True
    assert not x.requires_grad
    assert not (x + x).requires_grad and not x.sum().requires_grad
    with pytest.raises(RuntimeError, match="requires no gradient"):
        x[0].backward()


def test_requires_grad_is_set_on_leaves_only() -> None:
    y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match=r"leaves only.*detach"):
        y.requires_grad = False
    assert y.requires_grad
    x = tg.ones(2).requires_grad_()
    assert x.requires_grad and not x.requires_grad_(False).requires_grad
    assert "requires_grad" not in repr(x)


def test_detach_shares_values_and_cuts_the_graph() -> None:
    x = leaf(2.0, 3.0)
    y = x * x
    cut = y.detach()
    assert cut.is_leaf and not cut.requires_grad and np.shares_memory(cut.data, y.data)
    (cut * x).sum().backward()
    assert given(x) == [4.0, 9.0]


def test_repr_says_how_a_tensor_came_about() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "tensor([1., 2.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4.], op=mul)"
    (x * 2).sum().backward()
    assert repr(x.grad) == "tensor([2., 2.])"


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_a_hook_on_a_leaf_sees_the_whole_gradient_once() -> None:
    x, seen = leaf(1.0, 2.0), []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * x + x).sum().backward()
    assert seen == [[3.0, 5.0]] and given(x) == [3.0, 5.0]


def test_a_hook_on_an_intermediate_tensor_replaces_what_goes_on() -> None:
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


# -- detect_anomaly ----------------------------------------------------------------------------------------------------


def test_anomaly_in_a_forward_rule_names_op_and_line() -> None:
    x = leaf(-1.0)
    with tg.detect_anomaly(), np.errstate(invalid="ignore"):
        with pytest.raises(FloatingPointError, match=r"op 'log' made a NaN at .*test_autograd\.py:\d+: .*x\.log\(\)"):
            x.log() * 2
        assert (x * 2).item() == -2.0


def test_anomaly_in_a_derivative_rule_names_the_forward_op_and_line() -> None:
    x = leaf(0.0)
    with tg.detect_anomaly(), np.errstate(invalid="ignore", divide="ignore"):
        y = x.sqrt()  # its derivative is infinite
        z = y * 0
        with pytest.raises(FloatingPointError, match=r"op 'sqrt' \(called at .*test_autograd\.py:\d+: y = x\.sqrt"):
            z.backward()
    assert x.grad is None


def test_anomaly_names_the_op_in_the_branch_that_where_did_not_take() -> None:
    x = leaf(0.0, 4.0)
    with np.errstate(divide="ignore", invalid="ignore"), tg.detect_anomaly():
        y = tg.where(x > 1, x.sqrt() * x, x)
        with pytest.raises(FloatingPointError, match=r"op 'sqrt' \(called at .*: y = tg\.where"):
            y.sum().backward()
    safe = tg.where(x > 1, x, 1.0)
    tg.where(x > 1, safe.sqrt() * safe, x).sum().backward()
    np.testing.assert_array_equal(given(x), [1.0, 3.0])


def test_anomaly_mode_does_not_blame_ops_for_a_nan_that_came_in() -> None:
    x = leaf(1.0, 2.0)
    with tg.detect_anomaly():
        assert np.isnan((tg.tensor([np.nan, 1.0], dtype=F64) * x)[0].item())
        (x * 2).backward(tg.tensor([np.nan, 1.0]))
        assert np.isnan(given(x)[0]) and given(x)[1] == 2.0


def test_without_anomaly_mode_a_nan_goes_by() -> None:
    x = leaf(-1.0)
    with np.errstate(invalid="ignore"):
        x.log().backward()
    assert given(x) == -1.0


def test_anomaly_mode_is_left_after_an_error() -> None:
    with pytest.raises(FloatingPointError), tg.detect_anomaly(), np.errstate(invalid="ignore"):
        leaf(-1.0).sqrt()
    with np.errstate(invalid="ignore"):
        assert np.isnan(leaf(-1.0).sqrt().item())


# -- checkpoint --------------------------------------------------------------------------------------------------------


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


def test_checkpoint_gives_gradients_to_closures_of_no_argument() -> None:
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


# -- in place ----------------------------------------------------------------------------------------------------------

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


def test_in_place_results_must_fit() -> None:
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


def test_memory_is_freed_as_the_walk_goes() -> None:
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


def test_a_leaf_that_is_gone_is_passed_by() -> None:
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


# -- ops of one's own --------------------------------------------------------------------------------------------------


@tg.op(x=lambda g, x, F: g * F.cos(x))
def my_sin(xp: Any, x: tg.Array) -> Any:
    """The sine."""
    return xp.sin(x)


@tg.op(x=lambda g, x, F: F.neg(g * F(my_sin)(x)))
def my_cos(xp: Any, x: tg.Array) -> Any:
    return xp.cos(x)


@tg.op(promotion="common", broadcasts=True, x=lambda g, y: g * y, y=lambda g, x: g * x)
def my_mul(xp: Any, x: tg.Array, y: tg.Array) -> Any:
    return xp.multiply(x, y)


@tg.op(xs=lambda g, xs, k: [g * xs[1] * k, g * xs[0] * k])
def my_pair(xp: Any, xs: Sequence[tg.Array], k: float = 1.0) -> Any:
    return xs[0] * xs[1] * k


@tg.op(x=lambda g, out: g[0] * out[0] - g[1] * out[1])
def exp_both(xp: Any, x: tg.Array) -> Any:
    return xp.exp(x), xp.exp(-x)


@tg.op(x=lambda g, scale: g * scale)
def scaled(xp: Any, x: tg.Array, scale: float = 3.0) -> Any:
    return x * scale


def test_an_op_of_one_input() -> None:
    x = leaf(0.3, 0.7)
    assert my_sin.__doc__ == "The sine." and my_sin.__name__ == "my_sin"
    assert tg.gradcheck(my_sin, x) and tg.gradgradcheck(my_sin, x)
    np.testing.assert_array_equal(my_sin(x).detach().data, np.sin([0.3, 0.7]))
    assert my_sin(np.array([0.5])).tolist() == [np.sin(0.5)]


def test_an_op_that_uses_another_of_ones_own() -> None:
    x = leaf(0.3, 0.7)
    assert tg.gradcheck(my_cos, x) and tg.gradgradcheck(my_cos, x)


def test_an_op_of_two_inputs_broadcasts() -> None:
    x, y = tg.tensor([[1.0], [2.0]], dtype=F64, requires_grad=True), leaf(3.0, 4.0, 5.0)
    assert tg.gradcheck(my_mul, [x, y]) and tg.gradgradcheck(my_mul, [x, y])
    my_mul(x, y).sum().backward()
    assert given(x) == [[12.0], [12.0]] and given(y) == [3.0, 3.0, 3.0]
    assert my_mul(x, 2.0).shape == (2, 1) and my_mul(2, y).shape == (3,)


def test_settings_of_an_op() -> None:
    x = leaf(1.0, 2.0)
    assert scaled(x).tolist() == [3.0, 6.0] and scaled(x, scale=2.0).tolist() == [2.0, 4.0]
    scaled(x, 5.0).sum().backward()
    assert given(x) == [5.0, 5.0]
    with pytest.raises(TypeError, match="scaled: unexpected or repeated argument 'size'"):
        scaled(x, size=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="scaled: 3 arguments do not fit"):
        scaled(x, 1.0, 2.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="scaled"):
        scaled(scale=1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_an_op_of_a_list(kind: Callable[[list[Tensor]], Any]) -> None:
    x, y = leaf(2.0, 3.0), leaf(5.0, 7.0)
    my_pair(kind([x, y]), 10.0).sum().backward()
    assert given(x) == [50.0, 70.0] and given(y) == [20.0, 30.0]
    assert tg.gradcheck(lambda x, y: my_pair(kind([x, y])), [x, y])
    assert tg.gradgradcheck(lambda x, y: my_pair(kind([x, y])), [x, y])


def test_a_list_given_to_an_op_may_be_changed_after() -> None:
    x, y = leaf(2.0), leaf(5.0)
    given_list = [x, y]
    z = my_pair(given_list)
    given_list[:] = []
    z.backward()
    assert given(x) == 5.0 and given(y) == 2.0


def test_a_changed_tensor_of_a_list_raises() -> None:
    for kind in (list, tuple):
        x, y = leaf(2.0), leaf(5.0)
        z = my_pair(kind([x, y]))
        with tg.no_grad():
            y.zero_()
        with pytest.raises(RuntimeError, match=r"'my_pair' .*changed in place"):
            z.backward()


def test_an_op_of_several_outputs() -> None:
    x = leaf(0.5, -0.5)
    assert tg.gradcheck(exp_both, x) and tg.gradgradcheck(exp_both, x)
    up, down = exp_both(x)
    (down * 2).sum().backward(retain_graph=True)
    np.testing.assert_allclose(given(x), -2 * np.exp([-0.5, 0.5]))
    with tg.no_grad():
        up.zero_()
    with pytest.raises(RuntimeError, match="its output that op 'exp_both' needs"):
        down.sum().backward()


def test_an_op_without_rules_records_nothing() -> None:
    @tg.op()
    def count(xp: Any, x: tg.Array) -> Any:
        return xp.sum(x > 0)

    assert not count(leaf(1.0, -1.0)).requires_grad and count(leaf(1.0, -1.0)).item() == 1


def test_rules_keep_only_what_they_ask_for() -> None:
    x = tg.ones(3, requires_grad=True) * 1
    kept, dropped = weakref.ref(x.data), weakref.ref(x.data)
    y = my_sin(x)
    del x
    assert kept() is not None
    del y
    x = tg.ones(3, requires_grad=True) * 1
    dropped = weakref.ref(x.data)
    y = scaled(x)
    del x
    assert dropped() is None and y.requires_grad


def test_bad_definitions() -> None:
    with pytest.raises(TypeError, match="op 'f': annotate its inputs"):

        @tg.op()
        def f(xp: Any, x: Any) -> Any:
            return x

    with pytest.raises(TypeError, match="op 'f': the forward rule's first parameter is 'x'"):

        @tg.op()
        def f(x: tg.Array, y: tg.Array) -> Any:
            return x

    with pytest.raises(TypeError, match="op 'f': a rule for 'y', but its inputs are x"):

        @tg.op(y=lambda g: g)
        def f(xp: Any, x: tg.Array) -> Any:
            return x

    with pytest.raises(TypeError, match="op 'f': the rule for 'x' asks for grad"):

        @tg.op(x=lambda grad: grad)
        def f(xp: Any, x: tg.Array) -> Any:
            return x

    with pytest.raises(TypeError, match="op 'f': annotate its inputs"):

        @tg.op()
        def f(xp: Any, xs: Sequence[tg.Array], y: tg.Array) -> Any:
            return y


def test_a_rule_that_gives_a_gradient_of_another_shape_or_dtype() -> None:
    @tg.op(x=lambda g: g.sum())
    def shrinks(xp: Any, x: tg.Array) -> Any:
        return x * 1

    @tg.op(x=lambda g: g * np.float64(2))
    def widens(xp: Any, x: tg.Array) -> Any:
        return x * 2

    x = tg.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"rule for 'x' of op 'shrinks' gave .* \(\); expected .* \(3,\)"):
        shrinks(x).sum().backward()
    with pytest.raises(RuntimeError, match=r"float32 tensor .* a float64 gradient"):
        tg.grad(widens(x).sum(), x)
    assert x.grad is None


def test_errors_of_a_forward_rule_name_the_op_and_its_inputs() -> None:
    with pytest.raises(ValueError, match=r"my_mul: .*float64 \(2,\) on cpu, float64 \(3,\) on cpu"):
        my_mul(leaf(1.0, 2.0), leaf(1.0, 2.0, 3.0))


class UnfitError(ValueError):
    """An error with more than a message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def failing(error: Exception) -> Callable[..., Tensor]:
    @tg.op(x=lambda g: g)
    def my_check(xp: Any, x: Array) -> Array:
        raise error

    return my_check


@pytest.mark.parametrize("error", [
    np.linalg.LinAlgError("singular"),
    UnfitError("too wide", 7),
    KeyError("x"),
    FloatingPointError("divided"),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
    np.exceptions.AxisError(3, 2),
], ids=lambda error: type(error).__name__)  # fmt: skip
@pytest.mark.parametrize("watched", [False, True])
def test_errors_of_a_forward_rule_stay_what_they_are(error: Exception, watched: bool) -> None:
    before, attributes = str(error), dict(vars(error))
    with pytest.raises(type(error)) as raised, tg.detect_anomaly() if watched else tg.enable_grad():
        failing(error)(leaf(1.0, 2.0))
    assert raised.value is error and str(error) == before
    assert {name: value for name, value in vars(error).items() if name != "__notes__"} == attributes
    assert error.__notes__ == ["in op 'my_check' (inputs: float64 (2,) on cpu)"]
    del error.__notes__


def division_by_zero(*arguments: Any) -> Any:
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize("rules", [
    {"x": lambda g: division_by_zero()},
    {"x": lambda g, x, F: F.exp(division_by_zero())},
    {"x": lambda g: g, "into": {"x": lambda buffer, g: division_by_zero()}},
    {"x": lambda g: division_by_zero(), "by_rows": ("x",)},
], ids=["on arrays", "with F", "into", "by rows"])  # fmt: skip
@pytest.mark.parametrize("times", [1, 2])
def test_errors_of_a_derivative_rule_name_the_op(rules: dict[str, Any], times: int) -> None:
    @tg.op(**rules)
    def my_copy(xp: Any, x: Array) -> Array:
        return x.copy()

    x = leaf(1.0, 2.0)
    y = my_copy(x) if times == 1 else my_copy(x) + my_copy(x)
    with pytest.raises(ZeroDivisionError, match="division by zero") as raised:
        (y + x).sum().backward()
    assert raised.value.__notes__ == ["in the derivative of op 'my_copy'"]
    assert x.grad is None


def test_errors_of_the_derivative_rule_of_an_op_of_a_list_name_the_op() -> None:
    @tg.op(parts=lambda g: [division_by_zero()])
    def my_sum(xp: Any, parts: Sequence[Array]) -> Array:
        return sum(parts)

    with pytest.raises(ZeroDivisionError) as raised:
        my_sum([leaf(1.0), leaf(2.0)]).backward()
    assert raised.value.__notes__ == ["in the derivative of op 'my_sum'"]


def test_plain_errors_of_a_forward_rule_name_the_op_in_their_message() -> None:
    error = ValueError("too wide")
    with pytest.raises(ValueError) as raised:
        failing(error)(leaf(1.0, 2.0))
    assert raised.value is error and str(error) == "my_check: too wide (inputs: float64 (2,) on cpu)"


def test_singular_matrices_in_a_forward_rule() -> None:
    @tg.op(x=lambda g, out: g)
    def inverse(xp: Any, x: Array) -> Array:
        return xp.linalg.inv(x)

    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        inverse(tg.zeros(2, 2))


def test_nothing_here_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = leaf(1.0, 2.0)
        (x.exp() / x).sum().backward(create_graph=True)
        x.grad = None


def test_a_rule_of_the_wrong_shape_is_found_where_it_stands() -> None:
    """Not only at a leaf: broadcasting on the way there could hide it."""

    @tg.op(x=lambda g, x: (g * x).sum())
    def wrong(xp: Any, x: tg.Array) -> Any:
        return x * x / 2

    x, w = tg.tensor([1.0, 2.0, 3.0], requires_grad=True), tg.tensor([1.0, 2.0, 3.0])
    with pytest.raises(RuntimeError, match="rule for 'x' of op 'wrong'"):
        wrong(x * w).sum().backward()
    assert x.grad is None


def test_a_rule_that_gives_nothing_is_an_error() -> None:
    @tg.op(x=lambda g: None)
    def forgets(xp: Any, x: tg.Array) -> Any:
        return x * 2

    x = tg.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="op 'forgets' gave NoneType"):
        forgets(x).sum().backward()


def test_a_forward_rule_may_give_its_input_back() -> None:
    @tg.op(x=lambda g: g)
    def same(xp: Any, x: tg.Array) -> Any:
        return x

    x = tg.ones(2, requires_grad=True)
    y = x * 1
    z = (y * y).sum()
    same(y).mul_(10.0)
    z.backward()
    assert given(x) == [2.0, 2.0]


def test_a_forward_rule_that_gives_a_list_is_an_error() -> None:
    @tg.op(x=lambda g: g[0])
    def listed(xp: Any, x: tg.Array) -> Any:
        return [x, x]

    with pytest.raises(TypeError, match="listed: the forward rule gave a list"):
        listed(tg.ones(2))


def test_an_array_that_is_filled_anew_before_the_walk() -> None:
    """A buffer that batches are read into: what an op was given is what its derivative sees."""
    x, buffer = tg.ones(3, requires_grad=True), np.ones(3, np.float32)
    for use in (lambda: x * buffer, lambda: x.matmul(buffer), lambda: tg.where(buffer > 0, x, 0.0) * buffer):
        x.grad, buffer[:] = None, 1
        y = use().sum()
        buffer[:] = 5
        y.backward()
        assert given(x) == [1.0, 1.0, 1.0]


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


def test_grad_takes_any_iterable_of_tensors() -> None:
    layer = tg.nn.Linear(2, 3)
    loss = layer(tg.ones(1, 2)).sum()
    assert [g.shape for g in tg.grad(loss, layer.parameters(), retain_graph=True)] == [(3, 2), (3,)]
    loss.backward(inputs=layer.parameters())
    assert layer.weight.grad is not None


def test_anomalies_are_found_in_gradients_that_are_put_together_later() -> None:
    weight = tg.ones(1, 1, requires_grad=True)
    expected = pytest.raises(FloatingPointError, match="derivative of op 'linear'")
    with np.errstate(invalid="ignore"), tg.detect_anomaly(), expected:
        tg.where(False, tg.linear(tg.tensor([[np.inf]]), weight), 0.0).sum().backward()


def test_one_switch_in_several_threads() -> None:
    switch, seen = tg.no_grad(), []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with switch:
            inside.set()
            leave.wait(5)
        seen.append((tg.ones(1, requires_grad=True) * 2).requires_grad)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(5)
    with tg.enable_grad(), switch:
        leave.set()
        thread.join()
    assert seen == [True]
    assert (tg.ones(1, requires_grad=True) * 2).requires_grad
