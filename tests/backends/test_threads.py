"""The threads of the CPU, and work divided among them."""

import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.backends.threads import in_parts


@given(total=st.integers(0, 50), parts=st.integers(1, 12))
def test_parts_cover_the_range_once_and_are_nearly_equal(total: int, parts: int) -> None:
    taken: list[tuple[int, int]] = []
    in_parts(total, parts, lambda first, last: taken.append((first, last)))
    assert sorted(k for first, last in taken for k in range(first, last)) == list(range(total))
    sizes = [last - first for first, last in taken]
    assert len(sizes) == min(parts, total)
    assert not sizes or (max(sizes) - 1 <= min(sizes) and min(sizes) >= 1)


def test_nothing_is_called_for_an_empty_range() -> None:
    def never(first: int, last: int) -> None:
        raise AssertionError

    in_parts(0, 4, never)


def test_arguments_are_passed_on() -> None:
    total = np.zeros(10)

    def add(first: int, last: int, values: np.ndarray, factor: float) -> None:
        total[first:last] += values[first:last] * factor

    in_parts(10, 3, add, np.arange(10.0), 2.0)
    assert total.tolist() == [2.0 * k for k in range(10)]


def test_each_part_has_a_thread_of_its_own() -> None:
    """None of them ends before all have begun."""
    barrier = threading.Barrier(2, timeout=30)
    names: list[str] = []

    def meet(first: int, last: int) -> None:
        barrier.wait()
        names.append(threading.current_thread().name)

    in_parts(2, 2, meet)
    assert len(set(names)) == 2
    assert threading.current_thread().name in names


def test_one_part_needs_no_other_thread() -> None:
    names: list[str] = []
    in_parts(5, 1, lambda first, last: names.append(threading.current_thread().name))
    assert names == [threading.current_thread().name]


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_error_in_a_part_is_raised_once_all_have_ended(failing: int) -> None:
    ended: list[int] = []

    def part(first: int, last: int) -> None:
        if first == failing:
            raise ValueError(f"part {first}")
        time.sleep(0.05)
        ended.append(first)

    with pytest.raises(ValueError, match=f"^part {failing}$"):
        in_parts(4, 4, part)
    assert sorted(ended) == [k for k in range(4) if k != failing]


def test_after_an_error_the_threads_work_on() -> None:
    with pytest.raises(ZeroDivisionError):
        in_parts(4, 4, lambda first, last: 1 // 0)
    taken: list[int] = []
    in_parts(4, 4, lambda first, last: taken.append(first))
    assert sorted(taken) == [0, 1, 2, 3]


def test_several_callers_at_once() -> None:
    def count(caller: int) -> int:
        total = np.zeros(1000, np.int64)

        def add(first: int, last: int) -> None:
            total[first:last] += caller

        for _ in range(50):
            in_parts(1000, 3, add)
        return int(total.sum())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(4))) == [50_000 * caller for caller in range(4)]


def _sum_of_parts(answers: Any) -> None:
    taken: list[int] = []
    in_parts(9, 3, lambda first, last: taken.append(last - first))
    answers.put(taken)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork: threads are never lost"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    in_parts(3, 3, lambda first, last: None)  # the parent's are there before
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_sum_of_parts, args=(answers,))
    process.start()
    try:
        assert answers.get(timeout=30) == [3, 3, 3]
    finally:
        process.terminate()
        process.join()


def test_the_number_of_threads() -> None:
    before = tg.get_num_threads()
    assert before >= 1
    try:
        tg.set_num_threads(3)
        assert tg.get_num_threads() == 3
        with pytest.raises(ValueError, match=r"set_num_threads: expected at least 1 thread, got 0"):
            tg.set_num_threads(0)
        assert tg.get_num_threads() == 3
    finally:
        tg.set_num_threads(before)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not tell on which cores a thread may run"
)
def test_where_a_thread_may_run_is_as_before() -> None:
    """Also after an error, and from one job to the next; and the parts may not run where the first of them does."""
    before = os.sched_getaffinity(0)
    seen: dict[int, set[int]] = {}

    def note(first: int, last: int) -> None:
        seen[first] = os.sched_getaffinity(0)

    def fail(first: int, last: int) -> None:
        raise ValueError("astray")

    for _ in range(3):
        in_parts(2, 2, note)
        assert os.sched_getaffinity(0) == before
        if len(before) > 1:
            assert seen[0].isdisjoint(seen[1]) and seen[0] | seen[1] <= before
        with pytest.raises(ValueError, match="astray"):
            in_parts(2, 2, fail)
        assert os.sched_getaffinity(0) == before
