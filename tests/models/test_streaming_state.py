"""Streams' states: read, assigned, copied, saved, and used by threads; and the errors of streams."""

import copy
import pickle
import threading
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamed import HostArray, check_equal, drawn, every_kind, host, numbers, on, parts

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, CharLM, ManyToOne, Stream

# -- the state --------------------------------------------------------------------------------------------------------


@every_kind
def test_the_state_is_read_and_assigned_in_copies(kind: Any, device: str) -> None:
    network = drawn(kind(3, 5, 2)).to(device)
    stream, x = network.stream(2), on(device, numbers(17, 2, 3))
    assert all((part == 0).all() for part in parts(stream.state))
    stream(x)
    state = stream.state
    kept, expected = parts(state), host(stream(x))
    with tg.tensor(0, device=device).device.current():
        for part in state if isinstance(state, tuple) else (state,):
            part *= 1  # still writable
    for found, before in zip(parts(state), kept, strict=True):
        assert (found == before).all()
    stream.state = state
    from_it = network.stream(2, state)
    with tg.tensor(0, device=device).device.current():
        for part in state if isinstance(state, tuple) else (state,):
            part[...] = 9
    assert (host(stream(x)) == expected).all()
    assert (host(from_it(x)) == expected).all()


ROWS: list[tuple[Any, list[int]]] = [
    (None, [0, 1, 2, 3]),
    (2, [2]),
    (-1, [3]),
    (np.int64(1), [1]),
    (slice(1, 3), [1, 2]),
    ([0, 3, 3], [0, 3]),
    ((0, -2), [0, 2]),
    ([], []),
    (range(2), [0, 1]),
    (np.array([3, 1]), [1, 3]),
    ([True, False, False, True], [0, 3]),
    (np.array([False, True, True, False]), [1, 2]),
]


@pytest.mark.parametrize(("rows", "zeroed"), ROWS, ids=repr)
@every_kind
def test_rows_of_the_batch_begin_anew(kind: Any, rows: Any, zeroed: list[int], device: str) -> None:
    network = drawn(kind(3, 5, 2)).to(device)
    stream, fresh, x = network.stream(4), network.stream(4), on(device, numbers(17, 4, 3))
    stream(x)
    before = parts(stream.state)
    stream.reset(rows)
    others = [row for row in range(4) if row not in zeroed]
    for part, kept in zip(parts(stream.state), before, strict=True):
        assert (part[:, zeroed] == 0).all() and (part[:, others] == kept[:, others]).all()
    check_equal(host(stream(x))[:, zeroed], host(fresh(x))[:, zeroed])


@pytest.mark.parametrize("rows", [4, -5, [0, 4], [True, False], np.ones(5, np.bool_), [0.5], "first"], ids=repr)
def test_rows_out_of_range_are_named(rows: Any) -> None:
    stream = drawn(LSTM(3, 5)).stream(4)
    stream(numbers(4, 3))
    before = stream.state
    with pytest.raises(IndexError, match=r"stream\.reset: .* no rows of a batch of 4") as told:
        stream.reset(rows)
    assert "\n" not in str(told.value)
    with pytest.raises(TypeError, match=r"stream\.reset: rows is True; expected a row, several, or a boolean for each"):
        stream.reset(True)
    assert all((part == kept).all() for part, kept in zip(stream.state, before, strict=True))


