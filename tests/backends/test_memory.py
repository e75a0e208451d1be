"""Large arrays in memory that is used again: not before all that refers to it is gone, whatever else goes on."""

import gc
import multiprocessing
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tinygrad_lstm.backends import memory

LARGE = 10_000_019  # bytes


def place(array: np.ndarray) -> int:
    """Where in memory the array begins."""
    return array.__array_interface__["data"][0]


def owner(array: Any) -> Any:
    """What the array's memory belongs to."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


@pytest.fixture(autouse=True)
def nothing_large_waits() -> None:
    """Of what waits for its next use, only the last few blocks stay."""
    arrays = [memory.empty((70_000,), np.uint8) for _ in range(50)]
    arrays.clear()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Nothing goes but by its count of references."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5), (7,), (100, 1000), (3, 50, 1001)])
def test_an_array_as_numpys(shape: tuple[int, ...], dtype: str) -> None:
    array = memory.empty(shape, dtype)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    array[...] = 1
    assert array.all()


def test_memory_is_used_again() -> None:
    first = memory.empty((LARGE,), np.uint8)
    at = place(first)
    del first
    second = memory.empty((LARGE,), np.uint8)
    assert place(second) == at
    smaller = memory.empty((LARGE,), np.uint8)
    assert place(smaller) != at


def test_the_smallest_free_block_that_is_large_enough_is_used_and_none_much_too_large() -> None:
    tight, loose = memory.empty((LARGE + 1000,), np.uint8), memory.empty((LARGE + 100_000,), np.uint8)
    places = [place(tight), place(loose)]
    del loose, tight
    tiny = memory.empty((LARGE // 8,), np.uint8)
    arrays = [memory.empty((LARGE,), np.uint8) for _ in range(2)]
    assert [place(array) for array in arrays] == places
    assert place(tiny) not in places


VIEWS: dict[str, Callable[[np.ndarray], Any]] = {
    "slice": lambda array: array[5:10],
    "of a slice": lambda array: array[2:][::2][3:4],
    "reshaped": lambda array: array.reshape(-1, 1).T,
    "other dtype": lambda array: array[:16].view(np.float64),
    "masked": np.ma.asarray,
    "memoryview": memoryview,
    "from a buffer": lambda array: np.frombuffer(array, np.uint8, 10),
    "broadcast": lambda array: np.broadcast_to(array, (2, LARGE)),
    "strided": lambda array: np.lib.stride_tricks.as_strided(array, (4,), (2,)),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_memory_is_not_used_again_while_anything_refers_to_it(kind: str, no_collection: None) -> None:
    array = memory.empty((LARGE,), np.uint8)
    array[:] = 3
    at = place(array)
    view = VIEWS[kind](array)
    del array
    other = memory.empty((LARGE,), np.uint8)
    assert place(other) != at
    other[:] = 4
    assert set(np.asarray(view).flat[:2].tobytes()) == {3}
    del view
    again = memory.empty((LARGE,), np.uint8)
    assert place(again) == at


def test_arrays_that_are_alive_never_overlap() -> None:
    rng = np.random.default_rng(0)
    held: list[tuple[int, np.ndarray]] = []
    for k in range(300):
        array = memory.empty((int(rng.integers(70_000, 300_000)),), np.uint8)
        array[:] = k % 251
        held.append((k % 251, array))
        if len(held) > 25:
            held.pop(int(rng.integers(len(held))))
        assert all((array[::977] == value).all() for value, array in held)


def test_what_waits_can_be_given_back() -> None:
    array = memory.empty((LARGE,), np.uint8)
    kept = memory.empty((LARGE,), np.uint8)
    block, in_use = weakref.ref(owner(array)), weakref.ref(owner(kept))
    del array
    assert block() is not None
    memory.give_back()
    assert block() is None and in_use() is not None


def test_what_waits_is_bounded() -> None:
    """Of the memory of a network that is gone most goes back to the system, when the next array is made."""
    arrays = [memory.empty((100_000,), np.uint8) for _ in range(100)]
    blocks = [weakref.ref(owner(array)) for array in arrays]
    assert all(block() is not None for block in blocks)
    arrays.clear()
    arrays.append(memory.empty((100_000,), np.uint8))
    assert sum(block() is not None for block in blocks) <= 32


def test_what_waits_is_bounded_in_bytes() -> None:
    arrays = [memory.empty((200_000_000,), np.uint8) for _ in range(5)]  # never written to: it takes no memory
    blocks = [weakref.ref(owner(array)) for array in arrays]
    arrays.clear()
    arrays.append(memory.empty((100_000,), np.uint8))
    assert sum(block() is not None for block in blocks) == 2


def test_what_is_too_large_is_refused_as_numpy_refuses_it() -> None:
    with pytest.raises(MemoryError):
        memory.empty((2**62,), np.uint8)


def test_small_arrays_too_let_memory_go() -> None:
    arrays = [memory.empty((100_000,), np.uint8) for _ in range(100)]
    blocks = [weakref.ref(owner(array)) for array in arrays]
    arrays.clear()
    memory.empty((10,), np.uint8)
    assert sum(block() is not None for block in blocks) <= 32


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that interrupts")
def test_interrupts_do_no_harm(no_collection: None) -> None:
    """Wherever they come in between: what is made after them is apart from all else, and comes back when it goes."""

    class Interruption(BaseException):
        pass

    def interrupt(number: int, frame: Any) -> None:
        raise Interruption

    held: list[np.ndarray] = []
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                end = time.monotonic() + 10
                while time.monotonic() < end:
                    held.append(memory.empty((100_000,), np.uint8))
                    if len(held) > 5:
                        held.pop(0)
            except Interruption:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 300
    assert len({place(array) for array in held}) == len(held)
    held.clear()
    test_memory_is_used_again()
    test_what_waits_is_bounded()


def test_a_finalizer_may_make_arrays() -> None:
    """In the midst of the making of another, wherever the collector comes in between: here before every single step."""

    def make_one(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_globals is vars(memory):
            frame.f_trace_opcodes = True
            sys.settrace(None)
            made.append(memory.empty((100_000,), np.uint8))
            sys.settrace(make_one)
            return make_one
        return None

    made: list[np.ndarray] = []
    before = sys.gettrace()
    sys.settrace(make_one)
    try:
        made.extend(memory.empty((100_000,), np.uint8) for _ in range(3))
    finally:
        sys.settrace(before)
    assert len(made) > 20
    assert len({place(array) for array in made}) == len(made)


def test_small_arrays_come_from_numpy() -> None:
    """Their memory is not kept: nothing but NumPy's own bookkeeping refers to it."""
    assert memory.empty((100,), np.float32).base is None
    assert memory.empty((LARGE,), np.uint8).base is not None


