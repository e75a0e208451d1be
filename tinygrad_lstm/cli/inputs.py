"""The options for inputs of a model, and what they give."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..printable import printable
from .arrays import FileArray, read_arrays
from .fitting import given_inputs
from .models import WholeModel
from .shared import path_option, require

__all__ = ["Channel", "Inputs", "inputs_of"]

Inputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="A file for an input: .npy, .npz, .csv or .wav; may be repeated. Without a name, for the first input "
        "that has none.",
        metavar="[NAME=]PATH",
    ),
]
Channel: TypeAlias = Annotated[
    int | None, typer.Option(help="The channel of .wav files to take, from 0.  [default: all]")
]


def inputs_of(model: WholeModel, options: Sequence[str], channel: int | None) -> dict[str, FileArray]:
    """The inputs of a model by name, as --input and --channel give them. States come after the others.

    Raises:
        OSError, ValueError: a file cannot be read; as `given_inputs`.
    """
    free = [port.name for port in model.inputs if port.name not in model.states]
    return given_inputs(model.inputs, [*free, *model.states], [_input(each, model, channel) for each in options])


def _input(given: str, model: WholeModel, channel: int | None) -> tuple[str | None, Mapping[str, FileArray]]:
    """The name of an input, if one is given, and the arrays of its file."""
    name, equals, path = given.partition("=")
    if equals and name in [port.name for port in model.inputs]:
        return name, read_arrays(path_option("--input", path), channel)
    if equals and not Path(given).exists():
        names = ", ".join(printable(port.name) for port in model.inputs)
        require("--input", False, f"PATH or NAME=PATH with one of the inputs {names}", repr(given))
    return None, read_arrays(path_option("--input", given), channel)