@pytest.mark.parametrize("make", [Stream.copy, copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
@pytest.mark.parametrize("model", [LSTM(3, 5, 2), ManyToOne(GRU(3, 5), 2)], ids=["LSTM", "ManyToOne"])
def test_a_copy_is_independent(make: Callable[[Stream], Stream], model: Any, device: str) -> None:
    x = numbers(13, 2, 3)
    stream = model.to(device).stream(2)
    whole = host(model.stream(2)(on(device, x)))
    stream(on(device, x[:3]))
    other = make(stream)
    check_equal(host(other(on(device, x[3]))), whole[3])
    check_equal(host(stream(on(device, x[3:]))), whole[3:])
    check_equal(host(other(on(device, x[4:]))), whole[4:])
    other.reset()
    check_equal(host(other(on(device, x))), whole)


@every_kind
def test_a_stream_continues_from_a_saved_state(kind: Any, device: str, tmp_path: Path) -> None:
    network = drawn(kind(3, 5, 2)).to(device)
    stream, x = network.stream(2), on(device, numbers(17, 2, 3))
    stream(x)
    stream.save(tmp_path / "state.safetensors")
    assert set(tg.io.load_weights(tmp_path / "state.safetensors")) == set(kind.STATES)
    expected = host(stream(x))
    other = network.stream(2)
    other.load(tmp_path / "state.safetensors")
    assert (host(other(x)) == expected).all()


def test_a_file_of_a_different_model_is_named(tmp_path: Path) -> None:
    stream, path = drawn(LSTM(3, 5)).stream(2), tmp_path / "state.safetensors"
    stream(numbers(2, 3))
    before = stream.state
    drawn(LSTM(3, 5)).stream(3).save(path)
    with pytest.raises(ValueError, match=r"state\.safetensors: .*expected .*\(1, 2, 5\).*got .*\(1, 3, 5\)"):
        stream.load(path)
    drawn(GRU(3, 5)).stream(2).save(path)
    with pytest.raises(ValueError, match=r"state\.safetensors: expected the arrays h, c of a state, got h$"):
        stream.load(path)
    path.write_bytes(b"none")
    with pytest.raises(ValueError, match=r"state\.safetensors"):
        stream.load(path)
    with pytest.raises(FileNotFoundError):
        stream.load(tmp_path / "nowhere.safetensors")
    assert all((part == kept).all() for part, kept in zip(stream.state, before, strict=True))


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [drawn(LSTM(20, 37, 2)), drawn(CharLM(50, 20, 37))], ids=["LSTM", "CharLM"])
def test_each_thread_has_a_copy_and_computes_what_one_thread_does(model: Any, compiled: bool) -> None:
    number, steps = 4, 300
    if isinstance(model, CharLM):
        inputs = np.random.default_rng(3).integers(0, 50, (number, steps, 2))
    else:
        inputs = numbers(number, steps, 2, 20)
    chunks = [slice(t, t + length) for length in (3, 20) for t in range(0, steps, length)]

    def answers(stream: Stream, x: HostArray) -> list[HostArray]:
        return [stream(x_t) for x_t in x] + [stream(x[chunk]) for chunk in chunks]

    stream = model.stream(2)
    expected = [answers(stream.copy(), x) for x in inputs]
    found: list[list[HostArray]] = [[] for _ in inputs]
    start = threading.Barrier(number)

    def work(k: int, own: Stream) -> None:
        start.wait()
        found[k] = answers(own, inputs[k])

    # Each in a context of its own that says, as this one, which kernels compute.
    threads = [threading.Thread(target=copy_context().run, args=(work, k, stream.copy())) for k in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for of_thread, alone in zip(found, expected, strict=True):
        assert all((a == b).all() for a, b in zip(of_thread, alone, strict=True))


# -- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (LSTM(3, 5), numbers(2, 4), r"expected float32 of shape \(2, 3\), or \(T, 2, 3\) for T steps, got float32 of"),
        (LSTM(3, 5), numbers(3, 3), r"got float32 of shape \(3, 3\)"),
        (LSTM(3, 5), numbers(3), r"got float32 of shape \(3,\)"),
        (LSTM(3, 5), numbers(7, 3, 3), r"got float32 of shape \(7, 3, 3\)"),
        (LSTM(3, 5), numbers(1, 7, 2, 3), r"got float32 of shape \(1, 7, 2, 3\)"),
        (LSTM(3, 5, batch_first=True), numbers(7, 2, 3), r"or \(2, T, 3\) for T steps, got float32 of"),
        (LSTM(3, 5), numbers(2, 3, dtype="float64"), "expected float32 of .*, got float64 of"),
        (LSTM(3, 5), np.ones((2, 3), np.int64), "got int64"),
        (LSTM(3, 5), [1.0, 2.0, 3.0], r"got float32 of shape \(3,\)"),
        (LSTM(3, 5), [[1.0, 2.0, 3.0], [1.0]], "lists of equal lengths"),
        (LSTM(3, 5), tg.ones(2, 3), r"expected an array on 'cpu', .*, got a tinygrad_lstm\._tensor\.Tensor"),
        (LSTM(3, 5), None, "got a builtins.NoneType"),
        (LSTM(3, 5), on("strict", numbers(2, 3)), "got a strict_backend.StrictArray"),
        (CharLM(7, 4, 5), np.ones(2, np.float32), r"expected integers of shape \(2,\), or \(T, 2\) for T steps"),
        (CharLM(7, 4, 5), np.ones(2, np.bool_), "got bool of"),
        (CharLM(7, 4, 5), [1.0, 2.0], "got float64 of"),
        (CharLM(7, 4, 5), [[1, 2], [3]], "inhomogeneous"),
        (CharLM(7, 4, 5), [1, 2, 3], r"got int64 of shape \(3,\)"),
        (CharLM(7, 4, 5), 3, r"got int64 of shape \(\)"),
    ],
)  # fmt: skip
def test_invalid_inputs_are_named_and_change_nothing(model: Any, x: Any, message: str) -> None:
    stream = model.stream(2)
    stream([1, 2] if isinstance(model, CharLM) else numbers(2, 3))
    before = stream.state
    with pytest.raises(ValueError, match=message) as told:
        stream(x)
    assert "\n" not in str(told.value)
    assert all((part == kept).all() for part, kept in zip(stream.state, before, strict=True))


