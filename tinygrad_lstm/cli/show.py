"""`tinygrad-lstm show`."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from ..io import load_weights
from ..io.contents import Weights
from ..io.models.loaded import Loaded
from ..io.recognition import Recognised, recognised
from ..nn.module import Module, described
from ..printable import printable
from .models import Shapes, StatePairs, WholeModel
from .shared import path_option
from .streaming import streams

__all__ = ["show"]

WIDEST = 80  # characters of a column; only rows with longer cells exceed it


def show(
    file: Annotated[
        str,
        typer.Argument(
            help="A file of a model or of weights: ONNX, Keras, TensorFlow, PyTorch, safetensors, NumPy.",
            metavar="FILE",
        ),
    ],
    program: Annotated[bool, typer.Option("--program", help="Show what the model computes, op by op.")] = False,
    shape: Shapes = None,
    state: StatePairs = None,
) -> None:
    """Show the arrays and the model that a file holds.

    Of arrays, names and shapes, and the recurrent layers among them. Of a model, inputs, states, outputs, layers and
    ops, and whether it can run as a stream. With --shape, shapes have these lengths instead of names.
    """
    path = path_option("FILE", file)
    refused: list[Exception] = []
    arrays = model = None
    try:
        arrays = load_weights(path)
    except (ValueError, RuntimeError) as error:
        refused.append(error)
    try:
        model = WholeModel.load(file, pairs=state, shapes=shape)
    except (ValueError, RuntimeError) as error:
        if shape or state:
            raise
        refused.append(error)
    if arrays is None and model is None:
        raise ValueError("; ".join(dict.fromkeys(map(str, refused)))) from refused[0]
    if arrays is not None:
        print("\n".join(_of_arrays(arrays)))
    if model is None:
        reason = str(refused[0]).removeprefix(f"{path}: ")
        print(f"no whole model: {printable(reason)}")
    else:
        print("\n".join(_of_model(model)))
        if program:
            print(model.module)


# -- arrays ------------------------------------------------------------------------------------------------------------


def _of_arrays(weights: Weights) -> Iterator[str]:
    """The arrays, and the recurrent layers among them."""
    rows = [
        (printable(name), " × ".join(map(str, a.shape)) or "a number", weights.types.get(name, str(a.dtype)))
        for name, a in weights.items()
    ]
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    size, nbytes = sum(array.size for array in weights.values()), sum(array.nbytes for array in weights.values())
    yield f"{len(weights):,} array{'' if len(weights) == 1 else 's'}, {size:,} numbers, {nbytes / 1e6:,.2f} MB"
    found = [_line(each) for each in recognised(weights)]
    yield from ["recurrent layers:", *found] if found else ["no recurrent layers are recognised"]


def _line(found: Recognised) -> str:
    called = f" ({printable(found.name)})" if found.name not in ("", found.prefix) else ""
    return f"  {printable(found.prefix) or '(at the top)'}{called}: {_described(found)}"


def _described(found: Recognised) -> str:
    if found.network is None:
        return printable(found.reason)
    given = f"{found.roles}" if found.framework == "arrays" else f"prefix={found.prefix!r}"
    return f"{found.network}, by {found.kind}.from_{found.framework}(weights, {given})"


# -- a model -----------------------------------------------------------------------------------------------------------


def _of_model(model: WholeModel) -> Iterator[str]:
    """The model's size, inputs, outputs and layers."""
    module = model.module
    yield f"a whole model, by tg.io.load_model(path): {sum(each.size for each in module.parameters()):,} parameters"
    states = model.states
    sections = {
        "inputs": [str(port) for port in model.inputs if port.name not in states],
        "states": [f"{port}, afterwards {states[port.name]}" for port in model.inputs if port.name in states],
        "outputs": [name for name in model.outputs if name not in states.values()],
        "layers": [f"{name}: {described(layer)}" for name, layer in _layers(module)],
        "streams": [streams(model)],
        "ops": [_ops(module)] if isinstance(module, Loaded) else [],
    }
    for title, rows in sections.items():
        for number, row in enumerate(rows):
            yield f"  {'' if number else title:<8} {printable(row)}".rstrip()


def _layers(module: Module) -> Iterator[tuple[str, Module]]:
    """The modules that contain no others, by name."""
    for name, each in module.named_modules():
        if type(each) not in (Module, Loaded) and not any(True for _ in each.named_children()):
            yield name or type(each).__name__, each


def _ops(module: Loaded) -> str:
    counts = Counter(step.op for step in module.body.steps)
    return ", ".join(op if number == 1 else f"{number} {op}" for op, number in counts.items())
