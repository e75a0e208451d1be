"""Gradient clipping by norm and by value, in place."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT64, promoted_dtype, widened_dtype

from .._tensor import Tensor
from ..creation import zeros
from ..device import Device
from ..mode import no_grad
from ..ops import norm, stack
from ..ops.reduction import widened

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _gradients(name: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The gradients that are not empty, each once."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for parameter in given:
        if not isinstance(parameter, Tensor):
            raise TypeError(f"{name}: expected tensors, got {type(parameter).__name__}")
    return list({id(p.grad): p.grad for p in given if p.grad is not None and p.grad.size}.values())


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scales all gradients by one factor, so that their total norm is at most `max_norm`.

    The norm and the factor are computed in a wider dtype than the gradients, so that they do not overflow or vanish.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).

    Args:
        parameters: tensors whose `.grad` is scaled in place; those without a gradient are skipped.
        max_norm: the largest norm.
        norm_type: the p of the p-norm, above 0; `math.inf` is the largest absolute value.
        error_if_nonfinite: whether to raise if the norm is infinite or NaN. By default the gradients are scaled, which
            makes zeros and NaNs.

    Returns:
        The norm before clipping, 0-d, on the first gradient's device; float32 for float16 gradients. It is copied to
        the host only with `error_if_nonfinite`.

    Raises:
        RuntimeError: with `error_if_nonfinite`, the norm is infinite or NaN; the gradients are unchanged.
        TypeError: a parameter is not a tensor.
        ValueError: `max_norm` is negative, or `norm_type` is not above 0.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> tg.optim.clip_grad_norm_([x], max_norm=1.0)
    tensor(5.)
    >>> round(x.grad.norm().item(), 5)
    1.0
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be 0 or more, got {max_norm}")
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0, got {norm_type}")
    gradients = _gradients("clip_grad_norm_", parameters)
    if not gradients:
        return zeros(())
    device = gradients[0].device
    if norm_type == 2:
        total = _euclidean_norm(gradients, device)
    else:
        total = _norm_of_norms([norm(widened(g), norm_type) for g in gradients], norm_type, device)
    if error_if_nonfinite and not math.isfinite(size := total.item()):
        raise RuntimeError(
            f"clip_grad_norm_: the norm of the gradients is {size}; skip this step or lower the learning rate "
            "(tg.detect_anomaly() names the op that makes a NaN)"
        )
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for (place, dtype), arrays in _together(gradients).items():
        with place.current():
            place.backend.scale(arrays, factor.to(place, widened_dtype(dtype))._array)
    for g in gradients:
        g._mark_written()
    return total.to(dtype=widened_dtype(promoted_dtype({g.dtype for g in gradients})))


def _together(gradients: list[Tensor]) -> dict[tuple[Device, np.dtype[Any]], list[Array]]:
    """The gradients' arrays, by device and dtype."""
    groups: dict[tuple[Device, np.dtype[Any]], list[Array]] = {}
    for g in gradients:
        groups.setdefault((g.device, g.dtype), []).append(g._array)
    return groups


def _euclidean_norm(gradients: list[Tensor], device: Device) -> Tensor:
    """The total norm of all gradients, in float64: one pass over each, without temporaries.

    There is no wider dtype for the squares of float64 gradients: each of these is scaled first.
    """
    norms = []
    for (place, dtype), arrays in _together(gradients).items():
        if dtype == FLOAT64:
            norms += [norm(Tensor._wrap(array, place)) for array in arrays]
            continue
        with place.current():
            squares = place.backend.as_array(place.backend.sum_of_squares(arrays))
        norms.append(Tensor._wrap(squares, place).sqrt())
    return _norm_of_norms(norms, 2.0, device)


def _norm_of_norms(norms: list[Tensor], norm_type: float, device: Device) -> Tensor:
    return norm(stack([each.to(device) for each in norms]), norm_type) if len(norms) > 1 else norms[0]


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limits each element of the gradients to [-clip_value, clip_value], in place.

    Raises:
        TypeError: a parameter is not a tensor.
        ValueError: `clip_value` is negative.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be 0 or more, got {clip_value}")
    for g in _gradients("clip_grad_value_", parameters):
        g._mark_written()
        with g.device.current():
            g.device.xp.clip(g._array, -clip_value, clip_value, out=g._array)
