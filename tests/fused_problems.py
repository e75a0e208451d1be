"""Recurrent layers for tests: a network, what it is given, and the same computed by its cells, step by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

Parts = tuple[tg.Tensor, ...]
CELLS = {LSTM: LSTMCell, GRU: GRUCell, RNN: RNNCell}
every_kind = pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)


@dataclass(frozen=True)
class Problem:
    """One layer of a network and its arguments, all of them leaves.

    Attributes:
        state: the initial states, h or (h, c), each (D, B, H); None for zeros.
        loose: how much more than by rounding errors results may differ, which large numbers make larger.
    """

    network: Any
    x: tg.Tensor
    state: Parts | None = None
    lengths: np.ndarray | None = None
    loose: float = 1.0

    @property
    def leaves(self) -> dict[str, tg.Tensor]:
        """x, the states, and all parameters."""
        states = dict(zip("hc", self.state or ()))
        return {"x": self.x, **states, **dict(self.network.named_parameters())}

    def fused(self) -> Parts:
        """The outputs, and the final states."""
        state = self.state if self.state is None or isinstance(self.network, LSTM) else self.state[0]
        out, final = self.network(self.x, state, self.lengths)
        return out, *(final if isinstance(final, tuple) else (final,))

    def composed(self) -> Parts:
        """The same by cells, one for each direction, step by step."""
        network, x = self.network, self.x
        x = x.transpose(0, 1) if network.batch_first else x
        T, B, _ = x.shape
        in_step = None
        if self.lengths is not None:
            in_step = tg.tensor(np.arange(T)[:, None, None] < self.lengths[None, :, None], device=x.device)
            x = tg.where(in_step, x, 0.0)
        zeros = tg.zeros(2, B, network.hidden_size, dtype=x.dtype, device=x.device)
        state = self.state or (zeros,) * len(network.STATES)
        outs, finals = [], []
        for k, direction in enumerate(("", "_reverse")[: 1 + network.bidirectional]):
            cell = self._cell(direction)
            states = tuple(part[k] for part in state)
            steps: list[Any] = [None] * T
            for t in range(T) if k == 0 else reversed(range(T)):
                new = cell(x[t], states if len(states) > 1 else states[0])
                new = new if isinstance(new, tuple) else (new,)
                steps[t] = new[0] if in_step is None else tg.where(in_step[t], new[0], 0.0)
                states = new if in_step is None else tuple(map(lambda a, b: tg.where(in_step[t], a, b), new, states))
            outs.append(tg.stack(steps))
            finals.append(states)
        out = tg.cat(outs, -1)
        final = (tg.stack(list(parts)) for parts in zip(*finals, strict=True))
        return out.transpose(0, 1) if network.batch_first else out, *final

    def _cell(self, direction: str) -> Any:
        """The cell of a direction, made of the network's own parameters, so that gradients arrive there."""
        network = self.network
        cell = CELLS[type(network)](network.input_size, network.hidden_size)
        own = network.layer_parameters(f"l0{direction}")
        if not isinstance(network, GRU):
            own["weight"] = tg.cat([own.pop("weight_hh"), own.pop("weight_ih")], 1)
        vars(cell).update(own)  # beside Module's guard: tensors of a graph in place of parameters
        return cell


