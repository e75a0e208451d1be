"""`tinygrad-lstm export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..io import export_onnx, export_torch, save_weights
from ..nn import Module
from .models import ModelFile, StatePairs, WholeModel
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
    state: StatePairs = None,
) -> None:
    """Write the model of any file in a different format."""
    place = _beside(path_option("FILE", file), ENDINGS[to]) if out is None else writable_file("--out", out)
    ending = f".{ENDINGS[to].rpartition('.')[2]}"
    require("--out", place.suffix.lower() == ending, f"a file that ends in {ending}", place)
    module = WholeModel.load(file, pairs=state).module
    _write(module, to, place)
    print(f"{to}: {place} ({place.stat().st_size / 1e6:,.2f} MB)")


def _beside(path: Path, ending: str) -> Path:
    """The file of this ending beside a file or folder."""
    place = path.with_suffix(ending)
    require("--out", not place.exists(), "a path", f"none, and {place} is there already")
    return writable_file("--out", str(place))


def _write(module: Module, to: str, place: Path) -> None:
    match to:
        case "onnx":
            export_onnx(module, place)
        case "torch":
            export_torch(module, place)
        case _:
            save_weights(place, module.state_dict())
