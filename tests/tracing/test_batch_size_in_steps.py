"""Steps that compute with the batch size, or branch on it: compiled or not, they are the same for every batch size."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from any_cells import checked_derivatives, drawn

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

T, H = 3, 2
SIZES = (2, 3, 1, 5, 50, 49, 50, 2)

STEPS: dict[str, Callable[[tg.Tensor, tg.Tensor], tg.Tensor]] = {
    "branches on len": lambda x, h: tg.tanh(h + x) * (2.0 if len(x) > 3 else 1.0),
    "branches on one size": lambda x, h: tg.tanh(h + x) if x.shape[0] != 50 else h + 0.5 * x,
    "branches on the number of elements": lambda x, h: h + x if x.size < 100 else h - x,
    "has a number that is the batch size of a run": lambda x, h: h + x * (len(x) if len(x) < 4 else 3),
    "multiplies by it": lambda x, h: tg.tanh(h * len(x) + x) * (x + len(x)),
    "divides by it": lambda x, h: tg.tanh(h + x) / len(x),
    "multiplies by a part of it": lambda x, h: tg.tanh(h + x * (len(x) % 50)),
    "raises to it": lambda x, h: tg.tanh(h) + (0.5 * x) ** len(x),
    "rolls by it": lambda x, h: tg.tanh(h) + tg.roll(x, len(x), 1),
    "reads few rows": lambda x, h: tg.tanh(h + x[: min(len(x), 4)].sum(0)),
    "makes a tensor of it": lambda x, h: tg.tanh(
        h + x * tg.full((1, 1), float(len(x)), dtype=x.dtype, device=x.device)
    ),
    "goes through the sequences": lambda x, h: tg.stack([tg.tanh(a + 0.5 * b) for a, b in zip(x, h)]),
    "fails for few sequences": lambda x, h: tg.tanh(h + (x if len(x) < 2 else x[[1, 0, *range(2, len(x))]])),
}


class Cell(tg.nn.Module):
    def __init__(self, step: Callable[[tg.Tensor, tg.Tensor], tg.Tensor]) -> None:
        self.step = step

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        start = 1.0 if len(x) == 49 else 0.0
        return self.step(x, tg.full((len(x), H), start, dtype=x.dtype, device=x.device) if h is None else h)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_it_equals_the_loop(step: Callable[[tg.Tensor, tg.Tensor], tg.Tensor], kernels: bool, device: str) -> None:
    cell = Cell(step)
    with tg.compiled_kernels(kernels):
        for B in SIZES:
            x = tg.tensor(drawn(T, B, H), device=device, requires_grad=True)
            found = [Recurrent(cell, compiled=compiled)(x) for compiled in (None, False)]
            checked_derivatives(*found, [x])


@pytest.mark.parametrize("name", ["branches on len", "branches on one size", "makes a tensor of it", "divides by it"])
def test_it_is_compiled_for_each_size(name: str) -> None:
    for B in (2, 5, 50):
        out, expected = (Recurrent(Cell(STEPS[name]), compiled=each)(tg.ones(T, B, H))[0] for each in (True, False))
        np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_batch_size_is_compared_with_a_number_that_changes() -> None:
    limit = 100

    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return h + x if len(x) > limit else h - x

    def last(B: int) -> Sequence[float]:
        return tg.scan(step, tg.ones(T, B, 1), tg.zeros(B, 1))[1][:, 0].tolist()

    assert last(20) == [-T] * 20
    limit = 10
    assert last(20) == [T] * 20
    np.testing.assert_array_equal(last(5), -T)