def problem_of(
    kind: Any,
    T: int,
    B: int,
    I: int,
    H: int,
    *,
    dtype: str = "float64",
    device: str = "cpu",
    lengths: Sequence[int] | None = None,
    with_state: bool = True,
    bidirectional: bool = False,
    batch_first: bool = False,
    scaled: str = "",
    seed: int = 0,
) -> Problem:
    """A problem of these sizes, with NaNs past a length; what is `scaled`, "x" or "weights", is 50 times as large."""
    rng = np.random.default_rng(seed)
    network = kind(I, H, bidirectional=bidirectional, batch_first=batch_first).to(device, dtype)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(dtype)

    def leaf(array: np.ndarray) -> tg.Tensor:
        return tg.tensor(array, device=device, requires_grad=True)

    for name, parameter in network.named_parameters():
        scale = H**-0.5 if "hh" in name else I**-0.5 if "ih" in name else 0.5
        with tg.no_grad():
            values = normal(*parameter.shape, scale=scale * (50 if scaled == "weights" else 1))
            parameter.copy_(tg.tensor(values, device=device))
    x = normal(T, B, I, scale=50 if scaled == "x" else 1)
    if lengths is not None:
        for b, length in enumerate(lengths):
            x[length:, b] = np.nan
    state = tuple(leaf(normal(1 + bidirectional, B, H)) for _ in network.STATES) if with_state else None
    return Problem(
        network,
        leaf(np.ascontiguousarray(x.swapaxes(0, 1)) if batch_first else x),
        state,
        None if lengths is None else np.array(lengths, np.int64),
        100.0 if scaled else 1.0,
    )


# Sizes about the widths of vector registers and of the tiles that products are computed in.
WIDTHS = st.integers(1, 5) | st.sampled_from([7, 8, 9, 15, 16, 17, 31, 33])
BATCHES = st.integers(0, 5) | st.sampled_from([13, 14, 15, 16, 29, 33])


@st.composite
def arguments(
    draw: st.DrawFn, most_steps: int = 6, batches: Any = BATCHES, widths: Any = WIDTHS, scaled: Any = ("", "", "x")
) -> dict[str, Any]:
    """Arguments of `problem_of`, but for the kind."""
    T, B = draw(st.integers(1, most_steps)), draw(batches)
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    return {
        "T": T,
        "B": B,
        "I": draw(widths),
        "H": draw(widths),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "lengths": lengths,
        "with_state": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "scaled": draw(st.sampled_from(scaled)),
        "seed": draw(st.integers(0, 999)),
    }


def host(tensor: tg.Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().cpu().numpy()


def of_nans(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array like `memory.empty`'s, whose floats are NaN."""
    dtype = np.dtype(dtype)
    return np.full(math.prod(shape) * dtype.itemsize, 255, np.uint8).view(dtype).reshape(shape)


def assert_close(actual: Any, expected: Any, loose: float = 1.0, what: str = "") -> None:
    """Equal but for rounding errors of the dtype, of numbers as large as the largest.

    Where a gate is nearly 1, what is left to 1 has lost digits, and derivatives of several steps multiply such numbers.
    """
    a, b = host(actual), host(expected)
    assert (a.dtype, a.shape) == (b.dtype, b.shape), what
    largest = max(1.0, float(np.abs(b).max(initial=0)))
    np.testing.assert_allclose(a, b, rtol=0, atol=2000 * loose * largest * np.finfo(b.dtype).eps, err_msg=what)


def assert_same(actual: Sequence[tg.Tensor], expected: Sequence[tg.Tensor]) -> None:
    """Equal to the bit."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(host(a), host(b))


def weighted(outputs: Parts, into: str = "both", seed: int = 5) -> tg.Tensor:
    """A loss that depends on the outputs, on the final states, or on both, on each number in its own way."""
    rng = np.random.default_rng(seed)
    chosen = {"out": outputs[:1], "final": outputs[1:], "both": outputs}[into]
    return sum(
        (
            (part * tg.tensor(rng.standard_normal(part.shape).astype(part.dtype), device=part.device)).sum()
            for part in chosen
        ),
        start=0.0,
    )


def gradients(outputs: Parts, inputs: Sequence[tg.Tensor], into: str = "both", **options: Any) -> list[tg.Tensor]:
    return tg.grad(weighted(outputs, into), list(inputs), **options)


INTO = st.sampled_from(["out", "final", "both"])


def large(kind: Any, seed: int = 0, **options: Any) -> Problem:
    """A problem so large that its arrays lie in memory that is used again."""
    options = {"lengths": [9, 0, 5] + [9] * 14, "bidirectional": True, "dtype": "float32", **options}
    return problem_of(kind, 9, 17, 33, 40, seed=seed, **options)
