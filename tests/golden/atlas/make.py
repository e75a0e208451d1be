"""Write what the atlas's cells compute, in float64, one file per cell, from the steps in `steps.py`.

    pip install torch==2.13.0 torchrecurrent==0.2.5 mpmath numpy safetensors       # the project does not need them
    python tests/golden/atlas/make.py                                              # rewrites every file, bit for bit

`golden.load.load("atlas/<cell>", case)` reads the arrays of a case. With T = 5 steps, B = 3 sequences, I = 4 and H = 6:
x (T, B, I); `initial_<state>` (B, ...); `<state>` (T, B, ...), after each step; every parameter by name; and
`grad_<name>`, the gradient for x, each initial state and each parameter of the sum over the states of
sum(<state> * w_<state>) + sum(<state>[-1] * w_final_<state>).

`golden.load.options("atlas/<cell>")[case]` has "input_size" and "hidden_size"; "options", the other arguments of the
cell; "states", their names, the output first; "parameters", their names; and "source", what the values are of.

The case "stabilised" of sLSTM and mLSTM has input gates beyond exp(709), which is more than a float64. The outputs of
sLSTM and mLSTM are compared with those of `exact.py`.
"""

import json
import sys
import zlib
from math import log
from pathlib import Path
from typing import Any

import torch
from exact import exact_outputs
from safetensors.numpy import save
from steps import CELLS, HIDDEN, INPUT, Cell
from torch import Tensor

FOLDER = Path(__file__).parent
TIME, BATCH = 5, 3
OUTPUT_UNREAD = ("sru", "mlstm")
"""The cells that do not read the output of the step before, so that its gradient is 0."""

Arrays = dict[str, Tensor]


def drawn(name: str, case: str, cell: Cell) -> tuple[Arrays, Arrays, Arrays]:
    """The inputs, the parameters and the weights of the states, as random numbers of the cell and case."""
    torch.manual_seed(zlib.crc32(f"atlas/{name}/{case}".encode()))
    settings = cell.cases[case]
    inputs = {"x": torch.randn(TIME, BATCH, settings.get("input_size", INPUT))}
    weights = {}
    for state, shape in cell.states(**settings).items():
        inputs[f"initial_{state}"] = torch.randn(BATCH, *shape)
        weights[f"w_{state}"] = torch.randn(TIME, BATCH, *shape)
        weights[f"w_final_{state}"] = torch.randn(BATCH, *shape)
    parameters = {key: 0.7 * torch.randn(shape) for key, shape in cell.parameters(**settings).items()}
    if name == "slstm":  # n is a sum of positive numbers, which c is divided by
        inputs["initial_n"] = inputs["initial_n"].abs() + 0.5
    if case == "stabilised":
        # The input and forget gates' pre-activations: of either sign, and far from 0.
        rows = slice(0, 2 * HIDDEN) if name == "slstm" else slice(4 * HIDDEN, None)
        parameters["weight_ih"][rows] *= 600
    return inputs, parameters, weights


def computed(name: str, case: str, cell: Cell) -> Arrays:
    """All arrays of a case."""
    inputs, parameters, weights = drawn(name, case, cell)
    leaves = {key: value.requires_grad_() for key, value in (inputs | parameters).items()}
    names = list(cell.states(**cell.cases[case]))
    states = tuple(inputs[f"initial_{state}"] for state in names)
    steps = []
    for x in inputs["x"]:
        states = cell.step(parameters, x, *states, **cell.cases[case])
        steps.append(states)
    outputs = {state: torch.stack(column) for state, column in zip(names, zip(*steps, strict=True), strict=True)}
    loss = torch.zeros(())
    for state, values in outputs.items():
        loss = loss + (values * weights[f"w_{state}"]).sum() + (values[-1] * weights[f"w_final_{state}"]).sum()
    unread = ["initial_h"] if name in OUTPUT_UNREAD else []
    gradients = torch.autograd.grad(loss, [leaf for key, leaf in leaves.items() if key not in unread])
    grads = dict(zip((key for key in leaves if key not in unread), gradients, strict=True))
    grads |= {key: torch.zeros_like(leaves[key]) for key in unread}
    outputs |= {f"grad_{key}": grad for key, grad in grads.items()}
    return leaves | weights | outputs


def settings_of(name: str, case: str, cell: Cell) -> dict[str, Any]:
    settings = cell.cases[case]
    return {
        "input_size": settings.get("input_size", INPUT),
        "hidden_size": HIDDEN,
        "options": {key: value for key, value in settings.items() if key != "input_size"},
        "states": list(cell.states(**settings)),
        "parameters": list(cell.parameters(**settings)),
        "source": cell.source,
    }


def check(name: str, case: str, cell: Cell, arrays: Arrays) -> None:
    """Compares a case with what is known besides its steps."""
    assert all(array.isfinite().all() for array in arrays.values()), (name, case)
    if name not in ("slstm", "mlstm"):
        return
    exact = [
        [[float(value) for value in row] for row in step] for step in exact_outputs(name, arrays, **cell.cases[case])
    ]
    torch.testing.assert_close(arrays["h"], torch.tensor(exact), rtol=1e-10, atol=1e-12)
    if case == "stabilised":
        assert arrays["m"].max() > log(sys.float_info.max), "exp(m) is a float64"


def main() -> None:
    """Write every file."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)  # sums in one order
    for name, cell in CELLS.items():
        contents = {}
        for case in cell.cases:
            arrays = {key: array.detach() for key, array in computed(name, case, cell).items()}
            check(name, case, cell, arrays)
            contents |= {f"{case}/{key}": array.contiguous().numpy() for key, array in arrays.items()}
        settings = {case: settings_of(name, case, cell) for case in cell.cases}
        path = FOLDER / f"{name}.safetensors"
        path.write_bytes(save(contents, metadata={"options": json.dumps(settings)}))
        print(f"{path.name}: {len(cell.cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
