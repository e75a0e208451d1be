"""Streams, held against the same models over whole sequences."""

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamed import OPTIONS, HostArray, check_equal, drawn, every_kind, host, numbers, on, parts
from strict_backend import STRICT

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, CharLM, ManyToOne, Stream

SIZES = st.one_of(st.integers(3, 5), st.sampled_from([16, 17, 33]))  # about the width of vectors and blocks
CHUNKS = st.lists(st.sampled_from([None, 0, 1, 2, 3, 16, 17, 20]), min_size=1, max_size=4)  # None: a step by itself


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
    chunks = [None, 2, 0, 17, None, 5]
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
@settings(max_examples=12)
@given(chunks=CHUNKS, B=st.integers(1, 3), batch_first=st.booleans())
def test_many_to_one_returns_the_answer_so_far(
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


def test_a_user_defined_model(device: str) -> None:
    """Of modules that are several, or that compute something else than what they are made from."""

    class Doubled(tg.nn.Linear):
        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return 2 * super().forward(x)

    embedding = drawn(tg.nn.Sequential(tg.nn.Embedding(7, 4), tg.nn.Dropout(0.5), tg.nn.LayerNorm(4))).to(device)
    gru, output = drawn(GRU(4, 5)).to(device), drawn(Doubled(5, 3)).to(device)
    ids = np.random.default_rng(2).integers(0, 7, (20, 2))
    with embedding.evaluating(), tg.no_grad():
        expected = output(gru(embedding(tg.tensor(ids, device=device)))[0])
    stream = Stream(gru, 2, None, embedding, output)
    check_equal(in_chunks(stream, ids, [None, 2, 17], device, 0), host(expected))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_network_with_a_user_defined_forward(batch_first: bool, device: str) -> None:
    class Residual(GRU):
        def forward(self, x: tg.Tensor, state: Any = None, lengths: Any = None) -> Any:
            out, state = super().forward(x, state, lengths)
            return out + x, state

    network = drawn(Residual(5, 5, 2, batch_first)).to(device)
    x = numbers(*((2, 22, 5) if batch_first else (22, 2, 5)))
    with tg.no_grad():
        expected, _ = network(tg.tensor(x, device=device))
    stream = network.stream(2)
    check_equal(in_chunks(stream.copy(), x, [None, None, 2, 0, 18], device, int(batch_first)), host(expected))
    check_equal(in_chunks(stream, x, [22], device, int(batch_first)), host(expected))
    with pytest.raises(ValueError, match=r"^Residual\.stepper: it overrides forward, .*; use stream\(\)$"):
        network.stepper()


def test_a_model_with_a_user_defined_forward_defines_its_stream() -> None:
    class Cool(CharLM):
        def forward(self, ids: tg.Tensor, state: Any = None) -> Any:
            logits, state = super().forward(ids, state)
            return logits / 2, state

    class Squashed(ManyToOne):
        def forward(self, *args: Any, **kwargs: Any) -> tg.Tensor:
            return tg.tanh(super().forward(*args, **kwargs))

    for model in (Cool(7, 4, 5), Squashed(LSTM(3, 5), 2)):
        with pytest.raises(ValueError, match=r"\.stream: it overrides forward, .*; define stream, too$"):
            model.stream()


@pytest.mark.parametrize("bias", [True, False])
def test_an_output_with_and_without_a_bias(bias: bool, device: str) -> None:
    lstm, output = drawn(LSTM(3, 5)).to(device), drawn(tg.nn.Linear(5, 2, bias=bias)).to(device)
    x = numbers(18, 2, 3)
    with tg.no_grad():
        expected = output(lstm(tg.tensor(x, device=device))[0])
    check_equal(in_chunks(Stream(lstm, 2, output=output), x, [None, 17], device, 0), host(expected))


def test_low_rank_adapters_take_part(device: str) -> None:
    model = drawn(CharLM(7, 4, 5))
    tg.nn.add_lora(model, rank=2)
    model = drawn(model).to(device)
    ids = np.random.default_rng(2).integers(0, 7, (20, 2))
    with tg.no_grad():
        logits, _ = model(tg.tensor(ids, device=device))
    check_equal(in_chunks(model.stream(2), ids, [None, 2, 17], device, 0), host(logits))


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


@pytest.mark.parametrize("steps", [None, 2, 17])
@pytest.mark.parametrize("output", [None, tg.nn.Sequential(), tg.nn.Linear(5, 5)], ids=["none", "itself", "linear"])
def test_answers_are_the_callers(steps: int | None, output: Any, device: str, compiled: bool) -> None:
    """Later steps do not change them, and writing to them changes no later step; the same of inputs."""
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
    for x in (numbers(2, 3), numbers(20, 2, 3)):
        stream(on(device, x))
    assert recorded == [False] * 4


def test_the_weights_are_those_of_then(device: str, compiled: bool) -> None:
    model = CharLM(7, 4, 5, 2, dropout=0.5).to(device)
    model.train()
    stream, ids = model.stream(2), on(device, np.ones((17, 2), np.int64))
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
        (drawn(LSTM(3, 5)), numbers(17, 2, 3)),
        (drawn(CharLM(7, 4, 5)), np.ones((17, 2), np.int64)),
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
