"""The matrix product in C, called from C code as generated kernels call it."""

import ctypes
import platform
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.backends.compiled import building, c_runtime
from tinygrad_lstm.backends.compiled.c_runtime import source

pytestmark = pytest.mark.skipif(building.why_not() is not None, reason="there is no C compiler")

SOURCE = """
#include "runtime.h"

typedef struct {
    REAL *c, *panels;
    const REAL *a, *b;
    Index c_row, a_row, b_row, M, N, K;
    int add, a_transposed, b_transposed;
} Operands;

static void pack_part(void *operands, Index first, Index last) {
    const Operands *o = operands;
    (o->b_transposed ? pack_transposed : pack)(o->panels, o->b, o->b_row, o->K, o->N, first, last);
}

static void product_part(void *operands, Index first, Index last) {
    const Operands *o = operands;
    REAL *c = o->c + first * o->c_row;
    if (o->a_transposed)
        product_transposed(c, o->c_row, o->a + first, o->a_row, last - first, o->panels, o->N, o->K, o->add);
    else
        product(c, o->c_row, o->a + first * o->a_row, o->a_row, last - first, o->panels, o->N, o->K, o->add);
}

Index size(Index K, Index N) { return panels_size(K, N); }

void pack_and_multiply(Index threads, const Operands *o) {
    share(threads, o->b_transposed ? o->N : o->K, pack_part, (void *)o);
    share(threads, o->M, product_part, (void *)o);
}
"""


class Operands(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("c", "panels", "a", "b")),
        *((name, ctypes.c_ssize_t) for name in ("c_row", "a_row", "b_row", "M", "N", "K")),
        *((name, ctypes.c_int) for name in ("add", "a_transposed", "b_transposed")),
    ]


# Instructions that the product may not use: for each, it has a tile of a different size.
WITHOUT = ["", "no-avx512f", "no-avx"] if platform.machine() in ("x86_64", "AMD64") else [""]


@cache
def library(dtype: str, without: str) -> ctypes.CDLL:
    with pytest.MonkeyPatch.context() as patch:
        if without:
            target = f'#pragma GCC target("{without}")'
            text = f"#define REAL {'float' if dtype == 'float32' else 'double'}\n{target}\n{source('product.c')}"
            products = building.library(f"test_product_{without}", text)
            addresses = c_runtime._addresses(products, c_runtime._PRODUCT)
            patch.setattr(c_runtime, "_products", lambda _: addresses)
        loaded = c_runtime.kernel_library(f"test_product_{without}", f"// {without}\n{SOURCE}", np.dtype(dtype))
    loaded.size.restype, loaded.size.argtypes = ctypes.c_ssize_t, [ctypes.c_ssize_t] * 2
    loaded.pack_and_multiply.argtypes = [ctypes.c_ssize_t, ctypes.POINTER(Operands)]
    loaded.pack_and_multiply.restype = None
    return loaded