def test_memory_freed_in_a_different_thread_is_reused_by_all() -> None:
    held = [memory.empty((LARGE,), np.uint8)]
    at = place(held[0])
    with ThreadPoolExecutor(1) as pool:
        pool.submit(held.clear).result()
        assert place(memory.empty((LARGE,), np.uint8)) == at
        assert pool.submit(lambda: place(memory.empty((LARGE,), np.uint8))).result() == at


def test_threads_never_get_the_same_memory() -> None:
    def work(number: int) -> bool:
        rng = np.random.default_rng(number)
        held: list[np.ndarray] = []
        right = True
        for _ in range(2000):
            array = memory.empty((int(rng.integers(70_000, 100_000)),), np.uint8)
            array[0] = array[-1] = number
            held.append(array)
            right &= all(other[0] == other[-1] == number for other in held)
            if len(held) > 5:
                held.pop(int(rng.integers(len(held))))
        return right

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)


def test_arrays_may_be_freed_during_an_allocation() -> None:
    """As they do when another thread, or the garbage collector, comes in between: here before every single step."""
    leaving = [memory.empty((100_000,), np.uint8) for _ in range(2000)]
    held: list[np.ndarray] = []

    def let_one_go(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_globals is not vars(memory):
            return None
        frame.f_trace_opcodes = True
        if leaving:
            leaving.pop()
        return let_one_go

    before = sys.gettrace()
    sys.settrace(let_one_go)
    try:
        for _ in range(20):
            held.append(memory.empty((100_000,), np.uint8))
    finally:
        sys.settrace(before)
    assert len(leaving) < 2000
    assert len({place(array) for array in [*held, *leaving]}) == len(held) + len(leaving)


def _overwrite(array: np.ndarray, waiting: int, answers: Any) -> None:
    array[:] = 7
    own = memory.empty((LARGE,), np.uint8)
    own[:] = 7
    answers.put((bool((array == 7).all()), place(own) == waiting))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork: nothing is inherited"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_memory_of_its_own() -> None:
    """What it writes, into what it inherits or what waited at the fork, does not appear here."""
    array, other = memory.empty((LARGE,), np.uint8), memory.empty((LARGE,), np.uint8)
    array[:] = 1
    waiting = place(other)
    del other
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_overwrite, args=(array, waiting, answers))
    mine = memory.empty((LARGE,), np.uint8)
    assert place(mine) == waiting
    mine[:] = 2
    del mine
    process.start()
    mine = memory.empty((LARGE,), np.uint8)
    mine[:] = 2
    assert answers.get() == (True, True)
    process.join()
    assert place(mine) == waiting
    assert (array == 1).all() and (mine == 2).all()


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork: nothing is inherited"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_other_threads_are_at_it() -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            memory.empty((100_000,), np.uint8)

    threads = [threading.Thread(target=work) for _ in range(2)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=memory.empty, args=((100_000,), np.uint8)) for _ in range(10)]
    for thread in threads:
        thread.start()
    try:
        for process in processes:
            process.start()
        end = time.monotonic() + 20
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in processes]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for process in processes:
            process.kill()
            process.join()
    assert codes == [0] * 10
