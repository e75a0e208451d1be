"""The order in which the parts of a sum are added: a tree over micro-batches, the same for any number of workers."""

from collections.abc import Mapping
from typing import Any

__all__ = ["SumTree"]

Span = tuple[int, int]
"""The micro-batches from the first number to before the second."""


class SumTree:
    """A binary tree over micro-batches, and which worker computes which of them.

    A span of several micro-batches is the sum of its two halves; the first half is the largest power of two that leaves
    a second one. Worker r computes the micro-batches from r·M/n to (r+1)·M/n, rounded down, and so whole subtrees. The
    remaining sums need parts of several workers, but are the same sums for any number of workers.

    >>> tree = SumTree(8, workers=3)
    >>> [tree.spans_of(worker) for worker in range(3)]
    [[(0, 2)], [(2, 4), (4, 5)], [(5, 6), (6, 8)]]
    """

    def __init__(self, micro_batches: int, workers: int) -> None:
        self.micro_batches, self.workers = micro_batches, workers
        self._left_of: dict[Span, Span] = {}
        self._note_halves((0, micro_batches))

    def _note_halves(self, span: Span) -> None:
        if span[1] - span[0] > 1:
            left, right = _halves(span)
            self._left_of[right] = left
            self._note_halves(left)
            self._note_halves(right)

    def batches_of(self, worker: int) -> range:
        """The micro-batches that a worker computes."""
        first, end = (rank * self.micro_batches // self.workers for rank in (worker, worker + 1))
        return range(first, end)

    def spans_of(self, worker: int) -> list[Span]:
        """The largest subtrees that a worker computes alone, in order."""
        batches = self.batches_of(worker)
        return list(self._within((0, self.micro_batches), batches.start, batches.stop))

    def _within(self, span: Span, start: int, end: int) -> list[Span]:
        if start <= span[0] and span[1] <= end:
            return [span]
        if span[1] <= start or end <= span[0]:
            return []
        left, right = _halves(span)
        return self._within(left, start, end) + self._within(right, start, end)

    def left_of(self, span: Span) -> Span | None:
        """The first half of the sum whose second half is this span; None if it is no second half."""
        return self._left_of.get(span)

    def total(self, parts: Mapping[Span, Any]) -> Any:
        """The sum over all micro-batches from arrays of spans. It is computed in place, in arrays of `parts`."""
        return self._sum((0, self.micro_batches), parts)

    def _sum(self, span: Span, parts: Mapping[Span, Any]) -> Any:
        if span in parts:
            return parts[span]
        left, right = _halves(span)
        total = self._sum(left, parts)
        total += self._sum(right, parts)
        return total


def _halves(span: Span) -> tuple[Span, Span]:
    first, end = span
    middle = first + (1 << (end - first - 1).bit_length() - 1)
    return (first, middle), (middle, end)
