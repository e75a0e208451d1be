"""The threads of compiled kernels, and work divided among them."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg

pytest.importorskip("numba", reason="numba is not installed: there are no compiled kernels")

from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.backends.compiled import team as team_module
from tinygrad_lstm.backends.compiled.atomics import add_to_word, outlined, pause, read_word
from tinygrad_lstm.backends.compiled.jit import jit
from tinygrad_lstm.backends.compiled.team import _Team, share, team


@jit
def _note_part(first: int, last: int, values: Any, firsts: Any, amount: int) -> None:
    for k in range(first, last):
        values[k] += amount
        firsts[k] = first


_note = outlined(_note_part)


@jit
def note(members: Any, values: Any, firsts: Any, amount: int) -> None:
    """Adds the amount to each value, and says with which element its part began."""
    share(members, len(values), _note((values, firsts, amount)))


@jit
def _meet_part(first: int, last: int, arrived: Any, number: int) -> None:
    add_to_word(arrived, 0, last - first)
    looks = 0
    while read_word(arrived, 0) < number and looks < 200_000_000:  # several seconds
        pause()
        looks += 1
    if read_word(arrived, 0) >= number and looks < 200_000_000:
        add_to_word(arrived, 1, 1)


_meet = outlined(_meet_part)


@jit
def _meet_all(members: Any, arrived: Any, number: int) -> None:
    share(members, number, _meet((arrived, number)))


def meet(members: Any, number: int) -> None:
    """Waits until this many parts have begun, before any of them ends: each has its own thread."""
    arrived = np.zeros(2, np.int64)
    _meet_all(members, arrived, number)
    assert arrived.tolist() == [number, number]


@jit
def _fail_part(first: int, last: int, ended: Any, failing: int) -> None:
    if first <= failing < last:
        raise MemoryError
    ended[first:last] = 1


_fail = outlined(_fail_part)


@jit
def fail(members: Any, ended: Any, failing: int) -> None:
    """Fails in the part that has that element."""
    share(members, len(ended), _fail((ended, failing)))


@pytest.fixture(autouse=True, scope="module", params=["C", "numba"])
def four_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kernels of both kinds use the same threads, those of C; without a C compiler they are numba's."""
    if request.param == "C" and building.why_not() is not None:
        pytest.skip("there is no C compiler")
    before = tg.get_num_threads()
    tg.set_num_threads(4)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numba":
            patch.setattr(team_module, "_shares_in_c", lambda: None)
        yield
    tg.set_num_threads(before)


@given(total=st.integers(0, 50), threads=st.integers(1, 6))
def test_parts_cover_the_range_once_and_are_nearly_equal(total: int, threads: int) -> None:
    values, firsts = np.zeros(total, np.int64), np.zeros(total, np.int64)
    with team(threads) as members:
        note(members, values, firsts, 3)
    assert values.tolist() == [3] * total
    sizes = np.unique(firsts, return_counts=True)[1].tolist()
    assert len(sizes) == min(threads, 4, total)
    assert not sizes or max(sizes) - 1 <= min(sizes)


def test_several_jobs_one_after_the_other() -> None:
    values, firsts = np.zeros(1000, np.int64), np.zeros(1000, np.int64)
    with team(4) as members:
        for _ in range(300):
            note(members, values, firsts, 1)
    assert values.tolist() == [300] * 1000


def test_helpers_are_there_after_they_slept() -> None:
    for seconds in (0.0, 0.05, 0.0, 0.1):
        time.sleep(seconds)
        with team(2) as members:
            meet(members, 2)


def test_each_part_has_a_thread_of_its_own() -> None:
    with team(4) as members:
        meet(members, 4)


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_error_in_a_part_is_raised_once_all_have_ended(failing: int) -> None:
    ended = np.zeros(4)
    with team(4) as members, pytest.raises(MemoryError):
        fail(members, ended, failing)
    assert [k for k in range(4) if not ended[k]] == [failing]
    values = np.zeros(4, np.int64)
    with team(4) as members:  # and the threads work on
        note(members, values, np.zeros(4, np.int64), 1)
    assert values.tolist() == [1] * 4


def test_callers_at_once_do_not_disturb_each_other() -> None:
    def count(caller: int) -> int:
        total, firsts = np.zeros(1000, np.int64), np.zeros(1000, np.int64)
        for _ in range(100):
            with team(3) as members:
                note(members, total, firsts, caller)
        return int(total.sum())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(4))) == [100_000 * caller for caller in range(4)]


def _sum_of_parts(answers: Any) -> None:
    values = np.zeros(9, np.int64)
    with team(3) as members:
        meet(members, 3)
        note(members, values, np.zeros(9, np.int64), 1)
    answers.put(values.tolist())


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork: threads are never lost"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    with team(3) as members:  # the parent's are there before
        meet(members, 3)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_sum_of_parts, args=(answers,))
    process.start()
    try:
        assert answers.get(timeout=30) == [1] * 9
    finally:
        process.terminate()
        process.join()


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not tell on which cores a thread may run"
)
def test_the_caller_may_run_where_it_could_before() -> None:
    before = os.sched_getaffinity(0)
    for _ in range(3):
        with team(2) as members:
            meet(members, 2)
        assert os.sched_getaffinity(0) == before
        time.sleep(0.02)


def test_helpers_sleep_when_there_is_nothing_to_do() -> None:
    with team(4) as members:
        meet(members, 4)
    time.sleep(0.3)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system does not tell a thread's time")
def test_only_as_many_work_as_are_asked_for() -> None:
    """Earlier calls used more threads; the additional threads stay asleep."""

    def spent() -> dict[str, float]:
        """Seconds that each thread has computed, except this one."""
        threads = [path for path in Path("/proc/self/task").iterdir() if int(path.name) != threading.get_native_id()]
        return {path.name: int((path / "schedstat").read_text().split()[0]) * 1e-9 for path in threads}

    with team(4) as members:
        meet(members, 4)
    time.sleep(0.2)
    before, started = spent(), time.monotonic()
    while time.monotonic() - started < 0.5:
        with team(2) as members:
            meet(members, 2)
    after = spent()
    assert len([name for name in after if after[name] - before.get(name, 0.0) > 0.01]) == 1


def test_helpers_leave_though_another_thread_disperses_them_meanwhile() -> None:
    for _ in range(50):
        own = _Team(2)
        stop = threading.Event()

        def disturb(own: _Team = own, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                own.gather(2, brief=True)
                own.disperse()

        other = threading.Thread(target=disturb)
        other.start()
        leaving = threading.Thread(target=own.leave, daemon=True)
        leaving.start()
        leaving.join(20)
        stop.set()
        other.join()
        assert not leaving.is_alive()


def test_an_error_on_the_way_in_leaves_the_team_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_module, "_shares_in_c", lambda: None)
    with team(2) as members:
        meet(members, 2)
    time.sleep(0.2)  # so that they have to be woken

    def fail(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tinygrad_lstm.backends.compiled.team._Team._spread", fail)
        with pytest.raises(KeyboardInterrupt), team(2):
            pass
    for threads in (2, 4):
        with team(threads) as members:
            meet(members, threads)


PROGRAM = """
import threading
import numpy as np
import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM

tg.set_num_threads(2)
lstm, x = LSTM(64, 64), tg.randn(50, 32, 64)

def forever():
    while True:
        lstm(x)

lstm(x)
threading.Thread(target=forever, daemon=True).start()
lstm(x)
print("done")
"""


def test_a_program_ends_though_its_threads_compute() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
