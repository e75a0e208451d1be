"""`tg.scan`: a step over sequences is a loop over each of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from any_cells import STEPS, GatedCell, as_parts, checked_derivatives, drawn, row_by_row
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRUCell, LSTMCell, RNNCell


def cast(array: np.ndarray, device: str, dtype: str = "float64", **options: Any) -> tg.Tensor:
    return tg.tensor(array.astype(dtype), device=device, **options)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """A step, sizes, and what `scan` takes besides."""
    T, B = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return {
        "name": draw(st.sampled_from([*STEPS])),
        "T": T,
        "B": B,
        "lengths": draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B)),
        "resets": draw(st.none() | st.lists(st.lists(st.booleans(), min_size=B, max_size=B), min_size=T, max_size=T)),
        "reverse": draw(st.booleans()),
    }


def every_step(test: Any) -> Any:
    """Among the examples of a test, one with each step."""
    for name in STEPS:
        test = example(problem={"name": name, "T": 3, "B": 2, "lengths": None, "resets": None, "reverse": False})(test)
    return test


@every_step
@given(problem=problems())
@settings(max_examples=20)
def test_it_equals_a_loop_over_each_sequence(device: str, problem: dict[str, Any]) -> None:
    """Values, first and second derivatives; with lengths and resets, each sequence alone and in pieces."""
    step, w_shape, shapes = STEPS[problem["name"]]
    T, B = problem["T"], problem["B"]
    w, x = (cast(drawn(*shape), device, requires_grad=True) for shape in (w_shape, (T, B, 3)))
    parts = [cast(3 * drawn(B, *shape, seed=k), device, dtype) for k, (shape, dtype) in enumerate(shapes)]
    for part in parts:
        part.requires_grad = part.dtype == "float64"
    state = tuple(parts) if len(parts) > 1 else parts[0]
    zeros = tuple(tg.zeros_like(part[:1]) for part in parts)
    given_as = {name: problem[name] for name in ("lengths", "resets", "reverse")}
    resets = None if problem["resets"] is None else np.array(problem["resets"])
    out, final = tg.scan(lambda x_t, state: step(w, x_t, state), x, state, **given_as)
    expected, finals = row_by_row(
        lambda x_t, state: step(w, x_t, state), x, state, lambda b: zeros if len(zeros) > 1 else zeros[0],
        problem["lengths"], resets, problem["reverse"],
    )  # fmt: skip
    assert isinstance(final, tg.Tensor if len(parts) == 1 else tuple)
    inputs = [x, w, *(part for part in parts if part.requires_grad)]
    checked_derivatives([out, *as_parts(final)], [expected, *finals], inputs)


@given(problem=problems(), with_state=st.booleans())
@settings(max_examples=10)
def test_a_cell_begins_anew_as_from_none(device: str, problem: dict[str, Any], with_state: bool) -> None:
    """Its start may be learnt, and gets its gradients."""
    T, B = problem["T"], problem["B"]
    tg.manual_seed(1)
    cell = GatedCell(3, 2).to(device, "float64")
    x = cast(drawn(T, B, 3), device, requires_grad=True)
    own = cell.start.broadcast_to(B, 2), tg.zeros(B, dtype="int64", device=device)
    state = (cast(drawn(B, 2), device), own[1]) if with_state else None
    resets = None if problem["resets"] is None else np.array(problem["resets"])
    out, final = tg.scan(cell, x, state, problem["lengths"], problem["resets"], problem["reverse"])
    expected, finals = row_by_row(cell, x, state or own, lambda b: None, problem["lengths"], resets, problem["reverse"])
    checked_derivatives([out, *final], [expected, *finals], [x, *cell.parameters()])


@given(T=st.integers(0, 4), B=st.integers(0, 3), ends=st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_reverse_flips_the_sequences(T: int, B: int, ends: list[int]) -> None:
    lengths = [min(end, T) for end in ends[:B]]
    cell, x = LSTMCell(3, 2).to(dtype="float64"), tg.tensor(drawn(T, B, 3))
    out, state = tg.scan(cell, x, None, lengths, reverse=True)
    order = np.array([[*reversed(range(end)), *range(end, T)] for end in lengths], int).reshape(B, T).T  # (T, B)
    flipped, final = tg.scan(cell, x[order, np.arange(B)], None, lengths)
    np.testing.assert_array_equal(out.detach().numpy(), flipped.detach().numpy()[order, np.arange(B)])
    for one, other in zip(state, final, strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())


@pytest.mark.parametrize("T", [0, 3])
@pytest.mark.parametrize("B", [0, 2])
def test_sequences_of_no_steps_and_batches_of_none(T: int, B: int, device: str) -> None:
    """The state is unchanged, and every gradient is zero."""
    w = cast(drawn(5, 2), device, requires_grad=True)
    h = cast(drawn(B, 2), device, requires_grad=True)
    lengths = None if T == 0 else [0] * B
    out, final = tg.scan(lambda x, h: tg.tanh(tg.cat([h, x], -1) @ w), cast(drawn(T, B, 3), device), h, lengths)
    assert out.shape == (T, B, 2) and not out.detach().cpu().numpy().any()
    np.testing.assert_array_equal(final.detach().cpu().numpy(), h.detach().cpu().numpy())
    (out.sum() + final.sum()).backward()
    assert w.grad is not None and h.grad is not None
    assert not w.grad.cpu().numpy().any() and (h.grad.cpu().numpy() == 1).all()


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)], ids=str)
def test_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    """Of numbers (T, B), too; of integers, which a step looks up."""
    x = tg.tensor(drawn(5, 2, *shape))
    out, h = tg.scan(lambda x_t, h: h + x_t, x, tg.zeros(2, *shape, dtype="float64"), lengths=[5, 3])
    np.testing.assert_allclose(h.numpy()[1], x.numpy()[:3, 1].sum(0))
    assert out.shape == (5, 2, *shape)
    table = tg.tensor(drawn(7, 3))
    ids = tg.tensor(np.array([[1, 6], [2, 2], [0, 5]]))
    _, h = tg.scan(lambda x_t, h: h + table[x_t], ids, tg.zeros(2, 3, dtype="float64"), lengths=[2, 3])
    np.testing.assert_allclose(h.numpy(), [table.numpy()[[1, 2]].sum(0), table.numpy()[[6, 2, 5]].sum(0)])


def test_padding_counts_for_nothing() -> None:
    """Not even NaN."""
    x = drawn(4, 2, 3)
    padded = x.copy()
    padded[2:, 1] = np.nan
    cell, found = LSTMCell(3, 2).to(dtype="float64"), []
    for each in (x, padded):
        given = tg.tensor(each, requires_grad=True)
        out, _ = tg.scan(cell, given, None, lengths=[4, 2])
        out.sum().backward()
        assert given.grad is not None
        found.append((out.detach().numpy(), given.grad.numpy()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not found[1][1][2:, 1].any()


class Pair(NamedTuple):
    h: tg.Tensor
    c: tg.Tensor


def test_a_state_keeps_its_structure() -> None:
    """One Tensor, a tuple of one, a NamedTuple."""
    x, h = tg.ones(3, 2, 4), tg.zeros(2, 4)
    _, one = tg.scan(lambda x_t, h: h + x_t, x, h)
    _, in_tuple = tg.scan(lambda x_t, state: (state[0] + x_t,), x, (h,))
    _, named = tg.scan(lambda x_t, state: Pair(state.h + x_t, state.c), x, Pair(h, h))
    assert isinstance(one, tg.Tensor) and isinstance(in_tuple, tuple) and isinstance(named, Pair)
    assert one.tolist() == in_tuple[0].tolist() == named.h.tolist()


@pytest.mark.parametrize("kind", [LSTMCell, GRUCell, RNNCell])
def test_cells_start_from_zeros(kind: Any, device: str) -> None:
    cell, x = kind(3, 2).to(device), tg.ones(4, 2, 3, device=device)
    out, state = tg.scan(cell, x, None)
    zeros = tuple(tg.zeros_like(part) for part in as_parts(state))
    again, _ = tg.scan(cell, x, zeros if isinstance(state, tuple) else zeros[0])
    np.testing.assert_array_equal(out.detach().cpu().numpy(), again.detach().cpu().numpy())


class Begins(tg.nn.Module):
    """A cell with a state that begins in a certain way."""

    def __init__(self, begin: Callable[[Any, tg.Tensor], Any]) -> None:
        self.weight = tg.nn.Parameter(tg.full((2,), 0.5))
        self.start = tg.nn.Parameter(tg.zeros(2))
        self.begin = begin

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        return tg.tanh(x * self.weight + (self.begin(self, x) if h is None else h))


@pytest.mark.parametrize("begin", [
    lambda cell, x: 0.0,
    lambda cell, x: 0.25,
    lambda cell, x: np.float32(0.25),
    lambda cell, x: np.full(2, 0.25, np.float32),
    lambda cell, x: tg.zeros(2),
    lambda cell, x: tg.ones(1, 2, dtype="float16"),
    lambda cell, x: tg.zeros_like(x),
    lambda cell, x: tg.tensor([0.1, 0.2]),
    lambda cell, x: cell.start,
    lambda cell, x: tg.exp(cell.start) * 0.3,
    lambda cell, x: tg.stack([cell.start] * len(x)),
])  # fmt: skip
def test_what_a_cell_starts_from_is_found(begin: Callable[[Any, tg.Tensor], Any]) -> None:
    """A number, a smaller shape, a parameter, even one of zeros, and what is computed from it."""
    cell, x = Begins(begin), tg.tensor(drawn(3, 2, 2).astype("float32"))
    out, h = tg.scan(cell, x, None, resets=[[False, False], [False, True], [False, False]], lengths=[3, 2])
    first = cell(x[0])
    second = tg.stack([cell(x[1], first)[0], cell(x[1])[1]])
    third = cell(x[2], second)
    expected = tg.stack([first, second, tg.stack([third[0], tg.zeros(2)])])
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        h.detach().numpy(), tg.stack([third[0], second[1]]).detach().numpy(), rtol=1e-6, atol=1e-6
    )
    found = [tg.grad((each * each).sum(), cell.start, allow_unused=True)[0] for each in (out, expected)]
    assert (found[0] is None) == (found[1] is None)
    if found[0] is not None and found[1] is not None:
        np.testing.assert_allclose(found[0].numpy(), found[1].numpy(), rtol=1e-5)
    _, empty = tg.scan(cell, x, None, lengths=[0, 3])
    np.testing.assert_allclose(empty[0].detach().numpy(), np.broadcast_to(begun(begin(cell, x[0]))[0], 2))


def begun(start: Any) -> np.ndarray:
    array = start.detach().numpy() if isinstance(start, tg.Tensor) else np.asarray(start)
    return np.broadcast_to(array, (2, 2))


class Skips(Begins):
    """It leaves out what the state adds, if it begins with zeros."""

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        return tg.tanh(x * self.weight) if h is None else tg.tanh(x * self.weight + h)


class Adds(Begins):
    """It begins with something else than a step."""

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        return tg.tanh(x * self.weight) + self.start if h is None else tg.tanh(x * self.weight + h)


def test_a_start_that_cannot_be_found_raises() -> None:
    x = tg.tensor(drawn(3, 2, 2).astype("float32"))
    out, _ = tg.scan(Skips(lambda cell, x: None), x, None)
    again, _ = tg.scan(Skips(lambda cell, x: None), x, tg.zeros(2, 2))
    np.testing.assert_array_equal(out.detach().numpy(), again.detach().numpy())
    with pytest.raises(ValueError, match="scan: cannot find the state that Adds starts from; begin its forward with"):
        tg.scan(Adds(lambda cell, x: None), x, None)
    with pytest.raises(ValueError, match="scan: Begins computes the state that it starts from from its input"):
        tg.scan(Begins(lambda cell, x: x * 2), x, None)
    tg.scan(Adds(lambda cell, x: None), x, tg.zeros(2, 2))


def test_a_cell_that_takes_no_state_of_none_is_named() -> None:
    class NoNone(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
            return h.tanh() + x

    with pytest.raises(AttributeError) as raised:
        tg.scan(NoNone(), tg.ones(3, 2, 4), None)
    assert raised.value.__notes__ == ["in scan: NoNone was given an input and a state of None, to start from"]
    with pytest.raises(AttributeError):
        tg.scan(NoNone(), tg.ones(3, 2, 4), tg.zeros(2, 4), resets=np.zeros((3, 2), bool))


def test_finding_a_start_draws_no_random_numbers() -> None:
    class Noisy(Begins):
        def forward(self, x: tg.Tensor, h: Any = None) -> Any:
            return tg.dropout(super().forward(x, h), 0.5)

    cell, x = Noisy(lambda cell, x: cell.start * 1.0), tg.tensor(drawn(3, 2, 2).astype("float32"))
    tg.manual_seed(3)
    out, _ = tg.scan(cell, x, None)
    tg.manual_seed(3)
    h = None
    for t in range(3):
        h = cell(x[t], h)
        np.testing.assert_allclose(out[t].detach().numpy(), h.detach().numpy(), rtol=1e-6)


# -- errors ------------------------------------------------------------------------------------------------------------

X, H0 = np.ones((4, 2, 3), np.float32), np.zeros((2, 3), np.float32)


def scanned(step: Any = lambda x, h: h + x, x: Any = X, state: Any = H0, **options: Any) -> Any:
    state = tg.tensor(state) if isinstance(state, np.ndarray) else state
    return lambda: tg.scan(step, tg.tensor(x), state, **options)


@pytest.mark.parametrize(("call", "error", "message"), [
    (scanned(step=3), TypeError, "expected a step, a function of (x, state) or a cell, got int"),
    (scanned(x=X[0, 0]), ValueError, "expected an input of shape (time, batch, ...), got (3,)"),
    (scanned(state=None), TypeError, "state is None, but the step is a function; give the state before the first"),
    (scanned(state=[1.0]), TypeError, "the initial state: expected a state of one Tensor, or a tuple of Tensors, got"),
    (scanned(state=H0[:1]), ValueError, "expected states of shape (2, ...), for a batch of 2, got (1, 3)"),
    (scanned(lengths=[5, 1]), ValueError, "expected 2 lengths, integers from 0 to 4, got int64 [5 1]"),
    (scanned(resets=np.zeros((2, 4), bool)), ValueError, "expected resets of shape (4, 2) and dtype bool, got bool (2"),
    (scanned(resets=np.zeros((4, 2))), ValueError, "expected resets of shape (4, 2) and dtype bool, got float64 (4, 2"),
    (scanned(lambda x, h: (h, h)), ValueError, "the step returned 2 states, expected 1, as many as it was given"),
    (scanned(lambda x, h: h[:, :2]), ValueError, "the step returned float32 (2, 2) for state0, expected float32 (2, 3"),
    (scanned(lambda x, h: h.to(dtype="float64")), ValueError, "the step returned float64 (2, 3) for state0, expected"),
    (scanned(lambda x, h: None), TypeError, "the step's result: expected a state of one Tensor, or a tuple of Tensors"),
    (
        scanned(GatedCell(3, 3), state=H0, resets=np.zeros((4, 2), bool)),
        ValueError,
        "expected a state like the cell's own start, float32 (2, 3), int64 (2,), got float32 (2, 3)",
    ),
])  # fmt: skip
def test_errors_say_what_was_expected(call: Callable[[], Any], error: Any, message: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith("scan: ") and message in str(raised.value) and "\n" not in str(raised.value)
