"""What a training step computes beside its networks, in C: NumPy's values, with any number of threads."""

import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled import training
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.backends.numpy_backend import NumpyBackend

HostArray = np.ndarray[Any, Any]
Compute = Callable[[Any, Any], Sequence[HostArray]]
BACKEND = NumpyBackend()


@pytest.fixture
def module() -> ModuleType:
    """The module of the compiled functions."""
    if why_not() is not None:
        pytest.skip("there is no C compiler")
    return training


def drawn(dtype: Any, *shape: int, seed: int = 0) -> HostArray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def cross_entropy(rows: int, classes: int) -> Compute:
    def compute(kernels: Any, dtype: Any) -> Sequence[HostArray]:
        logits, ids = drawn(dtype, rows, classes) * 5, np.arange(rows) * 3 % (classes + 1) - 1
        ids[ids == classes - 1] = 2**40  # not a class
        ids, g = ids.astype(np.int32 if rows == 1 else np.int64).clip(-(2**31), 2**31 - 1), drawn(dtype, rows, seed=1)
        losses, saved = kernels.cross_entropy_forward((logits, ids), -1)
        return [losses, *saved, kernels.cross_entropy_backward((logits, ids, g, *saved), -1)]

    return compute


def softmax(*shape: int, step: int = 1) -> Compute:
    def compute(kernels: Any, dtype: Any) -> Sequence[HostArray]:
        x = drawn(dtype, *shape) * 20
        x = x[..., ::step]
        given = (x,) if kernels is training else (x, (x.ndim - 1,))
        return [kernels.softmax(*given, logarithm) for logarithm in (False, True)]

    return compute


def adam(size: int, amsgrad: bool = False) -> Compute:
    def compute(kernels: Any, dtype: Any) -> Sequence[HostArray]:
        p, g, m, v, largest = (drawn(dtype, size, seed=k) for k in range(5))
        arrays = [p, g, m, np.abs(v), *([np.abs(largest)] if amsgrad else [])]
        kernels.adam_update_one(arrays, 0.9, 0.1, 0.9, 0.999, 1e-8, 1e-3)
        return arrays

    return compute


def sgd(size: int, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.1) -> Compute:
    def compute(kernels: Any, dtype: Any) -> Sequence[HostArray]:
        arrays = [drawn(dtype, size, seed=k) for k in range(3 if momentum else 2)]
        kernels.sgd_update_one(arrays, decay, momentum, 0.7, 1e-2, nesterov)
        return arrays

    return compute


def adam_of_views(kernels: Any, dtype: Any) -> Sequence[HostArray]:
    """Arrays that are not contiguous."""
    p, m, v = (np.abs(drawn(dtype, 30, 40, seed=k)) for k in range(3))
    g = drawn(dtype, 20, 30, seed=3).T
    kernels.adam_update_one((p[:, ::2], g, m.T[::2].T, v[:, 1::2]), 1, 0, 0.9, 0.9, 1e-8, 0.1)
    return [p, m, v]


COMPUTED: dict[str, Compute] = {
    "cross entropy of 1 class": cross_entropy(3, 1),
    "cross entropy of 5 classes": cross_entropy(1, 5),
    "cross entropy of 65 classes": cross_entropy(70, 65),
    "cross entropy of 2500 classes": cross_entropy(20, 2500),
    "no cross entropy": cross_entropy(0, 5),
    "softmax of rows of 1": softmax(40, 1),
    "softmax of rows of 5": softmax(3, 2, 5),
    "softmax of rows of 129": softmax(70, 129),
    "softmax of a row of 2500": softmax(2500),
    "softmax of a view": softmax(9, 60, step=3),
    "Adam": adam(2100),
    "AMSGrad": adam(1025, amsgrad=True),
    "Adam of nothing": adam(0),
    "Adam of views": adam_of_views,
    "SGD": sgd(1003),
    "SGD without decay": sgd(5, decay=0),
    "SGD with momentum": sgd(1003, momentum=0.9),
    "SGD by Nesterov": sgd(1003, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", COMPUTED)
def test_results_are_numpys(name: str, dtype: Any, module: ModuleType) -> None:
    fast = COMPUTED[name](module, dtype)
    with tg.compiled_kernels(False):
        plain = COMPUTED[name](BACKEND, dtype)
    bound = 20 * float(np.finfo(dtype).eps)
    for actual, expected in zip(fast, plain, strict=True):
        assert actual.dtype == dtype or expected.dtype != dtype
        np.testing.assert_allclose(actual, expected, rtol=bound, atol=bound)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5)])
