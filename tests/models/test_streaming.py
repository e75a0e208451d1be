"""Streams, held against the same models over whole sequences; and their states."""

import copy
import gc
import pickle
import threading
import tracemalloc
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict_backend import STRICT

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, ManyToOne, Stream

HostArray = np.ndarray[Any, Any]

# Of each kind the plain one, and what changes its steps or, of an LSTM, the sizes of its states.
OPTIONS: dict[Any, list[dict[str, Any]]] = {
    LSTM: [{}, {"proj_size": 2}, {"peephole": True, "layer_norm": "cell"}, {"proj_size": 1, "layer_norm": "output"}],
    GRU: [{}, {"reset_after": False}],
    RNN: [{}, {"nonlinearity": "relu"}],
}
every_kind = pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)

SIZES = st.one_of(st.integers(3, 5), st.sampled_from([16, 17, 33]))  # about the width of vectors and blocks
CHUNKS = st.lists(st.sampled_from([None, 0, 1, 2, 3, 8, 9, 12]), min_size=1, max_size=4)  # None: a step by itself


def drawn(model: Any) -> Any:
    """The model with weights that do not let differences in rounding grow from step to step."""
    rng = np.random.default_rng(1)
    with tg.no_grad():
        for parameter in model.parameters():
            parameter.copy_(rng.normal(0, parameter.shape[-1] ** -0.5, parameter.shape))
    return model


def numbers(*shape: int, dtype: str = "float32") -> HostArray:
    return np.random.default_rng(2).standard_normal(shape).astype(dtype)


def on(device: str, array: HostArray) -> Any:
    return tg.tensor(array, device=device).data


def host(array: Any) -> HostArray:
    return tg.as_tensor(array).detach().cpu().numpy()


def parts(state: Any) -> tuple[HostArray, ...]:
    return tuple(map(host, state if isinstance(state, tuple) else (state,)))


def in_chunks(stream: Stream, x: HostArray, chunks: list[int | None], device: str, time: int) -> HostArray:
    """The answers to all steps of x, in chunks of these lengths, or of None by itself."""
    answers, at = [], 0
    for length in chunks:
        taken = np.take(x, range(at, at + (1 if length is None else length)), time)
        at += taken.shape[time]
        answer = stream(on(device, taken.squeeze(time) if length is None else taken))
        answers.append(np.expand_dims(host(answer), time) if length is None else host(answer))
    assert at == x.shape[time]
    return np.concatenate(answers, time)


def check_equal(found: HostArray, expected: HostArray) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    tolerance = 100 * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def check_network(
    kind: Any, device: str, chunks: list[int | None], sizes: tuple[int, int, int, int], dtype: str, **options: Any
) -> None:
    """That a network's chunks are its whole."""
    B, I, H, layers = sizes
    network = drawn(kind(I, H, layers, dropout=0.5 * (layers > 1), **options)).to(device, dtype)
    T, time = sum(1 if length is None else length for length in chunks), int(options["batch_first"])
    x = numbers(*((B, T, I) if time else (T, B, I)), dtype=dtype)
    with network.evaluating(), tg.no_grad():
        out, final = network(tg.tensor(x, device=device))
    stream = network.stream(B)
    check_equal(in_chunks(stream, x, chunks, device, time), host(out))
    for found, expected in zip(parts(stream.state), parts(final), strict=True):
        check_equal(found, expected)


@every_kind
@given(
    chunks=CHUNKS, B=st.integers(1, 4), I=SIZES, H=SIZES, layers=st.integers(1, 2),
    dtype=st.sampled_from(["float32", "float64"]), batch_first=st.booleans(), data=st.data(),
)  # fmt: skip
def test_chunks_of_any_length_equal_the_whole(
    kind: Any, compiled: bool, chunks: list[int | None], B: int, I: int, H: int, layers: int, dtype: str,
    batch_first: bool, data: st.DataObject,
) -> None:  # fmt: skip
    options = data.draw(st.sampled_from(OPTIONS[kind]))
    check_network(kind, "cpu", chunks, (B, I, H, layers), dtype, batch_first=batch_first, **options)


