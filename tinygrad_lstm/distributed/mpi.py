"""Workers that exchange arrays by MPI. Only this file uses mpi4py."""

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mpi4py import MPI

from tinygrad_lstm.backends.base import Array

from .communicator import Pending, WorkerError
from .staging import begin_staged, device_arrays
from .waiting import is_in_time

__all__ = ["MPICommunicator", "abort"]

DATA, FAILURE = 1, 2
"""Tags of messages."""

CUDA_VARIABLE = "TINYGRAD_LSTM_MPI_CUDA"
"""The environment variable that is 1 if MPI takes arrays in the memory of a GPU, 0 if not. By default MPI is asked."""


class MPICommunicator:
    """The workers of an MPI communicator.

    It waits without occupying a core for long, so there may be more workers than cores. Arrays on a GPU are sent from
    there if MPI can do this; otherwise, and on other devices, as copies on the host.

    Args:
        communicator: of mpi4py; by default all processes. Its messages are not mixed with those of this class.
        timeout: the seconds after which a worker that has sent nothing is given up.

    Raises:
        RuntimeError: MPI was not started for several threads.
    """

    def __init__(self, communicator: MPI.Intracomm | None = None, timeout: float = 300.0) -> None:
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            raise RuntimeError(
                "tg.distributed: MPI was started without MPI_THREAD_MULTIPLE, which workers need; leave "
                "mpi4py.rc.thread_level unchanged, or use an MPI that supports threads"
            )
        self._communicator = (MPI.COMM_WORLD if communicator is None else communicator).Dup()
        self.rank, self.size = self._communicator.rank, self._communicator.size
        self.timeout = timeout
        self._failure: str | None = None
        self._told: list[MPI.Request] = []
        self._takes_cuda = _takes_cuda()

    def exchange(self, sent: Mapping[int, Array], received: Mapping[int, Array]) -> Pending:
        """Begins to send and to receive arrays; see `Communicator`."""
        if not self._takes_cuda:
            return begin_staged(self._begin, sent, received)
        for device in {device for device, _ in device_arrays(sent, received)}:
            device.backend.synchronize()  # MPI knows of no streams
        return self._begin(sent, received)

    def _begin(self, sent: Mapping[int, Array], received: Mapping[int, Array]) -> Pending:
        with _worker_errors():
            incoming = [(rank, self._communicator.Irecv(_bytes(array), rank, DATA)) for rank, array in received.items()]
            outgoing = [(rank, self._communicator.Isend(_bytes(array), rank, DATA)) for rank, array in sent.items()]
        return _Messages(self, [*incoming, *outgoing])

    def fail(self, message: str) -> None:
        """Tells the other workers that this one cannot go on."""
        if self._failure is not None:
            return  # all know of an earlier failure
        self._failure = f"worker {self.rank}: {message}"
        for rank in range(self.size):
            if rank != self.rank:
                self._told.append(self._communicator.isend(self._failure, rank, FAILURE))

    def check(self) -> None:
        """Raises WorkerError if a worker has failed."""
        if self._failure is None and self._communicator.Iprobe(MPI.ANY_SOURCE, FAILURE):
            self._failure = self._communicator.recv(source=MPI.ANY_SOURCE, tag=FAILURE)
        if self._failure is not None:
            raise WorkerError(self._failure)


def abort(status: int) -> None:
    """Ends all workers at once, with an exit status."""
    MPI.COMM_WORLD.Abort(status)


class _Messages:
    """Messages under way, with the ranks of the other workers."""

    def __init__(self, communicator: MPICommunicator, messages: Sequence[tuple[int, Any]]) -> None:
        self._communicator, self._messages = communicator, messages

    def wait(self) -> None:
        """Waits for the messages."""
        requests = [request for _, request in self._messages]
        timeout = self._communicator.timeout
        with _worker_errors():
            if is_in_time(lambda: MPI.Request.Testall(requests), self._communicator.check, timeout):
                return
            late = sorted({rank for rank, request in self._messages if not request.Test()})
            raise WorkerError(f"worker {', '.join(map(str, late))} has not answered for {timeout:.0f} s")


@contextmanager
def _worker_errors() -> Iterator[None]:
    """Within this context, MPI's errors are WorkerErrors: its messages fail when the process of a worker is gone."""
    try:
        yield
    except MPI.Exception as error:
        raise WorkerError(f"a message to or from a different worker failed: {error}") from error


def _bytes(array: Array) -> Any:
    """The memory of a contiguous array, in a form that needs no datatype of MPI."""
    if not array.flags.c_contiguous:
        raise ValueError(f"exchange: expected contiguous arrays, got one of shape {array.shape} that is not")
    return [array.reshape(-1).view(np.uint8), MPI.BYTE]


def _takes_cuda() -> bool:
    """Whether MPI can send from the memory of a GPU."""
    if said := os.environ.get(CUDA_VARIABLE):
        return said == "1"
    try:
        return bool(ctypes.CDLL(MPI.__file__).MPIX_Query_cuda_support())
    except (AttributeError, OSError):  # this MPI has no such question
        return False
