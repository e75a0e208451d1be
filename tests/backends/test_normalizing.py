"""Normalization of rows, in C: NumPy's values, with any number of threads."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tinygrad_lstm.backends.compiled import normalizing
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.backends.training import TrainingKernels

HostArray = np.ndarray[Any, Any]
Affine = tuple[int, ...] | None


class Plain(TrainingKernels):
    """The same with NumPy."""

    xp = np

    def empty(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        return np.empty(shape, dtype)


@pytest.fixture(autouse=True)
def _needs_a_compiler() -> None:
    if why_not() is not None:
        pytest.skip("there is no C compiler")


def drawn(dtype: Any, *shape: int, seed: int = 0) -> HostArray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def results(kernels: Any, x: HostArray, affine: Affine, given: Sequence[bool] = (True, True)) -> list[HostArray]:
    """The output, what is saved, and the gradients, with the weight and the bias that are given."""
    weight, bias = (drawn(x.dtype, *affine, seed=k) if affine and used else None for k, used in enumerate(given, 1))
    g = drawn(x.dtype, *x.shape, seed=3)
    with np.errstate(all="ignore"):
        out, saved = kernels.layer_norm_forward((x, weight, bias), 1e-5)
        return [out, *saved, *kernels.layer_norm_backward((g, x, weight, *saved), (True, True, True))]


SHAPES: list[tuple[int, int, Affine]] = [
    (1, 1, None),
    (5, 33, None),
    (80, 64, (64,)),
    (600, 7, (7,)),
    (3, 3001, (3001,)),
    (24, 60, (3, 4)),
    (130, 26, (2, 13)),
    (4, 5000, (2, 5)),
    (0, 3, (3,)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_are_numpys(shape: tuple[int, int, Affine], dtype: Any) -> None:
    rows, columns, affine = shape
    x = drawn(dtype, rows, columns) * 3 + 1
    bound = 200 * float(np.finfo(dtype).eps)
    for actual, expected in zip(results(normalizing, x, affine), results(Plain(), x, affine), strict=True):
        assert actual.dtype == expected.dtype == dtype and actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=bound, atol=bound)


@pytest.mark.parametrize("given", [(True, False), (False, True), (False, False)])
def test_weight_and_bias_may_be_missing(given: Sequence[bool]) -> None:
    x = drawn(np.float64, 12, 20)
    for actual, expected in zip(results(normalizing, x, (20,), given), results(Plain(), x, (20,), given), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_rows(dtype: Any) -> None:
    """Squares may overflow. A NaN or an infinity makes its row NaN, and no other."""
    x = drawn(dtype, 5, 50)
    x[0] *= float(np.finfo(dtype).max) / 1000
    x[1, 3], x[2, 4], x[3] = np.nan, np.inf, 7
    out, means, *_ = results(normalizing, x, None)
    np.testing.assert_allclose((out[0] ** 2).mean(), 1, rtol=1e-5)
    assert np.isnan(out[1:3]).all() and (out[3] == 0).all() and means[3] == 7 and np.isfinite(out[4]).all()


def test_unneeded_gradients_are_not_computed() -> None:
    x, weight = drawn(np.float32, 6, 8), drawn(np.float32, 8)
    _, saved = normalizing.layer_norm_forward((x, weight, None), 0.1)
    for needs in ((True, False, False), (False, True, False), (False, False, True)):
        found = normalizing.layer_norm_backward((x, x, weight, *saved), needs)
        assert [each is not None for each in found] == list(needs)


@pytest.mark.parametrize("shape", [(4001, 100, (100,)), (4000, 120, (8, 6))], ids=str)
def test_results_do_not_depend_on_the_number_of_threads(
    shape: tuple[int, int, Affine], threads: Callable[[int], None]
) -> None:
    found = []
    for number in (1, 2, 3):
        threads(number)
        found.append(results(normalizing, drawn(np.float32, *shape[:2]), shape[2]))
    for other in found[1:]:
        for alone, shared in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(alone, shared)
