"""Keras files made by hand: configs, arrays, and the layouts that they are written in."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tinygrad_lstm.io import FileLayer, load_weights

ROLES = ("kernel", "recurrent_kernel", "bias")

Arrays = dict[str, np.ndarray]
Config = dict[str, Any]


def layer(kind: str, **config: Any) -> Config:
    """A layer as a config describes it."""
    return {"class_name": kind, "config": config}


def model(*layers: Config, **options: Any) -> Config:
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers), **options}}


def cell(path: str, gates: int, I: int = 3, H: int = 2, bias: tuple[int, ...] | None = None) -> Arrays:
    """The arrays of a cell in the layout of Keras 3."""
    shapes = {0: (I, gates * H), 1: (H, gates * H), 2: bias or (gates * H,)}
    return {f"{path}/vars/{k}": np.zeros(shape, "f4") for k, shape in shapes.items()}


def write_hdf5(path: Path, arrays: Arrays, texts: dict[str, dict[str, Any]] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        for name, attributes in (texts or {}).items():
            file.require_group(name).attrs.update(attributes)
    return path


def write_keras(path: Path, config: Any, arrays: Arrays, packed: bool = False, version: str = "") -> Path:
    """An archive as Keras 3 writes it."""
    content = write_hdf5(path.with_suffix(".tmp"), arrays).read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version} if version else {}))
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", content)
    return path


def layers_of(folder: Path, config: Any, arrays: Arrays) -> dict[str, FileLayer]:
    return load_weights(write_keras(folder / "model.keras", config, arrays)).layers


def older(path: str, gates: int, bias: bool = True) -> Arrays:
    arrays = dict(zip(ROLES, cell("", gates).values()))
    return {f"{path}/{role}:0": array for role, array in arrays.items() if bias or role != "bias"}
