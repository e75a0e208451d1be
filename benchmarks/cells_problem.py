"""What every side of `cells.py` computes from: a cell's parameters, its inputs, and the gradient of its outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from lstm_data import Sizes


@dataclass(frozen=True)
class Problem:
    """A cell over a batch of sequences, forward and backward. It begins at states of zeros.

    Args:
        cell: its name in the atlas.
        sizes: T, B, I and H.
        parameters: by name.
        states: the shapes of the states of one sequence, the output first.
        x: the inputs (T, B, I).
        g_out: the gradient of the outputs (T, B, ...).
    """

    cell: str
    sizes: Sizes
    parameters: dict[str, np.ndarray]
    states: list[tuple[int, ...]]
    x: np.ndarray
    g_out: np.ndarray

    @property
    def results(self) -> list[str]:
        """The names of what is computed: the outputs, and the gradients of x and of the parameters."""
        return ["out", "gradient of x", *(f"gradient of {name}" for name in self.parameters)]

    def to(self, dtype: type[np.floating]) -> Problem:
        """The same in a different dtype."""
        parameters = {name: array.astype(dtype) for name, array in self.parameters.items()}
        return replace(self, parameters=parameters, x=self.x.astype(dtype), g_out=self.g_out.astype(dtype))

    def of_sequences(self, B: int) -> Problem:
        """The first B sequences."""
        return replace(self, sizes=self.sizes._replace(B=B), x=self.x[:, :B], g_out=self.g_out[:, :B])


def problem_of(cell: str, sizes: Sizes) -> Problem:
    """A problem in float64. Each parameter is the cell's initial one and a little noise, so that no bias is 0."""
    import tinygrad_lstm as tg
    from tinygrad_lstm.models.atlas import ATLAS

    tg.manual_seed(0)
    T, B, I, H = sizes
    rng, made = np.random.default_rng(0), ATLAS[cell](I, H)
    parameters = {name: array + rng.uniform(-0.05, 0.05, array.shape) for name, array in made.state_dict().items()}
    states = list(made.state_shapes().values())
    return Problem(
        cell, sizes, parameters, states, rng.standard_normal((T, B, I)), rng.standard_normal((T, B, *states[0]))
    )
