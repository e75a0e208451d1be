"""Arrays of devices are exchanged by NCCL, or through the host, with the same bits."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from fake_cupy import FakeCupy
from kernels_on_host import needs_compiler
from shared_runs import trained
from thread_workers import ThreadCommunicator, together

import tinygrad_lstm as tg
from tinygrad_lstm.distributed.staging import begin_staged


class OnHost:
    """Workers that can exchange only NumPy's arrays."""

    def __init__(self, inner: ThreadCommunicator) -> None:
        self._inner, self.rank, self.size = inner, inner.rank, inner.size
        self.fail, self.check = inner.fail, inner.check

    def exchange(self, sent: Mapping[int, Any], received: Mapping[int, Any]) -> Any:
        return begin_staged(self._exchange, sent, received)

    def _exchange(self, sent: Mapping[int, Any], received: Mapping[int, Any]) -> Any:
        assert all(isinstance(array, np.ndarray) for array in [*sent.values(), *received.values()])
        return self._inner.exchange(sent, received)


def test_through_the_host() -> None:
    def work(communicator: ThreadCommunicator) -> str:
        with tg.default_device("strict"):
            return trained("classes", OnHost(communicator), 6)

    (alone,) = together(1, work)
    assert together(3, work) == [alone] * 3


@pytest.fixture
def four(install: Callable[[Any], None]) -> FakeCupy:
    """Four CUDA devices."""
    module = FakeCupy(devices=4)
    install(module)
    return module


def with_gpus(work: Callable[[Any], Any], cupy: FakeCupy) -> Callable[[ThreadCommunicator], Any]:
    """The same work by workers that have a GPU each, which is their default device."""
    from tinygrad_lstm.distributed.nccl import NCCLCommunicator

    def run(communicator: ThreadCommunicator) -> Any:
        with cupy.default_device():
            group = NCCLCommunicator(communicator, timeout=5) if communicator.size > 1 else communicator
            with tg.default_device("cuda:0" if communicator.size == 1 else group.device):
                try:
                    return work(group)
                except BaseException as error:
                    group.fail(repr(error))
                    raise

    return run


def fitted(communicator: Any, steps: int, shard: bool = True) -> tg.train.Trainer[Any]:
    """A trainer of a small model, which has made some steps without a validation."""
    model = tg.nn.Sequential(tg.nn.Linear(3, 5), tg.nn.Tanh(), tg.nn.Linear(5, 1))
    x, y = tg.randn(12, 3), tg.randn(12, 1)
    trainer = tg.train.Trainer(
        model,
        lambda model, batch, carry: (tg.mse_loss(model(batch[0]), batch[1]), None),
        tg.optim.AdamW(model.parameters(), lr=0.01),
        clip=0.1,
        communicator=communicator,
        micro_batches=4,
        split=tg.data.split_rows,
        shard_optimizer=shard,
    )
    trainer.fit([(x, y)], steps=steps, validate_every=100, log_every=100)
    return trainer


@needs_compiler
def test_nccl_gives_the_same_bits_and_gradients_stay_on_the_devices(four: FakeCupy) -> None:
    copies: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def work(communicator: Any, steps: int) -> list[bytes]:
        counts = four.cuda.Device(communicator.rank).counts
        counts.reset()
        trainer = fitted(communicator, steps)
        copies.setdefault((communicator.size, steps), []).append((counts.device_to_host, counts.host_to_device))
        return [array.tobytes() for array in trainer.model.state_dict().values()]

    for steps in (2, 7):
        (alone,) = together(1, with_gpus(lambda group: work(group, steps), four))  # noqa: B023
        for workers in (2, 3, 4):
            assert together(workers, with_gpus(lambda group: work(group, steps), four)) == [alone] * workers  # noqa: B023
    down, up = (copies[4, 7][0][k] - copies[4, 2][0][k] for k in (0, 1))
    assert down == 5  # each step's loss, which the report reads at the end
    alone_up = copies[1, 7][0][1] - copies[1, 2][0][1]
    assert up <= alone_up


@needs_compiler
def test_host_arrays_do_not_go_by_nccl(four: FakeCupy) -> None:
    def work(communicator: Any) -> tuple[list[bytes], list[float]]:
        total = tg.distributed.all_reduce(communicator, tg.tensor([1.0, communicator.rank]))
        assert total.device is communicator.device
        return tg.distributed.all_gather(communicator, b"x" * communicator.rank), total.tolist()

    assert together(3, with_gpus(work, four)) == [([b"", b"x", b"xx"], [3.0, 3.0])] * 3


@needs_compiler
def test_a_failure_ends_what_nccl_has_begun(four: FakeCupy) -> None:
    def work(communicator: Any) -> str:
        if communicator.rank == 1:
            communicator.fail("no memory left")
            return "failed"
        with pytest.raises(tg.distributed.WorkerError) as error:
            tg.distributed.all_reduce(communicator, tg.ones(3))
        return str(error.value)

    assert together(3, with_gpus(work, four)) == ["worker 1: no memory left", "failed", "worker 1: no memory left"]
    assert all(each.aborted for each in four.cuda.nccl.communicators)


@needs_compiler
def test_trouble_of_nccl_ends_all(four: FakeCupy) -> None:
    def work(communicator: Any) -> str:
        if communicator.rank == 1:
            communicator._nccl.trouble = "NCCL_ERROR_SYSTEM_ERROR: unhandled system error"
        with pytest.raises(tg.distributed.WorkerError) as error:
            if communicator.rank < 2:  # worker 2 does not answer
                tg.distributed.all_reduce(communicator, tg.ones(3))
            else:
                while True:
                    communicator.check()
        return str(error.value)

    found = together(3, with_gpus(work, four))
    assert found == ["worker 1: NCCL: NCCL_ERROR_SYSTEM_ERROR: unhandled system error"] * 3


@needs_compiler
def test_arrays_of_a_different_gpu_are_refused(four: FakeCupy) -> None:
    def work(communicator: Any) -> None:
        x = tg.ones(3, device="cuda:3")
        with pytest.raises(
            ValueError, match=r"sends from 'cuda:\d', but an array is on 'cuda:3'; move the model there"
        ):
            tg.distributed.all_reduce(communicator, x)

    together(2, with_gpus(work, four))


@pytest.mark.parametrize(("devices", "message"), [(1, "workers 0 and 1 have the same one"), (0, "there is none on")])
def test_too_few_gpus(install: Callable[[Any], None], devices: int, message: str) -> None:
    install(module := FakeCupy(devices=devices))
    with pytest.raises(RuntimeError, match=f"NCCL needs a GPU for each worker, but {message}"):
        together(2, with_gpus(lambda group: None, module))
