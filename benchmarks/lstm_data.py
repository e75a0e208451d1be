"""The sizes, weights and inputs from which every side of `lstm.py` computes, and the names of its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

VOCABULARY = 65  # characters, as in the collected Shakespeare
MAX_NORM = 1.0
DEVICE, PRECISION = "LSTM_BENCHMARK_DEVICE", "LSTM_BENCHMARK_PRECISION"  # of the environment
LEARNING_RATE = 1e-3

GRADIENTS = ("out", "gradient of x", "gradient of weight_ih", "gradient of weight_hh", "gradient of the bias")
STREAMED = ("out", "h", "c")


class Sizes(NamedTuple):
    """Steps, batch, input size, hidden size."""

    T: int
    B: int
    I: int
    H: int

    def __str__(self) -> str:
        return f"({self.T}, {self.B}, {self.I}, {self.H})"


class Arrays:
    """The weights of a layer, inputs (T, B, I) and the gradient of the outputs (T, B, H)."""

    def __init__(self, sizes: Sizes) -> None:
        T, B, I, H = sizes
        rng = np.random.default_rng(0)
        self.weight_ih, self.weight_hh = _weights(rng, 4 * H, I, bound=H**-0.5), _weights(rng, 4 * H, H, bound=H**-0.5)
        self.bias = _weights(rng, 4 * H, bound=H**-0.5)
        self.x = rng.standard_normal((T, B, I), np.float32)
        self.g_out = rng.standard_normal((T, B, H), np.float32)


class TextArrays:
    """The weights around a layer in a character model, ids and targets (T, B)."""

    def __init__(self, sizes: Sizes) -> None:
        T, B, I, H = sizes
        rng = np.random.default_rng(1)
        self.embedding = rng.standard_normal((VOCABULARY, I), np.float32)
        self.weight, self.bias = _weights(rng, VOCABULARY, H, bound=H**-0.5), _weights(rng, VOCABULARY, bound=H**-0.5)
        self.ids, self.targets = rng.integers(VOCABULARY, size=(2, T, B))


def _weights(rng: np.random.Generator, *shape: int, bound: float) -> np.ndarray:
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def named(names: Sequence[str], to_numpy: Callable[[Any], np.ndarray]) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """For `Case.arrays`: the results that a call gives in this order."""
    return lambda results: {name: to_numpy(result) for name, result in zip(names, results, strict=True)}
