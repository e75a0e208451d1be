"""Activations of neighbouring columns, which the code for array modules computes by one call."""

from collections.abc import Callable

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor, ops
from tinygrad_lstm._scan import over_sequence
from tinygrad_lstm.backends.base import HostArray

Combine = Callable[[Tensor, Tensor], Tensor]


def _outputs(combine: Combine, x: HostArray, device: str) -> list[HostArray]:
    """Those of a step of two neighbouring parts of x, in generated code and then by the ops themselves."""

    def step(x: Tensor, h: Tensor) -> Tensor:
        a, b = ops.chunk(x + 0 * h.sum(-1, keepdim=True), 2, dim=-1)  # depends on h, so that it runs at each step
        return combine(a, b)

    inputs = tg.tensor(x, device=device)
    h = tg.zeros(x.shape[1], x.shape[2] // 2, dtype=inputs.dtype, device=device)
    with tg.compiled_kernels(False):
        return [
            over_sequence("scan", step, inputs, h, None, None, False, fused)[0].cpu().numpy() for fused in (True, False)
        ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "combine",
    [
        lambda a, b: ops.sigmoid(a) / (ops.sigmoid(a) + ops.sigmoid(b)),
        lambda a, b: ops.log(ops.sigmoid(a) * ops.sigmoid(b)),
        lambda a, b: ops.sigmoid(a),
    ],
)
def test_tiny_sigmoids_are_precise_where_it_matters(device: str, dtype: str, combine: Combine) -> None:
    generated, expected = _outputs(combine, np.linspace(-40, -20, 24, dtype=dtype).reshape(2, 2, 6), device)
    assert np.isfinite(expected).all() and (expected != 0).all()
    np.testing.assert_allclose(generated, expected, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("names", [("sigmoid", "tanh"), ("sigmoid", "sigmoid"), ("tanh", "tanh")])
def test_activations_of_infinities_and_nan(device: str, names: tuple[str, str]) -> None:
    f, g = (getattr(ops, name) for name in names)
    x = np.array([-np.inf, -100.0, 0.0, 0.5, 100.0, np.inf, np.nan, 1.0]).reshape(2, 1, 4)
    generated, expected = _outputs(lambda a, b: f(a) + 2 * g(b), x, device)
    np.testing.assert_allclose(generated, expected, rtol=1e-12, atol=1e-15)
