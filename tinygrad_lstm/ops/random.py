"""Ops that draw random numbers, which are the same on every device. `tg.manual_seed` seeds them."""

import math
from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT64, is_float, limits, widened_dtype

from .._tensor import Tensor
from ..arguments import integer
from ..creation import rand
from ..mode import mode
from ..random import draw_key
from .cumulative import cumsum
from .define import composite, op, shown_whole
from .elementwise import log, log1p, where
from .reduction import amax
from .sorting import searchsorted, topk

__all__ = ["bernoulli", "dropout", "multinomial"]


@op(promotion="float", x=lambda g, p, key, F: F.dropout_op(g, p, key), name="dropout")
def dropout_op(backend: Any, x: Array, p: float, key: int) -> Array:
    """x with elements dropped, as `key` determines, and the others divided by 1 - p."""
    return backend.dropout(x, p, key)


@composite
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Sets each element to 0 with probability p, and divides the others by 1 - p (Srivastava et al. 2014).

    Returns x if `training` is False.

    Raises:
        ValueError: p is not within [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}; expected a probability from 0 to 1")
    if not training or p == 0:
        return x
    if p == 1:
        return where(False, x, 0)
    tracer = mode().value.tracer
    kept = None if tracer is None else tracer.see_dropout(x, p)
    if kept is not None:
        return where(kept, x * (1 / (1 - p)), 0)
    return dropout_op(x, float(p), draw_key())


def _check_weights(name: str, x: Tensor, highest: float) -> None:
    """Raises if x is not of floats, or an element of x on the CPU is negative, NaN or above `highest`."""
    if not is_float(x.dtype):
        raise TypeError(f"{name}: x is of {x.dtype}; expected floats")
    if x.device == "cpu" and x.size and not (x._array.min() >= 0 and x._array.max() <= highest):
        wrong = x._array[~((x._array >= 0) & (x._array <= highest))].flat[0]
        raise ValueError(f"{name}: {wrong} in x of shape {x.shape}; expected numbers from 0 to {highest}")


@composite
@shown_whole
def bernoulli(x: Tensor) -> Tensor:
    """For each probability in x: 1 with this probability, otherwise 0, in x's dtype. They have no gradient.

    Raises:
        TypeError: x is not of floats.
        ValueError: a probability is not within [0, 1] (not checked on a GPU).
    """
    _check_weights("bernoulli", x, 1)
    drawn: Tensor = rand(x.shape, dtype=widened_dtype(x.dtype), device=x.device) < x
    return drawn.to(dtype=x.dtype)


@composite
@shown_whole
def multinomial(x: Tensor, num_samples: int, replacement: bool = False) -> Tensor:
    """Indices drawn with probabilities proportional to weights x (C,), or to each row of x (N, C), as int64.

    The result is (num_samples,), or (N, num_samples). An index of weight 0 is never drawn; PyTorch draws it if there
    are too few others.

    Args:
        replacement: whether an index of a row may be drawn more than once.

    Raises:
        TypeError: x is not of floats, or `num_samples` is not an integer.
        ValueError: x has no dimension, or more than two; `num_samples` is not positive, or without replacement larger
            than C. On the CPU also: a weight is negative or not finite; a row has too few positive weights.

    >>> import tinygrad_lstm as tg
    >>> tg.multinomial(tg.tensor([0.0, 1.0]), 3, replacement=True)
    tensor([1, 1, 1])
    """
    num_samples = integer("multinomial", "num_samples", num_samples)
    if x.ndim not in (1, 2) or num_samples < 1:
        raise ValueError(
            f"multinomial: {num_samples} samples of weights of shape {x.shape}; expected one or two dimensions, and at "
            "least one sample"
        )
    _check_weights("multinomial", x, limits(x.dtype)[1])
    needed = 1 if replacement else num_samples
    positive = (x._array > 0).sum(-1).min(initial=needed) if x.device == "cpu" else x.shape[-1]
    if positive < needed:
        raise ValueError(
            f"multinomial: {positive} positive weights in a row of {x.shape[-1]}; expected {needed} or more"
        )
    weights = x.detach().to(dtype=FLOAT64)
    if needed == 1:
        ends = cumsum(weights / amax(weights, -1, keepdim=True), -1)
        drawn = rand(*x.shape[:-1], num_samples, dtype=FLOAT64, device=x.device)
        return searchsorted(ends, drawn * ends[..., -1:], right=True)
    # The order in which exponential clocks at rates of these weights ring is one of draws without replacement.
    clocks = -log1p(-rand(x.shape, dtype=FLOAT64, device=x.device))
    scores = where(weights > 0, log(where(weights > 0, weights, 1.0)) - log(clocks), -math.inf)
    return topk(scores, num_samples).indices