@pytest.mark.parametrize("options", [0, -1])
@pytest.mark.parametrize("batch_first", [False, True])
@every_kind
def test_they_do_on_every_device(kind: Any, options: int, batch_first: bool, device: str) -> None:
    chunks = [None, 2, 0, 9, None, 5]
    check_network(kind, device, chunks, (3, 4, 5, 2), "float32", batch_first=batch_first, **OPTIONS[kind][options])


@given(chunks=CHUNKS, B=st.integers(1, 4), layers=st.integers(1, 2))
def test_a_language_model_turns_ids_into_logits(
    device: str, compiled: bool, chunks: list[int | None], B: int, layers: int
) -> None:
    model = drawn(CharLM(7, 4, 5, layers, dropout=0.5)).to(device)
    T = sum(1 if length is None else length for length in chunks)
    ids = np.random.default_rng(2).integers(0, 7, (T, B))
    with model.evaluating(), tg.no_grad():
        logits, _ = model(tg.tensor(ids, device=device))
    check_equal(in_chunks(model.stream(B), ids, chunks, device, 0), host(logits))


@every_kind
@given(chunks=CHUNKS, B=st.integers(1, 3), batch_first=st.booleans())
def test_many_to_one_gives_the_answer_so_far(
    kind: Any, device: str, chunks: list[int | None], B: int, batch_first: bool
) -> None:
    model = drawn(ManyToOne(kind(3, 5, 2, batch_first), 2)).to(device)
    T = sum(1 if length is None else length for length in chunks)
    x = numbers(T, B, 3)
    answers = in_chunks(model.stream(B), x.swapaxes(0, 1) if batch_first else x, chunks, device, int(batch_first))
    assert answers.shape == ((B, T, 2) if batch_first else (T, B, 2))
    for t in range(T):
        so_far = x[: t + 1].swapaxes(0, 1) if batch_first else x[: t + 1]
        with tg.no_grad():
            expected = model(tg.tensor(so_far, device=device))
        check_equal(answers[:, t] if batch_first else answers[t], host(expected))


def test_a_model_of_ones_own(device: str) -> None:
    """Of modules that are several, or that compute something else than what they are made from."""

    class Doubled(tg.nn.Linear):
        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return 2 * super().forward(x)

    embedding = drawn(tg.nn.Sequential(tg.nn.Embedding(7, 4), tg.nn.Dropout(0.5), tg.nn.LayerNorm(4))).to(device)
    gru, output = drawn(GRU(4, 5)).to(device), drawn(Doubled(5, 3)).to(device)
    ids = np.random.default_rng(2).integers(0, 7, (12, 2))
    with embedding.evaluating(), tg.no_grad():
        expected = output(gru(embedding(tg.tensor(ids, device=device)))[0])
    stream = Stream(gru, 2, None, embedding, output)
    check_equal(in_chunks(stream, ids, [None, 2, 9], device, 0), host(expected))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_network_with_a_forward_of_its_own(batch_first: bool, device: str) -> None:
    class Residual(GRU):
        def forward(self, x: tg.Tensor, state: Any = None, lengths: Any = None) -> Any:
            out, state = super().forward(x, state, lengths)
            return out + x, state

    network = drawn(Residual(5, 5, 2, batch_first)).to(device)
    x = numbers(*((2, 14, 5) if batch_first else (14, 2, 5)))
    with tg.no_grad():
        expected, _ = network(tg.tensor(x, device=device))
    stream = network.stream(2)
    check_equal(in_chunks(stream.copy(), x, [None, None, 2, 0, 10], device, int(batch_first)), host(expected))
    check_equal(in_chunks(stream, x, [14], device, int(batch_first)), host(expected))
    with pytest.raises(ValueError, match=r"^Residual\.stepper: it has a forward of its own, .*; use stream\(\)$"):
        network.stepper()


