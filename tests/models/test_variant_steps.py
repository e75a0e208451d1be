"""Variants of recurrent layers, one step at a time: steppers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from variant_networks import drawn, each_variant, given_as, host, network_of, parts, problems, states_of

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM

# -- one step at a time ------------------------------------------------------------------------------------------------


@given(problem=problems(), dtype=st.sampled_from(["float32", "float64"]), with_state=st.booleans())
def test_steps_equal_the_whole(problem: dict[str, Any], dtype: str, with_state: bool, compiled: bool) -> None:
    kind, T, B, I, H = (problem[name] for name in ("kind", "T", "B", "I", "H"))
    network = network_of(kind, I, H, dtype=dtype, **{**problem["settings"], "bidirectional": False})
    x = drawn(T, B, I).astype(dtype)
    states = [state.astype(dtype) for state in states_of(network, B)]
    kept = [state.copy() for state in states]
    whole, final = network(
        tg.tensor(x.swapaxes(0, 1) if network.batch_first else x),
        given_as([tg.tensor(state) for state in states]) if with_state else None,
    )
    step, outs = network.stepper(), []
    state = given_as(states) if with_state else None
    for x_t in x:
        out, state = step(x_t, state)
        outs.append(out)
    rounding = 50 * np.finfo(dtype).eps
    expected = host(whole).swapaxes(0, 1) if network.batch_first else host(whole)
    np.testing.assert_allclose(np.stack(outs), expected, rtol=rounding, atol=rounding)
    for actual, wanted in zip(parts(state), parts(final), strict=True):
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, host(wanted), rtol=rounding, atol=rounding)
    assert all((state == before).all() for state, before in zip(states, kept))


@each_variant
def test_a_stepper_is_independent_of_its_network(kind: Any, options: dict[str, Any]) -> None:
    """It keeps the weights that it was made with, records nothing, and its results belong to the caller."""
    network = network_of(kind, 3, 4, **options)
    step, x = network.stepper(), drawn(2, 3)
    _, state = step(x)
    kept = step(x, state)[0].copy()
    for parameter in network.parameters():
        parameter.data[...] = 0
    out, after = step(x, state)
    np.testing.assert_array_equal(out, kept)
    for array in (out, *parts(after)):
        assert isinstance(array, np.ndarray)
        array[...] = 9
    np.testing.assert_array_equal(step(x, state)[0], kept)


def test_a_stepper_names_the_state_of_an_invalid_shape() -> None:
    step, x = LSTM(3, 5, proj_size=2).stepper(), np.ones((1, 3), np.float32)
    h, c = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1, 5), np.float32)
    with pytest.raises(ValueError, match=r"LSTM.stepper: expected float32 states of shape \(1, 1, 2\), got .* for h$"):
        step(x, (c, c))
    with pytest.raises(ValueError, match=r"LSTM.stepper: expected float32 states of shape \(1, 1, 5\), got .* for c$"):
        step(x, (h, h))
    with pytest.raises(ValueError, match="bidirectional"):
        LSTM(3, 5, proj_size=2, bidirectional=True).stepper()
