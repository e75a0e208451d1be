"""Steps that drop elements, compiled: with the masks of the steps one by one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from any_cells import as_parts, checked_derivatives, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent
from tinygrad_lstm.models.atlas import ZoneoutLSTMCell

T, B = 4, 3


class Dropping(tg.nn.Module):
    """Drops elements of an input, of a state, of a matrix as a state, and of what nothing uses."""

    def __init__(self) -> None:
        self.weight = tg.nn.Parameter(tg.tensor(drawn(2, 5)))

    def forward(self, x: tg.Tensor, state: Any = None) -> Any:
        if state is None:
            state = tuple(tg.zeros(len(x), *shape, dtype=x.dtype, device=x.device) for shape in ((2,), (2, 3)))
        h, M = state
        net = tg.cat([tg.dropout(h, 0.3), tg.dropout(x, 0.5)], dim=-1) @ self.weight.T
        tg.dropout(x, 0.9)
        h = tg.tanh(net) + tg.dropout(0.5 * h.detach(), 0.2)
        return h, tg.dropout(M, 0.1) * 0.9 + h.unsqueeze(2) * x.unsqueeze(1)


class Marking(tg.nn.Module):
    """Its output is what dropout keeps of its input."""

    def __init__(self) -> None:
        self.dropout = tg.nn.Dropout(0.4)

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        return self.dropout(x)


def host(tensor: tg.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def through(cells: Any, compiled: bool | None, x: tg.Tensor, *more: Any) -> tuple[list[tg.Tensor], float]:
    """The outputs, the final states, and the random number that is drawn next."""
    tg.manual_seed(4)
    out, final = Recurrent(cells, compiled=compiled)(x, *more)
    states = [part for state in (final if isinstance(final, list) else [final]) for part in as_parts(state)]
    return [out, *states], tg.rand(1, dtype="float64").item()


@settings(max_examples=10)
@given(
    kind=st.sampled_from([Dropping, lambda: ZoneoutLSTMCell(3, 4)]),
    lengths=st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B),
    resets=st.none() | st.just(np.random.default_rng(1).random((T, B)) < 0.4),
    pair=st.booleans(),
)
def test_a_compiled_step_has_the_masks_of_the_loop(
    device: str, kind: Callable[[], Any], lengths: list[int] | None, resets: np.ndarray | None, pair: bool
) -> None:
    """Values, first and second derivatives; and the generator is in the same state afterwards."""
    cells = [kind().to(device, "float64") for _ in range(1 + pair)]
    x = tg.tensor(drawn(T, B, 3), device=device, requires_grad=True)
    (actual, next_actual), (expected, next_expected) = (
        through(tuple(cells) if pair else cells[0], compiled, x, None, lengths, resets) for compiled in (True, False)
    )
    assert next_actual == next_expected
    checked_derivatives(actual, expected, [x, *(p for cell in cells for p in cell.parameters())])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_dropped_element_is_zero(device: str, dtype: str) -> None:
    """Bit for bit, also of infinities and NaNs."""
    values = np.random.default_rng(2).choice([-1.5, 0.1, np.inf, -np.inf, np.nan], (6, 5, 7))
    x = tg.tensor(values.astype(dtype), device=device)
    (out, _), _ = through(Marking(), True, x)
    (expected, _), _ = through(Marking(), False, x)
    assert host(out).tobytes() == host(expected).tobytes()
    assert (host(out) == 0).any() and (host(out) != 0).any()


def test_each_call_has_new_masks() -> None:
    layer, x = Recurrent(Marking(), compiled=True), tg.ones(5, 4, 3)
    assert (host(layer(x)[0]) != host(layer(x)[0])).any()
    assert (host(layer(x)[0])[1:] != host(layer(x)[0])[:-1]).any()
    np.testing.assert_array_equal(host(layer.eval()(x)[0]), host(x))


def test_masks_within_a_checkpoint(device: str) -> None:
    """The second run has those of the first, whatever is drawn in between."""
    cell = Dropping().to(device)
    x = tg.tensor(drawn(T, B, 3), device=device, requires_grad=True)
    found = []
    for checkpointed, compiled in ((True, True), (True, False), (False, False)):
        layer = Recurrent(cell, compiled=compiled)
        tg.manual_seed(4)
        out = tg.checkpoint(lambda x: layer(x)[0], x) if checkpointed else layer(x)[0]  # noqa: B023
        tg.rand(3)
        found.append([host(part) for part in (out, *tg.grad((out * out).sum(), [x, cell.weight]))])
    for one, two, expected in zip(*found, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(two, expected, rtol=1e-9, atol=1e-12)


def noisy(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    return h + x + tg.randn(1)


def of_a_weight(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    return h + x @ tg.dropout(WEIGHT, 0.5)


WEIGHT = tg.ones(3, 3)


@pytest.mark.parametrize(("step", "message"), [
    (noisy, r"the step draws random numbers other than .* give them in x \(.*h \+ x \+ tg.randn\(1\)\); use compiled="),
    (of_a_weight, r"the step drops elements of a tensor of shape \(3, 3\), whose first dimension is not the batch"),
])  # fmt: skip
def test_what_cannot_be_drawn_beforehand_is_refused(step: Any, message: str) -> None:
    class Cell(tg.nn.Module):
        forward = staticmethod(step)

    x, h = tg.ones(4, 2, 3), tg.zeros(2, 3)
    with pytest.raises(ValueError, match=message) as raised:
        through(Cell(), True, x, h)
    assert "\n" not in str(raised.value)
    (chosen, _), (looped, _) = (through(Cell(), compiled, x, h) for compiled in (None, False))
    for one, other in zip(chosen, looped, strict=True):
        np.testing.assert_array_equal(host(one), host(other))
