"""Generated CUDA kernels of steps, built for the host: against the array module's code, in values and gradients."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from any_cells import as_parts
from emulated_backend import EMULATED
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_on_host import needs_compiler
from tracing.drawn_steps import DrawnStep, drawn_steps

import tinygrad_lstm as tg
from tinygrad_lstm.backends.cuda import generated
from tinygrad_lstm.backends.cuda.launching import with_includes
from tinygrad_lstm.models import GRU, LSTM, RNN, Recurrent
from tinygrad_lstm.models.atlas import ATLAS
from tinygrad_lstm.ops.trigonometric import direction

pytestmark = needs_compiler

T, B = 4, 3
TOLERANCE = {"float16": 2e-2, "float32": 2e-5, "float64": 1e-10}
Step = Callable[[tg.Tensor, Any], Any]


@pytest.fixture(autouse=True)
def launches() -> Iterator[list[str]]:
    """The kernels that a test launches."""
    EMULATED.launches.clear()
    yield EMULATED.launches
    EMULATED.order = 0


def computed(step: Step, x: tg.Tensor, state: Any, others: Sequence[tg.Tensor], reverse: bool) -> list[np.ndarray]:
    """What a scan of a step returns, and gradients."""
    out, final = tg.scan(step, x, state, reverse=reverse)
    results = [out, *as_parts(final)]
    rng = np.random.default_rng(7)
    weights = [tg.tensor(rng.uniform(-1, 1, each.shape), dtype=x.dtype, device=x.device) for each in results]
    loss = tg.zeros((), dtype=x.dtype, device=x.device)
    for each, weight in zip(results, weights, strict=True):
        loss = loss + (each * weight).sum()
    gradients = tg.grad(loss, [x, *as_parts(state), *others], allow_unused=True)
    return [each.detach().cpu().numpy() for each in (*results, *gradients) if each is not None]


def check(compute: Callable[[str, str], list[np.ndarray]], dtype: str, exact: str) -> None:
    """Kernels compute the same as the array module, which computes on the strict device in the dtype `exact`."""
    for ours, expected in zip(compute("emulated", dtype), compute("strict", exact), strict=True):
        assert ours.dtype == dtype
        scale = max(np.abs(expected).max(initial=0), 1)
        np.testing.assert_allclose(ours / scale, expected / scale, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=8)
@given(drawn_steps(detached=True), st.booleans(), st.booleans())
def test_drawn_steps(dtype: str, drawn: DrawnStep, reverse: bool, large: bool) -> None:
    def compute(device: str, dtype: str) -> list[np.ndarray]:
        step = drawn.to(device, dtype)
        return computed(step.step, *step.inputs(T, B), list(step.parameters.values()), reverse)

    with as_if_large() if large else nullcontext():
        check(compute, dtype, dtype)


@contextmanager
def as_if_large() -> Iterator[None]:
    """Within it, arrays are treated as if they were large: threads compute packs, and numbers have 64 bits."""
    with patch.object(generated, "_ENOUGH_FOR_PACKS", 0), patch.object(generated, "_LARGE", 0):
        yield


@pytest.mark.parametrize("H", [6, 8])  # of which float16 has packs of 2 and 8
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "mlstm"])
def test_threads_that_compute_packs(name: str, dtype: str, H: int) -> None:
    def compute(device: str, dtype: str) -> list[np.ndarray]:
        tg.manual_seed(0)
        layer = Recurrent(ATLAS[name](3, H)).to(device, dtype=dtype)
        rng = np.random.default_rng(0)
        x = tg.tensor(rng.uniform(-1, 1, (T, B, 3)), dtype=dtype, device=device, requires_grad=True)
        out, _ = layer(x, lengths=[4, 1, 3])
        return [each.detach().cpu().numpy() for each in (out, *tg.grad((out * out).sum(), [x, *layer.parameters()]))]

    with as_if_large():
        check(compute, dtype, "float64")
        one_by_one = compute("emulated", dtype)
    for ours, expected in zip(compute("emulated", dtype), one_by_one, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_products_of_steps_have_the_precision_that_is_set() -> None:
    layer, x = GRU(30, 20).to("emulated"), tg.randn(T, B, 30).to("emulated")
    exact, _ = layer(x)
    tg.cuda.set_precision("tf32")
    try:
        rounded, _ = layer(x)
    finally:
        tg.cuda.set_precision("float32")
    assert 1e-6 < np.abs((rounded - exact).detach().cpu().numpy()).max() < 1e-2


@pytest.mark.parametrize("name", ATLAS)
def test_the_atlas_in_half_precision(name: str) -> None:
    """A kernel computes in float32, so that it is close to float64."""

    def compute(device: str, dtype: str) -> list[np.ndarray]:
        tg.manual_seed(0)
        layer = Recurrent(ATLAS[name](3, 6)).eval().to(device, dtype=dtype)
        rng = np.random.default_rng(0)
        x = tg.tensor(rng.uniform(-1, 1, (T, B, 3)), dtype=dtype, device=device, requires_grad=True)
        out, _ = layer(x)
        loss = (out * out).sum()
        gradients = tg.grad(loss, [x, *layer.parameters()], allow_unused=True)
        return [each.detach().cpu().numpy() for each in (out, *gradients) if each is not None]

    check(compute, "float16", "float64")


UNARY: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
    "abs": tg.abs, "cos": tg.cos, "erf": tg.erf, "exp": tg.exp, "expm1": tg.expm1,
    "isnan": lambda x: tg.where(tg.isnan(x), 1, x),
    "floor": tg.floor, "round": tg.round, "pow": lambda x: tg.abs(x) ** 1.7,
    "isfinite": lambda x: tg.where(tg.isfinite(x), x, 2),
    "log": tg.log, "log1p": tg.log1p, "log1pexp": tg.softplus, "reciprocal": tg.reciprocal, "relu": tg.relu,
    "rsqrt": tg.rsqrt, "sigmoid": tg.sigmoid, "sign": tg.sign, "sin": tg.sin, "sqrt": tg.sqrt, "square": tg.square,
    "tanh": tg.tanh, "clamp": lambda x: tg.clamp(x, -0.5, 1.5), "neg": lambda x: -x,
    "maximum": lambda x: tg.maximum(x, 0.25 * x * x), "minimum": lambda x: tg.minimum(x, 0.25 * x * x),
    "asin": tg.asin, "acos": tg.acos, "atan": tg.atan, "asinh": tg.asinh, "acosh": tg.acosh, "atanh": tg.atanh,
    "tan": tg.tan, "sinh": tg.sinh, "cosh": tg.cosh, "log2": tg.log2, "log10": tg.log10,
    "ceil": tg.ceil, "trunc": tg.trunc,
    "atan2": lambda x: tg.atan2(x, 0.25 - x * x), "hypot": lambda x: tg.hypot(x, 0.25 * x * x),
    "direction": lambda x: direction(x, 0.25 * x * x),
    "remainder": lambda x: tg.remainder(x, 0.75), "floor_divide": lambda x: tg.floor_divide(x, 0.75),
    "where": lambda x: tg.where(x > 0.5, x, 2.0 - x), "infinite": lambda x: tg.where(x > 0.5, float("inf"), x),
    "logical": lambda x: tg.where(tg.logical_xor(x > 0.5, tg.logical_not(x <= 2)), x / 3, x - 1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_functions_of_special_numbers(dtype: str, launches: list[str]) -> None:
    """Of all numbers and of NaN, infinities and zeros of both signs, all functions are those of the array module."""
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 60.0, -60.0, 1e-4, -1e-4]
    x = np.array([*special, *np.random.default_rng(0).normal(size=20)]).reshape(1, -1, 1)

    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return tg.cat([function(x) for function in UNARY.values()], dim=1)

    results = []
    for device in ("emulated", "strict"):
        h = tg.zeros(x.shape[1], len(UNARY), dtype=dtype, device=device)
        with np.errstate(all="ignore"):
            results.append(tg.scan(step, tg.tensor(x, dtype=dtype, device=device), h)[1].cpu().numpy())
    ours, expected = results
    assert launches
    for column, name in enumerate(UNARY):
        tolerance = 4 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(ours[:, column], expected[:, column], rtol=tolerance, atol=tolerance, err_msg=name)


def test_all_functions_of_kernels_are_tested() -> None:
    header = with_includes('#include "elementwise.cuh"')
    declared = set(re.findall(r"inline Wide (\w+)\(", header.split("namespace of_real")[1]))
    assert declared
    assert declared <= set(UNARY)


@pytest.mark.parametrize("lengths", [None, [4, 2, 0]])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_a_step_is_one_product_and_one_kernel(kind: Any, dtype: str, lengths: Any, launches: list[str]) -> None:
    """Forward and backward, as if it were written by hand."""
    layer = kind(3, 5).to("emulated", dtype=dtype)
    x = tg.randn(T, B, 3, dtype=dtype).to("emulated")
    x.requires_grad = True
    layer(x, lengths=lengths)  # traces the step
    launches.clear()
    EMULATED.products = 0
    out, _ = layer(x, lengths=lengths)
    assert Counter(launches) == {"forward_step": T}
    assert EMULATED.products == 1 + T  # the inputs of all steps are one
    launches.clear()
    EMULATED.products = 0
    out.sum().backward()
    assert Counter(launches) == {"backward_step": T}
    assert EMULATED.products == T + 3  # and those of x and of both weights


def turned(by: int) -> Step:
    """A step whose gradient reads elements that its kernel may write, in other threads or in the same."""
    return lambda x, h: tg.cat([h[:, by:], h[:, :by]], dim=1) * tg.sigmoid(x)


def of_several_widths(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """Parts of different widths, of which some read what all units share."""
    net = tg.tanh(tg.cat([h, x], dim=1) @ tg.ones(8, 7, dtype=x.dtype, device=x.device))
    return tg.cat([net[:, 4:5] * h[:, :1], h[:, 1:] * net[:, 2:5]], dim=1)


def shifted(x: tg.Tensor, state: Any) -> Any:
    """The gradient of h is a part of that of c, whose place that of c before the step might take."""
    h, c = state
    return c[:, 1:], tg.pad(h, (1, 0))


def test_gradients_that_are_parts_of_others_stay() -> None:
    def compute(device: str, dtype: str) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        x, h, c = (
            tg.tensor(rng.uniform(-1, 1, shape), dtype=dtype, device=device, requires_grad=True)
            for shape in ((T, B, 1), (B, 1), (B, 2))
        )
        return computed(shifted, x, (h, c), [], False)

    check(compute, "float64", "float64")


@pytest.mark.parametrize("step", [turned(1), turned(2), of_several_widths], ids=["others", "own", "several widths"])
def test_the_order_of_threads_changes_no_bit(step: Step) -> None:
    rng = np.random.default_rng(0)
    leaves = [rng.uniform(-1, 1, shape) for shape in ((T, 40, 4), (40, 4))]

    def compute(device: str, order: int) -> list[np.ndarray]:
        EMULATED.order = order
        x, h = (tg.tensor(leaf, device=device, requires_grad=True) for leaf in leaves)
        return computed(step, x, h, [], False)

    first, *others = (compute("emulated", order) for order in (0, 1, 7))
    for other in others:
        for ours, same in zip(first, other, strict=True):
            np.testing.assert_array_equal(ours, same)
    for ours, expected in zip(first, compute("strict", 0), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


def test_a_step_of_very_many_parts_is_computed_by_the_array_module(launches: list[str]) -> None:
    """Its kernel would be longer than a compiler likes."""

    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return tg.cat([tg.tanh(x[:, k : k + 1] * h[:, :1]) for k in (*range(99, 0, -2), *range(0, 100, 2))], dim=1)

    def compute(device: str, dtype: str) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        x, h = (
            tg.tensor(rng.uniform(-1, 1, shape), dtype=dtype, device=device, requires_grad=True)
            for shape in ((T, B, 100), (B, 100))
        )
        return computed(step, x, h, [], False)

    check(compute, "float64", "float64")
    assert not any(name.startswith("forward") for name in launches)


def test_inputs_need_not_be_contiguous_and_batches_may_be_empty() -> None:
    def compute(device: str, dtype: str) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        x = tg.tensor(rng.uniform(-1, 1, (5, T, B)), dtype=dtype, device=device, requires_grad=True)
        h = tg.tensor(rng.uniform(-1, 1, (5, B)), dtype=dtype, device=device, requires_grad=True)
        found = computed(lambda x, h: tg.sigmoid(x) * h, x.permute(1, 2, 0), h.T, [], False)
        empty = tg.scan(lambda x, h: tg.sigmoid(x) * h, tg.zeros(T, 0, 5, dtype=dtype, device=device), h.T[:0])
        return [*found, empty[0].detach().cpu().numpy()]

    check(compute, "float32", "float32")
