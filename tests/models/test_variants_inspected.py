"""Variants of recurrent layers in traces, gradient flow, summaries and graphs."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from variant_networks import drawn, each_variant, given_as, host, network_of, states_of

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import LayerTrace, Trace, trace
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM


def traced_with_gradients(kind: Any, options: dict[str, Any], device: str = "cpu") -> tuple[Any, Trace]:
    network = network_of(kind, 3, 4, num_layers=2, bidirectional=True, **options).to(device)
    states = given_as([tg.tensor(state, device=device) for state in states_of(network, 3)])
    weights = tg.tensor(drawn(5, 3, network.output_size), device=device)
    x = tg.tensor(drawn(5, 3, 3), device=device)
    return network, trace(network, x, states, [5, 0, 3], loss=lambda out: (out * weights).sum())


SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **dict.fromkeys("ifo", lambda gate: gate * (1 - gate)),
    **dict.fromkeys("rz", lambda gate: gate * (1 - gate)),
    **dict.fromkeys("gn", lambda candidate: 1 - candidate * candidate),
    "h": lambda h: h > 0,
}


@each_variant
def test_gradients_in_a_trace_are_those_of_the_parameters(kind: Any, options: dict[str, Any], device: str) -> None:
    """The gradient of a gate's bias is that of the gate, times its slope, over all steps."""
    network, traced = traced_with_gradients(kind, options, device)
    weights = tg.tensor(drawn(5, 3, network.output_size), device=device)
    states = given_as([tg.tensor(state, device=device) for state in states_of(network, 3)])
    out, _ = network(tg.tensor(drawn(5, 3, 3), device=device), states, [5, 0, 3])
    (out * weights).sum().backward()
    gates = {LSTM: "ifgo", GRU: "rzn", RNN: "h"}[kind]
    for layer in traced:
        through = [(layer.gradients[gate] * SLOPES[gate](layer.values[gate])).sum(axis=(0, 1)) for gate in gates]
        gradients = {name: host(p.grad) for name, p in network.layer_parameters(layer.name).items()}
        np.testing.assert_allclose(np.concatenate(through), gradients["bias"], atol=1e-11)
        if "proj_size" in options and options.get("layer_norm") != "output":
            squashed = layer.o * np.tanh(layer.c)
            of_projection = np.einsum("tbp,tbh->ph", layer.gradients["h"], squashed)
            np.testing.assert_allclose(of_projection, gradients["weight_hr"], atol=1e-11)
        if options.get("layer_norm") == "cell":
            np.testing.assert_allclose(layer.gradients["c"].sum(axis=(0, 1)), gradients["bias_c"], atol=1e-11)
        elif kind is LSTM:
            np.testing.assert_allclose(layer.gradients["f"], layer.gradients["c"] * layer.before["c"], atol=1e-12)


@each_variant
def test_a_trace_has_what_it_says(kind: Any, options: dict[str, Any]) -> None:
    network, traced = traced_with_gradients(kind, options)
    assert [layer.name for layer in traced] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert [layer.reverse for layer in traced] == [False, True, False, True]
    assert traced.nbytes == tg.inspect.trace_memory(network, drawn(5, 3, 3), gradients=True)
    settings = ", ".join(f"{name}={value!r}" for name, value in options.items())
    for layer in traced:
        assert (layer.kind, layer.options, layer.shape) == (kind.__name__, options, (5, 3, 4))
        assert layer.described == f"{kind.__name__}({settings})"
        assert list(layer.values) == list(layer.gradients) == list(KINDS[network.KIND].values)
        assert {name: array.shape[2] for name, array in layer.before.items()} == network.state_sizes
        np.testing.assert_array_equal(layer.going.sum(axis=0), [5, 0, 3])
        for array in (*layer.values.values(), *layer.gradients.values(), *layer.before.values(), layer.inputs):
            assert not array[~layer.going].any() and not array.flags.writeable
        for name, parameter in network.layer_parameters(layer.name).items():
            np.testing.assert_array_equal(layer.parameters[name], host(parameter))
        assert_carried_on(layer)
    assert traced[0].described in traced._repr_html_().replace("&#x27;", "'")


def assert_carried_on(layer: LayerTrace) -> None:
    """The state before a step is that after the one computed before it."""
    for name, before in layer.before.items():
        after = layer.values[name]
        earlier, later = (slice(1, None), slice(-1)) if layer.reverse else (slice(-1), slice(1, None))
        both = layer.going[earlier] & layer.going[later]
        np.testing.assert_array_equal(before[later][both], after[earlier][both])


