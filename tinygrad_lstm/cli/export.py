"""`tinygrad-lstm export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from tinygrad_lstm.backends.base import HostArray

from ..io import export_onnx, export_torch, save_weights
from .inputs import Inputs, inputs_of
from .models import ModelFile, Shapes, StatePairs, WholeModel
from .shared import path_option, require, writable_file

__all__ = ["export"]

ENDINGS = {"onnx": ".onnx", "torch": ".torch.safetensors", "safetensors": ".safetensors"}


def export(
    file: ModelFile,
    to: Annotated[
        Literal["onnx", "torch", "safetensors"],
        typer.Option(
            help="onnx: the whole model. torch: its arrays under PyTorch's names, in a safetensors file. "
            "safetensors: its arrays under the names of tg.io.load_model(FILE).state_dict().",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            help="The file to write; an existing one is replaced.  [default: beside FILE, with the format's ending; "
            "an existing one is not replaced]",
            metavar="PATH",
        ),
    ] = None,
    input: Inputs = None,
    shape: Shapes = None,
    state: StatePairs = None,
) -> None:
    """Write a model in a different format.

    Inputs are needed for onnx only if the file does not have the shapes of the model's inputs. They are examples; say
    with --shape which of their lengths may differ.
    """
    place = _beside(path_option("FILE", file), ENDINGS[to]) if out is None else writable_file("--out", out)
    ending = f".{ENDINGS[to].rpartition('.')[2]}"
    require("--out", place.suffix.lower() == ending, f"a file that ends in {ending}", place)
    model = WholeModel.load(file, pairs=state, shapes=shape)
    given = inputs_of(model, input or (), None)
    unknown = [port.name for port in model.inputs if port.shape is None]
    if to == "onnx" and unknown and not given:
        require("--input", False, f"examples, as the file does not have the shape of {', '.join(unknown)}", "none")
    examples = {model.parameters[name]: each.array for name, each in given.items()}
    with model.running(model.parameters):
        _write(model, to, place, examples)
    print(f"{to}: {place} ({place.stat().st_size / 1e6:,.2f} MB)")


def _beside(path: Path, ending: str) -> Path:
    """The file of this ending beside a file or folder."""
    place = path.with_suffix(ending)
    require("--out", not place.exists(), "a path", f"none, and {place} is there already")
    return writable_file("--out", str(place))


def _write(model: WholeModel, to: str, place: Path, examples: Mapping[str, HostArray]) -> None:
    module = model.module
    match to:
        case "onnx":
            free = {
                model.parameters[port.name]: {k: n for k, n in enumerate(port.shape or ()) if isinstance(n, str)}
                for port in model.inputs
            }
            dynamic = {name: dims for name, dims in free.items() if name in examples}
            export_onnx(module, place, examples or None, dynamic=dynamic)
        case "torch":
            export_torch(module, place)
        case _:
            save_weights(place, module.state_dict())
