"""Models, arrays and comparisons for the tests of streams."""

from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN

HostArray = np.ndarray[Any, Any]

# Of each kind the plain one, and what changes its steps or, of an LSTM, the sizes of its states.
OPTIONS: dict[Any, list[dict[str, Any]]] = {
    LSTM: [{}, {"proj_size": 2}, {"peephole": True, "layer_norm": "cell"}, {"proj_size": 1, "layer_norm": "output"}],
    GRU: [{}, {"reset_after": False}],
    RNN: [{}, {"nonlinearity": "relu"}],
}
every_kind = pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)


def drawn(model: Any) -> Any:
    """The model with weights that do not let differences in rounding grow from step to step."""
    rng = np.random.default_rng(1)
    with tg.no_grad():
        for parameter in model.parameters():
            parameter.copy_(rng.normal(0, parameter.shape[-1] ** -0.5, parameter.shape))
    return model


def numbers(*shape: int, dtype: str = "float32") -> HostArray:
    return np.random.default_rng(2).standard_normal(shape).astype(dtype)


def on(device: str, array: HostArray) -> Any:
    return tg.tensor(array, device=device).data


def host(array: Any) -> HostArray:
    return tg.as_tensor(array).detach().cpu().numpy()


def parts(state: Any) -> tuple[HostArray, ...]:
    return tuple(map(host, state if isinstance(state, tuple) else (state,)))


def check_equal(found: HostArray, expected: HostArray) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    tolerance = 100 * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
