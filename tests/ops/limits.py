"""Extreme inputs, and checks that an op's value and derivatives are the limits there."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]
Slopes = Callable[..., Sequence[Any]]

INF, NAN = math.inf, math.nan
DTYPES = ["float16", "float32", "float64"]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def extremes(dtype: str, largest: bool = True) -> HostArray:
    info = np.finfo(dtype)
    numbers = [0.0, float(info.smallest_subnormal), float(info.smallest_normal), 0.5, 1.0, 2.0, INF]
    numbers += [float(info.max)] * largest
    return np.array([*numbers, *(-x for x in numbers), NAN], dtype)


def run(call: Callable[..., tg.Tensor], arrays: Sequence[HostArray], device: str) -> list[HostArray]:
    """The result, and its sum's gradients; zeros where none reaches an input."""
    tensors = [tg.tensor(array, device=device, requires_grad=True) for array in arrays]
    out = call(*tensors)
    found = tg.grad(out, tensors, tg.ones_like(out), allow_unused=True)
    gradients = [tg.zeros_like(x) if g is None else g for x, g in zip(tensors, found, strict=True)]
    return [tensor.detach().cpu().numpy() for tensor in (out, *gradients)]


def assert_limits(found: HostArray, expected: Any, dtype: str, what: str) -> None:
    """Equal but for rounding; what the dtype cannot hold is infinite, or zero or nearly so."""
    info = np.finfo(dtype)
    with np.errstate(over="ignore"):
        rounded = np.broadcast_to(np.asarray(expected), found.shape).astype(dtype)
    assert found.dtype == dtype, what
    least = 2 * info.smallest_subnormal if dtype == "float16" else info.smallest_normal
    np.testing.assert_allclose(
        found.astype("longdouble"), rounded.astype("longdouble"), 16 * info.eps, float(least), err_msg=what
    )


def check(
    call: Callable[..., tg.Tensor],
    reference: Callable[..., Any],
    slopes: Slopes,
    arrays: Sequence[HostArray],
    dtype: str,
    device: str,
    what: str,
    made: str | None = None,
) -> None:
    """Holds an elementwise function to a reference and its slopes; without warnings where all of these are finite."""
    wide = [array.astype("longdouble") for array in arrays]
    dtypes = [made or dtype, *[dtype] * len(arrays)]  # of the value, and of the derivatives
    with np.errstate(all="ignore"):
        expected = [np.broadcast_to(np.asarray(e), arrays[0].shape) for e in (reference(*wide), *slopes(*wide))]
        finite = np.all([np.isfinite(e.astype(kind)) for e, kind in zip(expected, dtypes, strict=True)], axis=0)
        found = run(call, arrays, device)
    for part, (mine, other, kind) in enumerate(zip(found, expected, dtypes, strict=True)):
        # At -0 an infinite derivative has the sign that IEEE gives to 1 / -0.
        at_minus_zero = np.any([(a == 0) & np.signbit(a) for a in arrays], axis=0) & np.isinf(other) & (part > 0)
        mine, other = (np.where(at_minus_zero, np.abs(values), values) for values in (mine, other))
        assert_limits(mine, other, kind, f"{what}, {'the value' if part == 0 else f'the derivative in input {part}'}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(call, [array[finite] for array in arrays], device)
