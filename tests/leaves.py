"""Leaves of graphs, and their gradients."""

from typing import Any

import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor

F64 = np.float64


def leaf(*values: float) -> Tensor:
    """A float64 leaf that requires a gradient: 0-d for one value, else 1-d."""
    return tg.tensor(values[0] if len(values) == 1 else values, dtype=F64, requires_grad=True)


def given(x: Tensor) -> Any:
    """The gradient of a leaf, as nested lists."""
    assert x.grad is not None
    return x.grad.tolist()
