"""Networks whose subclass replaces the equations of a step: every way to run them computes these equations."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, LSTMCell, Recurrent


class HalvedSteps(LSTM):
    def _step(self, *given: Any, **named: Any) -> Any:
        h, c = super()._step(*given, **named)
        return 0.5 * h, c


class HalvedVariant(GRU):
    def _variant(self, parameters: Any) -> Any:
        own = super()._variant(parameters)

        def step(*given: Any) -> Any:
            gates = own.step(*given)
            return gates._replace(h=0.5 * gates.h)

        return SimpleNamespace(inputs=own.inputs, step=step)


class Around(tg.nn.Module):
    """A cell that runs a network over its input, and over what it makes of its state."""

    def __init__(self, network: Any) -> None:
        self.network, self.into = network, tg.nn.Linear(5, 3)

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        steps = tg.stack([x, tg.tanh(self.into(h))])
        return self.network(steps)[0][1]


each_network = pytest.mark.parametrize("kind", [HalvedSteps, HalvedVariant])
X = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)


@each_network
def test_in_a_cell(kind: Any, compiled: bool) -> None:
    tg.manual_seed(0)
    cell = Around(kind(3, 5))
    (out, _), (expected, _) = (
        Recurrent(cell, compiled=chosen)(tg.tensor(X), tg.ones(4, 5)) for chosen in (None, False)
    )
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), atol=1e-5)


@each_network
def test_streamed_looked_into_and_exported(kind: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    tg.manual_seed(0)
    network = kind(3, 5)
    expected = network(tg.tensor(X))[0].detach().numpy()
    with tg.detect_anomaly():
        np.testing.assert_allclose(network(tg.tensor(X))[0].detach().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(network.stream(4)(X), expected, atol=1e-6)
    np.testing.assert_array_equal(tg.inspect.trace(network, X).output, expected)
    path = tmp_path / "network.onnx"
    tg.io.export_onnx(network, path)
    session = onnxruntime.InferenceSession(path)
    states = {name: np.zeros((1, 4, 5), np.float32) for name in [given.name for given in session.get_inputs()][1:]}
    np.testing.assert_allclose(session.run(None, {"x": X, **states})[0], expected, atol=1e-6)


class HalvedCell(LSTMCell):
    def forward(self, x: tg.Tensor, state: Any = None) -> Any:
        h, c = super().forward(x, state)
        return h, 0.5 * c


TRACED: dict[str, Any] = {
    "layer": lambda: HalvedSteps(3, 5, num_layers=2, bidirectional=True),
    "variant": lambda: HalvedVariant(3, 5),
    "cell": lambda: Recurrent(HalvedCell(3, 5)),
    "cell, op by op": lambda: Recurrent(HalvedCell(3, 5), compiled=False),
}


@pytest.mark.parametrize("name", TRACED)
def test_a_trace_shows_the_states_that_the_next_step_gets(name: str) -> None:
    tg.manual_seed(0)
    network = TRACED[name]()
    traced = tg.inspect.trace(network, X, loss=lambda out: (out[0] * out[0]).sum())
    for layer in traced.layers:
        assert layer.kind not in ("LSTM", "GRU") or name == "variant"
        for state, before in layer.before.items():
            values = layer.values[state][::-1] if layer.reverse else layer.values[state]
            order = before[::-1] if layer.reverse else before
            np.testing.assert_array_equal(values[:-1], order[1:])
    last = traced.layers[-1]
    np.testing.assert_array_equal(last.values["h"], traced.output[..., -5:])
    if name != "variant":  # its gates are the changed ones
        changed = "c" if "cell" in name else "h"
        np.testing.assert_allclose(2 * last.values[changed], last.values[f"inner_{changed}"], atol=1e-6)
