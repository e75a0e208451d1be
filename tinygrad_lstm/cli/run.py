"""`tinygrad-lstm run`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tinygrad_lstm.backends.base import HostArray

from ..inspect.tables import aligned
from ..mode import no_grad
from ..printable import printable
from .arrays import ENDINGS, FileArray, read_arrays, write_arrays
from .fitting import given_inputs
from .models import ModelFile, StatePairs, WholeModel
from .shared import Device, path_option, require, writable_file

__all__ = ["run"]


def run(
    file: ModelFile,
    input: Annotated[
        list[str] | None,
        typer.Option(
            help="A file for an input: .npy, .npz, .csv or .wav; may be repeated. Without a name, for the first input "
            "that has none.",
            metavar="[NAME=]PATH",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Write the outputs: all to .npz, one to .npy or .csv.", metavar="FILE"),
    ] = None,
    channel: Annotated[
        int | None, typer.Option(help="The channel of .wav files to take, from 0.  [default: all]")
    ] = None,
    state: StatePairs = None,
    device: Device = None,
) -> None:
    """Run a model of any file on arrays, tables or sounds, and describe its outputs."""
    place = None if out is None else writable_file("--out", out)
    if place is not None:
        require("--out", place.suffix.lower() in ENDINGS, f"a file that ends in {', '.join(ENDINGS)}", out)
    model = WholeModel.load(file, device, state)
    free = [port.name for port in model.inputs if port.name not in model.states]
    files = [_input(each, model, channel) for each in input or ()]
    given = given_inputs(model.inputs, [*free, *model.states], files)
    with no_grad():
        outputs = {name: tensor.numpy() for name, tensor in model(given).items()}
    print(_described(outputs))
    if place is not None:
        write_arrays(place, _to_write(place, outputs, model.states))
        print(f"wrote {place}")


def _input(given: str, model: WholeModel, channel: int | None) -> tuple[str | None, Mapping[str, FileArray]]:
    """The name of an input, if one is given, and the arrays of its file."""
    name, equals, path = given.partition("=")
    if equals and name in [port.name for port in model.inputs]:
        return name, read_arrays(path_option("--input", path), channel)
    if equals and not Path(given).exists():
        names = ", ".join(printable(port.name) for port in model.inputs)
        require("--input", False, f"PATH or NAME=PATH with one of the inputs {names}", repr(given))
    return None, read_arrays(path_option("--input", given), channel)


def _described(outputs: Mapping[str, HostArray]) -> str:
    """A table of the outputs: shapes, and the range of their numbers."""
    rows = [["output", "shape", "dtype", "lowest", "mean", "highest"]]
    for name, array in outputs.items():
        row = [printable(name), " × ".join(map(str, array.shape)) or "a number", str(array.dtype)]
        if array.size:
            row += [f"{float(each):.4g}" for each in (array.min(), array.mean(dtype=np.float64), array.max())]
        rows.append([*row, *[""] * (len(rows[0]) - len(row))])
    return aligned(rows, left=3)


def _to_write(path: Path, outputs: Mapping[str, HostArray], states: Mapping[str, str]) -> Mapping[str, HostArray]:
    """What a file of this ending has: all outputs, or those that are not states."""
    if path.suffix.lower() == ".npz":
        return outputs
    return {name: array for name, array in outputs.items() if name not in states.values()}
