"""Streams of `Recurrent`: any cell, one step or chunk at a time."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_cells import GatedCell, MatrixCell, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRUCell, LSTMCell, Recurrent, Stream
from tinygrad_lstm.states import leaves_of

NETWORKS: dict[str, Callable[[], Recurrent]] = {
    "LSTMCell": lambda: Recurrent(LSTMCell(3, 4)),
    "learnt start": lambda: Recurrent(GatedCell(3, 4)),
    "layers": lambda: Recurrent([GatedCell(3, 4), LSTMCell(4, 5), GRUCell(5, 2)], dropout=0.5),
    "batch first": lambda: Recurrent([LSTMCell(3, 4), GatedCell(4, 2)], batch_first=True),
    "matrix": lambda: Recurrent(MatrixCell(3, 2)),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def made(name: str, device: str = "cpu") -> Recurrent:
    tg.manual_seed(4)
    return NETWORKS[name]().to(device)


def numbers(*shape: int) -> np.ndarray:
    return drawn(*shape).astype("float32")


def host(array: Any) -> np.ndarray:
    return tg.as_tensor(array).detach().cpu().numpy()


def on(device: str, array: np.ndarray) -> Any:
    return tg.tensor(array, device=device).data


def whole(network: Recurrent, x: np.ndarray, device: str = "cpu") -> Any:
    """The outputs and the final state of a chunk (T, B, I), as streams have them."""
    with network.evaluating(), tg.no_grad():
        given = tg.tensor(x, device=device)
        out, state = network(given.transpose(0, 1) if network.batch_first else given)
    return host(out.transpose(0, 1) if network.batch_first else out), [host(part) for part in leaves_of(state)]


@each_network
@given(chunks=st.lists(st.sampled_from([None, 0, 1, 2, 5, 17]), min_size=1, max_size=4), B=st.integers(1, 3))
@settings(max_examples=8)
def test_chunks_of_any_length_equal_the_whole(device: str, name: str, chunks: list[int | None], B: int) -> None:
    network, at, outs = made(name, device), 0, []
    x = numbers(sum(1 if each is None else each for each in chunks), B, 3)
    stream = network.stream(B)
    for length in chunks:
        piece = x[at : at + (1 if length is None else length)]
        at += len(piece)
        if length is None:
            outs.append(host(stream(on(device, piece[0])))[None])
        elif network.batch_first:
            outs.append(host(stream(on(device, piece.swapaxes(0, 1)))).swapaxes(0, 1))
        else:
            outs.append(host(stream(on(device, piece))))
    out, state = whole(network, x, device)
    np.testing.assert_allclose(np.concatenate(outs), out, atol=1e-6)
    for found, expected in zip(leaves_of(stream.state), state, strict=True):
        assert host(found).dtype == expected.dtype
        np.testing.assert_allclose(host(found), expected, atol=1e-6)


@each_network
def test_it_is_independent_of_its_network(name: str) -> None:
    network, x = made(name), numbers(4, 2, 3)
    stream = network.stream(2)
    expected = host(stream(x[0]))
    for parameter in network.parameters():
        parameter.data[...] = 0
    again = network.stream(2)
    stream.reset()
    np.testing.assert_array_equal(host(stream(x[0])), expected)
    assert isinstance(stream(x[0]), np.ndarray) and np.abs(host(again(x[0])) - expected).max() > 0
    assert network.training


@each_network
def test_rows_begin_anew(name: str, device: str) -> None:
    """From what the cells start from, which may be learnt."""
    network, x = made(name, device), on(device, numbers(3, 3))
    stream, fresh = network.stream(3), network.stream(3)
    stream.reset(1)  # before the first step, nothing happens
    first, second = host(stream(x)), host(stream(x))
    stream.reset([0, 2])
    mixed = host(stream(x))
    np.testing.assert_array_equal(mixed[[0, 2]], first[[0, 2]])
    np.testing.assert_array_equal(mixed[1], host(fresh_third(fresh, x))[1])
    assert np.abs(second - first).max() > 0
    stream.reset()
    np.testing.assert_array_equal(host(stream(x)), first)


def fresh_third(stream: Stream, x: Any) -> Any:
    stream(x)
    stream(x)
    return stream(x)


@each_network
def test_states_are_copied_saved_and_loaded(name: str, tmp_path: Path) -> None:
    network, x = made(name), numbers(2, 3)
    stream = network.stream(2)
    twins = [copy.copy(stream), pickle.loads(pickle.dumps(stream)), copy.deepcopy(stream)]
    outs = [host(twin(x)) for twin in (stream, *twins)]
    stream(x)
    stream.save(tmp_path / "state.safetensors")
    kept, third = stream.state, host(stream(x))
    others = [network.stream(2, kept), pickle.loads(pickle.dumps(network.stream(2, kept))), network.stream(2)]
    others[2](x)
    others[2].load(tmp_path / "state.safetensors")
    for other in others:
        np.testing.assert_array_equal(host(other(x)), third)
    assert all((out == outs[0]).all() for out in outs)


def test_names_of_saved_states(tmp_path: Path) -> None:
    for network, names in (
        (Recurrent(LSTMCell(3, 4)), {"h", "c"}),
        (Recurrent([GatedCell(3, 4), GRUCell(4, 5)]), {"0.h", "0.n", "1.h"}),
        (Recurrent(MatrixCell(3, 2)), {"state0"}),
    ):
        stream = network.stream()
        stream(numbers(1, 3))
        stream.save(tmp_path / "a.safetensors")
        assert {*tg.io.load_weights(tmp_path / "a.safetensors")} == names


def test_a_user_defined_model_streams_its_layer() -> None:
    network, head = Recurrent(GatedCell(4, 4)), tg.nn.Linear(4, 2)
    embedding = tg.nn.Embedding(7, 4)
    stream = Stream(network, 2, embedding=embedding, output=head)
    ids = np.random.default_rng(2).integers(0, 7, (5, 2))
    with tg.no_grad():
        expected = head(network(embedding(tg.tensor(ids)))[0])
    found = np.concatenate([stream(ids[0])[None], stream(ids[1:])])
    np.testing.assert_allclose(found, host(expected), atol=1e-6)
    assert network.stream()([0.5, 1.0, 2.0, 3.0]).shape == (4,)


@each_network
def test_a_stepper_goes_step_by_step(name: str, device: str) -> None:
    network, x = made(name, device), numbers(4, 2, 3)
    step, state, outs = network.stepper(), None, []
    out, last = whole(network, x, device)
    with tg.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0 * parameter)  # the stepper has its own
    for x_t in x:
        y, state = step(on(device, x_t), state)
        outs.append(host(y))
    np.testing.assert_allclose(np.stack(outs), out, atol=1e-6)
    for found, expected in zip(leaves_of(state), last, strict=True):
        np.testing.assert_allclose(host(found), expected, atol=1e-6)


def test_what_cannot_be_stepped_is_named() -> None:
    class Doubled(Recurrent):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out, state = super().forward(*args, **kwargs)
            return 2 * out, state

    network, x = Doubled(LSTMCell(3, 4)), numbers(5, 2, 3)
    with pytest.raises(ValueError, match=r"Doubled\.stepper: it overrides forward, .*; use stream"):
        network.stepper()
    stream, plain = network.stream(2), Recurrent(next(iter(network.cells))).stream(2)
    for piece in (x[0], x[1:]):
        np.testing.assert_allclose(stream(piece), 2 * plain(piece), atol=1e-6)
    with pytest.raises(ValueError, match=r"Recurrent\.stepper: a bidirectional network cannot go step by step"):
        Recurrent((LSTMCell(3, 4), LSTMCell(3, 4))).stepper()
    with pytest.raises(ValueError, match="expected a list of 2 states"):
        Recurrent([LSTMCell(3, 4), LSTMCell(4, 4)]).stepper()(x[0], [None])


def test_a_state_does_not_share_memory_with_an_input() -> None:
    class Delay(tg.nn.Module):
        """Its state is the input before."""

        def __init__(self) -> None:
            self.weight = tg.nn.Parameter(tg.ones(3))

        def forward(self, x: tg.Tensor, state: Any = None) -> Any:
            before = tg.zeros(len(x), 3) if state is None else state[1]
            return before * self.weight, x

    for T in (None, 1, 20):
        stream, x = Recurrent(Delay()).stream(2), numbers(2, 3)
        given = x if T is None else np.stack([x] * T)
        expected = x.copy()
        stream(given)
        given[...] = 9
        np.testing.assert_array_equal(stream(given if T is None else given[0]), expected)


def test_errors_say_what_was_expected() -> None:
    network = Recurrent(GatedCell(3, 4))
    stream = network.stream(2)
    with pytest.raises(
        ValueError, match=r"not known before the first step, .*; give the first cell an attribute input_"
    ):
        _ = stream.state
    with pytest.raises(
        ValueError, match=r"expected float32 of shape \(2, I\), or \(T, 2, I\) for T steps, got .*\(3, 3\)"
    ):
        stream(numbers(3, 3))
    with pytest.raises(ValueError, match="expected float32"):
        stream(drawn(2, 3))
    stream(numbers(2, 3))
    with pytest.raises(ValueError, match=r"expected float32 of shape \(2, 3\)"):
        stream(numbers(2, 4))
    with pytest.raises(ValueError, match=r"stream.state: expected h, n as float32 \(2, 4\), int64 \(2,\), got float32"):
        stream.state = numbers(2, 4)
    with pytest.raises(ValueError, match=r"stream.state: expected h, n as"):
        network.stream(2, numbers(2, 4))(numbers(2, 3))
    assert stream.state[1].tolist() == [1, 1]
    with pytest.raises(ValueError, match="bidirectional Recurrent cannot go step by step"):
        Recurrent((GRUCell(3, 4), GRUCell(3, 4))).stream()
    assert [part.shape for part in Recurrent(LSTMCell(3, 4)).stream(2).state] == [(2, 4), (2, 4)]
