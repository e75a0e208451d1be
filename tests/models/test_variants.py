"""Variants of recurrent layers: held against plain loops over their equations, ONNX Runtime, and the plain layers."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from variant_networks import EACH, drawn, each_variant, given_as, host, network_of, parts, problems, states_of

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import trace
from tinygrad_lstm.models import GRU, LSTM, RNN, ManyToOne

Arrays = dict[str, np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def normalized(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def lstm_step(p: Arrays, options: Mapping[str, Any], x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Arrays:
    """Gates and states of a step of one sequence: x (I,), h (P,), c (H,)."""
    net_x, net_h = p["weight_ih"] @ x, p["weight_hh"] @ h
    if "layer_norm" in options:
        net_x, net_h = normalized(net_x, p["norm_ih"]), normalized(net_h, p["norm_hh"])
    net_i, net_f, net_g, net_o = np.split(net_x + net_h + p["bias"], 4)
    p_i, p_f, p_o = np.split(p["peephole"], 3) if "peephole" in options else (0.0, 0.0, 0.0)
    f, i, g = sigmoid(net_f + p_f * c), sigmoid(net_i + p_i * c), np.tanh(net_g)
    c = f * c + i * g
    if options.get("layer_norm") == "cell":
        c = normalized(c, p["norm_c"], p["bias_c"])
    o = sigmoid(net_o + p_o * c)
    h = o * np.tanh(normalized(c, p["norm_c"], p["bias_c"]) if options.get("layer_norm") == "output" else c)
    if "proj_size" in options:
        h = p["weight_hr"] @ h
    return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}


def gru_step(p: Arrays, options: Mapping[str, Any], x: np.ndarray, h: np.ndarray) -> Arrays:
    of_x, of_h = np.split(p["weight_ih"] @ x + p["bias"], 3), np.split(p["weight_hh"], 3)
    r, z = sigmoid(of_x[0] + of_h[0] @ h), sigmoid(of_x[1] + of_h[1] @ h)
    n = np.tanh(of_x[2] + of_h[2] @ (r * h))
    return {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * h}


def rnn_step(p: Arrays, options: Mapping[str, Any], x: np.ndarray, h: np.ndarray) -> Arrays:
    return {"h": np.maximum(p["weight_ih"] @ x + p["weight_hh"] @ h + p["bias"], 0)}


STEPS: dict[Any, Callable[..., Arrays]] = {LSTM: lstm_step, GRU: gru_step, RNN: rnn_step}


@dataclass
class Expected:
    """What a network must compute: outputs (T, B, ·), final states, and of each layer all gates and states."""

    out: np.ndarray
    final: list[np.ndarray]
    layers: dict[str, Arrays] = field(default_factory=dict)


def expected_of(
    network: Any, x: np.ndarray, states: Sequence[np.ndarray], lengths: Sequence[int] | None = None
) -> Expected:
    T, B, _ = x.shape
    directions = ("", "_reverse") if network.bidirectional else ("",)
    final = [state.copy() for state in states]
    layers: dict[str, Arrays] = {}
    for number in range(network.num_layers):
        outs = []
        for k, direction in enumerate(directions):
            place = f"l{number}{direction}"
            parameters = {name: value.detach().numpy() for name, value in network.layer_parameters(place).items()}
            rows: dict[str, list[Any]] = {}
            for b in range(B):
                now = {name: state[number * len(directions) + k, b] for name, state in zip(network.STATES, states)}
                length = T if lengths is None else lengths[b]
                for t in reversed(range(length)) if direction else range(length):
                    step = STEPS[type(network)](parameters, network.options, x[t, b], **now)
                    for name, value in step.items():
                        array = rows.setdefault(name, np.zeros((T, B, len(value))))
                        array[t, b] = value
                    now = {name: step[name] for name in network.STATES}
                for j, name in enumerate(network.STATES):
                    final[j][number * len(directions) + k, b] = now[name]
            layers[place] = rows
            outs.append(rows.get("h", np.zeros((T, B, network.state_sizes["h"]))))
        x = np.concatenate(outs, axis=2)
    return Expected(x, final, layers)


# -- values ------------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@example({"kind": LSTM, "T": 3, "B": 2, "I": 2, "H": 4, "lengths": [1, 3], "settings": EACH[4][1]})
@example({"kind": LSTM, "T": 3, "B": 2, "I": 2, "H": 4, "lengths": [1, 3], "settings": EACH[5][1]})
@given(problem=problems())
def test_equals_a_plain_loop(problem: dict[str, Any]) -> None:
    """Any options, sizes, layers, directions and lengths, past which anything may stand; a trace shows all of it."""
    kind, T, B, I, H, lengths = (problem[name] for name in ("kind", "T", "B", "I", "H", "lengths"))
    network = network_of(kind, I, H, **problem["settings"])
    x, states = drawn(T, B, I), states_of(network, B)
    expected = expected_of(network, x, states, lengths)
    if lengths is not None:
        x[np.arange(T)[:, None] >= np.array(lengths, int)] = np.nan
    given_x = x.swapaxes(0, 1) if network.batch_first else x
    state = given_as([tg.tensor(state) for state in states])

    out, final = network(tg.tensor(given_x), state, lengths)
    found = host(out).swapaxes(0, 1) if network.batch_first else host(out)
    assert found.shape == (T, B, network.output_size)
    np.testing.assert_allclose(found, expected.out, atol=1e-11)
    for actual, wanted in zip(parts(final), expected.final, strict=True):
        np.testing.assert_allclose(host(actual), wanted, atol=1e-11)

    if network.options:
        traced = trace(network, given_x, state, lengths)
        assert [layer.name for layer in traced] == list(expected.layers)
        for layer in traced:
            for name, values in expected.layers[layer.name].items():
                np.testing.assert_allclose(layer.values[name], values, atol=1e-11)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_peepholes_agree_with_onnxruntime(bidirectional: bool) -> None:
    """ONNX has the gates in the order i, o, f, c, peepholes in that of i, o, f, and two biases."""
    network = network_of(LSTM, 3, 4, peephole=True, bidirectional=bidirectional, dtype="float32")
    x, states = drawn(5, 2, 3).astype(np.float32), [state.astype(np.float32) for state in states_of(network, 2)]
    P = np.stack([in_order(place["peephole"], [0, 2, 1], 3) for place in places_of(network)])
    y, h, c = run_in_onnxruntime("LSTM", network, [0, 3, 1, 2], x, *states, P)
    out, final = network(tg.tensor(x), tuple(map(tg.tensor, states)))
    for actual, expected in zip((out, *final), (y, h, c), strict=True):
        np.testing.assert_allclose(host(actual), expected, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_reset_before_agrees_with_onnxruntime(bidirectional: bool) -> None:
    """ONNX has the gates in the order z, r, h."""
    network = network_of(GRU, 3, 4, reset_after=False, bidirectional=bidirectional, dtype="float32")
    x, (state,) = drawn(5, 2, 3).astype(np.float32), [state.astype(np.float32) for state in states_of(network, 2)]
    y, h = run_in_onnxruntime("GRU", network, [1, 0, 2], x, state, linear_before_reset=0)
    out, final = network(tg.tensor(x), tg.tensor(state))
    np.testing.assert_allclose(host(out), y, atol=1e-5)
    np.testing.assert_allclose(host(final), h, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_relu_agrees_with_onnxruntime(bidirectional: bool) -> None:
    network = network_of(RNN, 3, 4, nonlinearity="relu", bidirectional=bidirectional, dtype="float32")
    x, (state,) = drawn(5, 2, 3).astype(np.float32), [state.astype(np.float32) for state in states_of(network, 2)]
    y, h = run_in_onnxruntime("RNN", network, [0], x, state, activations=["Relu"] * (1 + bidirectional))
    out, final = network(tg.tensor(x), tg.tensor(state))
    np.testing.assert_allclose(host(out), y, atol=1e-5)
    np.testing.assert_allclose(host(final), h, atol=1e-5)


def places_of(network: Any) -> list[Arrays]:
    """The parameters of a layer, in each direction."""
    names = ("l0", "l0_reverse")[: 1 + network.bidirectional]
    return [{name: host(value) for name, value in network.layer_parameters(place).items()} for place in names]


def in_order(rows: np.ndarray, order: Sequence[int], gates: int) -> np.ndarray:
    return np.concatenate([np.split(rows, gates)[gate] for gate in order])


def run_in_onnxruntime(
    op: str, network: Any, order: Sequence[int], x: np.ndarray, *given: np.ndarray, **attributes: Any
) -> Iterator[np.ndarray]:
    """The outputs of a node with a network's parameters, gates in that order; given states, and then peepholes."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    gates, places = len(order), places_of(network)
    W, R, b = (
        np.stack([in_order(place[name], order, gates) for place in places])
        for name in ("weight_ih", "weight_hh", "bias")
    )
    states = len(network.STATES)
    names = ["x", "W", "R", "B", "", "h0", *["c0", "P"][: len(given) - 1]]
    arrays = [W, R, np.concatenate([b, np.zeros_like(b)], axis=1), *given]
    outputs = ["y", *(f"{name}_n" for name in network.STATES)]
    node = helper.make_node(
        op, names, outputs, hidden_size=network.hidden_size,
        direction="bidirectional" if network.bidirectional else "forward", **attributes,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for array, name in zip(arrays, filter(None, names[1:]), strict=True)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *final = session.run(None, {"x": x})
    assert len(final) == states
    yield y.transpose(0, 2, 1, 3).reshape(len(x), x.shape[1], -1)  # (T, D, B, H) to (T, B, D·H)
    yield from final


@each_variant
def test_is_the_same_on_every_device(kind: Any, options: dict[str, Any], device: str, compiled: bool) -> None:
    """Values, gradients, and one step at a time."""
    network = network_of(kind, 3, 4, num_layers=2, dtype="float32", **options)
    x = drawn(4, 2, 3).astype(np.float32)
    states = [state.astype(np.float32) for state in states_of(network, 2)]

    def run(place: str) -> list[np.ndarray]:
        network.to(place).zero_grad()
        given = tg.tensor(x, device=place, requires_grad=True)
        out, final = network(given, given_as([tg.tensor(state, device=place) for state in states]), lengths=[2, 4])
        (out * out).sum().backward()
        assert given.grad is not None
        step = network.stepper()
        with given.device.current():
            stepped, after = step(given.data[0], given_as([tg.tensor(state, device=place).data for state in states]))
        arrays = [*map(host, (out, *parts(final), given.grad)), *(host(p.grad) for p in network.parameters())]
        return [*arrays, *(given.device.backend.to_host(array) for array in (stepped, *parts(after)))]

    for found, expected in zip(run(device), run("cpu"), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


# -- derivatives -------------------------------------------------------------------------------------------------------


@each_variant
def test_derivatives(kind: Any, options: dict[str, Any]) -> None:
    """Of first and second order, of inputs, states and all parameters."""
    network = network_of(kind, 1, 3, bidirectional=True, **options)
    x = tg.tensor(drawn(2, 2, 1), requires_grad=True)
    states = [tg.tensor(state, requires_grad=True) for state in states_of(network, 2)]
    names = list(network.state_dict())

    def run(x: tg.Tensor, *rest: tg.Tensor) -> tuple[tg.Tensor, ...]:
        for name, value in zip(names, rest[len(states) :], strict=True):
            vars(network)[name] = value  # beside Module's guard: tensors of a graph in place of parameters
        out, final = network(x, given_as(rest[: len(states)]), lengths=[2, 1])
        return out, *parts(final)

    inputs = [x, *states, *network.parameters()]
    assert tg.gradcheck(run, inputs)
    assert tg.gradgradcheck(run, inputs)


# -- what they have in common with plain networks ----------------------------------------------------------------------


def test_without_peepholes_it_is_the_plain_lstm() -> None:
    """With peepholes of 0, the values are the same, and so are the gradients of a trace."""
    with_peepholes = network_of(LSTM, 3, 4, num_layers=2, bidirectional=True, peephole=True)
    plain = LSTM(3, 4, num_layers=2, bidirectional=True).to(dtype="float64")
    plain.load_state_dict({name: value for name, value in with_peepholes.state_dict().items() if "peep" not in name})
    for name, parameter in with_peepholes.named_parameters():
        if name.startswith("peephole"):
            tg.nn.init.zeros_(parameter)
    x, state = drawn(5, 3, 3), tuple(map(tg.tensor, states_of(plain, 3)))
    lengths = [5, 0, 3]
    loss = lambda out: (out * tg.tensor(drawn(*out.shape))).sum()  # noqa: E731
    ours, theirs = (trace(network, x, state, lengths, loss=loss) for network in (with_peepholes, plain))
    np.testing.assert_allclose(ours.output, theirs.output, atol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.name, a.kind, a.reverse, a.shape, a.gates) == (b.name, b.kind, b.reverse, b.shape, b.gates)
        assert (a.options, b.options, a.keeps) == ({"peephole": True}, {}, b.keeps)
        np.testing.assert_array_equal(a.going, b.going)
        np.testing.assert_allclose(a.inputs, b.inputs, atol=1e-12)
        for mine, yours in ((a.values, b.values), (a.gradients, b.gradients), (a.before, b.before)):
            assert list(mine) == list(yours)
            for name in mine:
                np.testing.assert_allclose(mine[name], yours[name], atol=1e-12)
        for name, array in b.parameters.items():
            np.testing.assert_array_equal(a.parameters[name], array)
        steps = (4, 1) if a.reverse else (1, 4)
        np.testing.assert_allclose(a.forget_product(*steps), b.forget_product(*steps), rtol=1e-12)


def test_where_the_reset_gate_multiplies_nothing_both_grus_are_one() -> None:
    before = network_of(GRU, 3, 4, reset_after=False)
    after = GRU(3, 4).to(dtype="float64")
    with tg.no_grad():
        before.weight_hh_l0[8:] = 0.0
    after.load_state_dict({**before.state_dict(), "bias_hn_l0": np.zeros(4)})
    x = tg.tensor(drawn(5, 2, 3))
    np.testing.assert_allclose(host(before(x)[0]), host(after(x)[0]), atol=1e-12)


@each_variant
def test_dropout_is_between_layers(kind: Any, options: dict[str, Any]) -> None:
    network = network_of(kind, 3, 4, num_layers=2, dropout=1.0, **options)
    x = tg.tensor(drawn(5, 2, 3))
    zeros = tg.zeros(5, 2, network.output_size, dtype="float64")
    upper = {name: value for name, value in network.state_dict().items() if "_l1" in name}
    alone = kind(network.output_size, 4, **options).to(dtype="float64")
    alone.load_state_dict({name.replace("_l1", "_l0"): value for name, value in upper.items()})
    np.testing.assert_array_equal(host(network(x)[0]), host(alone(zeros)[0]))
    assert (host(network.eval()(x)[0]) != host(alone(zeros)[0])).any()


PLAIN: list[tuple[Any, dict[str, Any]]] = [(kind, {}) for kind in (LSTM, GRU, RNN)]


@pytest.mark.parametrize(("kind", "options"), PLAIN + EACH, ids=[f"{k.__name__} {o}" for k, o in PLAIN + EACH])
@pytest.mark.parametrize("given_states", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_through_no_steps_gradients_come_back_as_of_lengths_of_zero(
    compiled: bool,
    kind: Any,
    options: dict[str, Any],
    given_states: bool,
    batch_first: bool,
    bidirectional: bool,
) -> None:
    network = network_of(kind, 3, 4, 2, batch_first=batch_first, bidirectional=bidirectional, **options)

    def gradients(steps: int, lengths: Any) -> tuple[list[Any], list[Any], Any]:
        network.zero_grad()
        x = tg.zeros(*((2, steps, 3) if batch_first else (steps, 2, 3)), dtype="float64", requires_grad=True)
        states = [tg.tensor(state, requires_grad=True) for state in states_of(network, 2)] if given_states else []
        out, final = network(x, given_as(states) if given_states else None, lengths)
        if not given_states:
            out.sum().backward(retain_graph=True)
            assert x.grad is not None and x.grad.shape == x.shape and not x.grad.numpy().any()
        sum((state.sum() * (k + 2) for k, state in enumerate(parts(final))), out.sum()).backward()
        return [p.grad for p in network.parameters()], [state.grad for state in states], x.grad

    of_lengths, of_states, _ = gradients(1, [0, 0])
    for lengths in (None, [0, 0]):
        found, found_of_states, of_x = gradients(0, lengths)
        assert of_x.size == 0
        for mine, expected in zip(found + found_of_states, of_lengths + of_states, strict=True):
            np.testing.assert_array_equal(host(mine), host(expected))
        for k, g in enumerate(found_of_states):
            np.testing.assert_array_equal(host(g), k + 2.0)
    with pytest.raises(ValueError, match="integers from 0 to 0"):
        gradients(0, [0, 1])


@each_variant
def test_no_steps_and_no_sequences(kind: Any, options: dict[str, Any]) -> None:
    network = network_of(kind, 3, 4, bidirectional=True, **options)
    states = states_of(network, 2)
    out, final = network(tg.zeros(0, 2, 3, dtype="float64"), given_as([tg.tensor(state) for state in states]))
    assert out.shape == (0, 2, network.output_size)
    for actual, expected in zip(parts(final), states, strict=True):
        np.testing.assert_array_equal(host(actual), expected)
    out, final = network(tg.zeros(4, 0, 3, dtype="float64"), lengths=[])
    assert out.shape == (4, 0, network.output_size)
    assert [state.shape for state in parts(final)] == [(2, 0, size) for size in network.state_sizes.values()]


@each_variant
@pytest.mark.parametrize("bidirectional", [False, True])
def test_answers_for_whole_sequences(kind: Any, options: dict[str, Any], bidirectional: bool) -> None:
    network = network_of(kind, 3, 4, bidirectional=bidirectional, **options)
    model = ManyToOne(network, 2).to(dtype="float64")
    x = tg.tensor(drawn(5, 2, 3))
    out, _ = network(x)
    P = network.state_sizes["h"]
    ends = tg.cat([out[-1, :, :P], out[0, :, P:]], -1)  # the backward direction ends at the first step
    np.testing.assert_allclose(host(model(x)), host(model.output(ends)), atol=1e-12)


@each_variant
def test_saved_and_loaded_it_is_the_same(kind: Any, options: dict[str, Any]) -> None:
    network = network_of(kind, 3, 4, num_layers=2, **options)
    other = kind(3, 4, num_layers=2, **options).to(dtype="float64")
    other.load_state_dict(network.state_dict())
    x = tg.tensor(drawn(5, 2, 3))
    np.testing.assert_array_equal(host(other(x)[0]), host(network(x)[0]))


# -- how they are made -------------------------------------------------------------------------------------------------


def test_parameters_of_an_lstm() -> None:
    lstm = LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2, peephole=True, layer_norm="cell")
    assert (lstm.output_size, LSTM(3, 5, bidirectional=True).output_size, GRU(3, 5).output_size) == (4, 10, 5)
    for layer, columns in ((0, 3), (1, 4)):
        for direction in ("", "_reverse"):
            found = {name: value.shape for name, value in lstm.layer_parameters(f"l{layer}{direction}").items()}
            assert found == {
                "weight_ih": (20, columns), "weight_hh": (20, 2), "bias": (20,), "weight_hr": (2, 5),
                "peephole": (15,), "norm_ih": (20,), "norm_hh": (20,), "norm_c": (5,), "bias_c": (5,),
            }  # fmt: skip
    assert len(lstm.state_dict()) == 2 * 2 * 9


def test_first_values() -> None:
    """Weights and peepholes uniform within ±1/√H, norms 1, biases 0, but that of the forget gate 1."""
    lstm = LSTM(30, 16, proj_size=8, peephole=True, layer_norm="output")
    for name, parameter in lstm.layer_parameters("l0").items():
        values = host(parameter)
        if name.startswith("norm"):
            assert (values == 1).all()
        elif name == "bias":
            np.testing.assert_array_equal(values, np.repeat([0, 1, 0, 0], 16))
        elif name == "bias_c":
            assert not values.any()
        else:
            assert 0.2 < np.abs(values).max() <= 0.25, name
            assert (values > 0).any() and (values < 0).any()
    assert "bias_hn_l0" not in GRU(3, 5, reset_after=False).state_dict()


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (LSTM(3, 5, proj_size=2, layer_norm="cell"), "LSTM(3, 5, proj_size=2, layer_norm='cell')"),
        (LSTM(3, 5, batch_first=True, peephole=True), "LSTM(3, 5, batch_first=True, peephole=True)"),
        (GRU(3, 5, reset_after=False), "GRU(3, 5, reset_after=False)"),
        (RNN(3, 5, nonlinearity="relu"), "RNN(3, 5, nonlinearity='relu')"),
        (LSTM(3, 5, proj_size=0, peephole=False, layer_norm=None), "LSTM(3, 5)"),
        (GRU(3, 5, reset_after=True), "GRU(3, 5)"),
        (RNN(3, 5, nonlinearity="tanh"), "RNN(3, 5)"),
    ],
)
def test_it_says_its_options(network: Any, text: str) -> None:
    assert repr(network).startswith(f"{text}  ")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(3, 5, proj_size=5), "LSTM: expected a proj_size from 0 to 4, below H, got 5"),
        (lambda: LSTM(3, 5, proj_size=-1), "LSTM: expected a proj_size from 0 to 4, below H, got -1"),
        (lambda: LSTM(3, 0, proj_size=0), "LSTM: expected an input size and a hidden size of at least 1, got 3 and 0"),
        (
            lambda: LSTM(3, 5, layer_norm="gates"),  # type: ignore[arg-type]
            "LSTM: expected layer_norm to be None or 'cell' or 'output', got 'gates'",
        ),
        (
            lambda: RNN(3, 5, nonlinearity="gelu"),  # type: ignore[arg-type]
            "RNN: expected nonlinearity to be 'tanh' or 'relu', got 'gelu'",
        ),
        (
            lambda: LSTM(3, 5, peephole="all"),  # type: ignore[arg-type]
            "LSTM: expected peephole to be False or True, got 'all'",
        ),
        (
            lambda: GRU(3, 5, reset_after="no"),  # type: ignore[arg-type]
            "GRU: expected reset_after to be True or False, got 'no'",
        ),
        (
            lambda: LSTM(3, 5, proj_size=2)(tg.zeros(4, 1, 3), (tg.zeros(1, 1, 5), tg.zeros(1, 1, 5))),
            "LSTM: expected 2 states, (h, c), of shapes (1, 1, 2) and (1, 1, 5), got (1, 1, 5), (1, 1, 5)",
        ),
        (
            lambda: GRU(3, 5, reset_after=False)(tg.zeros(4, 1, 3), tg.zeros(1, 5)),
            "GRU: expected a state of shape (1, 1, 5), got (1, 5)",
        ),
    ],
)
def test_invalid_arguments_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