def test_a_layer_that_is_called_twice_is_joined_in_time() -> None:
    """Each call in the order of the sequence, also of a layer that runs from the end."""

    class Twice(tg.nn.Module):
        def __init__(self) -> None:
            self.network = network_of(LSTM, 3, 4, peephole=True, bidirectional=True)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return tg.cat([self.network(x[:2])[0], self.network(x[2:])[0]])

    x = drawn(5, 2, 3)
    for layer in trace(Twice(), x):
        assert layer.name in ("network.l0", "network.l0_reverse")
        np.testing.assert_array_equal(layer.inputs, x)
        for first, last in ((0, 2), (2, 5)):
            begun = layer.before["c"][last - 1 if layer.reverse else first]
            assert not begun.any()


def test_a_trace_tells_of_parameters_that_were_changed() -> None:
    class Changing(tg.nn.Module):
        def __init__(self) -> None:
            self.network = network_of(LSTM, 3, 4, peephole=True)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            out, _ = self.network(x)
            with tg.no_grad():
                self.network.peephole_l0.fill_(0.0)
            return out

    with pytest.raises(RuntimeError, match=r"'network\.l0' returned, or computed with, was changed in place"):
        trace(Changing(), drawn(5, 2, 3))


def test_what_runs_unrecorded_has_gradients_of_zero() -> None:
    class Frozen(tg.nn.Module):
        def __init__(self) -> None:
            self.below = network_of(LSTM, 3, 4, layer_norm="output").requires_grad_(False)
            self.above = network_of(LSTM, 4, 4, peephole=True)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            with tg.no_grad():
                out, _ = self.below(x)
            return self.above(out)[0]

    traced = trace(Frozen(), drawn(5, 2, 3), loss=lambda out: out.sum())
    assert not any(array.any() for array in traced["below.l0"].gradients.values())
    assert all(array.any() for array in traced["above.l0"].gradients.values())


def test_forget_product_only_where_nothing_else_changes_the_state() -> None:
    """The normalized cell state of layer_norm="cell" is no sum of which a share can be kept."""
    _, peephole = traced_with_gradients(LSTM, {"peephole": True, "proj_size": 2})
    np.testing.assert_allclose(peephole[0].forget_product(0, 2)[2], peephole[0].f[1:3, 2].prod(axis=0), rtol=1e-12)
    _, output = traced_with_gradients(LSTM, {"layer_norm": "output"})
    assert output[0].forget_product(0, 2).shape == (3, 4)
    _, before = traced_with_gradients(GRU, {"reset_after": False})
    np.testing.assert_allclose(before[0].forget_product(0, 1)[0], before[0].z[1, 0], rtol=1e-12)
    _, cell = traced_with_gradients(LSTM, {"layer_norm": "cell"})
    assert cell[0].keeps is None
    message = "forget_product: this LSTM(layer_norm='cell') has no single gate that multiplies its state at each step"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cell[0].forget_product(0, 2)


@each_variant
def test_gradient_flow(kind: Any, options: dict[str, Any]) -> None:
    network, traced = traced_with_gradients(kind, options)
    flow = tg.inspect.flow_of(traced)
    assert [(curve.layer, curve.state) for curve in flow] == [
        (layer.name, state) for layer in traced for state in network.STATES
    ]
    for curve in flow:
        numbers = network.state_sizes[curve.state]
        norms = np.linalg.norm(traced[curve.layer].gradients[curve.state], axis=2)
        at_end = norms[0] if traced[curve.layer].reverse else norms[[4, 4, 2], range(3)]
        assert curve.norms[0] == pytest.approx(at_end[[0, 2]].mean())
        np.testing.assert_allclose(curve.floor, np.sqrt(numbers * np.finfo(np.float64).tiny), rtol=1e-12)


@each_variant
def test_summary_counts_all_products(kind: Any, options: dict[str, Any]) -> None:
    network = network_of(kind, 3, 4, **options)
    rows, P = len(KINDS[network.KIND].gates) * 4, network.state_sizes["h"]
    products = rows * (3 + P) + 4 * options.get("proj_size", 0)
    assert tg.inspect.summary(network, tg.zeros(5, 2, 3, dtype="float64")).total.multiply_adds == 5 * 2 * products


@each_variant
def test_a_graph_has_the_step_once(kind: Any, options: dict[str, Any]) -> None:
    network = network_of(kind, 3, 4, **options)
    out, _ = network(tg.tensor(drawn(12, 2, 3)))
    drawing = tg.inspect.graph(out.sum(), network)
    assert '"× 12"' in drawing.dot
    assert drawing.shown < drawing.ops / 4


def test_a_language_model_is_as_it_was() -> None:
    assert CharLM(5, 3, 4).lstm.options == {}
