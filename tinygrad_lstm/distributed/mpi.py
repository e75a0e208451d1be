"""Workers that exchange arrays by MPI. Only this file uses mpi4py."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from tinygrad_lstm.backends.base import Array

from .communicator import Pending, WorkerError

__all__ = ["MPICommunicator"]

DATA, FAILURE = 1, 2
"""Tags of messages."""

SPINNING = 1e-4
"""Seconds for which a worker waits without giving its core away: most messages have come by then."""

LONGEST_SLEEP = 1e-3


class MPICommunicator:
    """The workers of an MPI communicator.

    It waits without occupying a core for long, so there may be more workers than cores.

    Args:
        communicator: of mpi4py; by default all processes. Its messages are not mixed with those of this class.
        timeout: the seconds after which a worker that has sent nothing is given up.
    """

    def __init__(self, communicator: MPI.Intracomm | None = None, timeout: float = 300.0) -> None:
        self._communicator = (MPI.COMM_WORLD if communicator is None else communicator).Dup()
        self.rank, self.size = self._communicator.rank, self._communicator.size
        self.timeout = timeout
        self._failure: str | None = None

    def exchange(self, sent: Mapping[int, Array], received: Mapping[int, Array]) -> Pending:
        """Begins to send and to receive arrays; see `Communicator`."""
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
                self._communicator.isend(self._failure, rank, FAILURE)

    def check(self) -> None:
        """Raises WorkerError if a worker has failed."""
        if self._failure is None and self._communicator.Iprobe(MPI.ANY_SOURCE, FAILURE):
            self._failure = self._communicator.recv(source=MPI.ANY_SOURCE, tag=FAILURE)
        if self._failure is not None:
            raise WorkerError(self._failure)


class _Messages:
    """Messages under way, with the ranks of the other workers."""

    def __init__(self, communicator: MPICommunicator, messages: Sequence[tuple[int, Any]]) -> None:
        self._communicator, self._messages = communicator, messages

    def wait(self) -> None:
        """Waits for the messages."""
        requests = [request for _, request in self._messages]
        began, sleep = time.monotonic(), LONGEST_SLEEP / 64
        while not MPI.Request.Testall(requests):
            self._communicator.check()
            waited = time.monotonic() - began
            if waited > self._communicator.timeout:
                late = sorted({rank for rank, request in self._messages if not request.Test()})
                raise WorkerError(f"worker {', '.join(map(str, late))} has not answered for {waited:.0f} s")
            if waited > SPINNING:
                time.sleep(sleep)
                sleep = min(2 * sleep, LONGEST_SLEEP)


def _bytes(array: Array) -> Any:
    """The memory of a contiguous array, in a form that needs no datatype of MPI."""
    return [array.reshape(-1).view(np.uint8), MPI.BYTE]
