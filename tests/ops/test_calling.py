"""The function that is written for an op equals the plain, slow way: results, graphs, gradients and errors."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.case import SEEDS, Case
from ops.cases import CASES
from ops.plain_way import Applied, apply_plainly

import tinygrad_lstm as tg
from tinygrad_lstm.ops.rules import asked_by, function_of

SHORT = {
    case.name: case
    for case in CASES
    if hasattr(tg, case.name) and hasattr(getattr(tg, case.name), "op")
    if (op := getattr(tg, case.name).op).names == op.inputs and not op.sequence
}
BINARY = [name for name in SHORT if len(getattr(tg, name).op.inputs) == 2]


def test_the_ops_are_those_of_each_number_of_inputs() -> None:
    assert "where" in SHORT.keys() - set(BINARY)
    assert {"add", "mul", "div", "pow", "maximum", "lt", "logical_and"} <= set(BINARY)
    assert {"exp", "tanh", "sigmoid", "neg", "relu", "isnan", "clone"} <= SHORT.keys() - set(BINARY)


@dataclass
class Outcome:
    """What a call gave, or an error."""

    result: Any = None
    error: Exception | None = None


def outcome(call: Callable[[], Any]) -> Outcome:
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
    """A tensor of any dtype and history, or what an op takes beside one: numbers, arrays, lists."""
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


def same(a: Any, b: Any) -> bool:
    """Whether nodes are the same, or such as the same casts of the same tensors make."""
    if a is None or b is None or a is b:
        return a is b
    return a.op is b.op and a.op.name == "astype" and all(map(same, a.parents, b.parents))


def assert_node(node: Any, op: Any, applied: Applied) -> None:
    """The node has the op's parents, and keeps what the rules of those that require a gradient ask for."""
    assert node.op is op
    assert all(map(same, node.parents, applied.parents))
    assert (node.shape, node.dtype, node.device) == (applied.out.shape, applied.out.dtype, applied.out.device)
    wanted = [name for name, parent in zip(op.inputs, node.parents, strict=True) if parent is not None]
    asked = {asked for name in wanted for asked in asked_by(function_of(op.rules[name]))}
    for name, kept, x in zip(op.inputs, node.saved, applied.inputs, strict=True):
        if name not in asked:
            assert kept is None
        elif isinstance(x, tg.Tensor):
            assert kept is x or np.array_equal(kept.detach(), x.detach(), equal_nan=True)
        else:
            assert type(kept) is type(x) and (kept == x or kept != kept)
    assert (node.out is not None) == ("out" in asked)
    if node.shapes is None:
        assert all(x.shape == node.shape for x in applied.inputs if isinstance(x, tg.Tensor))
    else:
        assert list(node.shapes) == [getattr(x, "shape", ()) for x in applied.inputs]


@pytest.mark.parametrize("name", SHORT)
@hypothesis.settings(max_examples=30)
@given(data=st.data())
def test_the_written_function_equals_the_plain_way(name: str, data: st.DataObject) -> None:
    case: Case = SHORT[name]
    drawn = data.draw(case.drawn)
    arrays, call = drawn.arrays, getattr(tg, name)
    if name == "where":
        arrays = [arrays[0] > 0, *arrays]
    if len(arrays) == 2 and data.draw(st.integers(0, 5)) == 0:  # shapes that do not fit
        arrays[1] = np.ones((5, 7))
    arguments = [*(data.draw(operands(array)) for array in arrays), 2]  # of some drawn cases, one is a setting
    arguments = arguments[: len(call.op.inputs)]
    mode = data.draw(st.sampled_from([contextlib.nullcontext, tg.no_grad]))
    with mode():
        written = outcome(lambda: call(*arguments))
        plainly = outcome(lambda: apply_plainly(call.op, *arguments))
    if written.error is not None or plainly.error is not None:
        assert type(written.error) is type(plainly.error), (written, plainly)
        assert str(written.error) == str(plainly.error)
        assert getattr(written.error, "__notes__", []) == getattr(plainly.error, "__notes__", [])
        return
    a, applied = written.result, plainly.result
    b = applied.out
    assert (a.dtype, a.shape, a.device, a.requires_grad) == (b.dtype, b.shape, b.device, applied.requires_grad)
    assert type(a.data) is type(b.data)
    np.testing.assert_array_equal(a.detach().cpu().numpy(), b.numpy())
    if not a.requires_grad:
        return
    assert_node(a._node, call.op, applied)
    weights = tg.ones(*a.shape, dtype=a.dtype, device=a.device) * 1.25
    for create_graph in (False, True):
        for input_name, x in zip(call.op.inputs, applied.inputs, strict=True):
            if isinstance(x, tg.Tensor) and x.requires_grad and input_name in call.op.rules:
                with np.errstate(all="ignore"):
                    expected = applied.gradient(input_name, weights, create_graph).detach()
                    node = a._node.derivative
                    pull = node.pull_recorded if create_graph else node.pull
                    found = pull(a._node, weights if create_graph else weights.data, a._node.parents)
                (k,) = [k for k, other in enumerate(call.op.inputs) if other == input_name]
                mine = found[k].detach().numpy() if create_graph else found[k]
                np.testing.assert_array_equal(mine, expected.numpy())


@pytest.mark.parametrize("name", SHORT)
def test_too_many_arguments_are_an_error(name: str) -> None:
    number = len(getattr(tg, name).op.inputs)
    with pytest.raises(TypeError, match=rf"takes {number} positional arguments? but {number + 1} were given"):
        getattr(tg, name)(*[tg.ones(2)] * (number + 1))


@pytest.mark.parametrize("place", ["first", "second"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])  # with and without a conversion
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
def test_detect_anomaly_changes_no_value(name: str, seed: int) -> None:
    call = getattr(tg, name)
    lowest, highest = (1.0, 2.0) if name == "acosh" else (0.5, 0.99)  # within the domain of each
    arrays = [
        np.random.default_rng(seed).uniform(lowest, highest, (2, 3)).astype(np.float32)
        for _ in getattr(tg, name).op.inputs
    ]
    arrays = [array > 0.7 if name.startswith("bitwise") else array for array in arrays]
    plain = call(*map(tg.tensor, arrays))
    with tg.detect_anomaly():
        watched = call(*map(tg.tensor, arrays))
    np.testing.assert_array_equal(plain.numpy(), watched.numpy())
