"""What a training step spends time in beside its networks, in terms of an array module alone.

What runs on every device, and what the kernels for one in particular must equal. Each passes over its arrays as few
times as the array module allows.
"""

import math
from collections.abc import Sequence

import numpy as np

from .base import Array
from .kernels import ArrayKernels

__all__ = ["TrainingKernels"]


class TrainingKernels(ArrayKernels):
    """The training part of a backend: what `Backend` says of it."""

    # -- cross entropy -------------------------------------------------------------------------------------------------

    def cross_entropy_forward(self, arrays: Sequence[Array], ignore_index: int) -> tuple[Array, tuple[Array, Array]]:
        xp = self.xp
        logits, ids = arrays
        logits = logits.astype(np.result_type(logits.dtype, np.float32), copy=False)
        zero = xp.zeros((), logits.dtype)
        known, places = self._places(logits, ids, ignore_index)
        largest = xp.max(logits, axis=1)
        powers = self._powers(logits, largest)
        # Their sums: a product with ones is faster than a reduction of short rows.
        sums = xp.matmul(powers, xp.ones(logits.shape[1], logits.dtype))
        losses = xp.log(sums)
        losses -= logits[places] - largest
        losses = xp.where(known, losses, xp.where(ids == ignore_index, zero, zero + math.nan))
        return losses, (largest, sums)

    def cross_entropy_backward(self, arrays: Sequence[Array], ignore_index: int) -> Array:
        xp = self.xp
        logits, ids, g, largest, sums = arrays
        known, places = self._places(logits, ids, ignore_index)
        g = xp.where(known, g, xp.zeros((), g.dtype))
        g_logits = self._powers(logits, largest)
        g_logits *= (g / sums)[:, None]
        g_logits[places] -= g
        return g_logits.astype(logits.dtype, copy=False)

    def _powers(self, logits: Array, largest: Array) -> Array:
        """e to the logits less the largest of their row, none of which overflows."""
        powers = self.empty(logits.shape, largest.dtype)
        self.xp.subtract(logits, largest[:, None], out=powers)
        self.xp.exp(powers, out=powers)
        return powers

    def _places(self, logits: Array, ids: Array, ignore_index: int) -> tuple[Array, tuple[Array, Array]]:
        """Whether each id is that of a class, and an index that takes from each row its element, or else the first."""
        known = (ids != ignore_index) & (ids >= 0) & (ids < logits.shape[1])
        return known, (self.xp.arange(len(ids)), self.xp.where(known, ids, 0))

    # -- Adam ----------------------------------------------------------------------------------------------------------

    def adam_update(
        self, arrays: Sequence[Array], shrink: float, decay: float, beta1: float, beta2: float, eps: float, rate: float
    ) -> None:
        xp = self.xp
        p, g, m, v, *largest = arrays
        part = self.empty(p.shape, p.dtype)
        if shrink != 1:
            p *= shrink
        if decay:
            decayed = xp.multiply(p, decay, out=self.empty(p.shape, p.dtype))
            decayed += g
            g = decayed

        xp.subtract(g, m, out=part)
        part *= 1 - beta1
        m += part

        xp.multiply(g, g, out=part)
        part *= 1 - beta2
        v *= beta2
        v += part
        if largest:
            v = xp.maximum(largest[0], v, out=largest[0])

        xp.sqrt(v, out=part)
        part += eps
        xp.divide(m, part, out=part)
        part *= rate
        p -= part
