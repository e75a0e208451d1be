"""The activation modules."""

from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn

MODULES: dict[str, tuple[nn.Module, Any]] = {
    "ReLU": (nn.ReLU(), tg.relu),
    "ReLU6": (nn.ReLU6(), tg.relu6),
    "Tanh": (nn.Tanh(), tg.tanh),
    "Sigmoid": (nn.Sigmoid(), tg.sigmoid),
    "SiLU": (nn.SiLU(), tg.silu),
    "Mish": (nn.Mish(), tg.mish),
    "SELU": (nn.SELU(), tg.selu),
    "Softsign": (nn.Softsign(), tg.softsign),
    "LogSigmoid": (nn.LogSigmoid(), tg.logsigmoid),
    "Hardsigmoid": (nn.Hardsigmoid(), tg.hardsigmoid),
    "GELU(approximate='none')": (nn.GELU(), tg.gelu),
    "GELU(approximate='tanh')": (nn.GELU("tanh"), lambda x: tg.gelu(x, approximate="tanh")),
    "ELU(alpha=0.5)": (nn.ELU(0.5), lambda x: tg.elu(x, alpha=0.5)),
    "LeakyReLU(negative_slope=0.2)": (nn.LeakyReLU(0.2), lambda x: tg.leaky_relu(x, negative_slope=0.2)),
    "Hardtanh(min_val=-2, max_val=3.0)": (nn.Hardtanh(-2, 3.0), lambda x: tg.hardtanh(x, min_val=-2, max_val=3.0)),
    "Softplus(beta=2.0, threshold=1.0)": (nn.Softplus(2.0, 1.0), lambda x: tg.softplus(x, beta=2.0, threshold=1.0)),
    "Softmax(dim=0)": (nn.Softmax(0), lambda x: tg.softmax(x, 0)),
    "LogSoftmax(dim=1)": (nn.LogSoftmax(1), lambda x: tg.log_softmax(x, 1)),
    "GLU(dim=1)": (nn.GLU(1), lambda x: tg.glu(x, 1)),
}
"""The modules and what they compute, by their reprs."""


@pytest.mark.parametrize("text", MODULES)
def test_a_module_calls_its_op(text: str, device: str) -> None:
    module, function = MODULES[text]
    x = tg.tensor(np.random.default_rng(0).normal(0, 3, (3, 4)), device=device)
    np.testing.assert_array_equal(module(x).cpu().numpy(), function(x).cpu().numpy())
    assert repr(module).split("  ")[0] == text
    assert module.state_dict() == {}


def test_every_module_is_tested() -> None:
    assert {type(module).__name__ for module, _ in MODULES.values()} | {"PReLU"} == set(nn.activation.__all__)


@pytest.mark.parametrize("number", [1, 4])
def test_prelu_learns_its_slopes(number: int, device: str) -> None:
    with tg.default_device(device):
        layer, x = nn.PReLU(number, init=0.1), tg.tensor([[-1.0, 2.0, -3.0, 4.0]])
        out = layer(x)
        out.sum().backward()
        assert layer.weight.grad is not None
        slopes = layer.weight.grad.tolist()
    np.testing.assert_allclose(out.detach().cpu().numpy(), [[-0.1, 2, -0.3, 4]], rtol=1e-6)
    assert slopes == ([-4.0] if number == 1 else [-1.0, 0.0, -3.0, 0.0])
    assert repr(layer).startswith(f"PReLU(num_parameters={number}) ")


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="PReLU: num_parameters must be 1 or more, got 0"):
        nn.PReLU(0)
    with pytest.raises(TypeError, match="Tanh: x is a tuple of 2"):
        nn.Tanh()((tg.ones(1), tg.ones(1)))
    with pytest.raises(TypeError, match="dim"):
        nn.Softmax()  # type: ignore[call-arg]
