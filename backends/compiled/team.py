"""The threads that share a job in compiled code: handing it out and ending it takes a microsecond.

Through the interpreter it would take 50 µs and more, for each part of a training step. So helpers wait in compiled
code: they poll for a job for about a millisecond, and only then sleep. A part that no helper has begun is computed by
the thread that handed out the job, which never waits for a sleeping helper.
"""

import atexit
import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from typing import Any

import numpy as np

from ..threads import number_of_threads, own_threads_compute
from .atomics import add_to_word, call, call_share, exchange_word, pause, read_word, write_word, yield_core
from .building import BuildError
from .c_runtime import shares
from .jit import jit

__all__ = ["share", "team", "worthwhile_threads"]

# Words of a team. Each word that threads poll has its own cache line.
_OPEN = 0  # the parts of a job that no thread has begun, one bit each
_ENDED = 8  # the number of parts that have ended
_FAILED = 16  # the number of these that raised an error
_LEAVE = 17  # whether helpers must end
_THREADS = 18  # the number of threads that share a job
_FUNCTION, _ARGUMENTS, _TOTAL, _PARTS = 19, 20, 21, 22  # the job
_SHARE = 23  # the address of C's `share`, or 0: kernels of both kinds use the same threads if there is a C compiler
_WORDS = 32

_MOST_PARTS = 62

_PATIENCE = 30_000  # polls, 20 to 40 ns each, until a helper sleeps
_LOOKS_A_YIELD = 2_000
_MOMENT = 1e-3  # seconds
_OPERATIONS_A_THREAD = 2e6  # that justify one more thread: about 20 µs


@jit
def _work(words: Any, preferred: int) -> None:
    """Computes parts of the job that no thread has begun, the preferred one first, until there are none."""
    while True:
        waiting = read_word(words, _OPEN)
        if waiting == 0:
            return
        part = preferred
        if (waiting >> part) & 1 == 0:
            part = 0
            while (waiting >> part) & 1 == 0:
                part += 1
        # The parts may belong to a later job by now: then this begins a part of that job.
        if exchange_word(words, _OPEN, waiting, waiting ^ (1 << part)):
            total, parts = words[_TOTAL], words[_PARTS]
            first, last = total * part // parts, total * (part + 1) // parts
            if call(words[_FUNCTION], words[_ARGUMENTS], first, last):
                add_to_word(words, _FAILED, 1)
            add_to_word(words, _ENDED, 1)


@jit
def _serve(words: Any, preferred: int) -> None:
    """Works on jobs that have enough threads for this helper, until there has been none for a while."""
    looks = 0
    while looks < _PATIENCE and not read_word(words, _LEAVE):
        if preferred < read_word(words, _THREADS) and read_word(words, _OPEN):
            _work(words, preferred)
            looks = 0
        else:
            pause()
            looks += 1


@jit
def share(words: Any, total: int, job: Any) -> None:
    """Calls `part(first, last)` for nearly equal parts of range(total), one for each thread of the team.

    For compiled code; `job` is the result of an `outlined` function.

    Raises:
        MemoryError: a part failed, which has no other possible cause.
    """
    parts = min(words[_THREADS], total)
    if parts < 1:
        return
    address, arguments = job
    if parts == 1:
        failed = call(address, arguments, 0, total)
    elif words[_SHARE]:
        failed = call_share(words[_SHARE], parts, total, address, arguments)
    else:
        words[_FUNCTION], words[_ARGUMENTS], words[_TOTAL], words[_PARTS] = address, arguments, total, parts
        write_word(words, _ENDED, 0)
        write_word(words, _FAILED, 0)
        write_word(words, _OPEN, (1 << parts) - 1)
        _work(words, 0)
        looks = 0
        while read_word(words, _ENDED) < parts:
            pause()
            looks += 1
            if looks % _LOOKS_A_YIELD == 0:
                yield_core()  # for a helper that has no core
        failed = read_word(words, _FAILED) > 0
    if failed:
        raise MemoryError


_core: Callable[[], int] | None = getattr(ctypes.CDLL(None), "sched_getcpu", None) if os.name == "posix" else None


