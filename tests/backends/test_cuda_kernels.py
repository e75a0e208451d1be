"""The CUDA kernels, built for the host: against NumPy's, in any order of threads; and what finds mistakes in them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
import pytest
from emulated_backend import EMULATED
from emulated_runs import TOLERANCE, as_before, drawn, dtypes, run
from hypothesis import given, settings
from kernels_on_host import COMPILER, HostKernels, needs_compiler
from strict_backend import StrictArray

import tinygrad_lstm as tg
from tinygrad_lstm.backends.cuda import generated, training
from tinygrad_lstm.backends.cuda.launching import definitions, with_includes
from tinygrad_lstm.models import GRU, LSTM, RNN

pytestmark = needs_compiler

HostArray = np.ndarray[Any, Any]
CPU = tg.zeros(0).device.backend

seeds = st.integers(0, 2**32 - 1)

restored = pytest.fixture(autouse=True)(as_before)


def on(backend: Any, compute: Callable[[Any], Any], arrays: list[HostArray]) -> list[HostArray]:
    """What a computation makes of arrays on a device."""
    with EMULATED.current(), tg.compiled_kernels(False):
        made = compute(*(backend.from_host(array) for array in arrays))
        return [backend.to_host(array) for array in flattened(made)]


def flattened(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [array for part in value for array in flattened(part)]
    return [value]


def check(compute: Callable[..., Any], arrays: list[HostArray], dtype: str) -> None:
    """Both devices agree, as far as the dtype allows."""
    for ours, numpys in zip(*(on(b, lambda *a, b=b: compute(b, *a), arrays) for b in (EMULATED, CPU)), strict=True):
        assert ours.dtype == numpys.dtype
        scale = max(np.abs(numpys).max(initial=0), 1)
        np.testing.assert_allclose(ours / scale, numpys / scale, rtol=0, atol=TOLERANCE[dtype])


# -- against NumPy's ---------------------------------------------------------------------------------------------------


def cross_entropy(backend: Any, logits: Any, ids: Any, g: Any) -> Any:
    losses, saved = backend.cross_entropy_forward((logits, ids), -100)
    return losses, backend.cross_entropy_backward((logits, ids, g, *saved), -100)


@given(seeds, dtypes, st.integers(0, 9), st.sampled_from([1, 2, 8, 33, 64, 1030]))
def test_cross_entropy(seed: int, dtype: str, N: int, C: int) -> None:
    logits, g = drawn(seed, (N, C), (N,), dtype=dtype)
    ids = np.random.default_rng(seed).integers(0, C, N)
    ids[: N // 3] = -100
    check(cross_entropy, [logits * 5, ids, g.astype(np.result_type(dtype, np.float32))], dtype)


@given(seeds, dtypes, st.integers(0, 70), st.sampled_from([1, 3, 32, 40, 1030]), st.booleans(), st.booleans())
@settings(max_examples=20)
def test_layer_norm(seed: int, dtype: str, N: int, C: int, weighted: bool, biased: bool) -> None:
    arrays = drawn(seed, (N, C), (N, C), (C,), (C,), dtype=dtype)

    def compute(backend: Any, x: Any, g: Any, weight: Any, bias: Any) -> Any:
        weight, bias = weight if weighted else None, bias if biased else None
        out, saved = backend.layer_norm_forward((x, weight, bias), 0.1)
        return out, backend.layer_norm_backward((g, x, weight, *saved), (True, True, True))

    check(compute, arrays, dtype)


@given(seeds, dtypes, st.integers(0, 100), st.floats(0.0, 0.99), st.integers(0, 2**63 - 1))
def test_dropout_drops_the_same_on_every_device(seed: int, dtype: str, size: int, p: float, key: int) -> None:
    check(lambda backend, x: backend.dropout(x, p, key), drawn(seed, (size,), dtype=dtype), dtype)


@given(seeds, dtypes, st.integers(1, 9), st.integers(0, 40), st.sampled_from([(), (1,), (3,), (2, 20)]))
def test_rows_named_several_times_receive_all(
    seed: int, dtype: str, rows: int, number: int, row: tuple[int, ...]
) -> None:
    target, values = drawn(seed, (rows, *row), (number, *row), dtype=dtype)
    index = np.random.default_rng(seed).integers(-rows, rows, number)

    def compute(backend: Any, target: Any, index: Any, values: Any) -> Any:
        backend.scatter_add(target, index, values)
        return target

    check(compute, [target, index, values], dtype)


@pytest.mark.parametrize("number", [3, 40])
def test_rows_of_more_columns_than_blocks_can_stand_for(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_MOST_BLOCKS", 2)
    target, values = drawn(0, (2, 1300), (number, 1300), dtype="float32")

    def compute(backend: Any, target: Any, index: Any, values: Any) -> Any:
        backend.scatter_add(target, index, values)
        return target

    check(compute, [target, np.arange(number) % 2, values], "float32")


@given(seeds, dtypes, st.lists(st.sampled_from([0, 1, 5, 5000]), max_size=3), st.booleans(), st.booleans())
@settings(max_examples=20)
def test_optimizers(seed: int, dtype: str, sizes: list[int], more: bool, nesterov: bool) -> None:
    arrays = [abs(array) for size in [3, *sizes] for array in drawn(seed, *[(size,)] * 5, dtype=dtype)]

    def compute(backend: Any, *arrays: Any) -> Any:
        parameters = [arrays[k : k + 5] for k in range(0, len(arrays), 5)]
        adam = [group[: 5 if more else 4] for group in parameters]
        backend.adam_update(adam, 0.9, 0.1, 0.9, 0.99, 1e-3, 1e-2)
        sgd = [group[: 3 if more else 2] for group in parameters]
        backend.sgd_update(sgd, 0.1, 0.9 if more else 0.0, 0.7, 1e-2, nesterov and more)
        return arrays

    check(compute, arrays, dtype)


@given(seeds, dtypes, st.lists(st.sampled_from([0, 1, 5, 5000]), min_size=1, max_size=4), st.booleans())
def test_norms_and_scaling_of_many_arrays(seed: int, dtype: str, sizes: list[int], transposed: bool) -> None:
    arrays = drawn(seed, *[(size, 2) for size in sizes], dtype=dtype)

    def compute(backend: Any, factor: Any, *arrays: Any) -> Any:
        arrays = [array.T for array in arrays] if transposed else arrays
        total = backend.sum_of_squares(arrays)
        backend.scale(arrays, factor)
        return backend.as_array(total / max(2 * sum(sizes), 1)), *arrays

    check(compute, [np.array(0.3, np.result_type(dtype, np.float32)), *arrays], dtype)


def test_parameters_that_are_not_contiguous_are_changed_in_place() -> None:
    with EMULATED.current():
        p, g, m, v = (EMULATED.from_host(array).T for array in drawn(0, *[(2, 3)] * 4, dtype="float32"))
        v *= v
        expected = [EMULATED.to_host(array).copy() for array in (p, g, m, v)]
        EMULATED.adam_update([(p, g, m, v)], 1.0, 0.0, 0.9, 0.99, 1e-3, 1e-2)
    CPU.adam_update([expected], 1.0, 0.0, 0.9, 0.99, 1e-3, 1e-2)
    for ours, numpys in zip((p, g, m, v), expected, strict=True):
        np.testing.assert_allclose(EMULATED.to_host(ours), numpys, rtol=1e-6)


# -- products ----------------------------------------------------------------------------------------------------------

LAYOUTS = (
    lambda x: x,
    lambda x: x.swapaxes(-1, -2).copy().swapaxes(-1, -2),
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    lambda x: np.repeat(x, 2, axis=-2)[..., ::2, :],
    lambda x: x[..., ::-1, :],
    lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]],
)


layouts = st.sampled_from(LAYOUTS)
sizes = st.integers(0, 4)


@given(seeds, dtypes, sizes, sizes, sizes, st.lists(st.integers(0, 2), max_size=2), layouts, layouts)
def test_products_of_matrices_wherever_their_elements_lie(
    seed: int, dtype: str, m: int, n: int, k: int, batch: list[int], lay_x: Any, lay_y: Any
) -> None:
    x, y = drawn(seed, (*batch, m, k), (k, n), dtype=dtype)
    check(lambda backend, x, y: backend.matmul(lay_x_of(x, lay_x), lay_x_of(y, lay_y)), [x, y], dtype)


def lay_x_of(array: Any, lay: Any) -> Any:
    """The array, of whichever device, with its elements laid out otherwise."""
    if isinstance(array, np.ndarray):
        return lay(array)
    laid = StrictArray(lay(array._host))
    assert laid._host.base is not None or laid._host is array._host
    return laid


@pytest.mark.parametrize(("precision", "digits"), [("float32", 6), ("tf32", 3), ("float16", 3)])
def test_precision_is_the_one_that_is_set(precision: Any, digits: int) -> None:
    x, y = (tg.tensor(array, device="emulated") for array in drawn(3, (20, 30), (30, 20), dtype="float32"))
    exact = x.cpu().double().numpy() @ y.cpu().double().numpy()
    before = tg.cuda.get_precision()
    tg.cuda.set_precision(precision)
    try:
        error = np.abs((x @ y).cpu().numpy() - exact).max() / np.abs(exact).max()
    finally:
        tg.cuda.set_precision(before)
    assert before == "float32"
    assert 10.0 ** -(digits + 2) < error < 10.0**-digits


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ValueError, match="expected one of float32, tf32, float16, got 'bfloat16'"):
        tg.cuda.set_precision("bfloat16")


# -- what finds mistakes -----------------------------------------------------------------------------------------------


def computed() -> list[HostArray]:
    """Something by every kernel, of sizes that fill no block."""
    found: list[HostArray] = []
    (x,) = drawn(0, (3, 9, 3), dtype="float32")
    lengths = [3, 2, 0, 1, 3, 3, 2, 1, 0]
    for kind, H, multiprocessors in ((LSTM, 7, 0), (LSTM, 8, 0), (GRU, 7, 0), (GRU, 8, 0), (RNN, 7, 0), (LSTM, 40, 6)):
        EMULATED.multiprocessors = multiprocessors
        tg.manual_seed(0)
        found += run(kind(3, H), x, lengths, "emulated")
    with patch.object(generated, "_ENOUGH_FOR_PACKS", 0), patch.object(generated, "_LARGE", 0):
        found += run(GRU(3, 8), x, lengths, "emulated")

    def layer_norm(x: Any, weight: Any) -> Any:
        out, saved = EMULATED.layer_norm_forward((x, weight, weight), 0.1)
        return out, EMULATED.layer_norm_backward((x, out, weight, *saved), (True, True, True))

    def scatter(target: Any, index: Any, values: Any) -> Any:
        EMULATED.scatter_add(target, index, values)
        return target

    def optimize(*arrays: Any) -> Any:
        EMULATED.adam_update([arrays], 0.9, 0.1, 0.9, 0.99, 1e-3, 1e-2)
        EMULATED.sgd_update([arrays[:3]], 0.1, 0.9, 0.7, 1e-2, True)
        factor = EMULATED.sum_of_squares(arrays)
        EMULATED.scale(arrays, factor.astype(np.float32))
        return arrays

    logits, g, rows = drawn(1, (5, 1031), (5,), (5, 41), dtype="float32")
    ids = np.array([3, 0, 7, 1030, -100])
    for values in (logits, logits[:, :60].copy()):
        found += on(EMULATED, lambda *a: cross_entropy(EMULATED, *a), [values, np.minimum(ids, 50), g])
        found += on(EMULATED, layer_norm, [values, values[0]])
        found += on(EMULATED, lambda x: EMULATED.dropout(x, 0.4, 5), [values])
        found += on(EMULATED, optimize, [abs(values[k]) for k in range(5)])
    for number in (2, 200):
        found += on(EMULATED, scatter, [np.zeros((number, 41), np.float32), ids % 2, rows])
    return found


def test_the_order_of_threads_changes_no_bit() -> None:
    results = []
    for order in (0, 1, 7):
        EMULATED.order = order
        results.append(computed())
    for first, *others in zip(*results, strict=True):
        for other in others:
            np.testing.assert_array_equal(first, other)


def watched(call: str) -> str:
    """What is said of a call in a process in which the compiler watches what kernels do with memory."""
    libraries = [f"lib{name}.so" for name in ("asan", "ubsan")]
    paths = [subprocess.check_output([COMPILER, f"-print-file-name={name}"], text=True).strip() for name in libraries]
    if not all(map(os.path.isabs, paths)):
        pytest.skip(f"{COMPILER} comes without the libraries that watch memory ({', '.join(libraries)})")
    settings = {
        "LD_PRELOAD": " ".join(paths),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "PYTHONMALLOC": "malloc",
        "KERNELS_ON_HOST_OPTIONS": "-g -fsanitize=address,undefined -fno-sanitize-recover=all",
    }
    here = Path(__file__)
    program = f"import conftest; from {here.stem} import *; {call}; print('done')"
    path = os.pathsep.join(map(str, (here.parent, here.parent.parent)))
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **settings, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout + result.stderr


def test_kernels_touch_nothing_but_their_arrays() -> None:
    said = watched("computed()")
    assert said.startswith("done")
    assert "rror:" not in said


def test_memory_beyond_an_array_is_seen() -> None:
    said = watched("wrong('beyond', EMULATED.from_host(np.zeros(32, np.float32)))")
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in said
    assert " in beyond " in said
    assert "done" not in said


WRONG = """
#include "common.cuh"
extern "C" __global__ void race(Real* x) {
    shared<Real>()[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = shared<Real>()[(threadIdx.x + 1) % 32];
}
extern "C" __global__ void lost(Real* x) {
    if (threadIdx.x < 16) __syncthreads();
}
extern "C" __global__ void unwritten(Real* x) { x[threadIdx.x] = shared<Real>()[threadIdx.x]; }
extern "C" __global__ void beyond(Real* x) {
    if (threadIdx.x == 0) x[32] = 1;
}
extern "C" __global__ void numbers(Real* x, const Index* ids, double factor, Index count) {}
"""


def wrong(name: str, *arguments: Any, order: int = 0) -> None:
    """Launches a kernel that has a mistake in it."""
    kernels = HostKernels(with_includes(WRONG), definitions("float32"))
    kernels.launch(name, 1, 32, arguments, shared=4 * 32, cooperative=False, order=order)


def test_a_race_is_seen() -> None:
    results = []
    for order in (0, 1):
        x = EMULATED.from_host(np.arange(32, dtype=np.float32))
        wrong("race", x, order=order)
        results.append(EMULATED.to_host(x))
    assert not np.array_equal(*results, equal_nan=True)


@pytest.mark.parametrize("sizes", [((1, 65536), 32, 0), (1, (32, 64), 0), (1, 32, 10**6)])
def test_blocks_that_cuda_does_not_have_are_seen(sizes: Any) -> None:
    blocks, threads, shared = sizes
    kernels = HostKernels(with_includes(WRONG), definitions("float32"))
    with pytest.raises(ValueError, match="CUDA has no such blocks"):
        kernels.launch("race", blocks, threads, (EMULATED.from_host(np.zeros(32, np.float32)),), shared, False)


def test_a_barrier_that_some_miss_is_seen() -> None:
    with pytest.raises(RuntimeError, match="lost: some threads wait at a barrier"):
        wrong("lost", EMULATED.from_host(np.zeros(32, np.float32)))


def test_shared_memory_that_nobody_wrote_is_seen() -> None:
    x = EMULATED.from_host(np.zeros(32, np.float32))
    wrong("unwritten", x)
    assert np.isnan(EMULATED.to_host(x)).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: SimpleNamespace(**{**vars(a), "x": np.zeros(3, np.float32)}),
        lambda a: SimpleNamespace(**{**vars(a), "x": EMULATED.from_host(np.zeros((2, 2), np.float32)).T}),
        lambda a: SimpleNamespace(**{**vars(a), "ids": EMULATED.from_host(np.zeros(3, np.int32))}),
        lambda a: SimpleNamespace(**{**vars(a), "factor": 1}),
        lambda a: SimpleNamespace(**{**vars(a), "count": 1.0}),
        lambda a: SimpleNamespace(**{**vars(a), "count": np.int64(1)}),
        lambda a: SimpleNamespace(**{**vars(a), "more": 1}),
    ],
)
def test_arguments_that_match_no_parameter_are_found(change: Any) -> None:
    right = SimpleNamespace(
        x=EMULATED.from_host(np.zeros(3, np.float32)),
        ids=EMULATED.from_host(np.zeros(3, np.int64)),
        factor=1.0,
        count=1,
    )
    wrong("numbers", *vars(right).values())
    with pytest.raises(TypeError, match="numbers: "):
        wrong("numbers", *vars(change(right)).values())
