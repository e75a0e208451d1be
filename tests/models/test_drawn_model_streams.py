"""Streams of drawn models: chunk by chunk they compute what the model computes of the whole sequence."""

from typing import Any

import numpy as np
from drawn_models import Drawn, models
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from streamed import HostArray, drawn, host, numbers, on

import tinygrad_lstm as tg
from tinygrad_lstm.models import ModelStream

T, B, C = 24, 2, 2
CHUNKS = st.lists(st.sampled_from([None, None, 0, 1, 2, 5]), min_size=1, max_size=30)  # None: a step by itself


def stream_of(model: Drawn, x: HostArray) -> ModelStream:
    """A stream of a drawn model, which may look ahead as far as it does."""
    inputs = {"x": tg.tensor(x)}
    try:
        return tg.models.stream(model, inputs, B, lookahead=T)
    except ValueError as error:  # a mixture of steps, such as the last step of a value that looks ahead
        assume("takes the last step of a value that looks ahead" not in str(error))
        raise


def in_chunks(stream: ModelStream, x: Any, chunks: list[int | None], device: str) -> list[HostArray]:
    """The outputs for chunks of these lengths, and for the rest, joined; and the last of those that have no time."""
    found: list[list[HostArray]] = []
    at = 0
    for length in (*chunks, T):
        if at < T:
            given = x[at] if length is None else x[at : at + length]
            outputs = stream(on(device, given))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            arrays = [host(each) for each in outputs]
            if length is None and stream.is_by_step:
                arrays[0] = arrays[0][None]
            found.append(arrays)
            at += 1 if length is None else length
    rest = stream.finish()
    rest = rest if isinstance(rest, tuple) else (rest,)
    joined = [np.concatenate([part[0] for part in found] + [host(rest[0])])]
    return joined + [part for part in found[-1][1:]]


def check(model: Drawn, chunks: list[int | None], device: str) -> None:
    """That the chunks of a model are its whole."""
    x = numbers(T, B, C)
    with tg.no_grad():
        try:
            whole = [host(each) for each in model(tg.tensor(x, device=device)).values()]
        except (ValueError, IndexError):  # there are too few steps for a window
            assume(False)
    stream = stream_of(model, x)
    found = in_chunks(stream, x, chunks, device)
    for ours, theirs in zip(found, whole, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * max(1, np.abs(theirs).max(initial=0)))


@given(model=models(C), chunks=CHUNKS)
def test_chunks_equal_the_whole(model: Drawn, chunks: list[int | None]) -> None:
    check(drawn(model), chunks, "cpu")


@settings(max_examples=10)
@given(model=models(C), chunks=CHUNKS)
def test_they_do_on_every_device(device: str, model: Drawn, chunks: list[int | None]) -> None:
    with tg.default_device(device):
        check(drawn(model).to(device), chunks, device)
