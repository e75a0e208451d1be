"""Inputs with a mean of 0 and a standard deviation of 1."""

from __future__ import annotations

from collections.abc import Iterable

from tinygrad_lstm._tensor import Tensor, tensor
from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.creation import ones, zeros
from tinygrad_lstm.data.standardization import Standardization
from tinygrad_lstm.nn import Module

__all__ = ["Standardize"]


class Standardize(Module):
    """Subtracts a mean from each feature and divides by a standard deviation.

    Both are buffers: they are saved and moved with a model's parameters, and not trained.

    Args:
        size: F, the number of features.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> standardize = Standardize(2)
    >>> standardize.measure([np.array([[1.0, 5.0], [3.0, 5.0]])])
    >>> standardize(tg.tensor([[4.0, 6.0]])).tolist()
    [[2.0, 1.0]]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", zeros(size))
        self.register_buffer("std", ones(size))

    def measure(self, sequences: Iterable[HostArray]) -> None:
        """Sets the mean and the standard deviation to those of all steps of sequences (T_b, F).

        Raises:
            ValueError: as `data.Standardization.fit`, which measures them.
        """
        fitted = Standardization.fit(sequences)
        for name, values in (("mean", fitted.mean), ("std", fitted.std)):
            like = getattr(self, name)
            self.register_buffer(name, tensor(values, dtype=like.dtype, device=like.device))

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean) / std, for x (..., F)."""
        return (x - self.mean) / self.std
