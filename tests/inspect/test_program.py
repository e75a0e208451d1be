"""`tg.inspect.program` and `program()` of layers: the equations are computed as they are printed."""

import math
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_cells import GatedCell, as_parts
from hypothesis import assume, given, settings
from tracing.drawn_steps import DrawnStep, drawn_steps

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.inspect import StepProgram, program
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent
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
    scope = {**OPS, "full": partial(tg.full, dtype="float64"), "inf": math.inf}
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
    # Where a state is an operand or another state, two gradients have one name.
    assume(len({"x", *names, *used, *results}) == 1 + len(names) + len(used) + len(results))
    check(shown, used, drawn.step, x[0].detach().requires_grad_(), state, names)


def test_what_is_normalized_is_kept() -> None:
    """The derivative of a layer normalization computes no mean and no deviation again."""
    cell = ATLAS["lstm_layer_norm"](3, 4)
    shown = program(cell, tg.ones(5, 2, 3))
    assert shown.equations.count("layer_norm(") == 3
    assert shown.forward.count("= normalized(") == 3 == shown.forward.count("= inverse_deviation(")
    assert "normalized(" not in shown.backward and "inverse_deviation(" not in shown.backward


def test_names_are_those_of_the_module_and_of_the_variables() -> None:
    shown = program(GatedCell(3, 5), tg.ones(7, 2, 3))
    assert shown.title.splitlines() == [
        "GatedCell",
        "  input  x (B, 3)",
        "  state  h (B, 5), n (B,)",
        "  uses   gate_weight (10, 8), gate_bias (10,)",
    ]
    assert "next_h = h + sigmoid(net_z) * (tanh(net_g) - h)" in shown.equations.splitlines()
    size, modules = 5, {"gate": tg.nn.Linear(5, 5)}
    gate, scale = modules["gate"], tg.rand(size, requires_grad=True)

    def leaky(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        candidate = tg.tanh(gate(x + h)) * scale
        return 0.9 * h + 0.1 * candidate

    assert program(leaky, tg.ones(7, 2, 5), tg.zeros(2, 5)).equations.splitlines() == [
        "candidate = tanh((x + state0) @ gate_weight.T + gate_bias) * scale",
        "next_state0 = 0.9 * state0 + 0.1 * candidate",
        "return next_state0",
    ]


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_a_plain_layer_shows_the_program_of_its_equations(kind: Any) -> None:
    layer = kind(3, 4).to(dtype="float64")
    (shown,) = layer.program()
    assert shown.title.startswith(f"l0: {kind.__name__}\n")
    before = [leaf(2, 4, seed=k) for k in range(len(layer.STATES))]

    def step(x: tg.Tensor, state: Any) -> Any:
        stacked = tuple(part.unsqueeze(0) for part in as_parts(state))
        _, after = layer(x.unsqueeze(0), stacked if len(stacked) > 1 else stacked[0])
        return tuple(part.squeeze(0) for part in as_parts(after))

    used = {name.removesuffix("_l0"): tensor for name, tensor in layer.named_parameters()}
    check(shown, used, step, leaf(2, 3), tuple(before), layer.STATES)


def test_cells_of_the_same_program_are_shown_once() -> None:
    two = LSTM(3, 5, num_layers=2, bidirectional=True, peephole=True).program()
    assert [each.title.splitlines()[0] for each in two] == ["l0, l0_reverse: LSTM", "l1, l1_reverse: LSTM"]
    layers = Recurrent([LSTMCell(3, 5), (GRUCell(5, 4), GRUCell(5, 4))], batch_first=True)
    for shown in (layers.program(), layers.program(tg.ones(2, 7, 3))):
        assert [each.title.splitlines()[0] for each in shown] == ["cells.0: LSTMCell", "cells.1.0, cells.1.1: GRUCell"]
        assert str(shown[1]) in str(shown)


def test_the_code_that_runs_comes_first(compiled: bool) -> None:
    layer = Recurrent(LSTMCell(3, 5))
    assert next(iter(layer.program()[0].code)) == ("C" if compiled and why_not() is None else "Python")
    (shown,) = layer.to(dtype="float16").program()
    assert [*shown.code] == ["Python", "C"]
    assert shown.code["C"].startswith("not used: ")
    assert shown.code["Python"].startswith("def forward(")


class Counting(tg.nn.Module):
    """A step that reads a value, so that it cannot be one op."""

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        h = tg.zeros(len(x), 2) if h is None else h
        return h + 1 if h.sum().item() < 3 else h


def test_what_has_no_program_is_said() -> None:
    with pytest.raises(ValueError, match=r"Counting: the step reads a value; .*steps run one by one"):
        Recurrent(Counting()).program(tg.ones(5, 2, 3))
    with pytest.raises(ValueError, match="Counting has no attribute input_size; give inputs"):
        Recurrent(Counting()).program()


def test_a_program_changes_nothing() -> None:
    """Neither random numbers, nor the profiler that is set, nor what a model computes."""
    seen: list[str] = []

    def profiler(frame: Any, event: str, argument: Any) -> None:
        seen.append(event)

    layer, draws = Recurrent(ATLAS["lstm"](3, 5)), tg.random.random_state()
    sys.setprofile(profiler)
    try:
        layer.program(tg.ones(2, 2, 3))
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert tg.random.random_state() == draws


def test_the_documentation_shows_a_part_of_what_is_printed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "own-cell.md").read_text(encoding="utf-8")
    code, shown = re.findall(r"^```(?:python|text)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[:2]
    scope: dict[str, Any] = {"tg": tg, "__name__": "page"}
    exec(code[: code.index("class Total")], scope)
    printed = str(Recurrent(scope["OneGate"](3, 16)).program())
    for part in shown.split("...\n"):
        assert part.strip() in printed or why_not()
