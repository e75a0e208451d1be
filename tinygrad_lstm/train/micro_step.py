"""The gradients of a step on micro-batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT64, is_float

from .._tensor import Tensor
from ..distributed.micro_sums import Addend, MicroSums
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
        self._learning = [each for each in parameters if each.requires_grad]
        self._buffers = list(model.buffers()) if hasattr(model, "buffers") else []
        self._before = [buffer._array.copy() for buffer in self._buffers]
        gradients = [Addend(each.shape, each.dtype, each.device) for each in self._learning]
        changes = [Addend(each.shape, _dtype_of_change(each), each.device) for each in self._buffers]
        self._sums = sums_of([*gradients, *changes])
        self._position = {id(each): k for k, each in enumerate(self._learning)}

    @contextmanager
    def micro_batch(self, k: int, share: float) -> Iterator[None]:
        """In a `with` block, the gradients of micro-batch k are computed, which has this share of the step's loss."""
        with seeded_draws(self._key, k):
            yield
        gradients = [None if each.grad is None else each.grad._array for each in self._learning]
        for parameter in self._learning:
            set_gradient(parameter, None)
        changes = [_undone(buffer, before, share) for buffer, before in zip(self._buffers, self._before, strict=True)]
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
        for buffer, before, total in zip(self._buffers, self._before, totals[len(self._learning) :], strict=True):
            if total is not None:
                with buffer.device.current(), no_grad():
                    after = before + total
                    after = after if is_float(buffer.dtype) else buffer.device.xp.rint(after)
                    buffer.copy_(Tensor._wrap(after.astype(buffer.dtype), buffer.device))


def _dtype_of_change(buffer: Tensor) -> np.dtype[Any]:
    """Shares of the change of an integer are fractions."""
    return buffer.dtype if is_float(buffer.dtype) else FLOAT64


def _undone(buffer: Tensor, before: Array, share: float) -> Array | None:
    """A share of the change of a buffer, which is undone; None if it has not changed."""
    with buffer.device.current(), no_grad():
        if (buffer._array == before).all():
            return None
        change = ((buffer._array - before) * share).astype(_dtype_of_change(buffer))
        buffer.copy_(Tensor._wrap(before.copy(), buffer.device))
        return change
