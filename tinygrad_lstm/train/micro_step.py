"""The gradients of a step on micro-batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT64, is_float, widened_dtype

from .._tensor import Tensor
from ..distributed.micro_sums import NOTHING, Addend, MicroSums
from ..graph import set_gradient
from ..mode import no_grad
from ..random import draw_key, seeded_draws

__all__ = ["MicroStep"]


class MicroStep:
    """The gradients of a step, and the changes of buffers, summed over micro-batches.

    Buffers, such as the running means of batch normalization, are the same at the start of each micro-batch. Their
    changes are averaged, weighted like the losses.
    """

    def __init__(self, model: Any, parameters: Sequence[Tensor], sums_of: Callable[[list[Addend]], MicroSums]) -> None:
        self._key = draw_key()
        self._model = model
        self._learning = [each for each in parameters if each.requires_grad]
        buffers = self._buffers()
        self._before = [_copied(buffer) for buffer in buffers]
        gradients = [Addend(each.shape, each.dtype, each.device) for each in self._learning]
        changes = [Addend(each.shape, _dtype_of_change(each), each.device) for each in buffers]
        self._sums = sums_of([*gradients, *changes])
        self._position = {id(each): k for k, each in enumerate(self._learning)}

    def _buffers(self) -> list[Tensor]:
        """The buffers that the model has now; its modules may replace them."""
        return list(self._model.buffers()) if hasattr(self._model, "buffers") else []

    @contextmanager
    def micro_batch(self, k: int, share: float) -> Iterator[None]:
        """In a `with` block, the gradients of micro-batch k are computed, which has this share of the step's loss."""
        with seeded_draws(self._key, k):
            yield
        gradients = [None if each.grad is None else each.grad._array for each in self._learning]
        for parameter in self._learning:
            set_gradient(parameter, None)
        changes = [_undone(buffer, before, share) for buffer, before in zip(self._buffers(), self._before, strict=True)]
        self._sums.add(k, [*gradients, *changes])

    def on_leaf(self, node: Any, gradient: Array) -> None:
        """Takes a gradient of this worker's last micro-batch."""
        k = self._position.get(id(node.tensor()))
        if k is not None:
            earlier = self._learning[k].grad
            self._sums.add_last(k, gradient if earlier is None else earlier._array + gradient)

    def end(self) -> None:
        """Sets the gradients and the buffers."""
        totals = self._sums.totals()
        for parameter, total in zip(self._learning, totals, strict=False):
            set_gradient(parameter, None if total is None else Tensor._wrap(total, parameter.device))
        for buffer, before, total in zip(self._buffers(), self._before, totals[len(self._learning) :], strict=True):
            if total is not None:
                _change(buffer, before, total)


def _dtype_of_change(buffer: Tensor) -> np.dtype[Any]:
    """Shares of the change of an integer are fractions."""
    return widened_dtype(buffer.dtype) if is_float(buffer.dtype) else FLOAT64


def _copied(buffer: Tensor) -> Array:
    with buffer.device.current():
        return buffer._array.copy()


@no_grad()
def _undone(buffer: Tensor, before: Array, share: float) -> Array | None:
    """A share of the change of a buffer, which is undone; the device is not waited for."""
    dtype = _dtype_of_change(buffer)
    with buffer.device.current():
        now = buffer._array
        change = buffer.device.backend.as_array((now.astype(dtype) - before.astype(dtype)) * share)
        change[now == before] = NOTHING  # infinities have no difference
        buffer.copy_(Tensor._wrap(before.copy(), buffer.device))
    return change


@no_grad()
def _change(buffer: Tensor, before: Array, total: Array) -> None:
    """Adds the mean change to what a buffer was; elements without a change keep their value, whatever it is."""
    xp, dtype = buffer.device.xp, _dtype_of_change(buffer)
    with buffer.device.current():
        after = before.astype(dtype) + total
        after = (after if is_float(buffer.dtype) else xp.rint(after)).astype(buffer.dtype)
        after = buffer.device.backend.as_array(xp.where(total == 0, before, after))
        buffer.copy_(Tensor._wrap(after, buffer.device))
