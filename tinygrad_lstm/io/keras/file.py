"""Weights of Keras: `.keras` archives, `.weights.h5`, and the older `.h5` of whole models or only weights."""

import json
import os
from pathlib import Path

from ...files import open_file
from ..archive import open_archive
from ..atomic import naming_errors
from ..contents import Weights
from ..dtypes import BFLOAT16
from ..errors import ContentError, naming_file
from .config import described_layers
from .hdf5 import SIGNATURE, read_hdf5
from .layers import recurrent_layers

__all__ = ["read_keras"]

LARGEST_SMALL_CONFIG = 2**20


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
        content, config = _opened(path)
        file = read_hdf5(content)
        if config is None:
            config = "".join(file.strings[""].get("model_config", ["null"]))
        try:
            described = described_layers(json.loads(config))
        except (ValueError, RecursionError) as error:
            raise ContentError(f"the model's config cannot be read ({error})") from error
        types = dict.fromkeys(file.bfloat16, BFLOAT16)
        return Weights(file.arrays, recurrent_layers(file, described), types)


def _opened(path: Path) -> tuple[bytearray, bytearray | str | None]:
    """The HDF5 content of a file, and the config beside it in a `.keras` archive."""
    with open_file(path) as file, naming_errors(path):
        beginning = file.read(len(SIGNATURE))
        if beginning == SIGNATURE:
            content = bytearray(os.fstat(file.fileno()).st_size)
            file.seek(0)
            file.readinto(content)
            return content, None
    if not beginning.startswith(b"PK"):
        raise ContentError("is not a Keras file, which are HDF5 or zip archives")
    with open_archive(path) as archive:
        for name in ("config.json", "model.weights.h5"):
            if name not in archive.names:
                raise ContentError(f"a zip archive without {name!r}, which Keras's have")
        if archive.size("config.json") > max(path.stat().st_size, LARGEST_SMALL_CONFIG):
            raise ContentError("the model's config is larger than the file")
        return archive.read("model.weights.h5"), archive.read("config.json")
