"""Keeping gradients small: clipping by their norm and by value, in place."""

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
    """The gradients that hold numbers, each once."""
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
    """Scales all gradients by one factor, so that the norm of all of them together is at most `max_norm`.

    Norm and factor are computed in wider dtypes than the gradients', so that neither overflows nor vanishes.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).

    Args:
        parameters: tensors whose `.grad` is scaled in place; those without one are passed over.
        max_norm: the largest norm.
        norm_type: which norm, 2 or any other above 0; `math.inf` is the largest absolute value.
        error_if_nonfinite: raise if the norm is infinite or NaN. By default the gradients are scaled all the same,
            which leaves zeros and NaNs.

    Returns:
        The norm before, 0-d, on the first gradient's device; float32 of float16 gradients. Its value is read on the
        host only with `error_if_nonfinite`.

    Raises:
        RuntimeError: with `error_if_nonfinite`, the norm is infinite or NaN; the gradients stay as they are.
        TypeError: something else than a tensor is among them.
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
    """The norm of all gradients together, in float64: by one pass over each and without temporaries.

    float64 has no wider dtype in which its squares fit: such gradients are scaled first, each by itself.
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
        TypeError: something else than a tensor is among the parameters.
        ValueError: `clip_value` is negative.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be 0 or more, got {clip_value}")
    for g in _gradients("clip_grad_value_", parameters):
        g._mark_written()
        with g.device.current():
            g.device.xp.clip(g._array, -clip_value, clip_value, out=g._array)
