"""σ and tanh in a form that compiles to vector instructions, accurate to the last bits of float32 and float64.

Both use e^y = 2^n·e^r, where n is the integer nearest to y / ln 2, and the series of e^r - 1 for the small remainder r
(Cody and Waite, "Software manual for the elementary functions", 1980). No branch depends on a value.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

__all__ = ["exp", "sigmoid", "tanh"]


def exp(x: Any) -> Any:
    """e^x for x ≤ 0, in compiled code; 0 if the result is below the normal numbers."""
    raise NotImplementedError


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), in compiled code."""
    raise NotImplementedError


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, in compiled code."""
    raise NotImplementedError


@overload(exp)
def _exp(x: Any) -> Any:
    power = _POWERS[x]
    zero, limit = _numbers(x, 0, _limit(x))

    def compiled(x: Any) -> Any:
        scale, rest = power(-limit if x < -limit else x)
        return zero if x < -limit else scale + scale * rest

    return compiled


@overload(sigmoid)
def _sigmoid(x: Any) -> Any:
    power = _POWERS[x]
    zero, one, limit = _numbers(x, 0, 1, _limit(x))

    def compiled(x: Any) -> Any:
        scale, rest = power(limit if x < -limit else -limit if x > limit else -x)
        return zero if x < -limit else one / (one + scale + scale * rest)

    return compiled


@overload(tanh)
def _tanh(x: Any) -> Any:
    power = _POWERS[x]
    one, two, limit = _numbers(x, 1, 2, 20)  # beyond the limit the result is 1 in both dtypes

    def compiled(x: Any) -> Any:
        x = -limit if x < -limit else limit if x > limit else x
        scale, rest = power(x + x)
        less_one = (scale - one) + scale * rest  # e^2x - 1, precise for small x, as the scale is 1 then
        return less_one / (less_one + two)

    return compiled


def _limit(kind: Any) -> int:
    """The largest |x| for which e^x and e^-x are normal numbers."""
    return 87 if kind is types.float32 else 708


def _numbers(kind: Any, *values: float) -> list[Any]:
    """Numbers in a numba dtype: Python floats would turn float32 into float64 in compiled code."""
    scalar = np.float32 if kind is types.float32 else np.float64
    return [scalar(value) for value in values]


def _series(number: type[np.floating[Any]], k: int, last: int) -> Any:
    """1/k! + r/(k + 1)! + r²/(k + 2)! + ... up to the term with 1/last!."""
    coefficient = number(1 / math.factorial(k))
    if k == last:
        return register_jitable(lambda r: coefficient)
    further = _series(number, k + 1, last)
    return register_jitable(lambda r: coefficient + r * further(r))


def _power_function(number: type[np.floating[Any]], bits: type[np.integer[Any]], last: int) -> Any:
    """The function of y that returns (2^n, e^r - 1); e^y is 2^n · (1 + (e^r - 1))."""
    info = np.finfo(number)
    digits = info.nmant
    ln2 = Fraction("0.693147180559945309417232121458176568")
    # ln 2 in two parts. The first has few digits, so that its products with n are exact.
    coarse = 2 ** (digits // 2 - 2)
    high = Fraction(round(ln2 * coarse), coarse)
    ln2_high, ln2_low, inverse = number(float(high)), number(float(ln2 - high)), number(float(1 / ln2))
    # Adding this puts the nearest integer into the lowest bits of the sum.
    rounder = number(1.5 * 2**digits)
    shift, exponent_of_one = bits(digits), number(1).view(bits)
    series = _series(number, 2, last)

    @register_jitable
    def power(y: Any) -> Any:
        rounded = y * inverse + rounder
        n = rounded - rounder
        r = (y - n * ln2_high) - n * ln2_low
        scale = bits((number(rounded).view(bits) << shift) + exponent_of_one).view(number)
        return scale, r + r * r * series(r)

    return power


_POWERS = {
    types.float32: _power_function(np.float32, np.int32, last=7),
    types.float64: _power_function(np.float64, np.int64, last=13),
}
