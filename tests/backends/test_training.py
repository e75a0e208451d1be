"""What a training step spends time in beside its networks: the number of threads changes no bit of compiled kernels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.backends import compiled
from tinygrad_lstm.backends.numpy_backend import NumpyBackend

HostArray = np.ndarray[Any, Any]
BACKEND = NumpyBackend()


def drawn(*shape: int, seed: int = 0) -> HostArray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cross_entropy() -> list[HostArray]:
    logits, ids = drawn(8001, 100), np.arange(8001) % 100
    losses, saved = BACKEND.cross_entropy_forward((logits, ids), 3)
    return [losses, BACKEND.cross_entropy_backward((logits, ids, losses, *saved), 3)]


def scatter_add() -> list[HostArray]:
    target = np.zeros((65, 301), np.float32)
    BACKEND.scatter_add(target, np.arange(4000) * 7 % 65, drawn(4000, 301))
    return [target]


def adam_update() -> list[HostArray]:
    p, g, m, v = (drawn(1001, 900, seed=k) for k in range(4))
    BACKEND.adam_update([(p, g, m, abs(v))], 0.9, 0.1, 0.9, 0.999, 1e-8, 1e-3)
    return [p, m, v]


@pytest.mark.skipif(not compiled.available(), reason="numba is not installed (the extra 'fast')")
@pytest.mark.parametrize("compute", [cross_entropy, scatter_add, adam_update])
def test_results_do_not_depend_on_the_number_of_threads(compute: Callable[[], list[HostArray]]) -> None:
    before = tg.get_num_threads()
    results = []
    try:
        for number in (1, 3):
            tg.set_num_threads(number)
            with tg.compiled_kernels(True):
                results.append(compute())
    finally:
        tg.set_num_threads(before)
    for alone, shared in zip(*results, strict=True):
        np.testing.assert_array_equal(alone, shared)
