"""What layers do at random in training."""

from collections.abc import Sequence

from .... import ops
from ...._tensor import Tensor
from ....creation import ones

__all__ = ["alpha_dropout", "kept"]

_LIMIT = -1.7580993408473766  # of selu, for ever smaller numbers


def kept(x: Tensor, rate: float, shape: Sequence[int]) -> Tensor:
    """What the elements of x are multiplied by: 0 with probability `rate`, otherwise 1 / (1 - rate).

    Args:
        x: says the dtype and the device.
        rate: the probability.
        shape: the shape of the result. Elements of x have the same choice along dimensions of length 1.
    """
    out: Tensor = ops.dropout(ones(*shape, dtype=x.dtype, device=x.device), rate)
    return out


def alpha_dropout(x: Tensor, rate: float, shape: Sequence[int]) -> Tensor:
    """Sets elements to the limit of selu with probability `rate`, and keeps mean and variance (Klambauer et al. 2017).

    Args:
        x: of any shape.
        rate: the probability. If it is 1, all elements become 0.
        shape: the shape of the choices, as for `kept`.
    """
    if rate == 1:
        return ops.where(False, x, 0)
    scale = ((1 - rate) * (1 + rate * _LIMIT**2)) ** -0.5
    out: Tensor = ops.where(kept(x, rate, shape) > 0, x, _LIMIT) * scale - scale * _LIMIT * rate
    return out
