"""Cells and networks against PyTorch's values and gradients, in float64 to 1e-10."""

from typing import Any

import numpy as np
import pytest
from golden.load import load, options

import tinygrad_lstm as tg
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tinygrad_lstm.nn import Module

NETWORKS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
CASES = [(file, case) for file in (*NETWORKS, "variants") for case in options(file)]


def leaf(array: np.ndarray, device: str) -> tg.Tensor:
    return tg.tensor(array, device=device, requires_grad=True)


def assert_close(actual: tg.Tensor | None, expected: np.ndarray) -> None:
    assert actual is not None
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual.detach().cpu().numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("file", "case"), CASES)
def test_network_agrees_with_torch(file: str, case: str, device: str) -> None:
    """Layers, both directions, lengths, batch_first, initial states, options; gradients of everything there is."""
    golden, settings = load(file, case), options(file)[case]
    kind = settings.pop("kind", file)
    make: Any = NETWORKS[kind]
    hidden_size = len(golden["weight_ih_l0"]) // len(KINDS[make.KIND].gates)
    network = make(golden["x"].shape[-1], hidden_size, **settings).to(device, dtype="float64")
    network.load_state_dict({name: golden[name] for name in network.state_dict()})

    x = leaf(golden["x"], device)
    states = {name: leaf(golden[name], device) for name in ("h0", "c0") if name in golden}
    out, final = network(x, tuple(states.values()) if kind == "lstm" else states["h0"], lengths=golden.get("lengths"))
    finals = dict(zip(("h", "c"), final if kind == "lstm" else (final,)))

    assert_close(out, golden["out"])
    loss = (out * tg.tensor(golden["w_out"], device=device)).sum()
    for name, value in finals.items():
        assert_close(value, golden[f"{name}_n"])
        loss = loss + (value * tg.tensor(golden[f"w_{name}"], device=device)).sum()

    loss.backward()
    for name, value in {"x": x, **states, **dict(network.named_parameters())}.items():
        assert_close(value.grad, golden[f"grad_{name}"])


def joined(golden: dict[str, np.ndarray], prefix: str = "") -> np.ndarray:
    """torch's two weights as one over [h, x]."""
    return np.concatenate([golden[f"{prefix}weight_hh"], golden[f"{prefix}weight_ih"]], axis=1)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_cell_agrees_with_torch(kind: str, device: str) -> None:
    golden = load("cells", kind)
    sizes = golden["x"].shape[1], golden["h0"].shape[1]
    cell: Module = {"lstm": LSTMCell, "gru": GRUCell, "rnn": RNNCell}[kind](*sizes)
    cell.to(device, dtype="float64")
    expected: dict[str, Any] = {name: golden[f"grad_{name}"] for name in ("x", "h0", "c0") if name in golden}
    if kind == "gru":
        names = ("weight_ih", "weight_hh", "bias", "bias_hn")
        cell.load_state_dict({name: golden[name] for name in names})
        expected |= {name: golden[f"grad_{name}"] for name in names}
    else:
        cell.load_state_dict({"weight": joined(golden), "bias": golden["bias"]})
        expected |= {"weight": joined(golden, "grad_"), "bias": golden["grad_bias"]}

    x = leaf(golden["x"], device)
    states = {name: leaf(golden[name], device) for name in ("h0", "c0") if name in golden}
    stepped = cell(x, tuple(states.values()) if kind == "lstm" else states["h0"])
    h, *rest = stepped if kind == "lstm" else (stepped,)
    assert_close(h, golden["h_n"])
    loss = (h * tg.tensor(golden["w_h"], device=device)).sum()
    for c in rest:
        assert_close(c, golden["c_n"])
        loss = loss + (c * tg.tensor(golden["w_c"], device=device)).sum()
    loss.backward()
    for name, value in {"x": x, **states, **dict(cell.named_parameters())}.items():
        assert_close(value.grad, expected[name])
