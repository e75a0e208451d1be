"""Damaged files of weights: what reading them may do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tinygrad_lstm.io import Weights, load_weights


def check_read_or_refused(path: Path, content: bytes, times_as_large: int) -> None:
    """Checks that a file of this content is read, as arrays not much larger than it, or refused in a line naming it."""
    path.write_bytes(content)
    try:
        weights = load_weights(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert isinstance(weights, Weights)
        assert sum(array.nbytes for array in weights.values()) <= times_as_large * len(content)


def lstm_steps(
    x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray, gate: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The outputs (T, H) of an LSTM of Keras's arrays with this function for its gates."""
    h = c = np.zeros(len(recurrent))
    outputs = []
    for x_t in x:
        i, f, g, o = np.split(x_t @ kernel + h @ recurrent + bias, 4)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)
