"""Steps in which the sequences of a batch depend on each other: compiled, or one by one where they cannot be."""

from collections.abc import Callable
from typing import Any

import pytest
from any_cells import checked_derivatives, drawn

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

COMPILED: dict[str, Callable[[tg.Tensor], Any]] = {
    "max": lambda h: h.amax(0),
    "min of all": lambda h: h.amin(),
    "norm of all": lambda h: (h * h).sum().sqrt(),
    "mean of all, squared": lambda h: (h * 2).sum() ** 2,
    "softmax": lambda h: tg.softmax(h, 0),
    "logsumexp": lambda h: tg.logsumexp(h, 0),
    "prod": lambda h: h.prod(0),
    "cumsum": lambda h: h.cumsum(0),
    "flip": lambda h: tg.flip(h, 0),
    "roll": lambda h: tg.roll(h, 1, 0),
    "first": lambda h: h[:1],
    "last": lambda h: h[-1],
    "products": lambda h: h @ h.T @ h,
    "triangle": lambda h: tg.tril(h),
    "mean": lambda h: h - h.mean(0),
}
"""Functions of a state (B, 3) that can be compiled, some of them for each batch size."""
BY_SIZE: dict[str, Callable[[tg.Tensor], Any]] = {
    "layer_norm": lambda h: tg.layer_norm(h.T, (h.shape[0],)).T,
    "joined": lambda h: tg.cat([h, h], 0)[: h.shape[0]],
    "unbind": lambda h: tg.stack(tg.unbind(h, 0)),
}
"""Functions that compute with the batch size, some of them in their derivatives."""


class Mixing(tg.nn.Module):
    def __init__(self, function: Callable[[tg.Tensor], Any]) -> None:
        self.function = function

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> Any:
        return tg.tanh(x + 0.5 * h + 0.3 * self.function(h))


@pytest.mark.parametrize("name", [*COMPILED, *BY_SIZE])
def test_it_is_the_same_as_the_loop(device: str, name: str) -> None:
    """Values, first and second derivatives, with a batch as small as those of the trace, and a larger one."""
    cell = Mixing({**COMPILED, **BY_SIZE}[name])
    for B in (2, 5):
        x, h = (tg.tensor(drawn(*shape), device=device, requires_grad=True) for shape in ((4, B, 3), (B, 3)))
        actual, expected = (Recurrent(cell, compiled=each)(x, h) for each in (name in COMPILED or None, False))
        checked_derivatives(actual, expected, [x, h])


@pytest.mark.parametrize("name", BY_SIZE)
def test_what_computes_with_the_batch_size_is_refused(name: str) -> None:
    x, h = tg.ones(4, 5, 3, requires_grad=True), tg.ones(5, 3)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"compiled=True: [^(]*batch size"):
            Recurrent(Mixing(BY_SIZE[name]), compiled=True)(x, h)
