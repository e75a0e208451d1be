"""How many threads compute, and whose."""

from collections.abc import Iterator

import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.backends import threads
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


def test_numpys_products_keep_to_one_while_compiled_kernels_use_several() -> None:
    pytest.importorskip("numba", reason="numba is not installed: there are no compiled kernels")
    tg.set_num_threads(2)
    lstm, x = LSTM(60, 60), tg.randn(50, 40, 60)
    with tg.compiled_kernels(True):
        lstm(x)
    assert blas_threads() == 1 and tg.get_num_threads() == 2
    with tg.compiled_kernels(False):
        lstm(x)
    assert blas_threads() == 2
    with tg.compiled_kernels(True):
        lstm(x)
    tg.set_num_threads(tg.get_num_threads())  # as the README says
    assert blas_threads() == 2


def test_the_environment_may_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert not threads.set_by_environment()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads.set_by_environment()
