"""Cross entropy, softmax, layer normalization, dropout and optimizers, written with an array module only.

This code runs on every device. The kernels of one device must compute the same. Each function passes over its arrays as
few times as the array module allows.
"""

import functools
import math
import operator
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import moments
from .base import Array
from .ctc import CTCKernels
from .dtypes import widened_dtype
from .sums import average, inverse_deviations, total

__all__ = ["TrainingKernels", "threshold"]


class _Philox(threading.local):
    """A generator per thread. Setting its key takes a tenth of the time of creating a new one."""

    def __init__(self) -> None:
        self._generator = np.random.Philox(key=0)
        self._state: Any = self._generator.state

    def words(self, key: int, number: int) -> Any:
        """The first `number` 64-bit words for the key."""
        self._state["state"]["key"] = np.array([key, 0], np.uint64)
        self._generator.state = self._state
        return self._generator.random_raw(number)


_philox = _Philox()


class TrainingKernels(CTCKernels):
    """The training kernels of a backend; see `Backend`."""

    # -- cross entropy -------------------------------------------------------------------------------------------------

    # Rows of ignored ids may contain infinities, and exp of a logit far below the maximum is 0.
    @np.errstate(invalid="ignore", over="ignore")
    def cross_entropy_forward(self, arrays: Sequence[Array], ignore_index: int) -> tuple[Array, tuple[Array, Array]]:
        xp = self.xp
        logits, ids = arrays
        logits = logits.astype(widened_dtype(logits.dtype), copy=False)
        zero = xp.zeros((), logits.dtype)
        known, places = self._places(logits, ids, ignore_index)
        largest = xp.max(logits, axis=1)
        powers = self._powers(logits, largest)
        # The sums: a product with ones is faster than a reduction of short rows.
        sums = xp.matmul(powers, xp.ones(logits.shape[1], logits.dtype))
        losses = xp.log(sums)
        losses -= logits[places] - largest
        losses = xp.where(known, losses, xp.where(ids == ignore_index, zero, zero + math.nan))
        return losses, (largest, sums)

    @np.errstate(invalid="ignore", over="ignore")
    def cross_entropy_backward(self, arrays: Sequence[Array], ignore_index: int) -> Array:
        xp = self.xp
        logits, ids, g, largest, sums = arrays
        known, places = self._places(logits, ids, ignore_index)
        g = xp.where(known, g, xp.zeros((), g.dtype))
        g_logits = self._powers(logits, largest)
        g_logits *= (g / sums)[:, None]
        g_logits[places] -= g
        xp.copyto(g_logits, 0, where=~known[:, None])  # their logits may be NaN, and so may 0 times them
        return g_logits.astype(logits.dtype, copy=False)

    def _powers(self, logits: Array, largest: Array) -> Array:
        """exp(logit - maximum of its row), which does not overflow."""
        powers = self.empty(logits.shape, largest.dtype)
        self.xp.subtract(logits, largest[:, None], out=powers)
        self.xp.exp(powers, out=powers)
        return powers

    def _places(self, logits: Array, ids: Array, ignore_index: int) -> tuple[Array, tuple[Array, Array]]:
        """Whether each id is a class, and an index of each row's element at its id (the first one if it is not)."""
        known = (ids != ignore_index) & (ids >= 0) & (ids < logits.shape[1])
        return known, (self.xp.arange(len(ids)), self.xp.where(known, ids, 0))

    # -- softmax -------------------------------------------------------------------------------------------------------

    def softmax(self, x: Array, dims: tuple[int, ...], logarithm: bool = False) -> Array:
        xp, wide = self.xp, x.astype(widened_dtype(x.dtype), copy=False)
        out = self.empty(x.shape, wide.dtype)
        with np.errstate(over="ignore"):  # the exponential of such differences is 0
            xp.subtract(wide, xp.max(wide, axis=dims, keepdims=True), out=out)
            if logarithm:
                out -= xp.log(total(xp, xp.exp(out), dims, True))
                return out.astype(x.dtype, copy=False)  # float16 overflows to -inf
        xp.exp(out, out=out)
        out /= total(xp, out, dims, True)
        return out.astype(x.dtype, copy=False)

    # -- layer normalization -------------------------------------------------------------------------------------------

    def layer_norm_forward(self, arrays: Sequence[Array | None], eps: float) -> tuple[Array, tuple[Array, Array]]:
        xp = self.xp
        x, weight, bias = arrays
        assert x is not None
        wide = x.astype(widened_dtype(x.dtype), copy=False)  # float16 cannot hold the squares
        means = average(xp, wide, 1)
        out = wide - means[:, None]
        scales = inverse_deviations(xp, out, 1, eps)
        out *= scales
        for affine, apply in ((weight, xp.multiply), (bias, xp.add)):
            if affine is not None:
                part, beside = _beside(out, affine)
                apply(part, beside, out=part)
        return out.astype(x.dtype, copy=False), (means, scales[:, 0])

    def layer_norm_backward(
        self, arrays: Sequence[Array | None], needs_grad: Sequence[bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        xp = self.xp
        g, x, weight, means, scales = arrays
        assert g is not None and x is not None and means is not None and scales is not None
        normalized = x - means[:, None]
        normalized *= scales[:, None]
        dims = 0 if weight is None or weight.ndim == 1 else (0, 3)  # over which a weight is the same
        of_weight, of_bias = (
            total(xp, each if weight is None else _beside(each, weight)[0], dims, dtype=x.dtype) if needed else None
            for each, needed in ((g * normalized if needs_grad[1] else g, needs_grad[1]), (g, needs_grad[2]))
        )
        if not needs_grad[0]:
            return None, of_weight, of_bias
        weighted = g.astype(means.dtype)
        if weight is not None:
            part, beside = _beside(weighted, weight)
            part *= beside
        # Changes of the mean or the scale of a row have no effect on the output.
        along_scale = average(xp, weighted * normalized, 1, True)
        weighted -= average(xp, weighted, 1, True)
        weighted -= normalized * along_scale
        weighted *= scales[:, None]
        return weighted.astype(x.dtype, copy=False), of_weight, of_bias

    # -- dropout -------------------------------------------------------------------------------------------------------

    def dropout(self, x: Array, p: float, key: int) -> Array:
        bits = _philox.words(key, -(-x.size // 2)).astype("<u8", copy=False).view("<u4")
        kept = self.from_host((bits[: x.size] >= threshold(p)).reshape(x.shape))
        return self.xp.where(kept, x * (1 / (1 - p)), self.xp.zeros((), x.dtype))

    # -- many arrays at once ------------------------------------------------------------------------------------------

    def sum_of_squares(self, arrays: Sequence[Array]) -> Array:
        xp = self.xp
        wide = [array.astype(np.float64, copy=False) for array in arrays]
        return functools.reduce(operator.add, [total(xp, array * array) for array in wide])

    def scale(self, arrays: Sequence[Array], factor: Array) -> None:
        for array in arrays:
            self.xp.multiply(array, factor, out=array, casting="same_kind")

    # -- optimizers ----------------------------------------------------------------------------------------------------

    def adam_update(self, parameters: Sequence[Sequence[Array]], *settings: float) -> None:
        for arrays in parameters:
            self.adam_update_one(arrays, *settings)

    def adam_update_one(
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
        moments.follow(xp, g, m, v, beta1, beta2, part)
        if largest:
            v = xp.maximum(largest[0], v, out=largest[0])

        xp.sqrt(v, out=part)
        part += eps
        xp.divide(m, part, out=part)
        part *= rate
        p -= part

    def sgd_update(
        self,
        parameters: Sequence[Sequence[Array]],
        decay: float,
        momentum: float,
        share: float,
        rate: float,
        nesterov: bool,
    ) -> None:
        for arrays in parameters:
            self.sgd_update_one(arrays, decay, momentum, share, rate, nesterov)

    def sgd_update_one(
        self, arrays: Sequence[Array], decay: float, momentum: float, share: float, rate: float, nesterov: bool
    ) -> None:
        xp = self.xp
        p, g, *sums = arrays
        part = self.empty(p.shape, p.dtype)
        if decay:
            decayed = xp.multiply(p, decay, out=self.empty(p.shape, p.dtype))
            decayed += g
            g = decayed
        direction = g
        if sums:
            (direction,) = sums
            direction *= momentum
            direction += xp.multiply(g, share, out=part)
            if nesterov:
                direction = xp.multiply(direction, momentum, out=part)
                direction += g
        p -= xp.multiply(direction, rate, out=part)


def _beside(x: Array, affine: Array) -> tuple[Array, Array]:
    """Contiguous rows x (N, C) and their weights (C,) or (G, K), in shapes that broadcast; see `layer_norm_forward`."""
    if affine.ndim == 1:
        return x, affine
    groups, channels = affine.shape
    return x.reshape(-1, groups, channels, x.shape[1] // channels), affine[:, :, None]


def threshold(p: float) -> int:
    """An element is dropped, with probability p, if its 32 random bits are below this."""
    return min(round(p * 2**32), 2**32 - 1)