def test_a_model_with_a_forward_of_its_own_defines_its_stream() -> None:
    class Cool(CharLM):
        def forward(self, ids: tg.Tensor, state: Any = None) -> Any:
            logits, state = super().forward(ids, state)
            return logits / 2, state

    class Squashed(ManyToOne):
        def forward(self, *args: Any, **kwargs: Any) -> tg.Tensor:
            return tg.tanh(super().forward(*args, **kwargs))

    for model in (Cool(7, 4, 5), Squashed(LSTM(3, 5), 2)):
        with pytest.raises(ValueError, match=r"\.stream: it has a forward of its own, .*; define stream, too$"):
            model.stream()


@pytest.mark.parametrize("bias", [True, False])
def test_an_output_with_and_without_a_bias(bias: bool, device: str) -> None:
    lstm, output = drawn(LSTM(3, 5)).to(device), drawn(tg.nn.Linear(5, 2, bias=bias)).to(device)
    x = numbers(10, 2, 3)
    with tg.no_grad():
        expected = output(lstm(tg.tensor(x, device=device))[0])
    check_equal(in_chunks(Stream(lstm, 2, output=output), x, [None, 9], device, 0), host(expected))


def test_low_rank_adapters_take_part(device: str) -> None:
    model = drawn(CharLM(7, 4, 5))
    tg.nn.add_lora(model, rank=2)
    model = drawn(model).to(device)
    ids = np.random.default_rng(2).integers(0, 7, (12, 2))
    with tg.no_grad():
        logits, _ = model(tg.tensor(ids, device=device))
    check_equal(in_chunks(model.stream(2), ids, [None, 2, 9], device, 0), host(logits))


# -- what it takes, and gives -----------------------------------------------------------------------------------------


def test_numbers_lists_and_a_lone_step(device: str) -> None:
    network, x = drawn(LSTM(3, 5)).to(device), numbers(6, 1, 3)
    expected = host(network.stream()(on(device, x)))
    stream = network.stream()
    for t, given_x in enumerate([on(device, x[0]), on(device, x[1, 0]), x[2].tolist(), x[3, 0].tolist()]):
        check_equal(host(stream(given_x)), expected[t] if t in (0, 2) else expected[t, 0])
    check_equal(host(stream(x[4:].tolist())), expected[4:])

    model = drawn(CharLM(7, 4, 5)).to(device)
    logits = host(model.stream()(on(device, np.array([[3], [1], [4], [1], [5]]))))
    lm = model.stream()
    for t, given_ids in enumerate([3, np.int32(1), [4], on(device, np.array(1, np.uint8))]):
        check_equal(host(lm(given_ids)), logits[t] if t == 2 else logits[t, 0])
    check_equal(host(lm([[5]])), logits[4:])


@pytest.mark.parametrize("steps", [None, 2, 9])
@pytest.mark.parametrize("output", [None, tg.nn.Sequential(), tg.nn.Linear(5, 5)], ids=["none", "itself", "linear"])
def test_answers_are_the_callers(steps: int | None, output: Any, device: str, compiled: bool) -> None:
    """They stay as they are, and what is done to them changes nothing; the same of inputs."""
    network = drawn(LSTM(3, 5)).to(device)
    x = numbers(2, 3) if steps is None else numbers(steps, 2, 3)
    one, other = (Stream(network, 2, output=output and output.to(device)) for _ in range(2))
    first, given_x = one(on(device, x)), on(device, x)
    changed = other(given_x)
    kept = host(first).copy()
    with tg.tensor(0, device=device).device.current():
        changed[...] = 9
        given_x[...] = 9
    second = host(one(on(device, x)))
    assert (host(other(on(device, x))) == second).all()
    assert (host(first) == kept).all() and not (second == kept).all()


