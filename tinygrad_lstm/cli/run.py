"""`tinygrad-lstm run`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tinygrad_lstm.backends.base import HostArray

from ..inspect.tables import aligned
from ..mode import no_grad
from ..printable import printable
from .arrays import ENDINGS, write_arrays
from .inputs import Channel, Inputs, inputs_of
from .models import ModelFile, Shapes, StatePairs, WholeModel
from .shared import Device, require, writable_file
from .streaming import streamed

__all__ = ["run"]


def run(
    file: ModelFile,
    input: Inputs = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            help="A file for outputs, which replaces an existing one; may be repeated. Without a name: all outputs to "
            ".npz; the only one that is not a state to .npy or .csv.",
            metavar="[NAME=]PATH",
        ),
    ] = None,
    channel: Channel = None,
    stream: Annotated[
        int | None,
        typer.Option(
            help="Run the model as a stream, on chunks of this many steps, and show how long a chunk takes. The "
            "outputs are the same.",
            metavar="STEPS",
        ),
    ] = None,
    shape: Shapes = None,
    state: StatePairs = None,
    device: Device = None,
) -> None:
    """Run a model on arrays, tables or sounds.

    Prints the shapes and the ranges of its outputs. Inputs that are states start from zeros if they are not given. An
    input may lack the dimension of the batch.
    """
    model = WholeModel.load(file, device, state, shape)
    places = [_place(each, model) for each in out or ()]
    given = {name: each.array for name, each in inputs_of(model, input or (), channel).items()}
    with no_grad():
        outputs = model(given) if stream is None else streamed(model, given, stream)
    print(_described(outputs))
    for place, names in places:
        write_arrays(place, {name: outputs[name] for name in names})
        print(f"wrote {place}")


def _place(given: str, model: WholeModel) -> tuple[Path, Sequence[str]]:
    """A file to write, and the outputs for it."""
    names: Sequence[str] = model.outputs
    name, equals, path = given.partition("=")
    if equals and name in names:
        given, names = path, [name]
    place = writable_file("--out", given)
    ending = place.suffix.lower()
    require("--out", ending in ENDINGS, f"a file that ends in {', '.join(ENDINGS)}", given)
    if len(names) > 1 and ending != ".npz":
        names = [name for name in names if name not in model.states.values()]
        listed = printable(", ".join(names))
        require("--out", len(names) == 1, f"a file that ends in .npz, or NAME={given} for one of {listed}", given)
    return place, names


def _described(outputs: Mapping[str, HostArray]) -> str:
    """A table of the outputs: shapes, and the range of their numbers."""
    rows = [["output", "shape", "dtype", "lowest", "mean", "highest"]]
    for name, array in outputs.items():
        row = [printable(name), " × ".join(map(str, array.shape)) or "a number", str(array.dtype)]
        if array.size:
            row += [f"{float(each):.4g}" for each in (array.min(), array.mean(dtype=np.float64), array.max())]
        rows.append([*row, *[""] * (len(rows[0]) - len(row))])
    return aligned(rows, left=3)