class _Team:
    """Helper threads, and the words that control them."""

    def __init__(self, helpers: int) -> None:
        self.busy = threading.Lock()
        self.words = np.zeros(_WORDS, np.int64)
        self._threads = 0  # the number of threads that poll for jobs
        self._gathered = -math.inf
        lock = threading.Lock()
        self._wakes = [threading.Condition(lock) for _ in range(helpers)]
        self._asleep = [False] * helpers
        self._helpers = [
            threading.Thread(target=self._help, args=(k,), name=f"tinygrad_lstm {k + 1}", daemon=True)
            for k in range(helpers)
        ]
        for helper in self._helpers:
            helper.start()

    @property
    def size(self) -> int:
        """The number of threads, including the one that hands out the jobs."""
        return len(self._helpers) + 1

    def gather(self, threads: int, brief: bool) -> None:
        """Makes `threads - 1` helpers poll for jobs until `disperse`, and for a while after that.

        For `brief` jobs they are woken only if the last job was a moment ago, so that more are likely.
        """
        self.words[_THREADS] = threads
        self._threads = threads
        now = time.perf_counter()
        if not brief or now - self._gathered < _MOMENT:
            asleep = [k for k in range(threads - 1) if self._asleep[k]]
            if asleep:
                self._spread(threads - 1)
                self._wake(asleep)
        self._gathered = now

    def disperse(self) -> None:
        """Allows the helpers to sleep."""
        self._threads = 0

    def leave(self) -> None:
        """Ends the helpers."""
        self.words[_LEAVE] = 1
        self._wake(range(len(self._helpers)))
        for helper in self._helpers:
            helper.join()

    def _help(self, k: int) -> None:
        while not self.words[_LEAVE]:
            _serve(self.words, k + 1)
            with self._wakes[k]:
                self._asleep[k] = True
                while self._threads <= k + 1 and not self.words[_LEAVE]:
                    self._wakes[k].wait()
                self._asleep[k] = False

    def _wake(self, helpers: Iterable[int]) -> None:
        for k in helpers:
            with self._wakes[k]:
                self._wakes[k].notify()

    def _spread(self, helpers: int) -> None:
        """Moves the first helpers to cores that this thread does not use, if the system allows it.

        Linux may wake a thread on the core of the thread that woke it, and leave both there for tens of milliseconds
        though a different core is idle.
        """
        if _core is None or not hasattr(os, "sched_setaffinity"):
            return
        others = sorted(os.sched_getaffinity(0) - {_core()})
        if len(others) >= helpers:
            for k, helper in enumerate(self._helpers[:helpers]):
                if helper.native_id is not None:
                    with suppress(OSError):  # some sandboxes forbid it; then the system chooses the cores
                        os.sched_setaffinity(helper.native_id, others[k::helpers])


_alone = np.zeros(_WORDS, np.int64)
_alone[_THREADS] = 1
_ALONE = nullcontext(_alone)

_team: _Team | None = None
_changing = threading.Lock()


def _team_of(threads: int) -> _Team | None:
    """The team, of at least `threads` threads, or fewer while it is in use; None while it is being created."""
    global _team
    if _changing.acquire(blocking=False):
        try:
            if _team is not None and _team.size < threads and _team.busy.acquire(blocking=False):
                former, _team = _team, None
                former.leave()
            if _team is None:
                _team = _Team(threads - 1)
        finally:
            _changing.release()
    return _team


class _Session:
    """The use of a team by one thread."""

    def __init__(self, team: _Team, threads: int, brief: bool) -> None:
        self._team, self._threads, self._brief = team, threads, brief
        self._has_team = False

    def __enter__(self) -> Any:
        if not self._team.busy.acquire(blocking=False):
            return _alone
        self._has_team = True
        try:
            self._team.gather(min(self._threads, self._team.size), self._brief)
        except BaseException:
            self.__exit__()
            raise
        return self._team.words

    def __exit__(self, *exception: object) -> None:
        if self._has_team:
            self._has_team = False
            self._team.disperse()
            self._team.busy.release()


def worthwhile_threads(operations: float) -> int:
    """The number of threads to use for this number of floating-point operations of matrix products."""
    return 1 + int(operations / _OPERATIONS_A_THREAD)


def team(most: int, brief: bool = False) -> AbstractContextManager[Any]:
    """A context with at most `most` threads for jobs; its value is the `words` argument of `share`.

    Jobs are `brief` if they take no longer than waking a helper. While a different thread uses the helpers, the caller
    computes without them; results do not depend on this.
    """
    threads = min(most, number_of_threads(), _MOST_PARTS) if most > 1 else 1
    if threads <= 1:
        return _ALONE
    in_c = _shares_in_c()
    if in_c is not None:
        own_threads_compute(True)
        return _threads_of_c(threads, in_c[brief])
    found = _team_of(threads)
    if found is None:
        return _ALONE
    own_threads_compute(True)
    return _Session(found, threads, brief)


@cache
def _shares_in_c() -> tuple[int, ...] | None:
    """The addresses of C's `share` and `share_briefly`; None if they cannot be built."""
    try:
        return shares()
    except BuildError:
        return None


@cache
def _threads_of_c(threads: int, share: int) -> AbstractContextManager[Any]:
    words = np.zeros(_WORDS, np.int64)
    words[_THREADS], words[_SHARE] = threads, share
    return nullcontext(words)


@atexit.register
def _leave() -> None:
    if _team is not None:
        _team.leave()


def _after_fork() -> None:
    """A forked process has no threads of its parent, and the locks may be held."""
    global _team, _changing
    _team, _changing = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
