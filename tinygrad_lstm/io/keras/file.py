"""Weights of Keras: `.keras` archives, `.weights.h5`, and the older `.h5` of whole models or only weights."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import open_file
from ..archive import open_archive
from ..atomic import naming_errors
from ..contents import Weights
from ..dtypes import BFLOAT16
from ..errors import ContentError, naming_file
from .config import described_layers, major_version
from .hdf5 import SIGNATURE, Hdf5Contents, read_hdf5
from .layers import recurrent_layers

__all__ = ["KerasFile", "opened_keras", "read_keras"]

LARGEST_SMALL_CONFIG = 2**20

PARTS = {"config.json": "the model's config", "metadata.json": "the archive's metadata"}


@dataclass(frozen=True)
class KerasFile:
    """The contents of a Keras file.

    Attributes:
        contents: its arrays and strings.
        config: the model's config; None in a file with only weights.
        version: the version of Keras that wrote it; if the file does not say it, "3" for an archive, else "".
    """

    contents: Hdf5Contents
    config: Any
    version: str


def read_keras(path: Path) -> Weights:
    """The arrays and recurrent layers of a Keras file by their paths in it, in the model's order.

    A layer's path is that of the group which holds its arrays: "layers/lstm_1" in files of Keras 3, whose paths do not
    have the layers' names, "model_weights/encoder" in older ones. Files with only weights do not describe layers:
    shapes determine the kind, and other settings are Keras's defaults. bfloat16 becomes float32. No code in a file is
    run, and memory is proportional to the file's size.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is not a Keras file, is cut off or damaged, or has content that Keras does not write.
    """
    with naming_file(path):
        file = opened_keras(path)
        types = dict.fromkeys(file.contents.bfloat16, BFLOAT16)
        return Weights(
            file.contents.arrays,
            recurrent_layers(file.contents, described_layers(file.config, major_version(file.version))),
            types,
        )


def opened_keras(path: Path) -> KerasFile:
    """The contents of a Keras file, within `naming_file`.

    Raises:
        OSError: the file is not there or cannot be read.
        ContentError: it is not a Keras file, is cut off or damaged, or has content that Keras does not write.
    """
    content, parts = _opened(path)
    contents = read_hdf5(content)
    root = contents.strings.get("model_weights", {}) | contents.strings[""]
    text = parts["config.json"] if parts else "".join(root.get("model_config", ["null"]))
    metadata = _parsed(PARTS["metadata.json"], parts.get("metadata.json", "null"))
    version = metadata.get("keras_version") if isinstance(metadata, dict) else "".join(root.get("keras_version", ()))
    return KerasFile(contents, _parsed(PARTS["config.json"], text), str(version or "3" * bool(parts)))


def _parsed(what: str, text: str | bytearray) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{what} cannot be read ({error})") from error


def _opened(path: Path) -> tuple[bytearray, dict[str, bytearray]]:
    """The HDF5 content of a file, and the JSON of `PARTS` in a `.keras` archive."""
    with open_file(path) as file, naming_errors(path):
        beginning = file.read(len(SIGNATURE))
        if beginning == SIGNATURE:
            content = bytearray(os.fstat(file.fileno()).st_size)
            file.seek(0)
            file.readinto(content)
            return content, {}
    if not beginning.startswith(b"PK"):
        raise ContentError("is not a Keras file, which are HDF5 or zip archives")
    with open_archive(path) as archive:
        for name in ("config.json", "model.weights.h5"):
            if name not in archive.names:
                raise ContentError(f"a zip archive without {name!r}, which Keras's have")
        parts = {}
        for name in PARTS:
            if name in archive.names:
                if archive.size(name) > max(path.stat().st_size, LARGEST_SMALL_CONFIG):
                    raise ContentError(f"{PARTS[name]} is larger than the file")
                parts[name] = archive.read(name)
        return archive.read("model.weights.h5"), parts
