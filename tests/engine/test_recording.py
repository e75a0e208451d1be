"""What is recorded: no_grad, requires_grad, detach; and what `detect_anomaly` finds."""

import threading

import numpy as np
import pytest
from leaves import F64, given, leaf

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor

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


def test_recording_is_set_per_thread() -> None:
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


# -- detect_anomaly ----------------------------------------------------------------------------------------------------


def test_anomaly_in_a_forward_rule_names_op_and_line() -> None:
    x = leaf(-1.0)
    with tg.detect_anomaly(), np.errstate(invalid="ignore"):
        with pytest.raises(FloatingPointError, match=r"op 'log' made a NaN at .*test_recording\.py:\d+: .*x\.log\(\)"):
            x.log() * 2
        assert (x * 2).item() == -2.0


def test_anomaly_in_a_derivative_rule_names_the_forward_op_and_line() -> None:
    x = leaf(0.0)
    with tg.detect_anomaly(), np.errstate(invalid="ignore", divide="ignore"):
        y = x.sqrt()  # its derivative is infinite
        z = y * 0
        with pytest.raises(FloatingPointError, match=r"op 'sqrt' \(called at .*test_recording\.py:\d+: y = x\.sqrt"):
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


@pytest.mark.parametrize("of_leaf", [True, False])
def test_anomaly_names_the_op_whose_gradients_sum_to_a_nan(of_leaf: bool) -> None:
    x = tg.ones(2, requires_grad=True)
    with tg.detect_anomaly(), np.errstate(invalid="ignore"):
        y = x if of_leaf else x.tanh()
        twice = tg.stack([y * 2.0, y * 3.0])
        with pytest.raises(FloatingPointError, match=f"gave of '{'leaf' if of_leaf else 'tanh'}'.* sum to a NaN"):
            tg.grad(twice, x, tg.tensor([[np.inf, np.inf], [-np.inf, 1.0]], dtype="float32"))


def test_anomaly_mode_does_not_blame_ops_for_a_nan_that_came_in() -> None:
    x = leaf(1.0, 2.0)
    with tg.detect_anomaly():
        assert np.isnan((tg.tensor([np.nan, 1.0], dtype=F64) * x)[0].item())
        (x * 2).backward(tg.tensor([np.nan, 1.0]))
        assert np.isnan(given(x)[0]) and given(x)[1] == 2.0


def test_without_anomaly_mode_a_nan_is_not_an_error() -> None:
    x = leaf(-1.0)
    with np.errstate(invalid="ignore"):
        x.log().backward()
    assert given(x) == -1.0


def test_anomaly_mode_is_left_after_an_error() -> None:
    with pytest.raises(FloatingPointError), tg.detect_anomaly(), np.errstate(invalid="ignore"):
        leaf(-1.0).sqrt()
    with np.errstate(invalid="ignore"):
        assert np.isnan(leaf(-1.0).sqrt().item())


def test_anomalies_are_found_in_gradients_that_are_put_together_later() -> None:
    weight = tg.ones(1, 1, requires_grad=True)
    expected = pytest.raises(FloatingPointError, match="derivative of op 'linear'")
    with np.errstate(invalid="ignore"), tg.detect_anomaly(), expected:
        tg.where(False, tg.linear(tg.tensor([[np.inf]]), weight), 0.0).sum().backward()
