"""The arrays of TensorFlow's checkpoints by readable names."""

import re
from pathlib import Path

from ...files import read_file
from ..contents import Weights
from ..dtypes import BFLOAT16
from ..errors import naming_file
from .bundle import bundle_arrays
from .layers import recurrent_layers
from .old_checkpoint import IS_OLD, old_arrays
from .table import read_table

__all__ = ["INDEX", "VALUE", "VARIABLES", "read_checkpoint", "read_saved_model_variables", "readable"]

INDEX = ".index"
"""The ending of the index, after the checkpoint's prefix."""

VARIABLES = Path("variables") / "variables"
"""The prefix of the checkpoint in the folder of a SavedModel."""

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What follows the path of a variable."""

ESCAPES = {".": ".", "S": "/"}  # what stands for a dot and a slash in the parts of a path, after a dot


def read_checkpoint(path: Path) -> Weights:
    """The arrays of a checkpoint by their readable names; see `readable`. Values that are not arrays are skipped.

    A variable that was saved in parts is joined. bfloat16 becomes float32. The checksums are compared.

    Args:
        path: the index, or the checkpoint's prefix, which is the same without the ending `.index`. Before TensorFlow
            0.12 a checkpoint was one file.

    Raises:
        OSError: a file is not there or cannot be read.
        ValueError: files are missing (one error names all), cut off, damaged, or hostile.
    """
    prefix = path.with_name(path.name.removesuffix(INDEX))
    index = path if path.exists() else prefix.with_name(prefix.name + INDEX)
    with naming_file(index):
        table = read_table(read_file(index))
        header = table.pop(b"", memoryview(b""))
        is_old = header[:1] == IS_OLD
        arrays, types = old_arrays(header, table.values()) if is_old else bundle_arrays(prefix, header, table)
    final = {name: readable(name) for name in arrays}
    if len(set(final.values())) < len(final):
        final = {name: name for name in arrays}
    arrays = {final[name]: array for name, array in arrays.items()}
    return Weights(
        arrays,
        recurrent_layers(arrays),
        types={final[name]: BFLOAT16 for name, type_name in types.items() if type_name == BFLOAT16 and name in final},
    )


def read_saved_model_variables(path: Path) -> Weights:
    """The arrays of the checkpoint of a SavedModel, a folder or its `saved_model.pb`; none if it has no variables.

    Raises:
        OSError, ValueError: as `read_checkpoint`.
    """
    folder = path if path.is_dir() else path.parent
    index = folder / VARIABLES.with_suffix(INDEX)
    return read_checkpoint(index) if index.exists() else Weights({})


def readable(name: str) -> str:
    """The readable name of a tensor: of an object's attribute, its path without `/.ATTRIBUTES/VARIABLE_VALUE`.

    >>> readable("layer_with_weights-0/cell/kernel/.ATTRIBUTES/VARIABLE_VALUE")
    'layer_with_weights-0/cell/kernel'
    """
    if not name.endswith(VALUE):
        return name
    return re.sub(r"\.([.S])", lambda match: ESCAPES[match[1]], name.removesuffix(VALUE))
