"""Sums of arrays over the micro-batches of a step, the same bits for any number of workers."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import widened_dtype

from ..device import Device
from .collectives import BUCKET, begin_sum, empty_rows, gathered
from .communicator import Communicator, Pending
from .trees import Span, SumTree

__all__ = ["Addend", "MicroSums"]


@dataclass(frozen=True)
class Addend:
    """One of the arrays that are summed."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: Device

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


class MicroSums:
    """Adds up arrays over micro-batches, and over workers while later ones are still computed.

    For each step: `begin`; for each micro-batch of this worker, in order, `add`; then `totals`. Arrays of the last
    micro-batch may come earlier, one by one, by `add_last`. An array may be None in some micro-batches, which adds
    nothing to the sum.

    Arrays of similar positions are sent together, in buckets, the last positions first, since gradients come in about
    this order. A bucket is sent, by a thread, when it and those before it are complete.

    Args:
        addends: the arrays.
        tree: the order of the additions.
        communicator: the workers.
        bucket: the least number of bytes of a bucket, unless it is the last one.
    """

    def __init__(
        self, addends: Sequence[Addend], tree: SumTree, communicator: Communicator, bucket: int = BUCKET
    ) -> None:
        self.addends, self.tree, self.communicator = list(addends), tree, communicator
        self._spans = tree.spans_of(communicator.rank)
        self._buckets = self._cut(bucket) if communicator.size > 1 else []
        self._place = {k: (bucket, at) for bucket in self._buckets for k, at in bucket.places.items()}
        self._thread = ThreadPoolExecutor(1, "micro-sums") if self._buckets else None
        self.begin()

    def _cut(self, smallest: int) -> list["_Bucket"]:
        buckets: list[_Bucket] = []
        for k in reversed(range(len(self.addends))):
            addend = self.addends[k]
            last = buckets[-1] if buckets else None
            if last is None or last.bytes >= smallest or not last.takes(addend):
                buckets.append(last := _Bucket(addend.device, widened_dtype(addend.dtype)))
            last.places[k] = last.size
            last.size += addend.size
        return buckets

    def begin(self) -> None:
        """Begins a step."""
        self._stack: list[tuple[Span, list[Array | None]]] = []
        self._came: set[int] = set()
        self._sums: list[Future[tuple[Array, Pending]]] = []
        for bucket in self._buckets:
            bucket.begin(len(self._spans), self.communicator.size)

    def add(self, number: int, arrays: Sequence[Array | None]) -> None:
        """Adds the arrays of a micro-batch, which are overwritten; those of `add_last` are left out."""
        span = (number, number + 1)
        sums = [None if k in self._came else self._wide(k, array) for k, array in enumerate(arrays)]
        while self._stack and self._stack[-1][0] == self.tree.left_of(span):
            (first, _), left = self._stack.pop()
            sums = [self._sum(k, a, b) for k, (a, b) in enumerate(zip(left, sums, strict=True))]
            span = (first, span[1])
        self._stack.append((span, sums))

    def add_last(self, k: int, array: Array) -> None:
        """Adds an array of this worker's last micro-batch, before the others are there."""
        number = self.tree.batches_of(self.communicator.rank)[-1]
        span, total, row = (number, number + 1), self._wide(k, array), len(self._stack)
        while row and self._stack[row - 1][0] == self.tree.left_of(span):
            (first, _), left = self._stack[row - 1]
            total, left[k], row = self._sum(k, left[k], total), None, row - 1
            span = (first, span[1])
        self._came.add(k)
        self._put(k, [*(sums[k] for _, sums in self._stack[:row]), total])
        self._send()

    def totals(self) -> list[Array | None]:
        """The sums over all micro-batches of all workers; None if an array was None in all of them."""
        if not self._buckets:
            return [self._narrow(k, total) for k, total in enumerate(self._stack[0][1])]
        came = np.array([k in self._came for k in range(len(self.addends))])
        for k in range(len(self.addends)):
            if not came[k]:
                parts = [sums[k] for _, sums in self._stack]
                came[k] = any(part is not None for part in parts)
                self._put(k, parts)
        self._send()
        results = [future.result() for future in self._sums]
        anywhere = np.any(gathered(self.communicator, came), axis=0)
        for bucket, (result, pending) in zip(self._buckets, results, strict=True):
            with bucket.device.current():
                pending.wait()
                bucket.total = result.reshape(-1)
        return [self._total(k) if anywhere[k] else None for k in range(len(self.addends))]

    def _total(self, k: int) -> Array | None:
        addend, (bucket, at) = self.addends[k], self._place[k]
        with addend.device.current():
            total = bucket.total[at : at + addend.size].reshape(addend.shape)
        return self._narrow(k, total)

    def _wide(self, k: int, array: Array | None) -> Array | None:
        """The array in the dtype in which it is summed."""
        if array is None:
            return None
        with self.addends[k].device.current():
            return array.astype(widened_dtype(self.addends[k].dtype), copy=False)

    def _narrow(self, k: int, total: Array | None) -> Array | None:
        """The sum in the dtype of what was added."""
        if total is None:
            return None
        with self.addends[k].device.current():
            return total.astype(self.addends[k].dtype, copy=False)

    def _sum(self, k: int, left: Array | None, right: Array | None) -> Array | None:
        """The sum of two arrays, of which the first is overwritten; None counts as nothing."""
        if left is None or right is None:
            return right if left is None else left
        with self.addends[k].device.current():
            left += right
        return left

    def _put(self, k: int, parts: Sequence[Array | None]) -> None:
        """Puts the sums of this worker's spans into their bucket."""
        addend, (bucket, at) = self.addends[k], self._place[k]
        with addend.device.current():
            rows = bucket.rows.reshape(len(parts), -1)[:, at : at + addend.size]
            for row, part in enumerate(parts):
                rows[row] = NOTHING if part is None else part.reshape(-1)
        bucket.missing -= 1

    def _send(self) -> None:
        """Lets the thread sum the next buckets, as far as they are complete."""
        while len(self._sums) < len(self._buckets) and not self._buckets[len(self._sums)].missing:
            assert self._thread is not None
            surroundings = copy_context()  # such as what NumPy warns of
            self._sums.append(self._thread.submit(surroundings.run, self._summed, len(self._sums)))

    def _summed(self, number: int) -> tuple[Array, Pending]:
        bucket = self._buckets[number]
        with bucket.device.current():
            result, pending = begin_sum(self.communicator, self.tree, bucket.rows, bucket.device)
            if len(self._sums) <= number + 1 < len(self._buckets):  # the next bucket is not complete yet
                pending.wait()  # large messages of MPI move only while a thread waits
        return result, pending


NOTHING = -0.0
"""What is added in place of a missing array: it changes no number, while 0.0 would change -0.0."""


@dataclass
class _Bucket:
    """Arrays of one dtype on one device, which are sent together."""

    device: Device
    dtype: np.dtype[Any]
    places: dict[int, int] = field(default_factory=dict)
    """The position of each array among the bucket's elements."""
    size: int = 0
    """The number of elements."""
    missing: int = 0
    """The number of arrays that have not come yet in this step."""
    rows: Array = None
    """(spans, workers, chunk): the sums of this worker, for each of its spans; the elements are cut into a chunk for
    each worker."""
    total: Array = None
    """The sums of all workers."""

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.itemsize

    def takes(self, addend: Addend) -> bool:
        """Whether an array can be in this bucket."""
        return addend.device is self.device and widened_dtype(addend.dtype) == self.dtype

    def begin(self, spans: int, workers: int) -> None:
        """Begins a step."""
        if self.rows is None:
            with self.device.current():
                self.rows = empty_rows(self.device, spans, self.size, self.dtype, workers)
        self.missing = len(self.places)