def test_nothing_is_recorded(device: str) -> None:
    recorded = []

    class Noting(LSTM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out, state = super().forward(*args, **kwargs)
            recorded.append(out.requires_grad)
            return out, state

    class Answering(tg.nn.Linear):
        def forward(self, x: tg.Tensor) -> tg.Tensor:
            answers = super().forward(x)
            recorded.append(answers.requires_grad)
            return answers

    stream = Stream(Noting(3, 5).to(device), 2, output=Answering(5, 4).to(device))
    for x in (numbers(2, 3), numbers(12, 2, 3)):
        stream(on(device, x))
    assert recorded == [False] * 4


def test_the_weights_are_those_of_then(device: str, compiled: bool) -> None:
    model = CharLM(7, 4, 5, 2, dropout=0.5).to(device)
    model.train()
    stream, ids = model.stream(2), on(device, np.ones((9, 2), np.int64))
    expected = [host(stream(ids[0])), host(stream(ids[:2])), host(stream(ids))]
    stream.reset()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    with tg.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for part, given_ids in zip(expected, (ids[0], ids[:2], ids), strict=True):
        answer = stream(given_ids)
        assert type(answer) is type(ids)
        assert (host(answer) == part).all()


def test_only_numbers_travel() -> None:
    """On a device, steps and chunks of its arrays neither bring anything there nor wait for it."""
    for model, x in (
        (drawn(LSTM(3, 5)), numbers(9, 2, 3)),
        (drawn(CharLM(7, 4, 5)), np.ones((9, 2), np.int64)),
    ):
        stream, given_x = model.to("strict").stream(2), on("strict", x)
        with STRICT.current():
            step = given_x[0]
        STRICT.counts.reset()
        stream(step), stream(given_x), stream.state, stream.reset(), stream.copy()
        assert STRICT.counts == type(STRICT.counts)()


def test_memory_does_not_grow(compiled: bool) -> None:
    model = drawn(CharLM(7, 8, 32, 2))
    lm, network = model.stream(), model.lstm.stream()
    ids, x = np.array([[3]]), numbers(1, 1, 8)

    def thousand_steps() -> int:
        for _ in range(500):
            lm(ids[0]), lm(ids), network(x[0]), network(x)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    thousand_steps()
    tracemalloc.start()
    try:
        first = thousand_steps()
        for _ in range(8):
            last = thousand_steps()
    finally:
        tracemalloc.stop()
    assert last - first < 1000  # bytes; of 16,000 steps


# -- the state --------------------------------------------------------------------------------------------------------


@every_kind
def test_the_state_is_read_and_assigned_in_copies(kind: Any, device: str) -> None:
    network = drawn(kind(3, 5, 2)).to(device)
    stream, x = network.stream(2), on(device, numbers(9, 2, 3))
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
    stream, fresh, x = network.stream(4), network.stream(4), on(device, numbers(9, 4, 3))
    stream(x)
    before = parts(stream.state)
    stream.reset(rows)
    others = [row for row in range(4) if row not in zeroed]
    for part, kept in zip(parts(stream.state), before, strict=True):
        assert (part[:, zeroed] == 0).all() and (part[:, others] == kept[:, others]).all()
    check_equal(host(stream(x))[:, zeroed], host(fresh(x))[:, zeroed])


@pytest.mark.parametrize("rows", [4, -5, [0, 4], [True, False], np.ones(5, np.bool_), [0.5], "first"], ids=repr)
def test_rows_out_of_range_are_told(rows: Any) -> None:
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
def test_a_copy_goes_its_own_way(make: Callable[[Stream], Stream], model: Any, device: str) -> None:
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
def test_a_saved_state_is_gone_on_from(kind: Any, device: str, tmp_path: Path) -> None:
    network = drawn(kind(3, 5, 2)).to(device)
    stream, x = network.stream(2), on(device, numbers(9, 2, 3))
    stream(x)
    stream.save(tmp_path / "state.safetensors")
    assert set(tg.io.load_weights(tmp_path / "state.safetensors")) == set(kind.STATES)
    expected = host(stream(x))
    other = network.stream(2)
    other.load(tmp_path / "state.safetensors")
    assert (host(other(x)) == expected).all()


def test_a_file_that_does_not_fit_is_told(tmp_path: Path) -> None:
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
def test_each_thread_has_a_copy_and_gets_what_it_would_alone(model: Any, compiled: bool) -> None:
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
def test_inputs_that_do_not_fit_are_told_and_change_nothing(model: Any, x: Any, message: str) -> None:
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


@pytest.mark.parametrize("steps", [None, 2, 9])
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
def test_states_that_do_not_fit_are_told_and_change_nothing(kind: Any, state: Any, message: str) -> None:
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
