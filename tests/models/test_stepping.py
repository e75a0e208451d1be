"""Networks that go one step at a time, held against the same networks over whole sequences."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.models import GRU, LSTM, RNN

every_kind = pytest.mark.parametrize("kind", [LSTM, GRU, RNN], ids=lambda kind: kind.__name__)

SIZES = st.one_of(st.integers(1, 5), st.sampled_from([15, 16, 17, 32, 33, 70]))  # about the width of vectors and blocks


def network_of(kind: Any, dtype: str, *sizes: int, **options: Any) -> Any:
    network = kind(*sizes, **options).to(dtype=dtype)
    rng = np.random.default_rng(1)
    for parameter in network.parameters():
        # Larger ones would let differences in rounding grow from step to step.
        parameter.data[...] = rng.normal(0, parameter.shape[-1] ** -0.5, parameter.shape)
    return network


def in_steps(network: Any, x: np.ndarray, state: Any = None) -> tuple[np.ndarray, Any]:
    """The outputs of all steps, and the last state."""
    step, outs = network.stepper(), []
    for x_t in x:
        out, state = step(x_t, state)
        outs.append(out)
    return np.stack(outs), state


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


@every_kind
@settings(max_examples=20)
@given(
    T=st.integers(1, 4), B=st.integers(1, 5), I=SIZES, H=SIZES, layers=st.integers(1, 2),
    dtype=st.sampled_from(["float32", "float64"]), with_state=st.booleans(),
)  # fmt: skip
def test_steps_equal_the_whole(
    kind: Any, compiled: bool, T: int, B: int, I: int, H: int, layers: int, dtype: str, with_state: bool
) -> None:
    network = network_of(kind, dtype, I, H, num_layers=layers)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((T, B, I)).astype(dtype)
    state = tuple(rng.uniform(-1, 1, (layers, B, H)).astype(dtype) for _ in network.STATES) if with_state else None
    given_state = state if state is None or len(state) > 1 else state[0]
    tensors = None if state is None else tuple(map(tg.tensor, state))
    with tg.no_grad():
        out, final = network(tg.tensor(x), tensors if tensors is None or len(tensors) > 1 else tensors[0])
    before = None if state is None else [part.copy() for part in state]
    found_out, found_state = in_steps(network, x, given_state)
    tolerance = 50 * np.finfo(dtype).eps
    for actual, expected in zip((found_out, *parts(found_state)), (out, *parts(final)), strict=True):
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, expected.numpy(), rtol=tolerance, atol=tolerance)
    if state is not None and before is not None:
        assert all((part == kept).all() for part, kept in zip(state, before))


@every_kind
def test_a_step_does_not_depend_on_the_number_of_threads(kind: Any, threads: Callable[[int], None]) -> None:
    if why_not() is not None:
        pytest.skip("there is no C compiler: matrix libraries may add in a different order")
    network = network_of(kind, "float32", 600, 620)  # so large that it is worth three threads
    x = np.random.default_rng(3).standard_normal((20, 1, 600), np.float32)
    found = []
    for number in (1, 2, 3):
        threads(number)
        with tg.compiled_kernels(True):
            found.append(in_steps(network, x)[0])
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


@every_kind
def test_the_batch_may_change_and_arrays_may_lie_anyhow(kind: Any, compiled: bool) -> None:
    network = network_of(kind, "float64", 3, 7)
    step = network.stepper()
    x = np.random.default_rng(4).standard_normal((6, 3))
    odd = np.repeat(x, 2, axis=1)[:, ::2]
    fixed = x.copy()
    fixed.setflags(write=False)
    expected, _ = step(x)
    for other in (odd, fixed, np.asfortranarray(x)):
        assert (step(other)[0] == expected).all()
    np.testing.assert_allclose(step(x[:2])[0], expected[:2], rtol=1e-14)
    assert (step(x)[0] == expected).all()
    assert step(x[:0])[0].shape == (0, 7)


@every_kind
def test_outputs_are_the_callers(kind: Any, compiled: bool) -> None:
    """The stepper's later steps do not change them, and writing to them changes no later step."""
    network = network_of(kind, "float32", 3, 7)
    step, x = network.stepper(), np.ones((2, 3), np.float32)
    first, state = step(x)
    kept = first.copy()
    second, _ = step(x, state)
    assert (first == kept).all()
    again = second.copy()
    second[...] = 9
    assert (step(x, state)[0] == again).all()


@every_kind
def test_the_weights_are_those_of_then(kind: Any, compiled: bool) -> None:
    network = network_of(kind, "float32", 3, 7)
    step, x = network.stepper(), np.ones((2, 3), np.float32)
    expected = step(x)[0].copy()
    for parameter in network.parameters():
        parameter.data[...] = 0
    assert (step(x)[0] == expected).all()


@every_kind
def test_invalid_arguments_are_named(kind: Any, compiled: bool) -> None:
    name = kind.__name__
    step = network_of(kind, "float32", 3, 7).stepper()
    x, h = np.ones((2, 3), np.float32), np.ones((1, 2, 7), np.float32)
    number = len(kind.STATES)
    for wrong in (x[0], x[:, :2], x.astype(np.float64)):
        with pytest.raises(ValueError, match=rf"{name}\.stepper: expected a float32 input of shape \(batch, 3\), got"):
            step(wrong)
    for part in (h[0], h[:, :1], h.astype(np.float64)):
        with pytest.raises(ValueError, match=rf"{name}\.stepper: expected float32 states of shape \(1, 2, 7\), got"):
            step(x, (part,) * number if number > 1 else part)
    if number > 1:
        for several in ((h,), (h, h, h)):
            with pytest.raises(ValueError, match=rf"{name}\.stepper: expected 2 states, got {len(several)}"):
                step(x, several)
    with pytest.raises(ValueError, match="bidirectional"):
        kind(3, 7, bidirectional=True).stepper()


@every_kind
def test_threads_share_a_stepper(kind: Any, compiled: bool) -> None:
    """Each with a different batch size, of which there are more than are remembered."""
    step = network_of(kind, "float32", 5, 7, num_layers=2).stepper()
    x = np.random.default_rng(5).standard_normal((3, 12, 5), np.float32)

    def final(rows: int) -> Any:
        state = None
        for x_t in x:
            _, state = step(x_t[:rows], state)
        return parts(state)

    alone = [final(rows) for rows in range(1, 13)]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            for expected, found in zip(alone, pool.map(final, range(1, 13)), strict=True):
                assert all((one == other).all() for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize(("there", "given"), [("strict", "cpu"), ("cpu", "strict")])
def test_an_input_on_a_different_device_is_refused(there: str, given: str) -> None:
    step = LSTM(3, 5).to(there).stepper()
    with pytest.raises(ValueError, match=f"LSTM.stepper: expected an array on '{there}', where the network is, got a"):
        step(tg.ones(1, 3, device=given).data)