@pytest.mark.parametrize("ids", [[1, 7], [-1, 2], [[1, 2]] * 3 + [[2, 7]] + [[1, 1]] * 4])
def test_an_id_out_of_range_is_an_index_error(ids: Any, device: str) -> None:
    stream = CharLM(7, 4, 5).to(device).stream(2)
    stream([1, 2])
    before = parts(stream.state)
    with pytest.raises(IndexError, match=r"index (7|-1) is out of range"):
        stream(ids)
    assert all((part == kept).all() for part, kept in zip(parts(stream.state), before, strict=True))


@pytest.mark.parametrize("steps", [None, 2, 17])
def test_an_output_that_fails_leaves_the_state(steps: int | None) -> None:
    class Failing(tg.nn.Module):
        def forward(self, x: tg.Tensor) -> tg.Tensor:
            raise KeyError("no answer")

    stream = Stream(drawn(LSTM(3, 5)), 2, output=Failing())
    with pytest.raises(KeyError):
        stream(numbers(2, 3) if steps is None else numbers(steps, 2, 3))
    assert all((part == 0).all() for part in stream.state)


H32, C32 = np.ones((1, 2, 5), np.float32), np.ones((1, 2, 5), np.float32)


@pytest.mark.parametrize(
    ("kind", "state", "message"),
    [
        (LSTM, (H32,), r"expected h, c as float32 \(1, 2, 5\), float32 \(1, 2, 5\), got float32 \(1, 2, 5\)$"),
        (LSTM, H32, r"got float32 \(1, 2, 5\)$"),
        (LSTM, (H32, C32, C32), "got float32 .*, float32 .*, float32 "),
        (LSTM, (H32, C32[:, :1]), r"float32 \(1, 1, 5\)$"),
        (LSTM, (H32, C32.astype(np.float64)), r"float64 \(1, 2, 5\)$"),
        (LSTM, (H32, None), "float32 .*, NoneType$"),
        (LSTM, (H32, [[[1.0] * 5] * 2]), "float32 .*, list$"),
        (GRU, (H32, C32), r"expected h as float32 \(1, 2, 5\), got float32 .*, float32"),
        (GRU, on("strict", H32), "expected arrays on 'cpu', where the model is"),
        (GRU, tg.tensor(H32), "expected arrays on 'cpu', where the model is"),
    ],
)  # fmt: skip
def test_invalid_states_are_named_and_change_nothing(kind: Any, state: Any, message: str) -> None:
    network = kind(3, 5)
    stream = network.stream(2)
    with pytest.raises(ValueError, match=rf"^stream\.state: .*{message}"):
        stream.state = state
    assert all((part == 0).all() for part in parts(stream.state))
    with pytest.raises(ValueError, match=message):
        network.stream(2, state)


def test_streams_that_cannot_be() -> None:
    for model in (GRU(3, 5, bidirectional=True), ManyToOne(GRU(3, 5, bidirectional=True), 2)):
        with pytest.raises(ValueError, match=r"^stream: a bidirectional GRU cannot go step by step: .* steps to come$"):
            model.stream()
    with pytest.raises(ValueError, match="stream: expected a batch of 1 or more, got 0"):
        CharLM(7, 4, 5).stream(0)
    with pytest.raises(TypeError, match="integer"):
        CharLM(7, 4, 5).stream([1])  # type: ignore[arg-type]
