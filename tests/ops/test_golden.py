"""Every golden case of the losses and ops: values and gradients as PyTorch has them."""

from typing import Any

import numpy as np
import pytest
from golden.load import load, options

import tinygrad_lstm as tg

CASES = [
    (file, case)
    for file in ("losses", "ops", "ops_losses", "ops_normalization", "ops_windows")
    for case in options(file)
]


@pytest.mark.parametrize(("file", "case"), CASES, ids=[f"{file}-{case}" for file, case in CASES])
def test_values_and_gradients(file: str, case: str, device: str) -> None:
    settings: dict[str, Any] = options(file)[case]
    arrays = load(file, case)
    named = {name: tg.tensor(arrays[name], device=device) for name in settings["positional"] + settings["keyword"]}
    differentiated = [name for name in named if f"grad_{name}" in arrays]
    for name in differentiated:
        named[name].requires_grad_()

    out = getattr(tg, settings["op"])(
        *[named[name] for name in settings["positional"]],
        **{name: named[name] for name in settings["keyword"]},
        **settings["kwargs"],
    )
    out.backward(arrays["w_out"])

    assert out.shape == arrays["out"].shape and out.dtype == np.float64
    np.testing.assert_allclose(out.detach().cpu().numpy(), arrays["out"], rtol=1e-10, atol=1e-10)
    assert differentiated
    for name in differentiated:
        grad = named[name].grad
        assert grad is not None
        np.testing.assert_allclose(
            grad.cpu().numpy(), arrays[f"grad_{name}"], rtol=1e-10, atol=1e-10, err_msg=f"gradient of {name}"
        )