def guarded(rows: int, columns: int, gap: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """NaNs, and a view within them of this size: NaNs are between its rows, before the first and after the last."""
    around = np.full((rows + 2, columns + gap + 2), np.nan, dtype)
    return around, around[1 : rows + 1, 1 : columns + 1]


def numbers(shape: tuple[int, int], gap: int, dtype: str, seed: int) -> np.ndarray:
    _, view = guarded(*shape, gap, dtype)
    view[...] = np.random.default_rng(seed).standard_normal(shape)
    return view


def multiply(
    c: np.ndarray, a: np.ndarray, b: np.ndarray, add: bool, transposed: tuple[bool, bool] = (False, False),
    threads: int = 1, without: str = "",
) -> np.ndarray:  # fmt: skip
    """Sets c (M, N) to a·b, of which `a` and `b` are given transposed or not; returns the panels of b."""
    K, N = b.shape[::-1] if transposed[1] else b.shape
    loaded = library(str(c.dtype), without)
    size = loaded.size(K, N)
    around, (panels,) = guarded(1, size, 0, str(c.dtype))
    operands = Operands(
        *(array.ctypes.data for array in (c, panels, a, b)),
        *(array.strides[0] // array.itemsize for array in (c, a, b)),
        len(c), N, K, add, *transposed,
    )  # fmt: skip
    loaded.pack_and_multiply(threads, operands)
    panels[...], found = np.nan, panels.copy()
    assert np.isnan(around).all()
    return found


def close(found: np.ndarray, before: Any, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether this is before + a·b, up to the rounding errors of the sums."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = 2 * (a.shape[1] + 2) * np.finfo(found.dtype).eps * (np.abs(before) + np.abs(a) @ np.abs(b))
    return bool((np.abs(found - (before + a @ b)) <= bound).all())


dtypes = st.sampled_from(["float32", "float64"])
flags = st.tuples(st.booleans(), st.booleans())


@given(
    sizes=st.tuples(st.integers(0, 70), st.integers(0, 70), st.integers(0, 70)),
    gaps=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
    dtype=dtypes,
    add=st.booleans(),
    transposed=flags,
    threads=st.integers(1, 3),
    without=st.sampled_from(WITHOUT),
)
def test_products_are_numpys_and_nothing_else_is_written(
    sizes: tuple[int, int, int],
    gaps: tuple[int, int, int],
    dtype: str,
    add: bool,
    transposed: tuple[bool, bool],
    threads: int,
    without: str,
) -> None:
    M, K, N = sizes
    a = numbers((K, M) if transposed[0] else (M, K), gaps[0], dtype, 0)
    b = numbers((N, K) if transposed[1] else (K, N), gaps[1], dtype, 1)
    around, c = guarded(M, N, gaps[2], dtype)
    before = np.zeros((M, N))
    if add:
        c[...] = before = np.random.default_rng(2).standard_normal((M, N)).astype(dtype)
    multiply(c, a, b, add, transposed, threads, without)
    assert close(c, before, a.T if transposed[0] else a, b.T if transposed[1] else b)
    c[...] = np.nan
    assert np.isnan(around).all()


@pytest.mark.parametrize("sizes", [(3, 1300, 300), (40, 2049, 65), (2500, 130, 33), (130, 513, 260)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("without", WITHOUT)
def test_large_products_have_the_same_bits_for_any_number_of_threads(
    sizes: tuple[int, int, int], dtype: str, transposed: bool, without: str
) -> None:
    M, K, N = sizes
    a, b = numbers((K, M) if transposed else (M, K), 1, dtype, 0), numbers((K, N), 0, dtype, 1)
    before = numbers((M, N), 0, dtype, 2).copy()
    found = []
    for threads in (1, 2, 3, 5):
        c = before.copy()
        multiply(c, a, b, True, (transposed, False), threads, without)
        found.append(c)
    assert close(found[0], before, a.T if transposed else a, b)
    assert all((c == found[0]).all() for c in found[1:])


@given(
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70)),
    dtype=dtypes,
    transposed=flags,
    part=st.tuples(st.integers(0, 69), st.integers(1, 70)),
    without=st.sampled_from(WITHOUT),
)
def test_a_row_does_not_depend_on_the_rows_that_are_computed_with_it(
    sizes: tuple[int, int, int], dtype: str, transposed: tuple[bool, bool], part: tuple[int, int], without: str
) -> None:
    M, K, N = sizes
    a = numbers((K, M) if transposed[0] else (M, K), 0, dtype, 0)
    b = numbers((N, K) if transposed[1] else (K, N), 0, dtype, 1)
    c = np.zeros((M, N), dtype)
    multiply(c, a, b, False, transposed, without=without)
    rows = slice(part[0] % M, part[0] % M + part[1])
    alone = np.zeros_like(c[rows])
    multiply(alone, a[:, rows] if transposed[0] else a[rows], b, False, transposed, without=without)
    assert (alone == c[rows]).all()


@given(K=st.integers(0, 70), N=st.integers(0, 70), dtype=dtypes, threads=st.integers(1, 5))
def test_both_ways_to_pack_make_the_same_panels(K: int, N: int, dtype: str, threads: int) -> None:
    b, a, c = numbers((K, N), 0, dtype, 1), np.zeros((0, K), dtype), np.zeros((0, N), dtype)
    panels = multiply(c, a, b, False)
    assert sorted(panels[panels != 0]) == sorted(b[b != 0])
    assert (multiply(c, a, b, False, threads=threads) == panels).all()
    transposed = numbers((N, K), 2, dtype, 0)
    transposed[...] = b.T
    assert (multiply(c, a, transposed, False, (False, True), threads) == panels).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("transposed", [False, True])
def test_what_is_not_finite_stays_in_its_row_and_column(value: float, transposed: bool) -> None:
    a, b = np.ones((20, 7), np.float32), np.ones((7, 37), np.float32)
    a[3, 5] = b[2, 36] = value
    c = np.empty((20, 37), np.float32)
    multiply(c, np.ascontiguousarray(a.T) if transposed else a, b, False, (transposed, False))
    with np.errstate(invalid="ignore"):  # BLAS may add infinities of both signs in lanes that it drops
        expected = a @ b
    np.testing.assert_array_equal(c, expected)
