"""What the benchmarks share: sides in processes of their own that take turns, agreement, peak memory, table rows."""

from __future__ import annotations

import ctypes
import gc
import math
import multiprocessing
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np

from tinygrad_lstm.backends import memory
from tinygrad_lstm.backends.threads import VARIABLES

TOLERANCE = 1e-4
"""How far two sides' float32 results may lie apart, as a share of the largest magnitude among them."""

PAUSE = 0.2
"""Seconds between two sides: the threads of the one before spin a while after their work, on a core the next needs."""

MEASURED = 0.05
"""Seconds that a side at least computes in a turn."""

_CLEAR_REFS = Path("/proc/self/clear_refs")


class Gauge(Protocol):
    """What measures calls, on the device on which they compute."""

    def seconds(self, call: Callable[[], Any], calls: int) -> float:
        """Seconds that so many calls take, once the device is done with all before."""

    def peak(self, call: Callable[[], Any]) -> float:
        """MB by which the memory in use grows at most in a call."""


class HostGauge:
    """Measures what is computed on the CPU."""

    def seconds(self, call: Callable[[], Any], calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - started

    def peak(self, call: Callable[[], Any]) -> float:
        """Of the process's resident memory, as Linux tells it."""
        gc.collect()
        _CLEAR_REFS.write_text("5")  # the peak starts anew
        before = _resident("VmRSS")
        call()
        return (_resident("VmHWM") - before) / 1e3


@dataclass(frozen=True)
class Case:
    """What a side is to compute.

    Args:
        call: does it once; this alone is timed.
        arrays: by name, what of the call's result must agree among the sides.
        within: the context in which calls are made, entered once for many, as around a user's loop.
        gauge: what measures it.
    """

    call: Callable[[], Any]
    arrays: Callable[[Any], Mapping[str, Any]] = lambda result: {}
    within: Callable[[], AbstractContextManager[Any]] = nullcontext
    gauge: Gauge = HostGauge()  # noqa: RUF009 (it has no state)


class Worker:
    """A side, in a process of its own: no side's idle threads or garbage are in another's way.

    Args:
        prepare: `prepare(side, *arguments)` gives the side's Case; a function at the top of a module.
        side: the side's name.
        threads: how many threads it may compute with.
        environment: further environment variables that it finds set before it imports anything.
    """

    def __init__(
        self, prepare: Callable[..., Case], side: str, threads: int, environment: Mapping[str, str] | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, side), daemon=True)
        with patch.dict(os.environ, dict.fromkeys(VARIABLES, str(threads)) | dict(environment or {})):
            self._process.start()
        theirs.close()

    def prepare(self, *arguments: Any) -> dict[str, Any]:
        """Makes the Case of these arguments the one to time; what its third call gives."""
        answer: dict[str, Any] = self._ask("prepare", *arguments)
        return answer

    def seconds(self) -> float:
        """Seconds a call, the mean over a turn's calls."""
        return float(self._ask("seconds"))

    def peak_growth(self, *arguments: Any) -> float:
        """MB by which the memory in use grows at most in the second call of the Case of these arguments.

        The first loads, and compiles, what it needs; the memory of its arrays is given back.
        """
        return float(self._ask("peak growth", *arguments))

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()

    def _ask(self, *request: Any) -> Any:
        try:
            self._connection.send(request)
            return self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            raise RuntimeError(f"the worker ended with {self._process.exitcode} on {request}") from None


def _serve(connection: Connection, prepare: Callable[..., Case], side: str) -> None:
    """Answers a Worker's requests until there are no more."""
    case = Case(lambda: None)
    while True:
        try:
            request, *arguments = connection.recv()
        except EOFError:
            return
        if request == "prepare":
            case = prepare(side, *arguments)
            connection.send(_third_result(case))
            # What imports left behind is no side's garbage, to be looked through at every collection.
            gc.collect()
            gc.freeze()
        elif request == "seconds":
            connection.send(_seconds_a_call(case))
        else:
            connection.send(_peak_growth(prepare(side, *arguments)))


def _third_result(case: Case) -> Mapping[str, Any]:
    """The third, since what a training step or a streamed one leaves to the next shall agree too."""
    with case.within():
        case.call()
        case.call()
        return case.arrays(case.call())


def _seconds_a_call(case: Case) -> float:
    with case.within():
        case.call()
        calls = 2
        while (elapsed := case.gauge.seconds(case.call, calls)) < MEASURED:
            calls = math.ceil(calls * min(1.2 * MEASURED / elapsed, 10))
    return elapsed / calls


def _peak_growth(case: Case) -> float:
    with case.within():
        case.call()
        gc.collect()
        memory.give_back()
        if hasattr(ctypes.CDLL(None), "malloc_trim"):  # glibc's: what was freed would be used again, uncounted
            ctypes.CDLL(None).malloc_trim(0)
        return case.gauge.peak(case.call)


def _resident(field: str) -> float:
    """kB, as Linux tells them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def tells_memory() -> bool:
    """Whether the system can say how large a process was at its largest since a moment: Linux can."""
    return _CLEAR_REFS.exists()


def check_agreement(results: Mapping[str, Mapping[str, Any]], tolerance: float = TOLERANCE) -> None:
    """Raises RuntimeError unless the sides that give results give the same, to rounding."""
    (reference, expected), *others = ((side, arrays) for side, arrays in results.items() if arrays)
    for side, arrays in others:
        for name, array in arrays.items():
            theirs = np.reshape(expected[name], np.shape(array))
            apart = float(np.abs(array - theirs).max() / (np.abs(theirs).max() or 1))
            if not apart <= tolerance:
                raise RuntimeError(f"{name} of {side} is {apart:.1e} of its magnitude away from that of {reference}")


def take_turns(workers: Mapping[str, Worker], turns: int) -> dict[str, list[float]]:
    """Seconds a call, of each side, turn by turn; each turn begins with another side."""
    seconds: dict[str, list[float]] = {side: [] for side in workers}
    order = deque(workers)
    for _ in range(turns):
        for side in order:
            time.sleep(PAUSE)
            seconds[side].append(workers[side].seconds())
        order.rotate()
    return seconds


def ratio(ours: Sequence[float] | None, theirs: Sequence[float] | None) -> float:
    """The median of the ratios turn by turn; NaN where a side is missing."""
    if ours is None or theirs is None:
        return math.nan
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def row(label: str, figures: Mapping[str, Sequence[float] | None], ours: Sequence[str], unit: float) -> str:
    """A row of a Markdown table, a column for each side: its median and, for sides not ours, each of ours by it."""
    cells = [label]
    for side, theirs in figures.items():
        if theirs is None:
            cells.append("not installed")
        elif side in ours:
            cells.append(_number(statistics.median(theirs) * unit))
        else:
            ratios = (ratio(figures[name], theirs) for name in ours)
            divided = ", ".join("–" if math.isnan(value) else f"{value:.2f}" for value in ratios)
            cells.append(f"{_number(statistics.median(theirs) * unit)} ({divided})")
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
