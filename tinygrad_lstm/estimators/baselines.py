"""Simple predictions, beside which those of a network must be seen."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinygrad_lstm.backends.base import HostArray

__all__ = ["LinearBaseline", "summary_of"]

Floats = npt.NDArray[np.float64]

PENALTY = 1.0
"""That of ridge regression, for standardised summaries."""


def summary_of(sequences: Sequence[HostArray]) -> Floats:
    """The mean and the standard deviation of each feature over time, and the number of steps, (N, 2F + 1).

    The order of the steps has no effect on it.
    """
    rows = []
    for sequence in sequences:
        wide = sequence.astype(np.float64)
        mean, deviation = wide.mean(0), wide.std(0)
        deviation[deviation < 1e-9 * np.abs(mean)] = 0  # that of equal numbers is not exactly 0
        rows.append(np.concatenate([mean, deviation, [len(wide)]]))
    return np.stack(rows)


class LinearBaseline:
    """Ridge regression on the summary of each sequence.

    Args:
        sequences: arrays (T_b, F).
        targets: the numbers to predict, (N, O).

    >>> import numpy as np
    >>> sequences = [np.full((3, 1), k) for k in range(100)]
    >>> LinearBaseline(sequences, np.arange(100.0)[:, None]).predict([np.full((3, 1), 7)]).round(1).tolist()
    [[7.4]]
    """

    def __init__(self, sequences: Sequence[HostArray], targets: HostArray) -> None:
        summary = summary_of(sequences)
        self._center, scale = summary.mean(0), summary.std(0)
        self._scale = np.where(scale > 1e-9 * np.abs(self._center), scale, np.inf)  # what is constant becomes 0
        x = (summary - self._center) / self._scale
        self._mean = targets.mean(0)
        self._weights = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ (targets - self._mean))

    def predict(self, sequences: Sequence[HostArray]) -> Floats:
        """The predictions (N, O)."""
        predicted: Floats = (summary_of(sequences) - self._center) / self._scale @ self._weights + self._mean
        return predicted
