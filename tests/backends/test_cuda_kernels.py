"""The CUDA kernels, built for the host: against NumPy's, in any order of threads; and what finds mistakes in them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
import pytest
from emulated_backend import EMULATED
from hypothesis import given, settings
from kernels_on_host import COMPILER, HostKernels, needs_compiler
from strict_backend import StrictArray

import tinygrad_lstm as tg
from tinygrad_lstm.backends.cuda import generated, persistent, training
from tinygrad_lstm.backends.cuda.launching import definitions, with_includes
from tinygrad_lstm.models import GRU, LSTM, RNN

pytestmark = needs_compiler

HostArray = np.ndarray[Any, Any]
CPU = tg.zeros(0).device.backend
TOLERANCE = {"float16": 4e-3, "float32": 2e-6, "float64": 1e-14}

dtypes = st.sampled_from(list(TOLERANCE))
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = EMULATED.order, EMULATED.multiprocessors, EMULATED.shared_bytes
    yield
    EMULATED.order, EMULATED.multiprocessors, EMULATED.shared_bytes = before


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


def drawn(seed: int, *shapes: tuple[int, ...], dtype: str) -> list[HostArray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


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


def run(network: Any, x: HostArray, lengths: list[int] | None, device: str) -> list[HostArray]:
    """Outputs, states and gradients."""
    network.to(device)
    network.zero_grad()
    inputs = tg.tensor(x, device=device, requires_grad=True)
    with tg.compiled_kernels(False):
        out, state = network(inputs, lengths=lengths)
        parts = [out, *(state if isinstance(state, tuple) else (state,))]
        sum((part * part).sum() * (k + 1) for k, part in enumerate(parts)).backward()
    found = [*parts, inputs.grad, *(parameter.grad for parameter in network.parameters())]
    return [part.detach().cpu().numpy().copy() for part in found]


def check_network(network: Any, x: HostArray, lengths: list[int] | None) -> set[str]:
    """The kernels that were launched; the CPU agrees with what they computed."""
    EMULATED.launches.clear()
    for ours, numpys in zip(*(run(network, x, lengths, device) for device in ("emulated", "cpu")), strict=True):
        scale = max(np.abs(numpys).max(initial=0), 1)
        np.testing.assert_allclose(ours / scale, numpys / scale, rtol=0, atol=2 * TOLERANCE[str(x.dtype)])
    return set(EMULATED.launches)


@given(st.data(), dtypes, st.integers(1, 4), st.integers(1, 5), st.sampled_from([1, 3, 8, 16]))
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_recurrent_layers_by_steps(kind: Any, data: st.DataObject, dtype: str, T: int, B: int, H: int) -> None:
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    network = kind(3, H, bidirectional=True).to(dtype=dtype)
    (x,) = drawn(0, (T, B, 3), dtype=dtype)
    launched = check_network(network, x, lengths)
    assert {"forward_step", "backward_step"} <= launched
    assert not any(name.startswith("persistent") for name in launched)


# Units of one block, of several; padded to the next 128 and beyond; of half a block of sequences, and of several.
@pytest.mark.parametrize(
    ("H", "B", "multiprocessors", "shared_bytes", "dtype"),
    [
        (5, 3, 1, 2**16, "float32"),
        (16, 9, 2, 2**16, "float32"),
        (40, 9, 6, 2**16, "float16"),
        (130, 5, 9, 2**16, "float32"),
        (130, 10, 9, 9000, "float32"),
        (514, 2, 80, 2**16, "float32"),
    ],
)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_an_lstm_at_once(
    H: int, B: int, multiprocessors: int, shared_bytes: int, dtype: str, with_lengths: bool
) -> None:
    T = 2 if H > 500 else 4
    EMULATED.multiprocessors, EMULATED.shared_bytes = multiprocessors, shared_bytes
    lengths = [k % (T + 1) for k in range(B)] if with_lengths else None
    (x,) = drawn(0, (T, B, 3), dtype=dtype)
    network = LSTM(3, H, bidirectional=H < 100).to(dtype=dtype)
    assert check_network(network, x, lengths) == {"persistent_lstm_forward", "persistent_lstm_backward"}
    with tg.no_grad():
        inference = network.to("emulated")(tg.tensor(x, device="emulated"), lengths=lengths)[0]
    np.testing.assert_array_equal(inference.cpu().numpy(), run(network, x, lengths, "emulated")[0])


class OwnLSTM(LSTM):
    """An LSTM whose step is written anew: plain, with the gates i and f swapped, or with o without a gradient."""

    CHANGED = ""

    def _step(self, x: tg.Tensor, states: Any, parameters: Any, layer: Any = None) -> Any:
        (h, c), (weight_ih, weight_hh, bias) = states, parameters.values()
        i, f, g, o = tg.split(tg.linear(x, weight_ih, bias) + tg.linear(h, weight_hh), h.shape[1], dim=1)
        i, f = (f, i) if self.CHANGED == "swapped" else (i, f)
        with tg.no_grad() if self.CHANGED == "no gradient" else nullcontext():
            o = tg.sigmoid(o)
        c = tg.sigmoid(f) * c + tg.sigmoid(i) * tg.tanh(g)
        return o * tg.tanh(c), c


class SwappedLSTM(OwnLSTM):
    CHANGED = "swapped"


class WithoutGradientLSTM(OwnLSTM):
    CHANGED = "no gradient"


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize(
    ("kind", "options", "is_plain"),
    [
        (LSTM, {}, True),
        (LSTM, {"bias": False}, True),
        (OwnLSTM, {}, True),
        (SwappedLSTM, {}, False),
        (WithoutGradientLSTM, {}, False),
        (LSTM, {"proj_size": 3}, False),
        (LSTM, {"peephole": True}, False),
        (LSTM, {"activations": ("hard_sigmoid", "tanh", "tanh")}, False),
    ],
    ids=str,
)
def test_only_a_plain_lstm_is_one_launch(kind: Any, options: Any, is_plain: bool, with_lengths: bool) -> None:
    EMULATED.multiprocessors = 6
    (x,) = drawn(0, (3, 2, 3), dtype="float32")
    launched = check_network(kind(3, 6, **options), x, [3, 1] if with_lengths else None)
    assert any(name.startswith("persistent") for name in launched) == is_plain
    assert any(name.startswith("forward_step") for name in launched) != is_plain


def test_resets_within_a_batch_are_taken_step_by_step() -> None:
    EMULATED.multiprocessors = 6
    EMULATED.launches.clear()
    network = LSTM(3, 6).to("emulated")
    resets = tg.tensor([[False, False], [False, True], [True, False]], device="emulated")
    out, _ = network(tg.randn(3, 2, 3).to("emulated"), resets=resets)
    assert set(EMULATED.launches) == {"forward_step", "forward_step_2"}
    assert out.shape == (3, 2, 6)


@given(
    st.integers(1, 1100), st.integers(1, 2000), st.sampled_from(["float16", "float32"]), st.integers(1, 150),
    st.sampled_from([48, 100, 163, 227]),
)  # fmt: skip
@settings(max_examples=300)
def test_a_plan_covers_all_units_and_is_within_the_devices_limits(
    H: int, B: int, dtype: str, multiprocessors: int, kilobytes: int
) -> None:
    found = persistent.plan(H, B, dtype, multiprocessors, kilobytes * 1024)
    if found is None:
        slices = -(-H // (16 if H <= 512 else 8))
        assert H > 1024 or slices > multiprocessors or multiprocessors // slices * 60 < B or kilobytes < 100
        return
    assert found.slices * found.units >= H > (found.slices - 1) * found.units
    assert found.groups * found.rows >= B > (found.groups - 1) * found.rows
    assert found.slices * found.groups <= multiprocessors
    assert max(found.forward_bytes, found.backward_bytes) <= kilobytes * 1024
    sequences = 32 // (found.units // 2)  # of a warp at once
    assert found.rows % sequences == found.staged % sequences == 0 < found.staged <= found.rows


@pytest.mark.parametrize(
    ("H", "B", "dtype"), [(1025, 4, "float32"), (16, 0, "float32"), (16, 4, "float64"), (16, 10_000, "float32")]
)
def test_sizes_without_a_plan_are_computed_by_steps(H: int, B: int, dtype: str) -> None:
    assert persistent.plan(H, B, dtype, 132, 227 * 1024) is None


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
