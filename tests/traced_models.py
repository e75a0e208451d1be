"""Models to trace, the same computed by cells that are unrolled by hand, and what compares them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.inspect import LayerTrace, Trace
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tinygrad_lstm.random import random_state, restored_random_state

CELLS: dict[Any, Any] = {LSTM: LSTMCell, GRU: GRUCell, RNN: RNNCell}
VALUES = {"LSTM": "ifgoch", "GRU": "rznh", "RNN": "h"}
every_kind = pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)

States = tuple[tg.Tensor, ...]


@dataclass
class Unrolled:
    """A layer in one direction, as its cell computes it: of each step what it was given, and what it computed."""

    name: str
    steps: dict[int, Any] = field(default_factory=dict)
    before: dict[int, States] = field(default_factory=dict)


def going_of(lengths: np.ndarray | None, T: int, B: int) -> np.ndarray:
    """Whether each sequence is going at each step, (T, B)."""
    return np.arange(T)[:, None] < (np.full(B, T) if lengths is None else lengths)


def cell_of(network: Any, place: str) -> Any:
    """The cell of a layer in one direction, made of the network's own parameters."""
    weights = network.layer_parameters(place)
    if not isinstance(network, GRU):
        weights["weight"] = tg.cat([weights.pop("weight_hh"), weights.pop("weight_ih")], 1)
    H = network.hidden_size
    I = network.input_size if place.startswith("l0") else H * len(network._directions)
    with restored_random_state(random_state()):  # initial weights are not to draw what dropout will
        cell = CELLS[type(network)](I, H)
    vars(cell).update(weights)  # beside Module's guard: tensors of a graph in place of parameters
    return cell


def unrolled(
    network: Any, x: tg.Tensor, state: States | None = None, lengths: np.ndarray | None = None
) -> tuple[tg.Tensor, States, list[Unrolled]]:
    """The outputs (T, B, ·), the final states, and the steps of all layers, of x (T, B, I)."""
    T, B = x.shape[:2]
    masks = tg.tensor(going_of(lengths, T, B)[:, :, None], device=x.device)
    x = tg.where(masks, x, 0.0)
    finals: list[States] = []
    layers: list[Unrolled] = []
    for layer in range(network.num_layers):
        outs = []
        for direction in network._directions:
            place = f"l{layer}{direction}"
            cell, record, hs = cell_of(network, place), Unrolled(place), [x] * T
            zeros = tg.zeros(B, network.hidden_size, dtype=x.dtype, device=x.device)
            states = tuple(part[len(finals)] for part in state) if state else (zeros,) * len(network.STATES)
            for t in reversed(range(T)) if direction else range(T):
                gates = cell.gates(x[t], states if len(states) > 1 else states[0])
                record.steps[t], record.before[t] = gates, states
                hs[t] = tg.where(masks[t], gates.h, 0.0)
                after = (getattr(gates, name) for name in network.STATES)
                states = tuple(tg.where(masks[t], new, old) for new, old in zip(after, states))
            outs.append(tg.stack(hs))
            finals.append(states)
            layers.append(record)
        x = tg.cat(outs, -1)
        if layer < network.num_layers - 1:
            x = tg.dropout(x, network.dropout, network.training)
    return x, tuple(tg.stack(list(parts)) for parts in zip(*finals)), layers


def host(tensor: tg.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def assert_close(actual: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Equal but for rounding errors of the dtype, of numbers as large as the largest."""
    assert isinstance(actual, np.ndarray)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=60 * largest * np.finfo(expected.dtype).eps, err_msg=what)


def assert_traced(layer: LayerTrace, expected: Unrolled, going: np.ndarray, loss: tg.Tensor | None) -> None:
    """The trace is that of these steps, and its gradients are those that `tg.grad` gives of them."""
    T = len(going)
    names = expected.steps[0]._fields
    assert "".join(names) == "".join(layer.values) == VALUES[layer.kind]
    np.testing.assert_array_equal(layer.going, going)

    def stacked(tensors: Sequence[tg.Tensor | None], like: tg.Tensor) -> np.ndarray:
        steps = [np.zeros_like(host(like)) if tensor is None else host(tensor) for tensor in tensors]
        return np.where(going[:, :, None], steps, 0).astype(like.dtype)

    for name in names:
        tensors = [getattr(expected.steps[t], name) for t in range(T)]
        assert_close(layer.values[name], stacked(tensors, tensors[0]), f"{layer.name} {name}")
        if loss is None:
            assert not layer.gradients
            continue
        found = tg.grad(loss, tensors, retain_graph=True, allow_unused=True)
        assert_close(layer.gradients[name], stacked(found, tensors[0]), f"{layer.name} gradient of {name}")
    for k, name in enumerate(layer.before):
        states = [expected.before[t][k] for t in range(T)]
        assert_close(layer.before[name], stacked(states, states[0]), f"{layer.name} {name} before")


def score(*outputs: tg.Tensor) -> tg.Tensor:
    """A scalar that depends on each number in its own way."""
    rng = np.random.default_rng(5)
    total = 0.0
    for part in outputs:
        weights = tg.tensor(rng.uniform(-1, 1, part.shape).astype(part.dtype), device=part.device)
        total = total + (part * weights).sum()
    return total


def itself(value: tg.Tensor) -> tg.Tensor:
    """The loss of a model whose output is one."""
    return value


def drawn_model(
    make: Callable[..., Any], *sizes: int, dtype: str = "float64", device: str = "cpu", **options: Any
) -> Any:
    """A model with random weights."""
    model = make(*sizes, **options)
    rng = np.random.default_rng(3)
    model.load_state_dict({name: rng.normal(0, 0.6, array.shape) for name, array in model.state_dict().items()})
    return model.to(device, dtype)


def drawn(*shape: int, dtype: str = "float64", seed: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def assert_same(one: Trace, other: Trace) -> None:
    """The same names, and the same numbers but for rounding."""
    assert [layer.name for layer in one] == [layer.name for layer in other]
    for a, b in zip(one, other):
        assert (a.kind, a.reverse, a.shape) == (b.kind, b.reverse, b.shape)
        assert_close(a.inputs, b.inputs)
        for mine, yours in ((a.values, b.values), (a.gradients, b.gradients), (a.before, b.before)):
            assert list(mine) == list(yours)
            for name in mine:
                assert_close(mine[name], yours[name], f"{a.name} {name}")


class Looping(nn.Module):
    """A cell in a loop over the vectors of ids."""

    def __init__(self, hidden_size: int = 4) -> None:
        self.embedding, self.cell = nn.Embedding(7, 3), LSTMCell(3, hidden_size)

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        state, outs = None, []
        for step in self.embedding(ids):
            state = self.cell(step, state)
            outs.append(state[0])
        return tg.stack(outs)
