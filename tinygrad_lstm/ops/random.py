"""Ops that draw random numbers, on the host: the same ones on every device."""

import numpy as np

from ..random import generator
from ..tensor import Tensor, as_tensor
from .define import composite
from .elementwise import where

__all__ = ["dropout"]


@composite
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """x with each element made 0 with probability p, and the others divided by 1 - p (Srivastava et al. 2014).

    The gradient passes where the element did. Not in training, x itself.

    Raises:
        ValueError: p is not within [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}; expected a probability from 0 to 1")
    if not training or p == 0:
        return x
    kept = as_tensor(generator().random(x.shape, dtype=np.float32) >= p, x.device)
    return where(kept, x, 0) * (1 / (1 - p) if p < 1 else 0.0)
