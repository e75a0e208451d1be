"""Matrix products with a NumPy that was built without a BLAS."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.backends import numpy_backend
from tinygrad_lstm.backends.emit import code
from tinygrad_lstm.backends.products import _without_blas, matmul

LENGTHS = st.integers(0, 5)


def test_this_numpy_has_a_blas() -> None:
    assert matmul is np.matmul


@given(LENGTHS, LENGTHS, LENGTHS, st.sampled_from([(), (2,), (3, 2)]), st.sampled_from("CF"), st.booleans())
def test_products_are_those_of_numpy(n: int, k: int, m: int, batch: Any, order: Any, into: bool) -> None:
    rng = np.random.default_rng(n + 10 * k + 100 * m)
    x = np.asarray(rng.standard_normal((*batch, n, k)), order=order)
    y = np.asarray(rng.standard_normal((k, m)), order=order)
    out = np.full((*batch, n, m), np.nan) if into else None
    found = _without_blas(x, y, out=out)
    np.testing.assert_allclose(found, np.matmul(x, y), rtol=1e-12, atol=1e-12)
    assert out is None or found is out


def test_sequences_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, W, U = (tg.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((6, 4, 3), (5, 3), (5, 5)))
    start = tg.zeros(4, 5, dtype="float64")
    products = []

    def counted(*args: Any, **out: Any) -> Any:
        products.append(1)
        return _without_blas(*args, **out)

    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return tg.tanh(tg.linear(x, W) + tg.linear(h, U))

    for module in (code, numpy_backend):
        monkeypatch.setattr(module, "matmul", counted)
    with tg.compiled_kernels(False):
        out, _ = tg.scan(step, x, start)
        found = tg.grad([out.square().sum()], [x, W, U])
    assert len(products) >= 12  # one forward and one backward at each step
    monkeypatch.undo()

    h, outs = start, []
    for t in range(6):
        h = step(x[t], h)
        outs.append(h)
    np.testing.assert_allclose(out.detach().numpy(), tg.stack(outs).detach().numpy(), rtol=1e-12)
    for a, b in zip(found, tg.grad([tg.stack(outs).square().sum()], [x, W, U])):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)
