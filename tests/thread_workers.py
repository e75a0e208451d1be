"""Workers that are threads of one process, for tests of what workers do together, without MPI."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import tinygrad_lstm as tg
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.device import Device, device_of
from tinygrad_lstm.random import seeded_draws

T = TypeVar("T")


class ThreadCommunicator:
    """The view that one of the threads has of the group."""

    def __init__(self, rank: int, size: int, queues: Mapping[tuple[int, int], "SimpleQueue[Any]"]) -> None:
        self.rank, self.size, self._queues = rank, size, queues
        self._failures = [queues[other, other] for other in range(size)]
        self._posted: dict[int, deque[Array]] = {other: deque() for other in range(size)}
        self.failure: str | None = None

    def exchange(self, sent: Mapping[int, Array], received: Mapping[int, Array]) -> "_Pending":
        for other, array in sent.items():
            with _device_of(array).current():
                self._queues[self.rank, other].put(array.copy())
        for other, array in received.items():
            self._posted[other].append(array)
        return _Pending(self, received)

    def fail(self, message: str) -> None:
        for other, queue in enumerate(self._failures):
            if other != self.rank:
                queue.put(f"worker {self.rank}: {message}")

    def receive(self, other: int, array: Array) -> None:
        """Receives what was posted, up to this array."""
        while any(waiting is array for waiting in self._posted[other]):
            target = self._posted[other].popleft()
            came = self._next(other)
            with _device_of(target).current():
                target[...] = came.reshape(target.shape)

    def _next(self, other: int) -> Array:
        while True:
            try:
                return self._queues[other, self.rank].get(timeout=0.01)
            except Empty:
                self.check()

    def check(self) -> None:
        if not self._failures[self.rank].empty():
            self.failure = self._failures[self.rank].get()
        if self.failure is not None:
            raise tg.distributed.WorkerError(self.failure)


def _device_of(array: Array) -> Device:
    device = device_of(array)
    assert device is not None
    return device


class _Pending:
    def __init__(self, communicator: ThreadCommunicator, received: Mapping[int, Array]) -> None:
        self._communicator, self._received = communicator, received

    def wait(self) -> None:
        for other, array in self._received.items():
            self._communicator.receive(other, array)


def together(size: int, work: Callable[[ThreadCommunicator], T]) -> list[T]:
    """What a function returns in each of several workers. The first error of one is raised."""
    queues: dict[tuple[int, int], SimpleQueue[Any]] = {
        (one, other): SimpleQueue() for one in range(size) for other in range(size)
    }

    def run(rank: int) -> T:
        with seeded_draws(0):  # random numbers of this thread alone
            communicator = ThreadCommunicator(rank, size, queues)
            try:
                return work(communicator)
            except BaseException as error:
                communicator.fail(repr(error))
                raise

    assert threading.current_thread() is threading.main_thread()
    with ThreadPoolExecutor(size) as pool:
        return [future.result() for future in [pool.submit(run, rank) for rank in range(size)]]
