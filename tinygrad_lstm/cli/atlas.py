"""`tinygrad-lstm atlas`."""

import inspect
import math
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from tinygrad_lstm.models.atlas import ATLAS, known_cell
from tinygrad_lstm.models.cells import Cell

from .shared import require

__all__ = ["atlas"]


def atlas(
    name: Annotated[str | None, typer.Argument(help="A cell to show in full.  [default: all, in short]")] = None,
    input_size: Annotated[int, typer.Option(help="The length of an input.")] = 64,
    hidden_size: Annotated[int, typer.Option(help="The number of units.")] = 128,
) -> None:
    """List the recurrent cells of the literature: states, number of parameters, equations, paper."""
    require("--input-size", input_size >= 1, "at least 1", input_size)
    require("--hidden-size", hidden_size >= 1, "at least 1", hidden_size)
    if name is None:
        print(f"Cells of {hidden_size} units with inputs of {input_size} numbers.")
        for key, kind in ATLAS.items():
            print(f"\n{key}: {_in_short(kind(input_size, hidden_size))}\n{_indented(_equations(kind))}")
        return
    print(_in_full(known_cell("NAME", name)(input_size, hidden_size)))


def _in_short(cell: Cell) -> str:
    """States, number of parameters, and paper, in one line."""
    (paper,) = re.findall(r"\((.*\d{4}.*?)\)", _described(type(cell)).partition("\n")[0])
    number = sum(parameter.size for parameter in cell.parameters())
    return f"{_states(cell)}, {number:,} parameters ({paper})"


def _in_full(cell: Cell) -> str:
    """The description of a cell, with the sizes of its states and parameters, and its options."""
    kind = type(cell)
    shapes = {name: parameter.shape for name, parameter in cell.named_parameters()}
    rows = {
        "states": [f"{name} {_shape(shape)}" for name, shape in cell.state_shapes().items()],
        "parameters": [
            *(f"{name} {_shape(shape)}" for name, shape in shapes.items()),
            f"{sum(map(math.prod, shapes.values())):,} in total",
        ],
        "options": [f"{name}={default!r}" for name, default in kind.options().items()] or ["none"],
    }
    lines = [f"{name:<12}{', '.join(values)}" for name, values in rows.items()]
    return "\n".join([f"{kind.__module__}.{kind.__name__}", "", _described(kind), "", *lines])


def _states(cell: Cell) -> str:
    return f"state{'s' * (len(cell.STATES) > 1)} {', '.join(cell.STATES)}"


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _described(kind: type[Cell]) -> str:
    """The docstring of a cell, without examples."""
    return inspect.cleandoc(kind.__doc__ or "").partition("\n>>> ")[0].rstrip()


def _equations(kind: type[Cell]) -> str:
    """The first indented lines of a cell's docstring."""
    lines = _described(kind).splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("    "))
    last = next((k for k, line in enumerate(lines[first:], first) if not line), len(lines))
    return inspect.cleandoc("\n".join(lines[first:last]))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
