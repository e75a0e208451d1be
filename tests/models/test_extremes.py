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
    "GRU that resets before": lambda: GRU(3, 4, reset_after=False),
    "LSTMCell": lambda: Unrolled(LSTMCell(3, 4)),
    "GRUCell": lambda: Unrolled(GRUCell(3, 4)),
    "RNNCell": lambda: Unrolled(RNNCell(3, 4)),
    "Linear": lambda: nn.Linear(3, 4),
}
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
def test_what_is_no_number_stays_in_its_sequence(compiled: bool, make: Any, bad: float, dtype: str) -> None:
    layer = make().to(dtype=dtype)
    clean = inputs(dtype)
    spoilt = clean.copy()
    spoilt[2, 1, 0] = bad
    expected, expected_g, _ = run(layer, clean)
    with np.errstate(invalid="ignore"):
        out, g, _ = run(layer, spoilt)
    for mine, other in ((out, expected), (g, expected_g)):
        np.testing.assert_allclose(mine[:, [0, 2]], other[:, [0, 2]], 1e-5, 1e-6)
    if math.isnan(bad):
        assert np.isnan(out[2, 1]).all()


@pytest.mark.parametrize("make", [LAYERS[name] for name in LAYERS if name != "Linear"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_largest_inputs_saturate(compiled: bool, make: Any, dtype: str) -> None:
    layer = make().to(dtype=dtype)
    values = np.sign(inputs("float64")) * float(np.finfo(dtype).max) / 64
    out, g, of_parameters = run(layer, values.astype(dtype))
    for found in (out, g, *of_parameters):
        assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 3.0, -0.0])
def test_layer_norm_of_equal_numbers(compiled: bool, dtype: str, value: float) -> None:
    layer = nn.LayerNorm(4).to(dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out, g, of_parameters = run(layer, np.full((2, 4), value, dtype))
    assert not out.any() and not g.any() and not of_parameters[0].any()
    np.testing.assert_array_equal(of_parameters[1], 2.0)
