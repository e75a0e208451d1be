"""Steppers of any cell by generated code, held against the cell's ops."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from any_cells import as_parts, drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from tracing.drawn_steps import DrawnStep, drawn_steps

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM, LSTMCell, Recurrent
from tinygrad_lstm.models.atlas import ATLAS

HostArray = np.ndarray[Any, Any]


class Drawn(tg.nn.Module):
    """A drawn step as a cell."""

    def __init__(self, drawn: DrawnStep) -> None:
        self.drawn = drawn

    def forward(self, x: tg.Tensor, state: Any) -> Any:
        return self.drawn.step(x, state)


def check(cell: tg.nn.Module, x: Any, state: Any) -> None:
    """Equal by generated code and op by op, for some batch sizes in turn."""
    compiled, plain = (Recurrent(cell, compiled=flag).stepper() for flag in (True, False))
    for rows in (len(x[0]), 1, 2, len(x[0])):
        several = isinstance(state, tuple)
        before = tuple(part[:rows] for part in state) if several else state[:rows]
        found = expected = before
        for t in range(len(x)):
            given = [host(part).copy() for part in as_parts(found)]
            out, after = compiled(x[t, :rows], found)
            expected_out, expected = plain(x[t, :rows], expected)
            for part, kept in zip(as_parts(found), given, strict=True):
                np.testing.assert_array_equal(host(part), kept)
            found = after
            for one, other in zip((out, *as_parts(found)), (expected_out, *as_parts(expected)), strict=True):
                assert (type(one), one.shape, one.dtype) == (type(other), other.shape, other.dtype)
                np.testing.assert_allclose(host(one), host(other), rtol=1e-9, atol=1e-9)


def host(array: Any) -> HostArray:
    return tg.as_tensor(array).cpu().numpy()


@settings(max_examples=10)
@given(drawn_steps(), st.integers(1, 4))
def test_drawn_steps(device: str, drawn: DrawnStep, B: int) -> None:
    drawn = drawn.to(device)
    x, state = drawn.inputs(T=3, B=B)
    check(Drawn(drawn), x.data, tuple(part.data for part in state) if isinstance(state, tuple) else state.data)


@pytest.mark.parametrize("name", ATLAS)
def test_every_cell_of_the_atlas(name: str, compiled: bool) -> None:
    tg.manual_seed(2)
    cell = ATLAS[name](3, 4).to(dtype="float64")
    shapes = type(cell).state_shapes_of(4).values()
    state = tuple(drawn(3, *shape, seed=k) for k, shape in enumerate(shapes))
    check(cell, drawn(3, 3, 3), state if len(state) > 1 else state[0])


class Scaled(LSTM):
    """Its step uses a parameter, and a number that depends on the batch size."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.extra = tg.nn.Parameter(2 * tg.ones(4))

    def _step(self, x: tg.Tensor, *given: Any) -> Any:
        h, c = super()._step(x, *given)
        return h * self.extra * (0.5 if len(x) > 2 else 0.25), c


class Counting(Scaled):
    """It changes an attribute at each step, so that it is not compiled."""

    def _step(self, *given: Any) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return super()._step(*given)


@pytest.mark.parametrize("kind", [Scaled, Counting])
def test_a_network_with_user_defined_equations(kind: type[Scaled], device: str) -> None:
    network = kind(3, 4).to(device)
    step, x = network.stepper(), drawn(5, 4, 3).astype("float32")
    for rows in (4, 1, 3):
        with tg.no_grad():
            expected, final = network(tg.tensor(x[:, :rows], device=device))
        state = None
        for t in range(len(x)):
            out, state = step(tg.tensor(x[t, :rows], device=device).data, state)
            np.testing.assert_allclose(host(out), host(expected[t]), atol=1e-6)
        for found, wanted in zip(as_parts(state), final, strict=True):
            np.testing.assert_allclose(host(found), host(wanted), atol=1e-6)
    with tg.no_grad():
        network.extra.zero_()
    assert abs(host(step(tg.tensor(x[0], device=device).data)[0])).min() > 0  # the stepper has its own


def test_steppers_can_be_copied() -> None:
    x = np.ones((2, 3), np.float32)
    for network, copied in (
        (LSTM(3, 4), copy.deepcopy),
        (Recurrent(LSTMCell(3, 4)), copy.deepcopy),
        (Recurrent(LSTMCell(3, 4)), lambda step: pickle.loads(pickle.dumps(step))),
    ):
        step = network.stepper()
        _, state = step(x)
        np.testing.assert_array_equal(step(x, state)[0], copied(step)(x, state)[0])


def test_a_cell_that_cannot_be_compiled_runs_op_by_op() -> None:
    class Halving(tg.nn.Module):
        """It reads a value."""

        def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
            h = tg.zeros_like(x) if h is None else h
            return h / 2 + x if float(h.sum()) > 1 else h + x

    x, step = np.ones((2, 3), np.float32), Recurrent(Halving()).stepper()
    state, found = None, []
    for _ in range(3):
        out, state = step(x, state)
        found.append(out[0, 0])
    assert found == [1, 1.5, 1.75]
    required = Recurrent(Halving(), compiled=True).stepper()
    _, state = required(x)
    with pytest.raises(ValueError, match=r"compiled=True: the step reads a value; .*; use compiled=None or False"):
        required(x, state)


def test_a_cell_that_drops_elements_in_inference_draws_masks() -> None:
    class Noisy(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
            return tg.dropout(x if h is None else x + h, 0.5, training=True)

    x, step = np.ones((1, 200), np.float32), Recurrent(Noisy()).stepper()
    _, state = step(x)
    one, other = step(x, state)[0], step(x, state)[0]
    assert (one == 0).any() and (one != other).any()


def test_a_cell_with_a_tensor_for_one_batch_size() -> None:
    class Shifted(tg.nn.Module):
        def __init__(self) -> None:
            self.shift = tg.tensor(drawn(3, 2).astype("float32"))

        def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
            return tg.tanh(x + self.shift if h is None else x + h + self.shift)

    cell, x = Shifted(), np.ones((3, 2), np.float32)
    step = Recurrent(cell, compiled=True).stepper()
    _, state = step(x)
    np.testing.assert_allclose(step(x, state)[0], np.tanh(x + state + cell.shift.numpy()), rtol=1e-6)
