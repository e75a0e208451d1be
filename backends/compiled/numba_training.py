"""Compiled kernels of cross entropy, Adam, and adding rows.

The functions of `backends/training.py` have the same arguments and results here. Results are bitwise equal for any
number of threads.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numba.extending import overload

from .. import memory
from ..base import HostArray
from .atomics import outlined
from .functions import exp
from .jit import contiguous, jit, jit_in_any_order
from .team import share, team

__all__ = ["adam_update_one", "add_rows", "cross_entropy_backward", "cross_entropy_forward"]

_BLOCK = 1024  # powers of a row in a block of their sum, which has several partial sums
_ELEMENTS_A_THREAD = 2**15  # that justify one more thread: about 20 µs


def _team(elements: int) -> AbstractContextManager[Any]:
    """The threads to use for this number of elements."""
    return team(1 + elements // _ELEMENTS_A_THREAD)


# -- cross entropy -----------------------------------------------------------------------------------------------------


# A function of its own, because `exp` needs the order of its sums, which `_sum_of_block` does not keep.
@jit
def _power(logit: Any, largest: Any) -> Any:
    return exp(logit - largest)


@jit_in_any_order
def _sum_of_block(logits: Any, b: int, first: int, last: int, largest: Any) -> Any:
    total = logits.dtype.type(0)
    for j in range(first, last):
        total += _power(logits[b, j], largest)
    return total


@jit
def _sum_of_powers(logits: Any, b: int, largest: Any) -> Any:
    total = logits.dtype.type(0)
    for first in range(0, logits.shape[1], _BLOCK):
        total += _sum_of_block(logits, b, first, min(first + _BLOCK, logits.shape[1]), largest)
    return total


def _largest(keys: Any, b: int) -> Any:
    """The maximum of a row of floats, given as their bits, in compiled code; a positive NaN is larger than all.

    Integers are compared with vector instructions; floats would be compared one after the other.
    """
    raise NotImplementedError


@overload(_largest)
def _largest_of(keys: Any, b: Any) -> Any:
    bits, number = (np.int32, np.float32) if keys.dtype.bitwidth == 32 else (np.int64, np.float64)
    # Bits have the order of their floats, except that negative floats are in reverse order.
    all_but_sign = bits(np.iinfo(bits).max)

    def compiled(keys: Any, b: Any) -> Any:
        found = bits(np.iinfo(bits).min)
        for j in range(keys.shape[1]):
            key = keys[b, j]
            key = bits(key ^ all_but_sign) if key < 0 else key
            found = key if key > found else found
        return bits(found ^ all_but_sign if found < 0 else found).view(number)

    return compiled


@jit
def _sum_rows(first: int, last: int, logits: Any, keys: Any, largest: Any, sums: Any) -> None:
    for b in range(first, last):
        m = _largest(keys, b)
        largest[b], sums[b] = m, _sum_of_powers(logits, b, m)


_sum_part = outlined(_sum_rows)


@jit
def _sums(members: Any, rows: int, *operands: Any) -> None:
    share(members, rows, _sum_part(operands))


@jit
def _losses(logits: Any, ids: Any, ignore_index: int, largest: Any, logs: Any, losses: Any) -> None:
    for b in range(len(ids)):
        i = ids[b]
        if i == ignore_index:
            losses[b] = 0
        elif 0 <= i < logits.shape[1]:
            losses[b] = logs[b] - (logits[b, i] - largest[b])
        else:
            losses[b] = np.nan


@jit
def _backward_rows(
    first: int,
    last: int,
    logits: Any,
    ids: Any,
    ignore_index: int,
    g: Any,
    largest: Any,
    sums: Any,
    g_logits: Any,
) -> None:
    for b in range(first, last):
        i, m = ids[b], largest[b]
        if i == ignore_index or not 0 <= i < logits.shape[1]:
            g_logits[b] = 0  # for any logits
            continue
        factor = g[b] / sums[b]
        for j in range(logits.shape[1]):
            g_logits[b, j] = _power(logits[b, j], m) * factor
        g_logits[b, i] -= g[b]


_backward_part = outlined(_backward_rows)


@jit
def _backward(members: Any, rows: int, *operands: Any) -> None:
    share(members, rows, _backward_part(operands))


def cross_entropy_forward(
    arrays: Sequence[HostArray], ignore_index: int
) -> tuple[HostArray, tuple[HostArray, HostArray]]:
    logits, ids = arrays
    logits = contiguous(logits)
    losses, largest, sums = np.empty((3, len(ids)), logits.dtype)
    keys = logits.view(f"i{logits.itemsize}")
    with _team(logits.size) as members:
        _sums(members, len(ids), logits, keys, largest, sums)
    _losses(logits, ids, ignore_index, largest, np.log(sums), losses)
    return losses, (largest, sums)


def cross_entropy_backward(arrays: Sequence[HostArray], ignore_index: int) -> HostArray:
    logits, ids, g, largest, sums = arrays
    logits = contiguous(logits)
    g_logits = memory.empty(logits.shape, logits.dtype)
    with _team(logits.size) as members:
        _backward(members, len(ids), logits, ids, ignore_index, g, largest, sums, g_logits)
    return g_logits


# -- adding rows -------------------------------------------------------------------------------------------------------


@jit
def _add_columns(first: int, last: int, target: Any, rows: Any, values: Any) -> None:
    for k in range(len(rows)):
        row, value = target[rows[k], first:last], values[k, first:last]
        for j in range(last - first):
            row[j] += value[j]


_columns_part = outlined(_add_columns)


@jit
def _add(members: Any, columns: int, *operands: Any) -> None:
    share(members, columns, _columns_part(operands))


def add_rows(target: HostArray, rows: HostArray, values: HostArray) -> None:
    """`target[rows] += values` in place, in the order of `rows`; target is contiguous, and values have its dtype."""
    columns = math.prod(target.shape[1:])
    flat, values = target.reshape(len(target), columns), contiguous(values).reshape(len(rows), columns)
    with _team(values.size) as members:
        _add(members, columns, flat, rows, values)


# -- Adam --------------------------------------------------------------------------------------------------------------


@jit
def _adam_elements(
    first: int,
    last: int,
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    largest: Any,
    amsgrad: bool,
    shrink: float,
    decay: float,
    beta1: float,
    beta2: float,
    eps: float,
    rate: float,
) -> None:
    number = p.dtype.type
    rest1, keep2, rest2 = number(1 - beta1), number(beta2), number(1 - beta2)
    keep, to_g, to_root, step = number(shrink), number(decay), number(eps), number(rate)
    p, g, m, v, largest = p[first:last], g[first:last], m[first:last], v[first:last], largest[first:last]
    for k in range(last - first):
        p_k = p[k] * keep
        g_k = g[k] + p_k * to_g
        m_k = m[k] + (g_k - m[k]) * rest1
        v_k = v[k] * keep2 + g_k * g_k * rest2
        m[k], v[k] = m_k, v_k
        if amsgrad:
            v_k = largest[k] if v_k < largest[k] else v_k
            largest[k] = v_k
        p[k] = p_k - m_k / (np.sqrt(v_k) + to_root) * step


_adam_part = outlined(_adam_elements)


@jit
def _adam(members: Any, elements: int, *operands: Any) -> None:
    share(members, elements, _adam_part(operands))


def adam_update_one(
    arrays: Sequence[HostArray], shrink: float, decay: float, beta1: float, beta2: float, eps: float, rate: float
) -> None:
    p, g, *state = arrays
    changed = [p, *state]
    flat = [array.reshape(-1) for array in changed]  # copies if they are not contiguous
    flat_g = g.reshape(-1) if g.dtype == p.dtype else g.astype(p.dtype).reshape(-1)
    with _team(p.size) as members:
        _adam(
            members, p.size, flat[0], flat_g, flat[1], flat[2], flat[-1], len(state) > 2,
            shrink, decay, beta1, beta2, eps, rate,
        )  # fmt: skip
    for array, values in zip(changed, flat):
        if not array.flags.c_contiguous:
            array[...] = values.reshape(array.shape)
