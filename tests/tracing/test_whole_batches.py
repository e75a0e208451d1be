"""Steps that use tensors of the whole batch from outside, compiled: they run for no other batch size."""

from typing import Any

import numpy as np
import pytest
from any_cells import as_parts, checked_derivatives, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

T, I, H = 4, 3, 2


class Attending(tg.nn.Module):
    """It attends to a tensor (B, S, H), and multiplies by a different factor (H,) for each sequence."""

    def __init__(self, rate: float) -> None:
        self.weight, self.bias = (tg.nn.Parameter(tg.tensor(drawn(*shape))) for shape in ((H, I), (H,)))
        self.rate = rate
        self.memory: Any = None
        self.factor: Any = None

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        h = tg.zeros(len(x), H, dtype=x.dtype, device=x.device) if h is None else h
        scores = tg.softmax((self.memory * h.unsqueeze(1)).sum(-1), dim=-1)
        read = (self.memory * scores.unsqueeze(2)).sum(1).reshape(len(x), H)
        return self.factor * tg.dropout(tg.tanh(x @ self.weight.T + self.bias + read), self.rate)


@settings(max_examples=10)
@given(
    B=st.integers(0, 5),
    S=st.integers(1, 3),
    rate=st.sampled_from([0.0, 0.3]),
    options=st.sampled_from(["", "lengths", "resets", "pair"]),
)
def test_compiled_or_not_it_is_the_same(device: str, B: int, S: int, rate: float, options: str) -> None:
    """Values, first and second derivatives, also to these tensors; B may be the length of a parameter."""
    cell = Attending(rate).to(device)
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, T + 1, B).tolist() if options == "lengths" else None
    resets = rng.random((T, B)) < 0.4 if options == "resets" else None
    for seed in range(2):  # the second time with other values
        x, memory, factor = (
            tg.tensor(drawn(*shape, seed=seed), device=device, requires_grad=True)
            for shape in ((T, B, I), (B, S, H), (B, H))
        )
        found = []
        for compiled in (True, False):
            cell.memory, cell.factor = memory * 2, factor * 2
            tg.manual_seed(seed)
            out, final = Recurrent((cell, cell) if options == "pair" else cell, compiled=compiled)(
                x, None, lengths, resets
            )
            states = final if isinstance(final, list) else [final]
            found.append([out, *(part for state in states for part in as_parts(state))])
        checked_derivatives(*found, [x, memory, factor, *cell.parameters()])


def test_a_mask_that_is_the_same_in_all_steps() -> None:
    """Drawn by the caller, for all sequences of the batch (Gal and Ghahramani 2016)."""
    weight, x = tg.tensor(drawn(4, 4)), tg.tensor(drawn(6, 5, 4))
    mask = tg.dropout(tg.ones(5, 4, dtype="float64"), 0.5)

    class Cell(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: Any = None) -> Any:
            return tg.tanh(x + (mask * (tg.zeros_like(x) if h is None else h)) @ weight)

    for one, other in zip(*(Recurrent(Cell(), compiled=compiled)(x) for compiled in (True, False)), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12)


def test_what_mixes_the_sequences_is_refused() -> None:
    memory = tg.tensor(drawn(5, 2, 4))

    class Mixing(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: tg.Tensor) -> Any:
            return h + x + memory.reshape(2, 20)[:, :4].sum() * memory[:, 0]

    x, h = tg.tensor(drawn(3, 5, 4)), tg.tensor(drawn(5, 4))
    message = r"the step runs for a batch of 5 only, with tensors of shape \(5, 2, 4\) from outside; make these states"
    with pytest.raises(ValueError, match=message) as raised:
        Recurrent(Mixing(), compiled=True)(x, h)
    assert "\n" not in str(raised.value)
    (out, _), (expected, _) = (Recurrent(Mixing(), compiled=compiled)(x, h) for compiled in (None, False))
    np.testing.assert_array_equal(out.numpy(), expected.numpy())


def test_a_step_that_fails_says_why() -> None:
    class Failing(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: tg.Tensor) -> Any:
            return h + x @ tg.ones(7, 4)

    with pytest.raises(ValueError, match=r"compiled=True: the step fails for a batch of 5 \(.*matmul"):
        Recurrent(Failing(), compiled=True)(tg.ones(3, 5, 4), tg.ones(5, 4))
    with pytest.raises(ValueError, match="matmul"):
        Recurrent(Failing())(tg.ones(3, 5, 4), tg.ones(5, 4))
