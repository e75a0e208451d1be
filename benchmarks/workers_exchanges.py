"""What workers_cost.py measures: sums of arrays over workers, and steps that sleep instead of computing. A program."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from workers_sides import serve

EXCHANGES = __file__

BACKWARD = 2 / 3
"""The share of the walk back in the time of a micro-batch: gradients come evenly in it."""

SKIPPED = 2
"""Rounds before those that count: connections are made, and TCP learns the speed of the link."""


@dataclass(frozen=True)
class Step:
    """A step of workers.

    Args:
        micro_batches: of all workers.
        computing: the seconds of a micro-batch.
        buckets: the bytes of each.
    """

    micro_batches: int
    computing: float
    buckets: tuple[int, ...]


class Measuring:
    """A worker that measures steps."""

    def __init__(self) -> None:
        import tinygrad_lstm as tg

        self._group = tg.distributed.init(timeout=60.0)
        self._device = tg.tensor(0.0).device

    def seconds(self, request: tuple[Step, int]) -> float:
        """The median time of a step over some rounds."""
        from tinygrad_lstm.distributed.collectives import gathered
        from tinygrad_lstm.distributed.micro_sums import Addend, MicroSums
        from tinygrad_lstm.distributed.trees import SumTree

        step, rounds = request
        tree = SumTree(step.micro_batches, self._group.size)
        # The last array is the first whose gradient comes.
        arrays = [np.zeros(size // 4, np.float32) for size in reversed(step.buckets)]
        addends = [Addend(array.shape, array.dtype, self._device) for array in arrays]
        sums, found = MicroSums(addends, tree, self._group, bucket=1), []
        for _ in range(SKIPPED + rounds):
            gathered(self._group, np.zeros(3))
            begun = time.perf_counter()
            self._take(step, tree.batches_of(self._group.rank), sums, arrays)
            found.append(time.perf_counter() - begun)
        return statistics.median(found[SKIPPED:])

    def _take(self, step: Step, mine: range, sums: Any, arrays: list[Any]) -> None:
        from tinygrad_lstm.distributed.collectives import gathered

        sums.begin()
        for k in mine[:-1]:
            time.sleep(step.computing)
            sums.add(k, [array.copy() for array in arrays])
        time.sleep(step.computing * (1 - BACKWARD))
        for k in reversed(range(len(arrays))):
            time.sleep(step.computing * BACKWARD / len(arrays))
            sums.add_last(k, arrays[k])
        sums.add(mine[-1], [None] * len(arrays))
        sums.totals()
        gathered(self._group, np.zeros(3))  # what a trainer exchanges after each step


if __name__ == "__main__":
    import workers_exchanges  # pickled classes are those of the module, not of the program

    serve(workers_exchanges.Measuring().seconds)
