"""Layers at extremes: a NaN stays in its sequence, the largest inputs saturate, equal numbers have gradients."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

HostArray = np.ndarray[Any, Any]

LAYERS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: LSTM(3, 4),
    "GRU": lambda: GRU(3, 4),
    "RNN": lambda: RNN(3, 4),
    "LSTM of two layers and directions": lambda: LSTM(3, 4, 2, bidirectional=True),
    "LSTM with peepholes and a projection": lambda: LSTM(3, 4, peephole=True, proj_size=2),
    "LSTM with normalized cells": lambda: LSTM(3, 4, layer_norm="cell"),
    "LSTM with normalized outputs": lambda: LSTM(3, 4, layer_norm="output"),
    "GRU that resets before": lambda: GRU(3, 4, reset_after=False),
    "RNN with relu": lambda: RNN(3, 4, nonlinearity="relu"),
    "LSTMCell": lambda: Unrolled(LSTMCell(3, 4)),
    "GRUCell": lambda: Unrolled(GRUCell(3, 4)),
    "RNNCell": lambda: Unrolled(RNNCell(3, 4)),
    "Linear": lambda: nn.Linear(3, 4),
    "LayerNorm": lambda: nn.LayerNorm(3),
    "Conv1d": lambda: BatchMiddle(nn.Conv1d(3, 4, 2, padding=1)),
    "Conv1d of groups": lambda: BatchMiddle(nn.Conv1d(3, 6, 3, padding="same", groups=3)),
}
every_dtype = pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


class Unrolled(nn.Module):
    """A cell over the steps of a sequence."""

    def __init__(self, cell: Any) -> None:
        self.cell = cell

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        state, outputs = None, []
        for x_t in tg.unbind(x):
            state = self.cell(x_t, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return tg.stack(outputs)


class BatchMiddle(nn.Module):
    """A layer over channels and steps, (B, C, T), on sequences (T, B, C)."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        out: tg.Tensor = self.layer(x.permute((1, 2, 0))).permute((2, 0, 1))
        return out


def run(layer: Any, values: HostArray) -> tuple[HostArray, HostArray, list[HostArray]]:
    """The outputs, and the gradients of their sum in the inputs and in the parameters."""
    layer.zero_grad()
    x = tg.tensor(values, requires_grad=True)
    out = layer(x)
    out = out[0] if isinstance(out, tuple) else out
    out.sum().backward()
    return out.detach().numpy(), x.grad.numpy(), [p.grad.numpy() for p in layer.parameters()]


def inputs(dtype: str) -> HostArray:
    return np.random.default_rng(0).normal(size=(5, 3, 3)).astype(dtype)


@each_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinities_stay_in_their_sequence(compiled: bool, make: Any, bad: float, dtype: str) -> None:
    layer = make().to(dtype=dtype)
    clean = inputs(dtype)
    spoilt = clean.copy()
    spoilt[2, 1] = bad
    expected, expected_g, _ = run(layer, clean)
    with np.errstate(invalid="ignore"):
        out, g, _ = run(layer, spoilt)
    for mine, other in ((out, expected), (g, expected_g)):
        np.testing.assert_allclose(mine[:, [0, 2]], other[:, [0, 2]], 1e-5, 1e-6)
    if math.isnan(bad):
        assert np.isnan(out[2, 1]).all()


# Through the states of recurrent layers a NaN goes to all weights.
REACHING = [
    (name, bad)
    for name in ("LSTM", "GRU", "RNN", "GRU that resets before", "Linear", "Conv1d")
    for bad in (math.inf, -math.inf, math.nan)
    if name in ("Linear", "Conv1d") or not math.isnan(bad)
]


@pytest.mark.parametrize(("name", "bad"), REACHING)
@every_dtype
def test_nan_and_infinities_reach_the_weights_that_multiply_them(
    compiled: bool, name: str, bad: float, dtype: str
) -> None:
    """Their gradient is a product with it; where gates saturate, or nothing but sums follows, no other is touched."""
    layer = LAYERS[name]().to(dtype=dtype)
    clean = inputs(dtype)
    spoilt = clean.copy()
    spoilt[2, 1, 0] = bad
    _, expected, of_clean = run(layer, clean)
    with np.errstate(invalid="ignore"):
        _, g, gradients = run(layer, spoilt)
    of_inputs, *others = gradients
    assert not np.isfinite(of_inputs[:, 0]).any(axis=-1).all()
    for found in (g, of_inputs[:, 1:], *others):
        assert np.isfinite(found).all()
    if name in ("Linear", "Conv1d"):
        for mine, other in zip(
            (g, of_inputs[:, 1:], *others), (expected, of_clean[0][:, 1:], *of_clean[1:]), strict=True
        ):
            np.testing.assert_array_equal(mine, other)


