"""`tg.inspect.program` and `program()` of layers: the equations are computed as they are printed."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from any_cells import as_parts
from hypothesis import assume, given, settings
from tracing.drawn_steps import DrawnStep, drawn_steps

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import StepProgram, program
from tinygrad_lstm.models.atlas import ATLAS
from tinygrad_lstm.ops.rules import Functions

OPS = {
    function.op.name: function.op.call
    for family in Functions.families
    for function in vars(family).values()
    if hasattr(getattr(function, "op", None), "call")
}


def computed(equations: str, values: dict[str, tg.Tensor]) -> dict[str, tg.Tensor]:
    """The values that equations compute from these, as Python code."""
    found: dict[str, Any] = {**values, "B": 2}
    scope = {**OPS, "full": partial(tg.full, dtype="float64")}
    exec("\n".join(line for line in equations.splitlines() if not line.startswith("return")), scope, found)
    return found


def check(shown: StepProgram, used: dict[str, tg.Tensor], step: Any, x: tg.Tensor, state: Any, names: Any) -> None:
    """The equations of a step, forward and backward, against the step and its gradients."""
    operands = {"x": x, **dict(zip(names, as_parts(state), strict=True)), **used}
    after = as_parts(step(x, state))
    equal = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    results = shown.equations.splitlines()[-1].removeprefix("return ").split(", ")
    forward = computed(shown.forward, operands)
    for found in (computed(shown.equations, operands), forward):
        for name, expected in zip(results, after, strict=True):
            equal(found[name].detach().numpy(), expected.detach().numpy())

    rng = np.random.default_rng(0)
    g_out, *g_after = (tg.tensor(rng.normal(size=part.shape)) for part in (after[0], *after))
    leaves = {name: tensor for name, tensor in operands.items() if tensor.requires_grad}
    pairs = [(part, g) for part, g in zip((after[0], *after), (g_out, *g_after)) if part.requires_grad]
    outputs, cotangents = zip(*pairs)
    gradients = tg.grad(outputs, [*leaves.values()], cotangents, allow_unused=True)
    known = {name: value.detach() for name, value in forward.items() if isinstance(value, tg.Tensor)}
    known |= {f"g_{name}": g for name, g in zip(results, g_after)}
    found = computed(shown.backward, {**known, "g_out": g_out})
    for name, gradient in zip(leaves, gradients, strict=True):
        if gradient is not None:
            equal(found[f"g_{name}"].detach().numpy(), gradient.numpy(), err_msg=name)


def leaf(*shape: int, seed: int = 0) -> tg.Tensor:
    return tg.tensor(np.random.default_rng(seed).uniform(-1, 1, shape), requires_grad=True)


@pytest.mark.parametrize("name", ATLAS)
def test_equations_of_the_atlas_are_computed_as_printed(name: str) -> None:
    cell = ATLAS[name](3, 4).to(dtype="float64").eval()
    start = as_parts(cell(tg.zeros(2, 3, dtype="float64")))
    state = tuple(leaf(*part.shape, seed=k) for k, part in enumerate(start))
    state = state if len(start) > 1 else state[0]
    used = {parameter.replace(".", "_"): tensor for parameter, tensor in cell.named_parameters()}
    check(program(cell, leaf(5, 2, 3)), used, cell, leaf(2, 3), state, cell.STATES)


@settings(max_examples=15)
@given(drawn_steps())
def test_equations_of_drawn_steps_are_computed_as_printed(drawn: DrawnStep) -> None:
    x, state = drawn.inputs(T=1, B=2)
    used = {name: drawn.step.__globals__[name] for name in drawn.arrays}
    names = [f"state{k}" for k in range(len(as_parts(state)))]
    shown = program(drawn.step, x, state)
    results = shown.equations.splitlines()[-1].removeprefix("return ").split(", ")
    assume(not {"x", *names, *used}.intersection(results))  # two gradients of one name: of a state before and after
    check(shown, used, drawn.step, x[0].detach().requires_grad_(), state, names)
