"""Drawn steps: what the strategy promises, and what it draws."""

import itertools
import re

import numpy as np
from hypothesis import given, settings
from tracing.drawn_steps import DrawnStep, drawn_steps, parts_of, unrolled
from tracing.step_writer import ALONG_UNITS, KINDS, OF_POSITIVE, REDUCTIONS, UNARY, Writer

import tinygrad_lstm as tg


@given(drawn_steps())
def test_states_of_drawn_steps_stay_within_one(drawn: DrawnStep) -> None:
    x, state = drawn.inputs(T=5, B=3)
    for inputs in x:
        state = drawn.step(inputs, state)
        for part, shape in zip(parts_of(state), drawn.state_shapes, strict=True):
            assert part.shape == (3, *shape)
            assert part.dtype == np.float64
            assert np.abs(part.detach().numpy()).max() <= 1 + 1e-12


@settings(max_examples=15)
@given(drawn_steps())
def test_gradients_of_loops_of_drawn_steps(drawn: DrawnStep) -> None:
    x, state = drawn.inputs(T=3, B=2)
    leaves = [x, *parts_of(state), *drawn.parameters.values()]
    assert tg.gradcheck(lambda *_: unrolled(drawn.step, x, state), leaves)


def test_genes_write_every_op_of_the_vocabulary() -> None:
    missing = {*UNARY, *OF_POSITIVE, *REDUCTIONS, *ALONG_UNITS}
    missing |= {"tg.where", "tg.concat", "tg.chunk", "tg.split", "tg.layer_norm", "tg.einsum", "tg.linear", "tg.stack"}
    missing |= {"tg.pad", "tg.maximum", "tg.logical_and", "tg.ones_like", ".reshape", ".unsqueeze", ".transpose"}
    missing |= {"constant", " @ ", " / ", "[:, ::2]", "[:, 1]", "[:, :, None]"}
    shapes = ((4,), (3,), (2, 3))
    for kind, *gene in itertools.product(dict.fromkeys(KINDS), range(3), range(7), range(12)):
        source = Writer(2, shapes, 0).source([(kind, tuple(gene))], [(0, 0, 0)] * len(shapes))
        text = re.sub(r"\b(v\d+|[xhcN])\b", "{}", source)
        missing -= {op for op in missing if op in text}
    assert not missing