@each_layer
@every_dtype
def test_the_largest_inputs_compute_finite_numbers(compiled: bool, make: Any, dtype: str) -> None:
    layer = make().to(dtype=dtype)
    values = np.sign(inputs("float64")) * float(np.finfo(dtype).max) / 64
    out, g, of_parameters = run(layer, values.astype(dtype))
    for found in (out, g, *of_parameters):
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", [name for name in LAYERS if "normalized" in name or name == "LayerNorm"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_normalized_is_the_same_for_the_largest_inputs(compiled: bool, name: str, dtype: str) -> None:
    layer = LAYERS[name]().to(dtype=dtype)
    large, largest = (inputs(dtype) * factor for factor in (2.0**20, 2.0 ** (np.finfo(dtype).maxexp - 8)))
    (out, _, gradients), (out_largest, _, gradients_largest) = run(layer, large), run(layer, largest)
    np.testing.assert_allclose(out_largest, out, 1e-4, 1e-5)
    for mine, other in zip(gradients_largest, gradients, strict=True):
        np.testing.assert_allclose(mine, other, 1e-4, 1e-4)


# Cells of zeros are normalized at every step, with a derivative of 1 / √eps each: more than float16 holds.
EQUAL = [
    (name, dtype, value)
    for name in LAYERS
    for dtype in ("float16", "float32", "float64")
    for value in (0.0, -0.0, 3.0)
    if value or dtype != "float16" or "normalized" not in name
]


@pytest.mark.parametrize(("name", "dtype", "value"), EQUAL)
def test_equal_and_subnormal_inputs(compiled: bool, name: str, dtype: str, value: float) -> None:
    layer = LAYERS[name]().to(dtype=dtype)
    values = np.full((5, 3, 3), value, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out, g, of_parameters = run(layer, values)
    for found in (out, g, *of_parameters):
        assert np.isfinite(found).all()
    if value == 0:
        out_beside, g_beside, _ = run(layer, values + np.finfo(dtype).smallest_subnormal)
        np.testing.assert_allclose(out_beside, out, 1e-3, 1e-6)
        if name != "RNN with relu":  # whose derivative changes at 0
            np.testing.assert_allclose(g_beside, g, 1e-3, 1e-6)


@each_layer
@every_dtype
def test_a_batch_of_no_sequences(compiled: bool, make: Any, dtype: str) -> None:
    layer = make().to(dtype=dtype)
    out, g, of_parameters = run(layer, np.zeros((5, 0, 3), dtype))
    assert out.shape[1] == 0 and out.dtype == dtype and g.shape == (5, 0, 3)
    for found in of_parameters:
        assert found.dtype == dtype and not found.any()


@every_dtype
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "largest", "subnormal", 0.0])
def test_a_row_of_an_embedding_reaches_only_its_ids(dtype: str, value: Any) -> None:
    info = np.finfo(dtype)
    number = {"largest": info.max, "subnormal": info.smallest_subnormal}.get(value, value)
    layer = nn.Embedding(4, 2, padding_idx=3).to(dtype=dtype)
    with tg.no_grad():
        layer.weight[1] = float(number)
    ids = tg.tensor([[0, 1, 3], [1, 2, 1]])
    out = layer(ids)
    np.testing.assert_array_equal(out.detach().numpy(), layer.weight.detach().numpy()[ids.numpy()])
    seed = np.ones(out.shape, dtype)
    seed[1, 1] = number  # of id 2
    out.backward(tg.tensor(seed))
    np.testing.assert_array_equal(
        layer.weight.grad.numpy(), np.repeat(np.array([[1], [3], [number], [0]], dtype), 2, 1)
    )


@every_dtype
def test_an_embedding_of_no_ids(dtype: str) -> None:
    layer = nn.Embedding(4, 2).to(dtype=dtype)
    out = layer(tg.zeros(3, 0, dtype="int64"))
    assert out.shape == (3, 0, 2)
    out.sum().backward()
    assert layer.weight.grad.dtype == dtype and not layer.weight.grad.numpy().any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 3.0, -0.0])
def test_layer_norm_of_equal_numbers(compiled: bool, dtype: str, value: float) -> None:
    layer = nn.LayerNorm(4).to(dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out, g, of_parameters = run(layer, np.full((2, 4), value, dtype))
    assert not out.any() and not g.any() and not of_parameters[0].any()
    np.testing.assert_array_equal(of_parameters[1], 2.0)
