"""Drawn steps: what the strategy promises, what it draws, and `tg.scan` of them against a plain loop."""

import itertools
import re
from typing import Any

import numpy as np
from any_cells import as_parts, checked_derivatives, row_by_row
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tracing.drawn_steps import DrawnStep, drawn_steps
from tracing.step_writer import ALONG_UNITS, KINDS, OF_POSITIVE, REDUCTIONS, UNARY, Writer

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

T, B = 4, 3


@given(drawn_steps())
def test_states_of_drawn_steps_stay_within_one(drawn: DrawnStep) -> None:
    x, state = drawn.inputs(T=5, B=3)
    for inputs in x:
        state = drawn.step(inputs, state)
        for part, shape in zip(as_parts(state), drawn.state_shapes, strict=True):
            assert part.shape == (3, *shape)
            assert part.dtype == np.float64
            assert np.abs(part.detach().numpy()).max() <= 1 + 1e-12


@settings(max_examples=15)
@given(drawn_steps())
def test_gradients_of_scans_of_drawn_steps(drawn: DrawnStep) -> None:
    x, state = drawn.inputs(T=3, B=2)

    def outputs(*_: tg.Tensor) -> list[tg.Tensor]:
        out, final = tg.scan(drawn.step, x, state)
        return [out, *as_parts(final)]

    assert tg.gradcheck(outputs, [x, *as_parts(state), *drawn.parameters.values()])


@settings(max_examples=12)
@given(
    drawn_steps(detached=True),
    st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B),
    st.none() | arrays(bool, (T, B)),
    st.booleans(),
)
def test_scan_of_a_drawn_step_is_a_loop(
    device: str, drawn: DrawnStep, lengths: list[int] | None, resets: np.ndarray | None, reverse: bool
) -> None:
    drawn = drawn.to(device)
    x, state = drawn.inputs(T, B)
    zeros = tuple(tg.zeros(1, *shape, dtype="float64", device=device) for shape in drawn.state_shapes)
    out, final = tg.scan(drawn.step, x, state, lengths, resets, reverse)
    start = zeros if isinstance(state, tuple) else zeros[0]
    expected, finals = row_by_row(drawn.step, x, state, lambda row: start, lengths, resets, reverse)
    inputs = [x, *as_parts(state), *drawn.parameters.values()]
    checked_derivatives([out, *as_parts(final)], [expected, *finals], inputs)


class Cell(tg.nn.Module):
    """A drawn step as a cell."""

    def __init__(self, drawn: DrawnStep) -> None:
        self.drawn = drawn

    def forward(self, x: tg.Tensor, state: Any) -> Any:
        return self.drawn.step(x, state)


@settings(max_examples=15)
@given(drawn_steps(detached=True))
def test_drawn_steps_can_be_compiled(device: str, drawn: DrawnStep) -> None:
    drawn = drawn.to(device)
    x, state = drawn.inputs(T, B)
    outputs = []
    for compiled in (True, False):
        out, final = Recurrent(Cell(drawn), compiled=compiled)(x, state)
        outputs.append([out, *as_parts(final)])
    checked_derivatives(*outputs, [x, *as_parts(state), *drawn.parameters.values()])


def test_genes_write_every_op_of_the_vocabulary() -> None:
    missing = {*UNARY, *OF_POSITIVE, *REDUCTIONS, *ALONG_UNITS}
    missing |= {"tg.where", "tg.concat", "tg.chunk", "tg.split", "tg.layer_norm", "tg.einsum", "tg.linear", "tg.stack"}
    missing |= {"tg.pad", "tg.maximum", "tg.logical_and", "tg.ones_like", ".reshape", ".unsqueeze", ".transpose"}
    missing |= {"constant", " @ ", " / ", "[:, ::2]", "[:, 1]", "[:, :, None]"}
    shapes = ((4,), (3,), (2, 3))
    for kind, *gene in itertools.product(dict.fromkeys(KINDS), range(3), range(8), range(12)):
        source = Writer(2, shapes, 0).source([(kind, tuple(gene))], [(0, 0, 0)] * len(shapes))
        text = re.sub(r"\b(v\d+|[xhcN])\b", "{}", source)
        missing -= {op for op in missing if op in text}
    assert not missing
