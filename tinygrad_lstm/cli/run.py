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
from .arrays import ENDINGS, write_arrays
from .inputs import Channel, Inputs, inputs_of
from .models import ModelFile, StatePairs, WholeModel
from .shared import Device, require, writable_file

__all__ = ["run"]


def run(
    file: ModelFile,
    input: Inputs = None,
    out: Annotated[
        str | None,
        typer.Option(help="Write the outputs: all to .npz, one to .npy or .csv.", metavar="FILE"),
    ] = None,
    channel: Channel = None,
    state: StatePairs = None,
    device: Device = None,
) -> None:
    """Run a model of any file on arrays, tables or sounds, and describe its outputs."""
    place = None if out is None else writable_file("--out", out)
    if place is not None:
        require("--out", place.suffix.lower() in ENDINGS, f"a file that ends in {', '.join(ENDINGS)}", out)
    model = WholeModel.load(file, device, state)
    given = inputs_of(model, input or (), channel)
    with no_grad():
        outputs = {
            name: tensor.numpy() for name, tensor in model({name: each.array for name, each in given.items()}).items()
        }
    print(_described(outputs))
    if place is not None:
        write_arrays(place, _to_write(place, outputs, model.states))
        print(f"wrote {place}")


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
