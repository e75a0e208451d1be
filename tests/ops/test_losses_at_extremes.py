"""Losses of single numbers at extremes: values and derivatives are the limits, as in test_extremes.py."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ops.cases_elementwise import sigmoid
from ops.limits import INF, NAN, HostArray, Slopes, check, every_dtype, extremes

import tinygrad_lstm as tg


def binary(x: HostArray, target: HostArray) -> Any:
    """The binary cross entropy, in which a target of 0 or 1 takes nothing of the other term."""
    right, wrong = np.logaddexp(0, -x), np.logaddexp(0, x)
    return np.where(target == 1, right, np.where(target == 0, wrong, target * right + (1 - target) * wrong))


LOSSES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Slopes]] = {
    "mse_loss": (tg.mse_loss, lambda x, t: (x - t) ** 2, lambda x, t: [2 * (x - t), 2 * (t - x)]),
    "l1_loss": (tg.l1_loss, lambda x, t: np.abs(x - t), lambda x, t: [np.sign(x - t), np.sign(t - x)]),
    "smooth_l1_loss": (
        tg.smooth_l1_loss,
        lambda x, t: np.where(np.abs(x - t) < 1, (x - t) ** 2 / 2, np.abs(x - t) - 0.5),
        lambda x, t: [np.clip(x - t, -1, 1), np.clip(t - x, -1, 1)],
    ),
    "huber_loss": (
        functools.partial(tg.huber_loss, delta=0.5),
        lambda x, t: np.where(np.abs(x - t) < 0.5, (x - t) ** 2 / 2, (np.abs(x - t) - 0.25) / 2),
        lambda x, t: [np.clip(x - t, -0.5, 0.5), np.clip(t - x, -0.5, 0.5)],
    ),
    "hinge_embedding_loss": (
        tg.hinge_embedding_loss,
        lambda x, t: np.where(t == 1, x, np.maximum(1 - x, 0)),
        lambda x, t: [np.where(t == 1, 1, np.where(x > 1, 0, -1)), 0 * t],
    ),
    "soft_margin_loss": (
        tg.soft_margin_loss,
        lambda x, t: np.logaddexp(0, -t * x),
        lambda x, t: [-t * sigmoid(-t * x), -x * sigmoid(-t * x)],
    ),
    "binary_cross_entropy_with_logits": (
        tg.binary_cross_entropy_with_logits,
        binary,
        lambda x, t: [sigmoid(x) - t, -x],
    ),
}


TARGETS = {
    "binary_cross_entropy_with_logits": [0, 0.25, 1],
    "hinge_embedding_loss": [1, -1],
    "soft_margin_loss": [1, -1],
}


@every_dtype
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_single_numbers(name: str, dtype: str, device: str) -> None:
    loss, reference, slopes = LOSSES[name]
    targets = np.array(TARGETS.get(name, [0, 1, -2, INF, -INF, NAN]), dtype)
    values = extremes(dtype)
    if "binary" in name:  # whose derivative in the target, -x, is a difference of two logarithms
        values = values[(values == 0) | ~(np.abs(values) < 0.25)]
    arrays = [grid.reshape(-1) for grid in np.meshgrid(values, targets)]
    check(functools.partial(loss, reduction="none"), reference, slopes, arrays, dtype, device, name)


def test_a_weight_of_zero_takes_nothing_of_an_infinite_loss(device: str) -> None:
    nothing, target = tg.zeros(3, device=device), tg.tensor([0.0, 1.0, 0.5], device=device)
    x = tg.tensor([INF, -INF, INF], device=device, requires_grad=True)
    loss = tg.binary_cross_entropy_with_logits(x, target, nothing)
    loss.backward()
    assert (loss.item(), x.grad.tolist()) == (0.0, [0.0, 0.0, 0.0])


@every_dtype
def test_binary_cross_entropy_at_0_and_1_is_100_with_a_finite_gradient(dtype: str, device: str) -> None:
    x = tg.tensor([0.0, 1.0, 0.0, 1.0, 0.5], dtype, device, requires_grad=True)
    target = tg.tensor([1.0, 0.0, 0.0, 1.0, 1.0], dtype, device, requires_grad=True)
    losses = tg.binary_cross_entropy(x, target, reduction="none")
    losses.sum().backward()
    assert x.grad is not None and target.grad is not None and losses.dtype == dtype
    np.testing.assert_allclose(losses.tolist(), [100, 100, 0, 0, np.log(2)], 1e-3)
    steep = 1 / max(1e-12, float(np.finfo(dtype).smallest_normal))
    np.testing.assert_allclose(x.grad.tolist(), [-steep, steep, 0, 0, -2], 1e-3)
    np.testing.assert_allclose(target.grad.tolist(), [100, -100, 100, -100, 0], 1e-3)


@every_dtype
def test_a_probability_of_0_adds_nothing_to_a_divergence(dtype: str, device: str) -> None:
    x = tg.tensor([-INF, -1.0, -1.0], dtype, device, requires_grad=True)
    for target, logs in (([0.0, 0.0, 1.0], False), ([-INF, -INF, 0.0], True)):
        losses = tg.kl_div(x, tg.tensor(target, dtype, device), "none", logs)
        (g,) = tg.grad(losses.sum(), x)
        assert (losses.tolist(), g.tolist()) == ([0.0, 0.0, 1.0], [0.0, 0.0, -1.0])


@every_dtype
def test_similarity_with_a_vector_of_zeros_is_0(dtype: str, device: str) -> None:
    x = tg.tensor([[0.0, 0.0], [3.0, 4.0]], dtype, device, requires_grad=True)
    y = tg.tensor([[1.0, 0.0], [300.0, 400.0]], dtype, device)
    similarities = tg.cosine_similarity(x, y)
    np.testing.assert_allclose(similarities.tolist(), [0, 1], 1e-3)
    assert similarities.dtype == dtype
    (g,) = tg.grad(tg.cosine_embedding_loss(x, y, tg.tensor([-1.0, 1.0], dtype, device), 0.1), x)
    np.testing.assert_allclose(g.tolist(), np.zeros((2, 2)), atol=1e-3)


def test_gaussian_nll_loss_of_small_variances(device: str) -> None:
    var = tg.tensor([0.0, 1e-3, 2.0, -1.0], "float64", device, requires_grad=True)
    with np.errstate(invalid="ignore"):
        losses = tg.gaussian_nll_loss(tg.ones_like(var), tg.zeros_like(var), var, eps=0.5, reduction="none")
        (g,) = tg.grad(losses[:3].sum(), var)
    used = np.array([0.5, 0.5, 2.0])
    np.testing.assert_allclose(losses.tolist(), [*((np.log(used) + 1 / used) / 2), NAN])
    np.testing.assert_allclose(g.tolist()[:3], (1 / used - 1 / used**2) / 2)
