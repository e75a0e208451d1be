"""Networks of every variant with drawn parameters, and their inputs and states."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN

EACH: list[tuple[Any, dict[str, Any]]] = [
    (LSTM, {"proj_size": 2}),
    (LSTM, {"peephole": True}),
    (LSTM, {"layer_norm": "cell"}),
    (LSTM, {"layer_norm": "output"}),
    (LSTM, {"proj_size": 2, "peephole": True, "layer_norm": "cell"}),
    (LSTM, {"proj_size": 2, "peephole": True, "layer_norm": "output"}),
    (GRU, {"reset_after": False}),
    (RNN, {"nonlinearity": "relu"}),
]
each_variant = pytest.mark.parametrize(("kind", "options"), EACH, ids=[str(options) for _, options in EACH])


def drawn(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def network_of(kind: Any, *sizes: int, dtype: str = "float64", **settings: Any) -> Any:
    """A network whose parameters are all random, norms and biases too."""
    network = kind(*sizes, **settings)
    rng = np.random.default_rng(2)
    network.load_state_dict({name: rng.normal(0, 0.7, value.shape) for name, value in network.state_dict().items()})
    return network.to(dtype=dtype)


def states_of(network: Any, B: int) -> list[np.ndarray]:
    places = network.num_layers * (1 + network.bidirectional)
    return [drawn(places, B, size, seed=k) for k, size in enumerate(network.state_sizes.values())]


def given_as(states: Sequence[Any]) -> Any:
    """States as a network takes them."""
    return tuple(states) if len(states) > 1 else states[0]


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def host(tensor: tg.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """A kind, options, sizes, and lengths."""
    H, T, B = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    lstm = {
        "proj_size": draw(st.integers(0, H - 1)),
        "peephole": draw(st.booleans()),
        "layer_norm": draw(st.sampled_from([None, "cell", "output"])),
    }
    kind, options = draw(
        st.sampled_from([(LSTM, lstm), (LSTM, lstm), (GRU, {"reset_after": False}), (RNN, {"nonlinearity": "relu"})])
    )
    settings = {
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    }
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    I = draw(st.integers(1, 3))
    return {"kind": kind, "settings": settings | options, "T": T, "B": B, "I": I, "H": H, "lengths": lengths}
