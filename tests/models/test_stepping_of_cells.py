"""Steppers of any cell by generated code, held against the cell's ops."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from any_cells import as_parts, drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from tracing.drawn_steps import DrawnStep, drawn_steps

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, LSTMCell, Recurrent
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


def with_adapter() -> Any:
    network = LSTM(3, 4)
    tg.nn.add_lora(network, "weight_*", rank=1)
    return network


NETWORKS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: LSTM(3, 4, num_layers=2),
    "GRU": lambda: GRU(3, 4),
    "adapter": with_adapter,
    "own equations": lambda: Scaled(3, 4),
    "cells": lambda: Recurrent([LSTMCell(3, 4), Reading(4)]),
}
COPIED: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
}


@pytest.mark.parametrize("how", COPIED)
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_steppers_and_streams_can_be_copied_after_use(name: str, how: str) -> None:
    network, x = NETWORKS[name](), drawn(3, 2, 3).astype("float32")
    step, stream = network.stepper(), network.stream(2)
    out, _ = network(tg.tensor(x))
    out.sum().backward()
    _, state = step(x[0])
    stream(x[0])
    of_copy = COPIED[how](step)
    for parameter in network.parameters():  # which neither the stepper nor its copy has
        parameter.data[...] *= 2
    np.testing.assert_array_equal(step(x[1], state)[0], of_copy(x[1], state)[0])
    again, expected = COPIED[how](network), network(tg.tensor(x))[0]
    np.testing.assert_array_equal(again(tg.tensor(x))[0].detach().numpy(), expected.detach().numpy())
    other = COPIED[how](stream)
    np.testing.assert_array_equal(stream(x[1]), other(x[1]))
    np.testing.assert_array_equal(stream(x), other(x))


scale, TABLE, AROUND = 0.5, {"offset": 0.1}, tg.full((4,), 0.3)


class Reading(tg.nn.Module):
    """It uses a weight, and more that is not its own."""

    factor = 0.8

    def __init__(self, size: int) -> None:
        self.input_size, self.weight = size, tg.nn.Parameter(tg.full((size,), 0.5))

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        h = tg.zeros_like(x) if h is None else h
        return tg.tanh(x * AROUND * self.weight + h) * self.factor * scale + TABLE["offset"]


def negate(forward: Any) -> Any:
    return lambda self, x, h=None: -forward(self, x, h)


CHANGES: dict[str, Callable[[Any], object]] = {
    "global variable": lambda cell: globals().update(scale=scale + 0.25),
    "global dict": lambda cell: TABLE.update(offset=TABLE["offset"] + 0.25),
    "attribute of the class": lambda cell: setattr(Reading, "factor", Reading.factor + 0.25),
    "tensor that is replaced": lambda cell: globals().update(AROUND=AROUND + 0.25),
    "tensor in place": lambda cell: AROUND.add_(0.25),
    "method": lambda cell: setattr(Reading, "forward", negate(Reading.forward)),
}


@pytest.mark.parametrize("compiled", [None, True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_what_a_cell_reads_from_outside_is_what_it_is_now(
    name: str, compiled: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "scale", 0.5)
    monkeypatch.setitem(globals(), "AROUND", tg.full((4,), 0.3))
    monkeypatch.setitem(TABLE, "offset", 0.1)
    for attribute in ("factor", "forward"):
        monkeypatch.setattr(Reading, attribute, vars(Reading)[attribute])
    x, layer = drawn(2, 4).astype("float32"), Recurrent(Reading(4), compiled=compiled)
    step, stream = layer.stepper(), layer.stream(2)
    for _ in range(3):
        before = stream.state
        expected, _ = layer(tg.tensor(x[None]), tg.tensor(before))
        for out in (step(x, before)[0], stream(x)):
            np.testing.assert_allclose(out, expected[0].detach().numpy(), rtol=1e-6)
        CHANGES[name](layer)
        changed, _ = layer(tg.tensor(x[None]), tg.tensor(before))
        assert abs(changed - expected).max().item() > 1e-3


class Shared:
    """It is its own copy."""

    number = 1.0

    def __deepcopy__(self, memo: Any) -> "Shared":
        return self


VIEW = np.ones(4, np.float32)[:]
VIEW.flags.writeable = False


class Sharing(tg.nn.Module):
    input_size = 4

    def __init__(self) -> None:
        self.shared = Shared()

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        return tg.tanh(x if h is None else x + h) * (self.shared.number * tg.tensor(VIEW))


def test_what_a_copy_shares_and_what_is_seen_through_a_view_are_what_they_are_now() -> None:
    x, layer = np.ones((2, 4), np.float32), Recurrent(Sharing())
    step, zeros = layer.stepper(), np.zeros((2, 4), np.float32)
    first = step(x, zeros)[0]
    layer.cells[0].shared.number = 2.0
    np.testing.assert_allclose(step(x, zeros)[0], 2 * first)
    VIEW.base[...] = 2
    np.testing.assert_allclose(step(x, zeros)[0], 4 * first)


def test_tensors_that_were_replaced_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x, step, before = np.ones((2, 4), np.float32), Recurrent(Reading(4)).stepper(), np.zeros((2, 4), np.float32)
    monkeypatch.setitem(globals(), "AROUND", AROUND)
    arrays = []
    for k in range(50):
        globals()["AROUND"] = tg.full((4,), float(k))
        arrays.append(weakref.ref(AROUND.data))
        step(x, before)
    gc.collect()
    assert sum(array() is not None for array in arrays) < 25


def test_weights_are_those_of_the_beginning() -> None:
    x, layer = drawn(2, 4).astype("float32"), Recurrent(Reading(4))
    step, stream = layer.stepper(), layer.stream(2)
    expected = [step(x, np.zeros((2, 4), np.float32))[0], stream(x)]
    layer.cells[0].weight.data[...] = 9
    stream.reset()
    for one, other in zip(expected, (step(x, np.zeros((2, 4), np.float32))[0], stream(x)), strict=True):
        np.testing.assert_array_equal(one, other)


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
