"""What workers need of each other: to exchange arrays."""

from collections.abc import Mapping
from typing import Protocol

from tinygrad_lstm.backends.base import Array

__all__ = ["Communicator", "LocalCommunicator", "Pending", "WorkerError"]


class WorkerError(RuntimeError):
    """A different worker failed or does not answer, so this one cannot go on."""


class Pending(Protocol):
    """An exchange that has begun."""

    def wait(self) -> None:
        """Waits until the arrays are sent and received.

        Raises:
            WorkerError: a worker failed, or does not answer.
        """


class Communicator(Protocol):
    """A group of workers, numbered from 0, each of which is a process.

    All workers must begin the same exchanges in the same order. One thread at a time may use a communicator.
    """

    @property
    def rank(self) -> int:
        """The number of this worker."""

    @property
    def size(self) -> int:
        """The number of workers."""

    def exchange(self, sent: Mapping[int, Array], received: Mapping[int, Array]) -> Pending:
        """Begins to send arrays to workers, and to receive arrays from them; each at most one to and from a worker.

        Args:
            sent: contiguous arrays by the rank of who gets them; they may be changed only after `wait`.
            received: contiguous arrays by the rank of who sends them, of the same size in bytes; they are overwritten.
        """

    def fail(self, message: str) -> None:
        """Tells the other workers that this one cannot go on. Their next `wait` raises WorkerError with the message."""

    def check(self) -> None:
        """Raises WorkerError if a worker has failed."""


class _Done:
    def wait(self) -> None:
        pass


class LocalCommunicator:
    """A group of one worker, which needs no MPI."""

    rank, size = 0, 1

    def exchange(self, sent: Mapping[int, Array], received: Mapping[int, Array]) -> Pending:
        """Does nothing: there is no other worker."""
        return _Done()

    def fail(self, message: str) -> None:
        """Does nothing: there is no other worker."""

    def check(self) -> None:
        """Does nothing: there is no other worker."""