def test_rows_are_added_in_their_order(shape: tuple[int, ...], module: ModuleType) -> None:
    rows, values = np.array([2, 0, 2, 2, 5], np.int32), drawn(np.float32, 5, *shape) * 1000
    found = drawn(np.float32, 6, *shape, seed=1)
    expected = found.copy()
    np.add.at(expected, rows, values)
    module.add_rows(found, rows, values)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("most", [0, 1, 3, 256])
def test_few_each_counts_rows(most: int, module: ModuleType) -> None:
    for number, length in itertools.product((0, 1, most, most + 1, 3 * most + 2), (1, 3)):
        rows = np.arange(number) % length
        assert module.few_each(rows, length, most) == (np.bincount(rows, minlength=1).max() <= most)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_nans_and_infinities(dtype: Any, module: ModuleType) -> None:
    """A row with a NaN or inf is NaN, and so is one of only -inf; otherwise -inf has the probability 0."""
    x = np.zeros((77, 37), dtype)
    for row in range(74):
        x[row, row // 2] = np.inf if row % 2 else np.nan
    x[74], x[75, 9], x[76, 3:] = -np.inf, -np.inf, -1e30
    found, logarithms = module.softmax(x, False), module.softmax(x, True)
    assert np.isnan(found[:75]).all() and np.isnan(logarithms[:75]).all()
    assert logarithms[75, 9] == -np.inf and (logarithms[76, 3:] <= -9e29).all()
    np.testing.assert_allclose(
        found[75:], [np.arange(37) != 9, np.arange(37) < 3] / np.array([[36.0], [3.0]]), rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nans_and_infinities_of_logits(dtype: Any, module: ModuleType) -> None:
    """The loss of a row with a NaN is NaN, for either sign and any place of the NaN. A logit of -inf is impossible."""
    logits, ids = np.zeros((80, 37), dtype), np.arange(80) % 37
    for row in range(74):
        logits[row, row // 2] = np.copysign(np.nan, row % 2 - 0.5)
    logits[74:76] = -np.inf
    logits[74, 5] = 1  # the only possible class
    logits[76, 9] = -np.inf
    ids[[74, 75, 76]] = 5, 0, 9
    losses, saved = module.cross_entropy_forward((logits, ids), -100)
    g_logits = module.cross_entropy_backward((logits, ids, np.ones(80, dtype), *saved), -100)
    assert np.isnan(losses[:74]).all() and np.isnan(losses[75]) and losses[74] == 0 and losses[76] == np.inf
    assert np.isnan(g_logits[:74]).any(axis=1).all() and (g_logits[74] == 0).all()
    np.testing.assert_allclose(losses[77:], np.log(37), rtol=1e-6)


def many_rows_of_logits(kernels: Any, dtype: Any) -> Sequence[HostArray]:
    return cross_entropy(8001, 100)(kernels, dtype)


def many_rows_to_add(kernels: Any, dtype: Any) -> Sequence[HostArray]:
    target = np.zeros((65, 301), dtype)
    kernels.add_rows(target, np.arange(4000) * 7 % 65, drawn(dtype, 4000, 301))
    return [target]


@pytest.mark.parametrize(
    "compute",
    [many_rows_of_logits, softmax(3000, 129), many_rows_to_add, adam(900_901)],
    ids=["loss", "softmax", "add", "Adam"],
)
def test_results_do_not_depend_on_the_number_of_threads(
    compute: Compute, module: ModuleType, threads: Callable[[int], None]
) -> None:
    results = []
    for number in (1, 2, 3):
        threads(number)
        results.append(compute(module, np.float32))
    for other in results[1:]:
        for alone, shared in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(alone, shared)


def test_results_do_not_depend_on_addresses(module: ModuleType) -> None:
    """A resumed training has the same numbers as one without a break, though its arrays have different addresses."""
    kernels = module

    def moved(array: HostArray, by: int) -> HostArray:
        room = np.empty(array.size + by, array.dtype)
        room[by:] = array.ravel()
        return room[by:].reshape(array.shape)

    results = []
    for by in (0, 1, 5):
        logits, g = moved(drawn(np.float32, 7, 103), by), moved(drawn(np.float32, 7), by)
        ids = np.arange(7)
        losses, saved = kernels.cross_entropy_forward((logits, ids), -1)
        p, m, v = (np.abs(moved(drawn(np.float32, 1003, seed=k), by)) for k in range(3))
        kernels.adam_update_one((p, moved(m, by), moved(m, by), moved(v, by)), 0.9, 0.1, 0.9, 0.99, 1e-8, 0.1)
        results.append([losses, *saved, kernels.cross_entropy_backward((logits, ids, g, *saved), -1), p])
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(first, other)
