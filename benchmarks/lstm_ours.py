"""This library's side of `lstm.py`. Where, and whether with compiled kernels, its environment says: see SIDES."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from harness import Case
from lstm_data import GRADIENTS, LEARNING_RATE, MAX_NORM, STREAMED, VOCABULARY, Arrays, Sizes, TextArrays, named


def our_numpy(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def our_lstm(sizes: Sizes, arrays: Arrays) -> Any:
    from tinygrad_lstm.models import LSTM

    lstm = LSTM(sizes.I, sizes.H)
    lstm.load_state_dict({"weight_ih_l0": arrays.weight_ih, "weight_hh_l0": arrays.weight_hh, "bias_l0": arrays.bias})
    return lstm


def our_forward(sizes: Sizes) -> Case:
    import tinygrad_lstm as tg

    arrays = Arrays(sizes)
    lstm, x = our_lstm(sizes, arrays), tg.tensor(arrays.x, requires_grad=True)
    return Case(lambda: lstm(x)[:1], named(["out"], our_numpy))


def our_inference(sizes: Sizes) -> Case:
    import tinygrad_lstm as tg

    arrays = Arrays(sizes)
    lstm, x = our_lstm(sizes, arrays).eval(), tg.tensor(arrays.x)
    return Case(lambda: lstm(x)[:1], named(["out"], our_numpy), within=tg.no_grad)


def our_backward(sizes: Sizes) -> Case:
    import tinygrad_lstm as tg

    arrays = Arrays(sizes)
    lstm = our_lstm(sizes, arrays)
    x, g_out = tg.tensor(arrays.x, requires_grad=True), tg.tensor(arrays.g_out)
    inputs = [x, lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_l0]

    def call() -> list[Any]:
        for tensor in inputs:
            tensor.grad = None
        out, _ = lstm(x)
        out.backward(g_out)
        return [out, *(tensor.grad for tensor in inputs)]

    return Case(call, named(GRADIENTS, our_numpy))


def our_checkpointed_backward(sizes: Sizes) -> Case:
    """Of √T segments of time only the states in between are kept; the rest is computed again on the way back."""
    import tinygrad_lstm as tg

    arrays = Arrays(sizes)
    lstm = our_lstm(sizes, arrays)
    segments = math.isqrt(sizes.T - 1) + 1
    xs = [tg.tensor(x, requires_grad=True) for x in np.array_split(arrays.x, segments)]
    g_outs = [tg.tensor(g_out) for g_out in np.array_split(arrays.g_out, segments)]
    weights = [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_l0]

    def call() -> list[Any]:
        outs, state = [], None
        for x in xs:
            out, state = tg.checkpoint(lstm, x, state)
            outs.append(out)
        grads = tg.grad(outs, [*xs, *weights], grad_outputs=g_outs)
        return [outs, grads[:segments], *grads[segments:]]

    def to_numpy(result: Any) -> np.ndarray:
        return (
            np.concatenate([our_numpy(part) for part in result]) if isinstance(result, Sequence) else our_numpy(result)
        )

    return Case(call, named(GRADIENTS, to_numpy))


def our_charlm(sizes: Sizes) -> Case:
    import tinygrad_lstm as tg
    from tinygrad_lstm.models import CharLM

    arrays, text = Arrays(sizes), TextArrays(sizes)
    model = CharLM(VOCABULARY, sizes.I, sizes.H)
    model.load_state_dict(
        {
            "embedding.weight": text.embedding,
            "lstm.weight_ih_l0": arrays.weight_ih,
            "lstm.weight_hh_l0": arrays.weight_hh,
            "lstm.bias_l0": arrays.bias,
            "output.weight": text.weight,
            "output.bias": text.bias,
        }
    )
    ids, targets = tg.tensor(text.ids), tg.tensor(text.targets)
    parameters = dict(model.named_parameters())
    optimizer = tg.optim.Adam(parameters.values(), lr=LEARNING_RATE)

    def call() -> list[Any]:
        optimizer.zero_grad()
        loss, _ = model.loss(ids, targets)
        loss.backward()
        tg.optim.clip_grad_norm_(parameters.values(), MAX_NORM)
        optimizer.step()
        return [loss, *(parameter.grad for parameter in parameters.values())]

    return Case(call, named(["loss", *(f"gradient of {name}" for name in parameters)], our_numpy))


def our_streaming(sizes: Sizes) -> Case:
    arrays = Arrays(sizes)
    step = our_lstm(sizes, arrays).eval().stepper()
    x, state = arrays.x[0], (np.zeros((1, 1, sizes.H), np.float32), np.zeros((1, 1, sizes.H), np.float32))

    def call() -> list[Any]:
        nonlocal state
        out, state = step(x, state)
        return [out, *state]

    return Case(call, named(STREAMED, np.asarray))
