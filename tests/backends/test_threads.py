"""How many threads compute, and whose."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.backends import numpy_backend, threads
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.backends.compiled.c_runtime import threads_for
from tinygrad_lstm.models import LSTM


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = tg.get_num_threads()
    yield
    tg.set_num_threads(before)


def blas_threads() -> int:
    """How many OpenBLAS uses."""
    function = threads._openblas("get_num_threads")
    if function is None:
        pytest.skip("NumPy's matrix library is not the OpenBLAS of its wheels: it cannot be asked")
    return int(function())


def test_the_number_of_threads() -> None:
    assert tg.get_num_threads() >= 1
    tg.set_num_threads(3)
    assert tg.get_num_threads() == 3
    with pytest.raises(ValueError, match=r"set_num_threads: expected at least 1 thread, got 0"):
        tg.set_num_threads(0)
    assert tg.get_num_threads() == 3


def test_numpys_products_use_as_many() -> None:
    for number in (2, 1, 3):
        tg.set_num_threads(number)
        assert blas_threads() == number


def compute_compiled() -> None:
    if why_not() is not None:
        pytest.skip("there is no C compiler")
    time.sleep(0.05)  # until OpenBLAS's threads do not spin any more
    with tg.compiled_kernels(True):
        LSTM(60, 60)(tg.randn(50, 40, 60))


def test_products_of_the_user_keep_their_threads_beside_compiled_kernels() -> None:
    tg.set_num_threads(2)
    compute_compiled()
    x = tg.randn(80, 80, requires_grad=True)
    (x @ x).sum().backward()
    tg.einsum("ij,jk->ik", x, x)
    tg.optim.clip_grad_norm_([x], 1.0)
    assert blas_threads() == tg.get_num_threads() == 2


@pytest.mark.parametrize("number", [1, 3])
def test_products_of_the_library_keep_to_one_thread_beside_compiled_kernels(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            seen.append(blas_threads())
            assert tg.get_num_threads() == number
            return function(*args, **options)

        return noted

    tg.set_num_threads(2)
    compute_compiled()
    tg.set_num_threads(number)
    for module, name in ((numpy_backend, "matmul"), (np, "dot")):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    x = tg.randn(80, 80)
    x @ x
    tg.randn(1, 100) @ tg.randn(100, 100)
    tg.randn(2, 80, 80) @ x
    assert seen == [1, 1, 1]
    tg.ones(2, 2) @ tg.ones(2, 2)  # so small that it is never shared
    assert seen[3:] == [number] and blas_threads() == number
    with tg.compiled_kernels(False):
        LSTM(3, 4)(tg.randn(5, 2, 3))
    del seen[:]
    x @ x
    assert seen == [number]


def test_kernels_in_c_do_not_compete_with_threads_of_openblas() -> None:
    """OpenBLAS's threads spin for a while after NumPy's kernels have computed; long products do not wait for that."""
    tg.set_num_threads(2)
    with tg.compiled_kernels(False):
        LSTM(4, 4)(tg.randn(2, 3, 4))
    assert (threads_for(1e7), threads_for(2e9)) == (1, 2)
    with tg.compiled_kernels(False):
        LSTM(4, 4)(tg.randn(2, 3, 4))
    time.sleep(0.05)
    assert (threads_for(1e5), threads_for(1e7)) == (1, 2)


def test_threads_that_multiply_at_once_restore_the_number_of_threads() -> None:
    tg.set_num_threads(3)
    compute_compiled()
    x = tg.randn(100, 100)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: [x @ x for _ in range(50)], range(8)))
    assert blas_threads() == 3
    with pytest.raises(ValueError), threads.ONE_BLAS_THREAD:
        tg.set_num_threads(2)  # takes effect afterwards
        assert (blas_threads(), tg.get_num_threads()) == (1, 2)
        raise ValueError
    assert blas_threads() == 2


def test_the_environment_may_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert not threads.set_by_environment()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads.set_by_environment()
