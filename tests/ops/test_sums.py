"""Sums of many terms keep their digits: values and gradients, along any dimension, in any memory layout."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import RNN

HostArray = np.ndarray[Any, Any]


def assert_adds_up(found: Any, terms: HostArray, axis: int | tuple[int, ...] | None) -> None:
    """Whether `found` is the sum of the terms, none of which is negative: to its rounding, and log n more of float32's.

    Numbers that differ from each other make a running sum of many float32 numbers fail this.
    """
    exact = terms.astype(np.float64).sum(axis)
    found = found.cpu().numpy() if isinstance(found, tg.Tensor) else found
    number = terms.size // max(exact.size, 1)
    bound = float(np.finfo(found.dtype).eps) + 2.0**-24 * math.log2(max(number, 2)) * 2
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=bound)


def laid_out(shape: tuple[int, ...], dtype: str, layout: str, seed: int = 0) -> HostArray:
    """Numbers in [0, 1) of that shape, in memory row after row, column after column, with gaps, or backwards."""
    rng = np.random.default_rng(seed)
    if layout == "columns":
        return rng.random(shape[::-1], np.float32).astype(dtype).T
    if layout == "gaps":
        return rng.random((*shape[:-1], 2 * shape[-1]), np.float32).astype(dtype)[..., ::2]
    rows = rng.random(shape, np.float32).astype(dtype)
    return rows[::-1] if layout == "backwards" else rows


LAYOUTS = ["rows", "columns", "gaps", "backwards"]
FLOATS = st.sampled_from(["float16", "float32"])


@st.composite
def long_arrays(draw: st.DrawFn) -> tuple[HostArray, int | tuple[int, ...] | None]:
    """An array with one dimension of up to some thousands, and what to sum over."""
    shape = draw(st.lists(st.integers(1, 5), min_size=0, max_size=2))
    shape.insert(draw(st.integers(0, len(shape))), draw(st.integers(0, 4000)))
    dims = st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True).map(tuple)
    dim = draw(st.none() | st.integers(-len(shape), len(shape) - 1) | dims)
    return laid_out(tuple(shape), draw(FLOATS), draw(st.sampled_from(LAYOUTS)), draw(st.integers(0, 99))), dim


@given(long_arrays())
def test_sums_along_any_dimension_of_any_layout(device: str, case: tuple[HostArray, Any]) -> None:
    x, dim = case
    assert_adds_up(tg.as_tensor(x).to(device).sum(dim), x, dim)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((10_000_000,), 0), ((2_500_000, 4), 0), ((2, 500_000, 3), 1), ((1000, 3000), (0, 1)), ((3000, 1100), 0)],
    ids=str,
)
def test_sums_of_up_to_ten_million_terms(shape: tuple[int, ...], dim: Any, layout: str) -> None:
    x = laid_out(shape, "float32", layout)
    assert_adds_up(tg.as_tensor(x).sum(dim), x, dim)
    assert_adds_up(tg.as_tensor(x).mean(dim) * (x.size / tg.as_tensor(x).sum(dim).size), x, dim)


def test_float16_sums_are_rounded_once(device: str) -> None:
    assert tg.ones(6000, 3, dtype="float16", device=device).sum(0).tolist() == [6000] * 3
    assert tg.full((131_072,), 0.25, dtype="float16", device=device).sum().item() == 32_768


@pytest.mark.parametrize("offset", [0.0, 1000.0, -1e5, 1e7])
def test_the_deviation_of_large_numbers(device: str, offset: float) -> None:
    x = (offset + np.random.default_rng(0).standard_normal((20_000, 3))).astype(np.float32)
    exact = x.astype(np.float64)
    given_x = tg.tensor(x, device=device)
    np.testing.assert_allclose(given_x.mean(0).cpu(), exact.mean(0), rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(given_x.std(0).cpu(), exact.std(0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(given_x.var().cpu(), exact.var(ddof=1), rtol=1e-6)


@given(long_arrays())
def test_running_sums(device: str, case: tuple[HostArray, Any]) -> None:
    x, _ = case
    leaf = tg.as_tensor(x).to(device).requires_grad_()
    out = tg.cumsum(leaf, 0)
    rounding = float(np.finfo(x.dtype).eps)
    np.testing.assert_allclose(out.detach().cpu().numpy(), x.astype(np.float64).cumsum(0), rtol=rounding)
    g = laid_out(x.shape, str(x.dtype), "rows", 1)
    out.backward(tg.as_tensor(g).to(device))
    assert leaf.grad is not None
    exact = g[::-1].astype(np.float64).cumsum(0)[::-1]
    np.testing.assert_allclose(leaf.grad.cpu().numpy(), exact, rtol=rounding)


# -- gradients ---------------------------------------------------------------------------------------------------------

N = 6000


def step_by_step(x: tg.Tensor) -> tg.Tensor:
    return tg.stack([x + 0 for _ in range(N)])


GRADIENTS: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
    "expand": lambda x: x.expand(N, 3),
    "broadcast_to": lambda x: x.broadcast_to((N, 3)),
    "bias": lambda x: tg.ones(N, 3, dtype=x.dtype, device=x.device) + x,
    "scale": lambda x: tg.ones(N, 3, dtype=x.dtype, device=x.device) * x,
    "linear": lambda x: tg.linear(
        tg.zeros(N, 2, dtype=x.dtype, device=x.device), tg.zeros(3, 2, dtype=x.dtype, device=x.device), x
    ),
    "weight": lambda x: tg.linear(
        tg.ones(N, 1, dtype=x.dtype, device=x.device), x.reshape(3, 1), tg.zeros(3, dtype=x.dtype, device=x.device)
    ),
    "matmul": lambda x: tg.ones(N, 1, dtype=x.dtype, device=x.device) @ x.reshape(1, 3),
    "embedding": lambda x: tg.embedding(np.zeros(N, np.int64), x.reshape(1, 3)),
    "embedding of pieces": lambda x: tg.cat([tg.embedding(np.zeros(N // 60, np.int64), x.reshape(1, 3))] * 60),
    "rows": lambda x: x.reshape(1, 3)[np.zeros(N, np.int64)],
    "places": lambda x: x[(np.tile(np.arange(3), N),)].reshape(N, 3),
    "index_select": lambda x: tg.index_select(x.reshape(1, 3), 0, np.zeros(N, np.int64)),
    "gather": lambda x: tg.gather(x.reshape(1, 3), 0, np.zeros((N, 3), np.int64)),
    "einsum": lambda x: tg.einsum("n,c->nc", tg.ones(N, dtype=x.dtype, device=x.device), x),
    "einsum of elements": lambda x: tg.einsum("nc,c->nc", tg.ones(N, 3, dtype=x.dtype, device=x.device), x),
    "conv1d bias": lambda x: (
        tg.conv1d(
            tg.zeros(1, 1, N, dtype=x.dtype, device=x.device), tg.zeros(3, 1, 1, dtype=x.dtype, device=x.device), x
        )[0].T
    ),
    "conv1d weight": lambda x: tg.conv1d(tg.ones(1, 1, N, dtype=x.dtype, device=x.device), x.reshape(3, 1, 1))[0].T,
    "used at every step": step_by_step,
    "layer_norm bias": lambda x: tg.layer_norm(
        tg.zeros(N, 3, dtype=x.dtype, device=x.device), 3, tg.ones(3, dtype=x.dtype, device=x.device), x
    ),
}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_that_are_sums(device: str, name: str, dtype: str) -> None:
    x = tg.zeros(3, dtype=dtype, device=device, requires_grad=True)
    g = laid_out((N, 3), dtype, "rows")
    GRADIENTS[name](x).backward(tg.tensor(g, device=device))
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert_adds_up(x.grad, g, 0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gradients_that_are_sums_are_part_of_a_graph(device: str, dtype: str) -> None:
    x = tg.zeros(3, dtype=dtype, device=device, requires_grad=True)
    g = laid_out((N, 3), dtype, "rows")
    (found,) = tg.grad([step_by_step(x) * x.exp()], x, [tg.tensor(g, device=device)], create_graph=True)
    assert found.requires_grad
    assert found.dtype == dtype
    assert_adds_up(found.detach(), g, 0)


@pytest.mark.usefixtures("compiled")
def test_kernels_add_up_a_million_terms() -> None:
    number = 1_000_000
    g = laid_out((number, 2), "float32", "rows")
    rows = tg.zeros(3, 2, requires_grad=True)
    tg.embedding(np.ones(number, np.int64), rows).backward(tg.tensor(g))
    assert rows.grad is not None
    assert_adds_up(rows.grad[1], g, 0)

    x = tg.zeros(2, requires_grad=True)
    x[(np.tile(np.arange(2), number),)].reshape(number, 2).backward(tg.tensor(g))
    assert x.grad is not None
    assert_adds_up(x.grad, g, 0)

    # Of net = 0, h = tanh(net) has the derivative 1.
    net = RNN(1, 2)
    for parameter in net.parameters():
        tg.nn.init.zeros_(parameter)
    out, _ = net(tg.zeros(1, number, 1))
    out.backward(tg.tensor(g[None]))
    assert net.bias_l0.grad is not None
    assert_adds_up(net.bias_l0.grad, g, 0)

    logits = laid_out((2, number), "float32", "rows")
    losses = tg.cross_entropy(tg.tensor(logits), tg.tensor([0, 1]), reduction="none")
    exact = np.log(np.exp(logits.astype(np.float64)).sum(1)) - logits[[0, 1], [0, 1]]
    np.testing.assert_allclose(losses, exact, rtol=3e-7)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("equation", ["nc->c", "nc,nc->c", "nc,cn->c", "nc,n->c", "nc,nc,n->c"])
def test_einsum_adds_up(device: str, equation: str, dtype: str) -> None:
    x = laid_out((N, 3), dtype, "rows")
    shapes = {"n": N, "c": 3}
    terms = equation.partition("->")[0].split(",")
    ones = [tg.ones(*(shapes[letter] for letter in term), dtype=dtype, device=device) for term in terms[1:]]
    assert_adds_up(tg.einsum(equation, tg.tensor(x, device=device), *ones), x, 0)


@pytest.mark.parametrize(
    "reduce",
    [tg.mse_loss, tg.l1_loss, tg.smooth_l1_loss, lambda x, y, reduction: tg.logsumexp(x, 0).sum()],
    ids=["mse", "l1", "smooth l1", "logsumexp"],
)
def test_losses_of_many_float16_elements(device: str, reduce: Callable[..., tg.Tensor]) -> None:
    """The result of float32, rounded once."""
    x = tg.tensor(laid_out((N, 3), "float16", "rows"), device=device)
    half, single = x.detach().requires_grad_(), x.to(dtype="float32").requires_grad_()
    values = [reduce(each, tg.zeros_like(each), reduction="mean") for each in (half, single)]
    for value in values:
        value.backward()
    assert half.grad is not None
    assert single.grad is not None
    np.testing.assert_allclose(values[0].item(), values[1].item(), rtol=2e-3)
    np.testing.assert_allclose(half.grad.cpu().numpy(), single.grad.cpu().numpy(), rtol=2e-3, atol=6e-8)
