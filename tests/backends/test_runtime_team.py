"""The threads of kernels in C, and rows divided among them."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.backends.compiled.c_runtime import kernel_library

pytestmark = pytest.mark.skipif(building.why_not() is not None, reason="there is no C compiler")

SOURCE = """
#include <time.h>
#include "runtime.h"

typedef struct {
    Index *counts, *firsts, inner;
} Noted;

static void count_part(void *counts, Index first, Index last) {
    for (Index row = first; row < last; row++) __atomic_fetch_add((Index *)counts + row, 1, __ATOMIC_RELAXED);
}

static void note_part(void *noted, Index first, Index last) {
    Noted *n = noted;
    for (Index row = first; row < last; row++) n->firsts[row] = first;
    count_part(n->counts, first, last);
    if (n->inner) share(3, n->inner, count_part, n->counts);
}

/* Counts each row, and says with which row its part began; each part also shares `inner` rows. */
void note(Index threads, Index rows, Index *counts, Index *firsts, Index inner) {
    Noted noted = {counts, firsts, inner};
    share(threads, rows, note_part, &noted);
}

typedef struct {
    Index number, begun, together;
} Meeting;

static void meet_part(void *meeting, Index first, Index last) {
    Meeting *m = meeting;
    time_t started = time(NULL);
    __atomic_fetch_add(&m->begun, last - first, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&m->begun, __ATOMIC_SEQ_CST) < m->number && time(NULL) - started < 20) { }
    if (__atomic_load_n(&m->begun, __ATOMIC_SEQ_CST) >= m->number)
        __atomic_fetch_add(&m->together, last - first, __ATOMIC_SEQ_CST);
}

/* Waits until this number of parts have begun, before any of them ends; returns the number that saw it. */
Index meet(Index number) {
    Meeting meeting = {number, 0, 0};
    share(number, number, meet_part, &meeting);
    return meeting.together;
}
"""


@cache
def library() -> ctypes.CDLL:
    loaded = kernel_library("test_team", SOURCE, np.dtype(np.float32))
    loaded.note.argtypes = [ctypes.c_ssize_t] * 2 + [ctypes.c_void_p] * 2 + [ctypes.c_ssize_t]
    loaded.note.restype = None
    loaded.meet.argtypes, loaded.meet.restype = [ctypes.c_ssize_t], ctypes.c_ssize_t
    return loaded


def note(threads: int, counts: np.ndarray, rows: int | None = None, inner: int = 0) -> np.ndarray:
    """Adds 1 to the count of each row; returns the first row of its part."""
    rows = len(counts) if rows is None else rows
    firsts = np.full(rows, -1, np.int64)
    library().note(threads, rows, counts.ctypes.data, firsts.ctypes.data, inner)
    return firsts


def meet(number: int) -> None:
    assert library().meet(number) == number


@given(rows=st.integers(0, 200), threads=st.integers(-1, 70))
def test_parts_cover_the_rows_once_and_are_nearly_equal(rows: int, threads: int) -> None:
    counts = np.zeros(rows, np.int64)
    firsts = note(threads, counts)
    assert counts.tolist() == [1] * rows
    sizes = np.unique(firsts, return_counts=True)[1].tolist()
    assert len(sizes) == min(max(threads, 1), rows, 64)
    assert not sizes or max(sizes) - 1 <= min(sizes)


def test_several_jobs_one_after_the_other() -> None:
    counts = np.zeros(1000, np.int64)
    for jobs in range(300):
        note(1 + jobs % 4, counts)
    assert counts.tolist() == [300] * 1000


def test_each_part_has_a_thread() -> None:
    for number in (2, 4, 3):
        meet(number)


def test_helpers_are_there_after_they_slept() -> None:
    for seconds in (0.0, 0.05, 0.0, 0.1):
        time.sleep(seconds)
        meet(2)


def test_a_part_may_share_rows_itself() -> None:
    counts = np.zeros(100, np.int64)
    note(4, counts, rows=4, inner=100)
    assert counts.tolist() == [5] * 4 + [4] * 96


def test_callers_at_once_do_not_disturb_each_other() -> None:
    def count(caller: int) -> list[int]:
        counts = np.zeros(1000, np.int64)
        for _ in range(100):
            note(3, counts)
        return np.unique(counts).tolist()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(4))) == [[100]] * 4


def _counts(answers: Any) -> None:
    counts = np.zeros(9, np.int64)
    meet(3)
    note(3, counts)
    answers.put(counts.tolist())


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork: threads are never lost"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            note(3, np.zeros(1000, np.int64))

    meet(3)  # the parent's threads are there before, and in use while it forks
    other = threading.Thread(target=compute)
    other.start()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=_counts, args=(answers,)) for _ in range(3)]
    try:
        for process in processes:
            process.start()
        for _ in processes:
            assert answers.get(timeout=30) == [1] * 9
    finally:
        stop.set()
        other.join()
        for process in processes:
            process.terminate()
            process.join()


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not tell on which cores a thread may run"
)
def test_the_caller_may_run_where_it_could_before() -> None:
    before = os.sched_getaffinity(0)
    for _ in range(3):
        meet(2)
        assert os.sched_getaffinity(0) == before
        time.sleep(0.02)


def test_helpers_sleep_when_there_is_nothing_to_do() -> None:
    meet(4)
    time.sleep(0.3)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not tell what its threads block")
def test_signals_go_to_the_threads_of_python() -> None:
    meet(4)
    own = {thread.native_id for thread in threading.enumerate()}
    blocked = {}
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) not in own:
            (line,) = (line for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk"))
            blocked[task.name] = int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1
    assert sum(blocked.values()) >= 3


PROGRAM = """
import threading
import numpy as np
import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled.matrices import matmul

tg.set_num_threads(2)
x = np.ones((500, 500), np.float32)

def forever():
    while True:
        matmul(x, x)

matmul(x, x)
threading.Thread(target=forever, daemon=True).start()
matmul(x, x)
print("done")
"""


def test_a_program_ends_though_its_threads_compute() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
