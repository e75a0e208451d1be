"""The loss of connectionist temporal classification (CTC), with an array module.

Graves, Fernández, Gomez and Schmidhuber, "Connectionist temporal classification" (2006), equations 6 to 16, in
logarithms. The states of a target are its labels with blanks around them: `labels` (N, L) has them, of which row n uses
the first `ends[n]`. A path stays in its state, goes to the next one, or leaves out a blank between different labels.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .base import Array
from .dtypes import limits, widened_dtype
from .scans import ScanKernels

__all__ = ["CTCKernels", "may_leave_out"]


def may_leave_out(xp: Any, labels: Array, blank: int) -> Array:
    """(N, L): whether a path may enter a state from two states before, so that it leaves out a blank."""
    allowed = xp.zeros(labels.shape, bool)
    allowed[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return allowed


class CTCKernels(ScanKernels):
    """The kernels of `ctc_loss`; see `Backend`."""

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")  # the logarithm of 0 is right
    def ctc_forward(self, arrays: Sequence[Array], blank: int) -> tuple[Array, Array]:
        xp = self.xp
        log_probs, labels, lengths, ends = arrays
        emitted, penalties = self._emitted(log_probs, labels), self._penalties(labels, blank, log_probs)
        T, N, L = emitted.shape
        alphas = xp.full((T, N, L + 2), -math.inf, emitted.dtype)  # two states before the first are impossible
        alphas[:1, :, 2:4] = emitted[:1, :, :2]
        for t in range(1, T):
            before = alphas[t - 1]
            alphas[t, :, 2:] = self._sum(before[:, 2:], before[:, 1:-1], before[:, :-2] + penalties) + emitted[t]
        rows = xp.arange(N)
        if T:
            last = alphas[xp.maximum(lengths - 1, 0), rows]
            found = xp.logaddexp(last[rows, ends + 1], last[rows, ends])
        else:
            found = xp.full(N, -math.inf, emitted.dtype)
        nothing = xp.where(ends == 1, 0, -math.inf).astype(emitted.dtype)
        return -xp.where(lengths == 0, nothing, found), alphas

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def ctc_backward(self, arrays: Sequence[Array], blank: int) -> Array:
        xp = self.xp
        log_probs, labels, lengths, ends, g, losses, alphas = arrays
        emitted, penalties = self._emitted(log_probs, labels), self._penalties(labels, blank, log_probs)
        T, N, L = emitted.shape
        states = xp.arange(L)
        final = xp.where((states == (ends - 1)[:, None]) | (states == (ends - 2)[:, None]), 0, -math.inf)
        ended = (xp.arange(T)[:, None] >= lengths - 1)[:, :, None]
        betas = xp.full((T, N, L + 2), -math.inf, emitted.dtype)
        penalties = xp.concatenate([penalties[:, 2:], xp.zeros((N, 2), penalties.dtype)], axis=1)[:, :L]
        after = xp.full((N, L + 2), -math.inf, emitted.dtype)
        for t in reversed(range(T)):
            if t + 1 < T:
                after[:, :L] = betas[t + 1, :, :L] + emitted[t + 1]
            going_on = self._sum(after[:, :L], after[:, 1:-1], after[:, 2:] + penalties)
            betas[t, :, :L] = xp.where(ended[t], final, going_on)
        posteriors = xp.exp(alphas[:, :, 2:] + betas[:, :, :L] + losses[:, None])
        counted = (xp.arange(T)[:, None] < lengths) & (losses < math.inf) | xp.isnan(losses)
        posteriors = xp.where(counted[:, :, None], posteriors * -g[:, None], xp.zeros((), g.dtype))
        classes = (labels[:, :, None] == xp.arange(log_probs.shape[2])).astype(posteriors.dtype)
        of_classes = self.matmul(posteriors.transpose(1, 0, 2), classes)
        return of_classes.transpose(1, 0, 2).astype(log_probs.dtype)

    def _emitted(self, log_probs: Array, labels: Array) -> Array:
        """(T, N, L): the logarithm of the probability of each state's label, at least in float32."""
        wide = log_probs.astype(widened_dtype(log_probs.dtype), copy=False)
        return wide[:, self.xp.arange(len(labels))[:, None], labels]

    def _penalties(self, labels: Array, blank: int, log_probs: Array) -> Array:
        """(N, L): 0 if a path may enter a state from two states before, else -inf."""
        xp = self.xp
        penalties = xp.where(may_leave_out(xp, labels, blank), 0, -math.inf)
        return penalties.astype(widened_dtype(log_probs.dtype), copy=False)

    def _sum(self, *logarithms: Array) -> Array:
        """The logarithm of the sum of three arrays of exponentials, which may all be 0."""
        xp = self.xp
        largest = xp.maximum(xp.maximum(*logarithms[:2]), logarithms[2])
        largest = xp.maximum(largest, limits(largest.dtype)[0])
        powers = xp.exp(logarithms[0] - largest)
        for logarithm in logarithms[1:]:
            powers += xp.exp(logarithm - largest)
        return xp.log(powers) + largest
