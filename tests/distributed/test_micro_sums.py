"""The sums of a step have the same bits for any number of workers, whatever is added, in whatever order it comes."""

import gc
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thread_workers import ThreadCommunicator, together

import tinygrad_lstm as tg
from tinygrad_lstm.device import get_device
from tinygrad_lstm.distributed.communicator import LocalCommunicator
from tinygrad_lstm.distributed.micro_sums import Addend, MicroSums
from tinygrad_lstm.distributed.trees import SumTree

SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (3,), (2, 0), (2, 3), (7, 1, 2)]
EXTREMES = [0.0, -0.0, -0.0, -0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan"), 6e4, 1e-7, 1 / 3]


class Case:
    """Arrays of micro-batches, some of them missing, and in which order those of the last one come."""

    def __init__(self, seed: int, micro_batches: int, workers: int, bucket: int) -> None:
        rng = np.random.default_rng(seed)
        self.workers, self.bucket = workers, bucket
        self.micro_batches = micro_batches
        number = rng.integers(0, 6)
        self.kinds = [
            (SHAPES[rng.integers(len(SHAPES))], np.dtype(["f2", "f4", "f8"][rng.integers(3)])) for _ in range(number)
        ]
        missing = rng.random((micro_batches, number)) < rng.choice([0.0, 0.3, 0.8, 1.0], number)
        self.arrays = [
            [None if missing[k, i] else self._drawn(rng, shape, dtype) for i, (shape, dtype) in enumerate(self.kinds)]
            for k in range(micro_batches)
        ]
        self.early = [i for i in rng.permutation(number).tolist() if rng.random() < 0.7]

    @staticmethod
    def _drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
        plain, extreme = rng.normal(size=shape), rng.choice(EXTREMES, size=shape)
        return np.where(rng.random(shape) < rng.choice([0.2, 0.8]), plain, extreme).astype(dtype)

    def summed(self, communicator: Any, device: str) -> list[tuple[str, bytes] | None]:
        """The sums, as bytes."""
        place = get_device(device)
        tree = SumTree(self.micro_batches, communicator.size)
        mine = tree.batches_of(communicator.rank)
        addends = [Addend(shape, dtype, place) for shape, dtype in self.kinds]
        sums = MicroSums(addends, tree, communicator, self.bucket)
        found = []
        with np.errstate(all="ignore"):
            for _ in range(2):  # two steps
                sums.begin()
                for k in mine:
                    arrays = [None if each is None else place.backend.from_host(each.copy()) for each in self.arrays[k]]
                    if k == mine[-1] and communicator.size > 1:
                        for i in self.early:
                            if arrays[i] is not None:
                                with place.current():
                                    sums.add_last(i, arrays[i])
                    sums.add(k, arrays)
                found.append([None if x is None else place.backend.to_host(x) for x in sums.totals()])
        first, second = ([self._shown(x) for x in each] for each in found)
        assert first == second
        return first

    @staticmethod
    def _shown(total: Any) -> tuple[str, bytes] | None:
        if total is None:
            return None
        return f"{total.dtype}{total.shape}", np.where(np.isnan(total), np.nan, total).tobytes()


@pytest.mark.parametrize("device", ["cpu", "strict"])
@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 5), st.sampled_from([1, 40, 1 << 20]))
def test_any_number_of_workers(device: str, seed: int, micro_batches: int, workers: int, bucket: int) -> None:
    case = Case(seed, micro_batches, min(workers, micro_batches), bucket)
    alone = case.summed(LocalCommunicator(), device)
    assert together(case.workers, lambda group: case.summed(group, device)) == [alone] * case.workers


def test_no_thread_is_left() -> None:
    """Neither that of other parameters, which were not frozen, nor after an error."""

    def work(communicator: ThreadCommunicator) -> None:
        model = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.Linear(3, 1))

        def loss(model: Any, batch: Any, carry: Any) -> tuple[tg.Tensor, None]:
            return tg.mse_loss(model(batch[0]), batch[1]), None

        trainer = tg.train.Trainer(
            model,
            loss,
            tg.optim.SGD(model.parameters(), lr=0.1),
            communicator=communicator,
            micro_batches=4,
            split=tg.data.split_rows,
        )
        batch = (tg.randn(8, 2), tg.randn(8, 1))
        for step in range(1, 6):
            model[0].requires_grad_(step % 2 == 0)
            trainer.fit([batch], steps=step)
        with pytest.raises(tg.distributed.WorkerError if communicator.rank else ZeroDivisionError):
            if communicator.rank == 0:
                trainer.loss = lambda *arguments: 1 / 0  # type: ignore[assignment,return-value]
            trainer.fit([batch], steps=6)

    together(2, work)
    gc.collect()
    left = [thread for thread in threading.enumerate() if thread.name.startswith("micro-sums")]
    for thread in left:  # which may be about to end
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)
