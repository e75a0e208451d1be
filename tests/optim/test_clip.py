"""Clipping of gradients."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

import tinygrad_lstm as tg
from tinygrad_lstm.optim import clip_grad_norm_, clip_grad_value_

gradients = st.lists(
    arrays(np.float64, array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.floats(-10, 10, width=16)),
    min_size=1,
    max_size=3,
)
KINDS = st.sampled_from([1.0, 2.0, 3.0, math.inf])


def with_gradients(values: list[np.ndarray], device: str = "cpu") -> list[tg.Tensor]:
    parameters = [tg.zeros(value.shape, device=device, requires_grad=True) for value in values]
    for p, value in zip(parameters, values, strict=True):
        p.grad = tg.tensor(value, device=device)
    return parameters


def norm_of(values: list[np.ndarray], kind: float) -> float:
    return float(np.linalg.norm(np.concatenate([value.reshape(-1) for value in values]), kind))


@given(gradients, st.floats(0.125, 8), KINDS)
def test_no_norm_is_above_the_largest(values, max_norm, kind):
    parameters = with_gradients(values)
    total = clip_grad_norm_(parameters, max_norm, kind)
    np.testing.assert_allclose(total.item(), norm_of(values, kind), rtol=1e-12)
    clipped = [p.grad.numpy() for p in parameters]
    assert norm_of(clipped, kind) <= max_norm * (1 + 1e-12)
    for mine, before in zip(clipped, values, strict=True):
        if norm_of(values, kind) < max_norm - 1e-5:
            np.testing.assert_array_equal(mine, before)
        else:
            factor = min(1.0, max_norm / (norm_of(values, kind) + 1e-6))
            np.testing.assert_allclose(mine, before * factor, rtol=1e-9, atol=1e-12)


@given(gradients, st.floats(0, 8))
def test_no_element_is_above_the_largest(values, limit):
    parameters = with_gradients(values)
    clip_grad_value_(parameters, limit)
    for p, before in zip(parameters, values, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), np.clip(before, -limit, limit))


def test_the_device_is_not_read(device):
    parameters = with_gradients([np.ones((2, 3), np.float32), np.ones(4, np.float32)], device)
    before = [p.grad.data for p in parameters]
    counts = parameters[0].device.backend.counts if device == "strict" else None
    if counts:
        counts.reset()
    total = clip_grad_norm_(parameters, 1.0)
    clip_grad_value_(parameters, 0.25)
    if counts:
        assert counts.host_to_device == counts.device_to_host == counts.synchronisations == 0
    assert total.device == device and total.shape == () and not total.requires_grad
    assert all(p.grad.data is array for p, array in zip(parameters, before, strict=True))
    np.testing.assert_allclose(parameters[0].grad.cpu(), 0.25)


@pytest.mark.parametrize("kind", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_norm_that_is_not_finite_is_an_error_if_asked_for(bad, kind, device):
    parameters = with_gradients([np.array([3.0]), np.array([4.0, bad])], device)
    with pytest.raises(RuntimeError, match=rf"^clip_grad_norm_: the norm of the gradients is {bad}; skip"):
        clip_grad_norm_(parameters, 1.0, kind, error_if_nonfinite=True)
    np.testing.assert_array_equal(parameters[0].grad.cpu(), [3.0])
    np.testing.assert_array_equal(parameters[1].grad.cpu(), [4.0, bad])
    parameters[1].grad = tg.tensor([4.0, 0.0], device=device)
    assert math.isfinite(clip_grad_norm_(parameters, 1.0, kind, error_if_nonfinite=True).item())
    np.testing.assert_array_less(parameters[0].grad.cpu(), 1.0)


def test_gradients_on_two_devices_count_together():
    parameters = [*with_gradients([np.array([3.0])]), *with_gradients([np.array([4.0])], "strict")]
    total = clip_grad_norm_(parameters, 1.0)
    assert total.device == "cpu"
    assert total.item() == 5
    np.testing.assert_allclose([p.grad.item() for p in parameters], [0.6, 0.8], rtol=1e-6)


def test_norms_of_float16_do_not_overflow(device):
    parameters = with_gradients([np.full(4, 300, np.float16), np.full((2, 3), 100, np.float16)], device)
    total = clip_grad_norm_(parameters, 65.0)
    assert total.dtype == np.float32
    assert total.item() == pytest.approx(math.sqrt(4 * 300**2 + 6 * 100**2), rel=1e-3)
    np.testing.assert_allclose(parameters[0].grad.cpu().numpy(), 300 * 65 / total.item(), rtol=2e-3)


@pytest.mark.parametrize("kind", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("float16", 60_000),
        ("float32", 1e-30),
        ("float32", 1e20),
        ("float32", 1e36),
        ("float64", 1e200),
        ("float64", 1e-200),
    ],
)
def test_norms_whose_powers_no_dtype_holds(device: str, dtype: str, size: float, kind: float) -> None:
    values = [np.array([3, 0, -4]) * (size / 4), np.array([[1.0, 2.0], [0.0, 3.0]]) * (size / 4)]
    parameters = with_gradients([value.astype(dtype) for value in values], device)
    max_norm = size / 8
    total = clip_grad_norm_(parameters, max_norm, kind)
    rounding = 20 * max(float(np.finfo(dtype).eps), 1e-7)
    relative = norm_of([value / size for value in values], kind)
    np.testing.assert_allclose(total.item() / size, relative, rtol=rounding)
    if size < 1e-6:
        return  # beside such norms the 1e-6 that keeps the factor finite is all there is
    for p, value in zip(parameters, values, strict=True):
        np.testing.assert_allclose(
            p.grad.cpu().numpy().astype(np.float64) / max_norm, value / size / relative, rtol=rounding
        )


def test_the_norm_of_many_elements_keeps_its_digits(device: str) -> None:
    values = np.random.default_rng(0).random(3_000_000 if device == "cpu" else 30_000, np.float32)
    exact = math.sqrt(np.sum(values.astype(np.float64) ** 2))
    assert clip_grad_norm_(with_gradients([values], device), 1.0).item() == pytest.approx(exact, rel=3e-7)


def test_gradients_of_several_dtypes_and_layouts_count_together():
    values = [np.array([[3.0, 9.0], [0.0, 9.0]], np.float32)[:, 0], np.array([4.0])]
    parameters = with_gradients([np.zeros(2), np.zeros(1)])
    for p, value in zip(parameters, values, strict=True):
        p.grad = tg.as_tensor(value)
    total = clip_grad_norm_(parameters, 1.0)
    assert (total.item(), total.dtype) == (5.0, np.float64)
    np.testing.assert_allclose(values[0], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(values[1], [0.8], rtol=1e-6)


def test_a_single_tensor_and_parameters_without_gradients():
    (p,) = with_gradients([np.array([3.0, 4.0])])
    assert clip_grad_norm_(p, 10.0).item() == 5
    assert clip_grad_norm_([tg.ones(2, requires_grad=True)], 1.0).item() == 0
    clip_grad_value_([tg.ones(2, requires_grad=True)], 1.0)


def test_a_parameter_given_twice_is_scaled_once():
    (p,) = with_gradients([np.array([3.0, 4.0])])
    assert clip_grad_norm_([p, p], 1.0).item() == 5
    np.testing.assert_allclose(p.grad.tolist(), [0.6, 0.8], rtol=1e-6)


def test_a_graph_that_kept_a_clipped_gradient_says_so():
    x = tg.tensor([3.0], requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    penalty = (x.grad * x.grad).sum()
    clip_grad_norm_([x], 1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        penalty.backward()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: clip_grad_norm_([tg.ones(1)], -1.0), ValueError, "max_norm must be 0 or more, got -1"),
        (lambda: clip_grad_norm_([tg.ones(1)], float("nan")), ValueError, "max_norm must be 0 or more, got nan"),
        (lambda: clip_grad_norm_([tg.ones(1)], 1.0, 0.0), ValueError, "norm_type must be above 0, got 0"),
        (lambda: clip_grad_norm_([np.ones(1)], 1.0), TypeError, "expected tensors, got ndarray"),
        (lambda: clip_grad_value_([tg.ones(1)], -1.0), ValueError, "clip_value must be 0 or more, got -1"),
    ],
)
def test_invalid_arguments_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_empty_gradients_have_no_part(norm_type: float, device: str) -> None:
    empty, x = (tg.zeros(n, device=device, requires_grad=True) for n in (0, 1))
    empty.grad, x.grad = tg.zeros(0, device=device), tg.tensor([4.0], device=device)
    assert clip_grad_norm_([empty], 1.0, norm_type).item() == 0
    assert clip_grad_norm_([empty, x], 1.0, norm_type).item() == 4
    np.testing.assert_allclose(x.grad.cpu().numpy(), [1.0], 1e-5)
