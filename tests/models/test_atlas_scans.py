"""The cells of the atlas over sequences, by `tg.scan`: against independent references, and against a plain loop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_cells import as_parts, checked_derivatives, row_by_row
from golden.load import load, options

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent
from tinygrad_lstm.models.atlas import ATLAS

FILES = sorted(path.stem for path in (Path(__file__).parents[1] / "golden" / "atlas").glob("*.safetensors"))
CASES = [(name, case) for name in FILES for case in options(f"atlas/{name}")]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_scan_agrees_with_the_reference(name: str, case: str, device: str) -> None:
    """All states of all steps, and the gradients of inputs, initial states and parameters."""
    golden, settings = load(f"atlas/{name}", case), options(f"atlas/{name}")[case]
    cell = ATLAS[name](settings["input_size"], settings["hidden_size"], **settings["options"])
    cell.to(device, dtype="float64").eval()
    cell.load_state_dict({key: golden[key] for key in settings["parameters"]})

    def step(x: tg.Tensor, state: Any) -> Any:
        """The states after a step, and before them all of their values side by side, as the output."""
        states = as_parts(cell(x, state[1:] if len(state) > 2 else state[1]))
        return tg.cat([tg.flatten(part, 1) for part in states], dim=1), *states

    names = settings["states"]
    leaves = {key: tg.tensor(golden[key], device=device, requires_grad=True) for key in ("x", *map(initial, names))}
    states = [leaves[initial(state)] for state in names]
    sizes = [int(np.prod(part.shape[1:])) for part in states]
    values = tg.zeros(len(states[0]), sum(sizes), dtype="float64", device=device)
    out, (_, *final) = tg.scan(step, leaves["x"], (values, *states))

    loss = tg.zeros((), dtype="float64", device=device)
    for state, of_steps, last in zip(names, tg.split(out, sizes, dim=2), final, strict=True):
        of_steps = of_steps.reshape(golden[state].shape)
        np.testing.assert_allclose(of_steps.detach().cpu().numpy(), golden[state], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(last.detach().cpu().numpy(), golden[state][-1], rtol=1e-9, atol=1e-9)
        loss = loss + (of_steps * tg.tensor(golden[f"w_{state}"], device=device)).sum()
        loss = loss + (last * tg.tensor(golden[f"w_final_{state}"], device=device)).sum()
    leaves |= dict(cell.named_parameters())
    for key, gradient in zip(leaves, tg.grad(loss, list(leaves.values()), allow_unused=True), strict=True):
        found = np.zeros(leaves[key].shape) if gradient is None else gradient.cpu().numpy()
        np.testing.assert_allclose(found, golden[f"grad_{key}"], rtol=1e-8, atol=1e-8, err_msg=key)


def initial(state: str) -> str:
    return f"initial_{state}"


@pytest.mark.parametrize("name", ATLAS)
def test_scan_is_a_loop(name: str, device: str) -> None:
    """In reverse, with different lengths and with resets: values, first and second derivatives."""
    T, B = 4, 3
    rng = np.random.default_rng(5)
    cell = ATLAS[name](2, 4).to(device, dtype="float64").eval()
    cell.load_state_dict({key: rng.normal(scale=0.6, size=value.shape) for key, value in cell.state_dict().items()})

    def leaf(*shape: int) -> tg.Tensor:
        return tg.tensor(rng.uniform(0.5, 1.5, shape), device=device, requires_grad=True)

    start = as_parts(cell(tg.zeros(1, 2, dtype="float64", device=device)))
    x, states = leaf(T, B, 2), [leaf(B, *part.shape[1:]) for part in start]
    state = tuple(states) if len(states) > 1 else states[0]
    lengths, resets = [4, 0, 3], np.array([[0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]], bool)
    out, final = tg.scan(cell, x, state, lengths, resets, reverse=True)
    expected, finals = row_by_row(cell, x, state, lambda row: None, lengths, resets, reverse=True)
    checked_derivatives([out, *as_parts(final)], [expected, *finals], [x, *states, *cell.parameters()])


@pytest.mark.parametrize("name", ATLAS)
def test_every_cell_is_compiled(name: str, device: str) -> None:
    """It is an error if it cannot be. In training, zoneout draws the masks of the loop."""
    cell, x = ATLAS[name](2, 4).to(device), tg.ones(3, 2, 2, device=device)
    tg.manual_seed(1)
    out, _ = Recurrent(cell, compiled=True)(x, lengths=[2, 3])
    tg.manual_seed(1)
    expected, _ = Recurrent(cell, compiled=False)(x, lengths=[2, 3])
    np.testing.assert_allclose(out.detach().cpu().numpy(), expected.detach().cpu().numpy(), rtol=1e-5, atol=1e-6)
