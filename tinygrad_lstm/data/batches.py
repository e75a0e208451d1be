"""Batches of an epoch, and batches that are made in the background."""

import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

__all__ = ["batches_from", "prefetched"]

B = TypeVar("B")


def batches_from(batches: Iterable[B], epoch: int, start: int) -> Iterator[B]:
    """The batches of an epoch, from a position on: those of the method `epoch`, if there is one."""
    of_epoch = getattr(batches, "epoch", None)
    return iter(of_epoch(epoch, start)) if callable(of_epoch) else islice(batches, start, None)


def prefetched(batches: Iterable[B], number: int = 2) -> "Prefetched[B]":
    """The same batches in the same order, of which the next ones are made in a thread while one is used.

    A training on them is bit for bit the same, if making a batch draws no random numbers of the library. An error that
    is raised while a batch is made is raised when its turn comes. The thread ends with its epoch, or when the iterator
    is closed or no longer used.

    Args:
        batches: any iterable of batches; its method `epoch` and its length are kept, if it has them.
        number: how many batches are made ahead at most.

    Raises:
        ValueError: `number` is below 1.

    >>> list(prefetched([1, 2, 3]))
    [1, 2, 3]
    """
    if number < 1:
        raise ValueError(f"prefetched: expected number to be at least 1, got {number}")
    return (SizedPrefetched if hasattr(batches, "__len__") else Prefetched)(batches, number)


class Prefetched(Generic[B]):
    """What `prefetched` returns."""

    def __init__(self, batches: Iterable[B], number: int) -> None:
        self._batches, self._number = batches, number

    def __iter__(self) -> Iterator[B]:
        return _made_ahead(iter(self._batches), self._number)

    def epoch(self, number: int, start: int = 0) -> Iterator[B]:
        """The batches of an epoch, from a position on."""
        return _made_ahead(batches_from(self._batches, number, start), self._number)


class SizedPrefetched(Prefetched[B]):
    """The same, of batches whose number is known."""

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._batches)  # type: ignore[arg-type]


_END = object()


class _Raised:
    """An error of the thread."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _made_ahead(batches: Iterator[B], number: int) -> Iterator[B]:
    made: SimpleQueue[Any] = SimpleQueue()
    free, left = threading.Semaphore(number), threading.Event()
    thread = threading.Thread(target=_make, args=(batches, made, free, left), name="prefetched", daemon=True)
    thread.start()
    try:
        while (batch := made.get()) is not _END:
            if isinstance(batch, _Raised):
                raise batch.error
            free.release()
            yield batch
    finally:
        left.set()
        free.release()
        thread.join()


def _make(batches: Iterator[Any], made: "SimpleQueue[Any]", free: threading.Semaphore, left: threading.Event) -> None:
    """Makes batches while there is room, until they end, one raises an error, or nobody wants them."""
    try:
        while free.acquire() and not left.is_set():
            made.put(next(batches, _END))
    except BaseException as error:
        made.put(_Raised(error))
    finally:
        if left.is_set() and callable(close := getattr(batches, "close", None)):
            close()
