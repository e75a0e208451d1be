"""The short cut of an op's call equals the long way, `Op.run`: results, graphs, gradients and errors."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.cases import CASES, SEEDS, Case

import tinygrad_lstm as tg

SHORT = {
    case.name: case
    for case in CASES
    if case.called_plainly and hasattr(case.call, "op") and case.call.op.only_inputs and case.call.op.arity <= 2
}
BINARY = [name for name, case in SHORT.items() if case.call.op.arity == 2]


def test_the_short_cuts_are_those_of_elementwise_ops() -> None:
    assert {"add", "mul", "div", "pow", "maximum", "lt", "logical_and"} <= set(BINARY)
    assert {"exp", "tanh", "sigmoid", "neg", "relu", "isnan", "clone"} <= SHORT.keys() - set(BINARY)


@dataclass
class Outcome:
    """What a call gave: a tensor, or an error."""

    result: tg.Tensor | None = None
    error: Exception | None = None


def outcome(call: Callable[[], tg.Tensor]) -> Outcome:
    try:
        with np.errstate(all="ignore"):
            return Outcome(call())
    except Exception as error:
        return Outcome(error=error)


def stale_view(x: tg.Tensor) -> tg.Tensor:
    """A view of a tensor into which a graph has written since."""
    base = x.clone()
    view = base[...]
    base[...] = tg.ones(*x.shape, dtype=x.dtype, device=x.device, requires_grad=True) * 2
    return view


@st.composite
def operands(draw: st.DrawFn, array: Any) -> Any:
    """A tensor of any dtype and history, or what stands beside one: numbers, arrays, lists."""
    kind = draw(st.sampled_from(["tensor"] * 6 + ["number", "scalar", "array", "list"]))
    number = draw(st.sampled_from([2, 1.5, True, -1, 0, 10**400, float("nan")]))
    if kind == "number":
        return number
    if kind == "scalar":
        return draw(st.sampled_from([np.float32(1.5), np.float64(1.5), np.int64(2), np.bool_(True)]))
    if kind == "array":
        return array.astype(draw(st.sampled_from(["float32", "float64", "int64"])))
    if kind == "list":
        return array.tolist()
    dtype = draw(st.sampled_from(["float32"] * 5 + ["float64"] * 3 + ["float16", "int64", "int8", "bool"]))
    x = tg.tensor(array).to(dtype=dtype)
    if dtype.startswith("float"):
        history = draw(st.sampled_from(["own", "leaf", "made", "view", "stale"]))
        if history != "own":
            x.requires_grad_()
        x = {"made": lambda: x * 1, "view": lambda: x[...], "stale": lambda: stale_view(x)}.get(history, lambda: x)()
    return x


def gradients(out: tg.Tensor, arguments: list[Any], create_graph: bool) -> list[Any]:
    wanted = [x for x in arguments if isinstance(x, tg.Tensor) and x.requires_grad]
    weights = tg.ones(*out.shape, dtype=out.dtype, device=out.device) * 1.25
    with np.errstate(all="ignore"):
        found = tg.grad(out, wanted, weights, retain_graph=True, create_graph=create_graph, allow_unused=True)
    return [None if g is None else (g.dtype, g.detach().cpu().numpy()) for g in found]


def same(a: Any, b: Any) -> bool:
    """Whether nodes are the same, or such as the same casts of the same tensors make."""
    if a is None or b is None or a is b:
        return a is b
    return a.op is b.op and a.op.name == "astype" and all(map(same, a.parents, b.parents))


def assert_same_graph(short: tg.Tensor, long: tg.Tensor) -> None:
    a, b = short._graph_node(), long._graph_node()
    assert a.op is b.op
    assert all(map(same, a.parents, b.parents))
    for name in ("plan", "keeps", "shape", "dtype", "parts", "shapes", "device"):
        mine, other = getattr(a, name), getattr(b, name)
        assert (list(mine) == list(other)) if name == "shapes" and mine is not None else mine == other, name
    for slot in a.plan.kept:
        mine, other = a.saved[slot], b.saved[slot]
        if isinstance(mine, tg.Tensor):
            mine, other = mine.detach(), other.detach()
        assert mine is other or np.array_equal(mine, other, equal_nan=True)
    assert (a.out is None) == (b.out is None)


@pytest.mark.parametrize("name", SHORT)
@hypothesis.settings(max_examples=30)
@given(data=st.data())
def test_the_short_cut_equals_the_long_way(name: str, data: st.DataObject) -> None:
    case: Case = SHORT[name]
    arrays = data.draw(case.drawn).arrays
    if len(arrays) == 2 and data.draw(st.integers(0, 5)) == 0:  # shapes that do not fit
        arrays[1] = np.ones((5, 7))
    arguments = [data.draw(operands(array)) for array in arrays]
    if not data.draw(st.integers(0, 9)):
        arguments.append(arguments[0])  # one too many
    mode = data.draw(st.sampled_from([contextlib.nullcontext, tg.no_grad]))
    with mode():
        short = outcome(lambda: case.call(*arguments))
        long = outcome(lambda: case.call.op.run(arguments, {}))
    if long.error is not None or short.error is not None:
        assert type(short.error) is type(long.error)
        assert str(short.error) == str(long.error)
        assert getattr(short.error, "__notes__", []) == getattr(long.error, "__notes__", [])
        return
    assert short.result is not None
    assert long.result is not None
    a, b = short.result, long.result
    assert (a.dtype, a.shape, a.device, a.requires_grad) == (b.dtype, b.shape, b.device, b.requires_grad)
    assert type(a.data) is type(b.data)
    np.testing.assert_array_equal(a.detach().cpu().numpy(), b.detach().cpu().numpy())
    if not a.requires_grad:
        return
    assert_same_graph(a, b)
    for create_graph in (False, True):
        for mine, other in zip(
            gradients(a, arguments, create_graph), gradients(b, arguments, create_graph), strict=True
        ):
            assert (mine is None) == (other is None)
            if mine is not None:
                assert mine[0] == other[0]
                np.testing.assert_array_equal(mine[1], other[1])


@pytest.mark.parametrize("place", ["first", "second"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])  # by the short cut, and by the long way
@pytest.mark.parametrize("name", BINARY)
def test_a_stale_view_is_refused_wherever_it_stands(name: str, place: str, dtype: str, device: str) -> None:
    x = tg.tensor([1.0, 2.0], dtype=dtype, device=device)
    for other in (x, x.clone().requires_grad_(), 1.5):
        operands = (stale_view(x), other) if place == "first" else (other, stale_view(x))
        with pytest.raises(RuntimeError, match=rf"^{name}: an input of shape \(2,\) is a view .*take the view again"):
            getattr(tg, name)(*operands)


def test_a_view_taken_again_is_not_stale(device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device)
    x[...] = tg.ones(2, device=device, requires_grad=True) * 2
    assert (1.0 + x[...]).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("name", SHORT)
@given(seed=SEEDS)
@hypothesis.settings(max_examples=5)
def test_under_detect_anomaly_the_long_way_is_taken(name: str, seed: int) -> None:
    case = SHORT[name]
    arrays = [
        np.random.default_rng(seed).uniform(0.5, 2.0, (2, 3)).astype(np.float32) for _ in range(case.call.op.arity)
    ]
    plain = case.call(*map(tg.tensor, arrays))
    with tg.detect_anomaly():
        watched = case.call(*map(tg.tensor, arrays))
    np.testing.assert_array_equal(plain.numpy(), watched.numpy())
