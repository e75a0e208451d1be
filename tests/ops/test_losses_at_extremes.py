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
    "binary_cross_entropy_with_logits": (
        tg.binary_cross_entropy_with_logits,
        binary,
        lambda x, t: [sigmoid(x) - t, -x],
    ),
}


@every_dtype
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_single_numbers(name: str, dtype: str, device: str) -> None:
    loss, reference, slopes = LOSSES[name]
    targets = np.array([0, 0.25, 1] if "binary" in name else [0, 1, -2, INF, -INF, NAN], dtype)
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
