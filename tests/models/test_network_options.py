"""Options of LSTM, GRU and RNN: without biases, with other activations, resets, one sequence without a batch."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from any_cells import as_parts, drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_networks import host, network_of, states_of

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN
from tinygrad_lstm.models.activations import ACTIVATIONS, Activation

each_kind = pytest.mark.parametrize("kind", [LSTM, GRU, RNN])

NUMBERS: dict[type, int] = {LSTM: 3, GRU: 2, RNN: 1}
"""The number of activation functions."""

FUNCTIONS: dict[Activation, Any] = {
    "sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "hard_sigmoid": lambda x: np.clip((x + 3) / 6, 0, 1),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "identity": lambda x: x,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "thresholded_relu": lambda x: np.where(x > 1, x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "affine": lambda x: x,
    "scaled_tanh": np.tanh,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "exp": np.exp,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hard_silu": lambda x: x * np.clip((x + 3) / 6, 0, 1),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
    "softmax": lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
    "log_softmax": lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum()),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "squareplus": lambda x: (x + np.sqrt(x**2 + 4)) / 2,
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "sparse_plus": lambda x: np.where(x >= 1, x, np.where(x <= -1, 0, (x + 1) ** 2 / 4)),
    ("hard_sigmoid", 0.2, 0.5): lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    ("leaky_relu", 0.2): lambda x: np.where(x > 0, x, 0.2 * x),
    ("elu", 0.5): lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0))),
    ("celu", 0.5): lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0) / 0.5)),
    ("scaled_tanh", 1.5, 0.5): lambda x: 1.5 * np.tanh(0.5 * x),
    ("affine", 0.5, 0.25): lambda x: 0.5 * x + 0.25,
}
assert FUNCTIONS.keys() >= ACTIVATIONS.keys()


def step_of(network: Any, p: dict[str, np.ndarray], x: np.ndarray, states: tuple[np.ndarray, ...]) -> Any:
    """The states after a step of a layer, by its equations in NumPy."""
    functions = [FUNCTIONS[name] for name in network.activations]
    net_x, net_h = p["weight_ih"] @ x + p["bias"], p["weight_hh"] @ states[0]
    if isinstance(network, LSTM):
        gate, candidate, output = functions
        i, f, g, o = np.split(net_x + net_h, 4)
        c = gate(f) * states[1] + gate(i) * candidate(g)
        return gate(o) * output(c), c
    if isinstance(network, RNN):
        return (functions[0](net_x + net_h),)
    gate, candidate = functions
    (x_r, x_z, x_n), (h_r, h_z, h_n), (h,) = np.split(net_x, 3), np.split(net_h, 3), states
    r, z = gate(x_r + h_r), gate(x_z + h_z)
    if network.reset_after:
        n = candidate(x_n + r * (h_n + p["bias_hn"]))
    else:
        n = candidate(x_n + np.split(p["weight_hh"], 3)[2] @ (r * h))
    return ((1 - z) * n + z * h,)


def expected_of(network: Any, x: np.ndarray, states: list[np.ndarray], resets: np.ndarray, lengths: list[int]) -> Any:
    """The outputs of one layer in both directions or one."""
    T, B, _ = x.shape
    outs = []
    for k, place in enumerate(["l0", "l0_reverse"][: 1 + network.bidirectional]):
        p = {name: host(value) for name, value in network.layer_parameters(place).items()}
        out = np.zeros((T, B, network.hidden_size))
        for b in range(B):
            now = tuple(state[k, b] for state in states)
            for t in range(lengths[b])[::-1] if k else range(lengths[b]):
                now = step_of(network, p, x[t, b], tuple(map(np.zeros_like, now)) if resets[t, b] else now)
                out[t, b] = now[0]
        outs.append(out)
    return np.concatenate(outs, axis=2)


@st.composite
def networks(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from([LSTM, GRU, RNN]))
    names = draw(st.tuples(*[st.sampled_from([*FUNCTIONS])] * NUMBERS[kind]))
    options: dict[str, Any] = {"bias": draw(st.booleans()), "bidirectional": draw(st.booleans())}
    if draw(st.booleans()):
        options["activations"] = names
    if kind is GRU:
        options["reset_after"] = draw(st.booleans())
    return network_of(kind, 3, draw(st.integers(1, 4)), **options)


@given(network=networks(), T=st.integers(1, 4), B=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_it_equals_a_plain_loop(network: Any, T: int, B: int, seed: int) -> None:
    """Activations, resets, lengths, and no biases, in any combination."""
    rng = np.random.default_rng(seed)
    x, states, resets = drawn(T, B, 3, seed=seed), states_of(network, B), rng.random((T, B)) < 0.3
    lengths = rng.integers(0, T + 1, B).tolist()
    state = tuple(map(tg.tensor, states)) if len(states) > 1 else tg.tensor(states[0])
    out, _ = network(tg.tensor(x), state, lengths, resets)
    np.testing.assert_allclose(host(out), expected_of(network, x, states, resets, lengths), rtol=1e-9, atol=1e-11)
    plain, _ = network(tg.tensor(x), state, lengths)
    expected = expected_of(network, x, states, np.zeros_like(resets), lengths)
    np.testing.assert_allclose(host(plain), expected, rtol=1e-9, atol=1e-11)


@each_kind
def test_resets_cut_a_sequence_into_pieces(kind: Any, device: str) -> None:
    """Values and gradients, in layers and both directions."""
    network = network_of(kind, 3, 4, num_layers=1, bidirectional=True).to(device)
    x = tg.tensor(drawn(7, 2, 3), device=device, requires_grad=True)
    resets = np.zeros((7, 2), bool)
    resets[3] = True
    forward, _ = network(x, resets=resets)
    pieces = [network(x[a:b])[0] for a, b in ((0, 3), (3, 7))]
    backward = [network(x[a:b])[0] for a, b in ((0, 4), (4, 7))]
    expected = tg.cat([tg.cat(pieces)[..., :4], tg.cat(backward)[..., 4:]], dim=-1)
    np.testing.assert_allclose(host(forward), host(expected), atol=1e-12)
    wanted = [x, *network.parameters()]
    for one, other in zip(*(tg.grad((each * each).sum(), wanted) for each in (forward, expected)), strict=True):
        np.testing.assert_allclose(host(one), host(other), atol=1e-11)
    unchanged, _ = network(x, resets=np.zeros((7, 2), bool))
    np.testing.assert_allclose(host(unchanged), host(network(x)[0]), atol=1e-12)


@each_kind
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("T", [0, 5])
def test_a_sequence_without_a_batch(kind: Any, batch_first: bool, T: int, device: str) -> None:
    network = network_of(kind, 3, 4, num_layers=2, bidirectional=True, batch_first=batch_first).to(device)
    x, dim = tg.tensor(drawn(T, 3), device=device), 0 if batch_first else 1
    resets = np.arange(T) == 2
    for options, batched in (({}, {}), ({"resets": resets}, {"resets": np.expand_dims(resets, dim)})):
        out, state = network(x, **options)
        expected, final = network(x.unsqueeze(dim), **batched)
        assert out.shape == (T, 8) and as_parts(state)[0].shape == (4, 4)
        np.testing.assert_array_equal(host(out), host(expected).squeeze(dim))
        for one, other in zip(as_parts(state), as_parts(final), strict=True):
            np.testing.assert_array_equal(host(one), host(other)[:, 0])
    again, _ = network(x, state)
    np.testing.assert_array_equal(host(again), host(network(x.unsqueeze(dim), final)[0]).squeeze(dim))
    first, _ = network(x, lengths=[min(T, 3)])
    np.testing.assert_array_equal(host(first), host(network(x.unsqueeze(dim), lengths=[min(T, 3)])[0]).squeeze(dim))
    with pytest.raises(ValueError, match=r"of shapes? \(4, 4\)"):
        network(x, tuple(part[:, None] for part in state) if kind is LSTM else state[:, None])


@each_kind
def test_without_biases_it_is_fused_and_equals_biases_of_zeros(kind: Any, device: str) -> None:
    network = network_of(kind, 3, 4, num_layers=2, bias=False, dtype="float32").to(device)
    assert not network.options and all("weight" in name for name, _ in network.named_parameters())
    assert "bias=False" in repr(network)
    twin = kind(3, 4, num_layers=2).to(device)
    zeros = {name: np.zeros(array.shape) for name, array in twin.state_dict().items() if "bias" in name}
    twin.load_state_dict({**zeros, **network.state_dict()})
    x = tg.tensor(drawn(5, 2, 3).astype("float32"), device=device)
    out, _ = network(x)
    expected, _ = twin(x)
    np.testing.assert_array_equal(host(out), host(expected))
    found = [tg.grad((each * each).sum(), given.weight_hh_l0)[0] for each, given in ((out, network), (expected, twin))]
    np.testing.assert_array_equal(*map(host, found))
    stream = network.stream(2)
    for t in range(5):
        np.testing.assert_allclose(host(tg.tensor(stream(x[t].data), device=device)), host(out)[t], atol=1e-6)


@each_kind
def test_steps_equal_the_whole_with_any_activations(kind: Any) -> None:
    """Each activation in each place, beside different ones."""
    known = ["hard_sigmoid", "softsign", "softplus", "relu", "identity"]
    for first, apart in itertools.product(range(len(known)), (1, 2)):
        names = [known[(first + apart * place) % len(known)] for place in range(NUMBERS[kind])]
        network = network_of(kind, 3, 2, activations=names)
        x = drawn(3, 2, 3)
        out, _ = network(tg.tensor(x))
        np.testing.assert_allclose(network.stream(2)(x), host(out), atol=1e-11)


def test_default_activations_are_no_option() -> None:
    assert not LSTM(3, 4, activations=["sigmoid", "tanh", "tanh"]).options
    assert RNN(3, 4, activations=("relu",)).nonlinearity == "relu"
    assert repr(RNN(3, 4, activations=("relu",))) == repr(RNN(3, 4, nonlinearity="relu"))
    assert "activations=('relu', 'tanh')" in repr(GRU(3, 4, activations=("relu", "tanh")))
    assert RNN(3, 4).activations == ("tanh",)


@pytest.mark.parametrize(("kind", "options", "message"), [
    (LSTM, {"activations": ("sigmoid", "tanh")}, r"LSTM: expected activations, 3 of sigmoid, .*, got \('sigmoid', 'ta"),
    (LSTM, {"activations": "tanh"}, "LSTM: expected activations, 3 of .* in a tuple, got 'tanh'"),
    (GRU, {"activations": ("sigmoid", "sin")}, "GRU: expected activations, 2 of .*, got .*'sin'"),
    (RNN, {"activations": ("softsign",), "nonlinearity": "relu"}, "RNN: expected one function, got nonlinearity='relu"),
])  # fmt: skip
def test_invalid_activations_are_named(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(3, 4, **options)


# -- inspected, and in other frameworks' files -------------------------------------------------------------------------


@each_kind
def test_a_trace_shows_resets_and_no_biases(kind: Any) -> None:
    network, x = network_of(kind, 3, 4, bias=False), drawn(6, 2, 3)
    resets = np.zeros((6, 2), bool)
    resets[3, 1] = True

    class Resetting(tg.nn.Module):
        def __init__(self) -> None:
            self.network = network

        def forward(self, x: tg.Tensor) -> Any:
            return self.network(x, resets=resets)

    (layer,) = tg.inspect.trace(Resetting(), x, loss=lambda out: (out * out).sum())
    out, _ = network(tg.tensor(x), resets=resets)
    np.testing.assert_allclose(layer.h, host(out), atol=1e-6)
    assert not layer.before["h"][3, 1].any() and layer.before["h"][3, 0].any()
    assert layer.options == {"resets": True} and not layer.parameters["bias"].any()
    (fused,) = tg.inspect.trace(network, x)
    np.testing.assert_allclose(fused.h, host(network(tg.tensor(x))[0]), atol=1e-6)


@each_kind
@pytest.mark.parametrize("bidirectional", [False, True])
def test_activations_and_biases_are_exported_to_onnx(tmp_path: Path, kind: Any, bidirectional: bool) -> None:
    """A node has them; with resets, or functions that it does not have, it is a Scan."""
    names = ("hard_sigmoid", "softsign", "identity")[: NUMBERS[kind]]
    numbers = (("hard_sigmoid", 0.2, 0.5), ("elu", 0.5), ("scaled_tanh", 1.5, 0.5))[: NUMBERS[kind]]
    others = ("sparse_sigmoid", "gelu", "mish")[: NUMBERS[kind]]
    each = [{"activations": names}, {"bias": False}, {"activations": names, "bias": False}]
    for k, options in enumerate([*each, {"activations": numbers}, {"activations": others}]):
        network = network_of(kind, 3, 4, dtype="float32", bidirectional=bidirectional, **options)
        path = tmp_path / f"{k}.onnx"
        tg.io.export_onnx(network, path)
        session = onnxruntime.InferenceSession(path)
        x, states = drawn(6, 2, 3).astype("float32"), [each.astype("float32") for each in states_of(network, 2)]
        given_states = {f"{name}0": state for name, state in zip(network.STATES, states, strict=True)}
        out, *_ = session.run(None, {"x": x, **given_states})
        expected, _ = network(
            tg.tensor(x), network.state_of({name: tg.tensor(s) for name, s in given_states.items()}, x)
        )
        np.testing.assert_allclose(out, host(expected), atol=1e-5)
        if options.get("activations", names) == names:  # a node that is read again
            again, _ = kind.from_onnx(path)(
                tg.tensor(x), network.state_of({name: tg.tensor(s) for name, s in given_states.items()}, x)
            )
            np.testing.assert_allclose(host(again), host(expected), atol=1e-6)


@pytest.mark.parametrize("kind", [LSTM, RNN])
def test_resets_are_exported_to_onnx(tmp_path: Path, kind: Any) -> None:
    network = network_of(kind, 3, 4, dtype="float32", bidirectional=True)
    x, resets = drawn(6, 2, 3).astype("float32"), np.random.default_rng(3).random((6, 2)) < 0.4
    dynamic = {"x": {0: "time", 1: "batch"}, "resets": {0: "time", 1: "batch"}}
    tg.io.export_onnx(network, tmp_path / "a.onnx", {"x": x, "resets": resets}, dynamic=dynamic)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    for T, B in ((6, 2), (3, 1)):
        out, *_ = session.run(None, {"x": x[:T, :B], "resets": resets[:T, :B]})
        expected, _ = network(tg.tensor(x[:T, :B]), resets=resets[:T, :B])
        np.testing.assert_allclose(out, host(expected), atol=1e-5)


def test_pytorch_gets_no_biases_and_no_activations_that_it_lacks() -> None:
    network = network_of(GRU, 3, 4, num_layers=2, bias=False)
    assert {*network.to_torch()} == {"weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"}
    x = tg.tensor(drawn(5, 2, 3))
    for options in ({}, {"bias": False}):
        back = GRU.from_torch(network.to_torch(), **options)
        assert back.bias is not bool(options)
        np.testing.assert_allclose(host(back(x)[0]), host(network(x)[0]), atol=1e-12)
    with pytest.raises(ValueError, match="GRU: bias=False is given, but the arrays have bias_hn_l0, bias_l0"):
        GRU.from_torch(network_of(GRU, 3, 4).to_torch(), bias=False)
    names = ("hard_sigmoid", "tanh", "relu")
    assert LSTM.from_torch(LSTM(3, 4).to_torch(), activations=names).activations == names
    with pytest.raises(ValueError, match=r"LSTM\.to_torch: PyTorch has no LSTM with the activations"):
        LSTM(3, 4, activations=("hard_sigmoid", "tanh", "tanh")).to_torch()
    with pytest.raises(ValueError, match=r"RNN\.to_torch: PyTorch has no RNN with the activations"):
        tg.io.to_torch(RNN(3, 4, activations=("softsign",)))
    assert "bias_ih_l0" in RNN(3, 4, nonlinearity="relu").to_torch()
