"""What all kinds of recurrent layers share: the order of steps, masks, buffers for states, products of all steps."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..base import Array, HostArray
from ..kernels import ArrayKernels
from ..sums import total

__all__ = [
    "Gradients",
    "Lengths",
    "SequenceKernels",
    "Step",
    "StepRoom",
    "chunks",
    "first_and_last",
    "active",
    "room_for_states",
    "states",
    "steps",
    "where_active",
]

_CACHED_BYTES = 512 * 1024

Lengths = HostArray | None
Gradients = list[Array | None]
Step = Callable[[Array, Sequence[Array], Sequence[Array]], None]


class StepRoom(threading.local):
    """The buffers of a step, one set per thread. They are made again when the number of rows changes."""

    def __init__(self, make: Callable[[int], Sequence[Array]]) -> None:
        self._make = make
        self._rows = -1
        self._arrays: Sequence[Array] = ()

    def __call__(self, rows: int) -> Sequence[Array]:
        if rows != self._rows:
            self._arrays, self._rows = self._make(rows), rows
        return self._arrays


def steps(T: int, reverse: bool) -> Sequence[int]:
    """The steps in the order of computation."""
    return range(T - 1, -1, -1) if reverse else range(T)


def chunks(T: int, at_once: int, reverse: bool) -> Iterator[slice]:
    """The steps in chunks of `at_once` steps, in the order of computation."""
    for done in range(0, T, at_once):
        end = min(done + at_once, T)
        yield slice(T - end, T - done) if reverse else slice(done, end)


def states(hs: Array, reverse: bool, after: bool) -> Array:
    """The states (T, B, H) before or after each step, of the states (T + 1, B, H)."""
    first = int(reverse != after)
    return hs[first : first + len(hs) - 1]


def first_and_last(T: int, reverse: bool) -> tuple[int, int]:
    """The indices in (T + 1, B, H) of the states before the first computed step and after the last one."""
    return (T, 0) if reverse else (0, T)


def active(lengths: HostArray, T: int) -> HostArray:
    """Whether each sequence is still active at each step, (T, B, 1)."""
    return np.arange(T)[:, None, None] < lengths[None, :, None]


def where_active(xp: Any, array: Array, active: Array | None) -> Array:
    """The array (T, B, H), zero where a sequence is not active."""
    return array if active is None else xp.where(active, array, xp.zeros((), array.dtype))


def room_for_states(
    empty: Callable[[tuple[int, ...], Any], Array], T: int, initial: Array, reverse: bool, kept: int | None = None
) -> Array:
    """A buffer for the states (T + 1, B, H), or a ring of `kept` states, with the initial state written into it."""
    hs = empty((kept or T + 1, *initial.shape), initial.dtype)
    hs[first_and_last(T, reverse)[0] % len(hs)] = initial
    return hs


class SequenceKernels(ArrayKernels):
    """What the kernels of all kinds share."""

    def _active(self, lengths: Lengths, T: int) -> Array | None:
        """Whether each sequence is still active at each step, (T, B, 1); None if all are."""
        return None if lengths is None else self.from_host(active(lengths, T))

    def _halved(self, rows: Array, gates: int) -> Array:
        """The rows of all gates' weights or biases, times ½, except those of the third gate, the candidate.

        σ(v) = (1 + tanh(v / 2)) / 2: with the rows of the other gates halved, one tanh computes all gates.
        """
        H = len(rows) // gates
        halved = rows * 0.5
        halved[2 * H : 3 * H] = rows[2 * H : 3 * H]
        return halved

    def _sigmoids(self, tanhs: Array) -> None:
        """Turns tanh(v / 2) into σ(v), in place."""
        self.xp.multiply(tanhs, 0.5, out=tanhs)
        self.xp.add(tanhs, 0.5, out=tanhs)

    def _steps_at_once(self, T: int, B: int, H: int, dtype: Any) -> int:
        """The number of steps for which the arrays of the backward computation fit in the cache."""
        return max(1, min(T, _CACHED_BYTES // max(12 * B * H * int(dtype.itemsize), 1)))

    def _slope(self, gate: Array, factor: Array, out: Array) -> None:
        """out = gate · (1 - gate) · factor. The derivative of σ is σ·(1 - σ)."""
        self.xp.subtract(1, gate, out=out)
        out *= gate
        out *= factor

    def _inputs_product(self, x: Array, weight: Array, bias: Array) -> Array:
        """One product for the inputs of all steps: W·x + b (T, B, rows of W)."""
        xp, (T, B, I) = self.xp, x.shape
        # The bias is one more column, whose input is 1: this saves a pass over the result.
        inputs = self.empty((T * B, I + 1), x.dtype)
        inputs[:, :I], inputs[:, I] = x.reshape(T * B, I), 1
        net = self.empty((T * B, len(weight)), x.dtype)
        xp.matmul(inputs, xp.concatenate([weight, bias[:, None]], axis=1).T, out=net)
        return net.reshape(T, B, len(weight))

    def _gradients_of_net(
        self, g_net: Array, x: Array, hs: Array, weight_ih: Array, reverse: bool, needs_grad: Sequence[bool]
    ) -> tuple[Array | None, ...]:
        """The gradients of x, W, U and b, given those of W·x + U·h + b for all steps, (T, B, rows of W)."""
        T, B, N = g_net.shape
        flat, before = g_net.reshape(T * B, N), states(hs, reverse, after=False)
        return (
            self._gradient_of_inputs(flat, x, weight_ih, needs_grad[0]),
            self.matmul(flat.T, x.reshape(T * B, x.shape[2])) if needs_grad[-3] else None,
            self.matmul(flat.T, before.reshape(T * B, hs.shape[2])) if needs_grad[-2] else None,
            self._gradient_of_bias(flat) if needs_grad[-1] else None,
        )

    def _gradient_of_inputs(self, g_net: Array, x: Array, weight: Array, needs_grad: bool) -> Array | None:
        """The gradient of x (T, B, I), of W·x for all steps (T·B, rows of W)."""
        return self.matmul(g_net, weight).reshape(x.shape) if needs_grad else None

    def _gradient_of_bias(self, g_net: Array) -> Array:
        """The sum of the rows of g_net (T·B, N)."""
        return total(self.xp, g_net, 0)
