"""Arrays with names, and texts, in one safetensors file.

Reference: https://huggingface.co/docs/safetensors
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..backends.base import HostArray
from .atomic import naming_errors, write_atomically
from .dtypes import BFLOAT16, elements
from .errors import ContentError, naming_file, shown

__all__ = ["read_safetensors", "write_safetensors"]

# What the format calls the types of elements that are read.
READ = {"BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "F16", "BF16", "F32", "F64", "C64"}


class Contents(NamedTuple):
    """What a safetensors file holds: tensors, texts, and which of the tensors are of bfloat16 there."""

    tensors: dict[str, HostArray]
    metadata: dict[str, str]
    bfloat16: list[str]


def write_safetensors(path: str | Path, tensors: Mapping[str, HostArray], metadata: Mapping[str, str]) -> None:
    """Writes arrays and texts, each under a name, to a safetensors file, atomically."""
    from safetensors.numpy import save

    # The format stores bytes in C order; safetensors would write a strided array's memory as it lies.
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    write_atomically(path, save(contiguous, dict(metadata) or None))


def read_safetensors(path: str | Path) -> Contents:
    """Reads a safetensors file; bfloat16 becomes float32.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is no safetensors file, only a part of one, or has tensors of a type that NumPy lacks.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # its errors name the file, and a folder is told from a file
        pass
    with naming_errors(path), naming_file(path):
        try:
            with safe_open(path, framework="numpy") as file:
                types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
                _check(types)
                widened = _bfloat16(Path(path)) if "BF16" in types.values() else {}
                tensors = {name: widened[name] if name in widened else file.get_tensor(name) for name in types}
                return Contents(tensors, file.metadata() or {}, list(widened))
        except SafetensorError as error:
            raise ContentError(f"not a whole safetensors file ({' '.join(str(error).split())})") from error
        except ValueError as error:
            raise ContentError(f"NumPy has no array for a tensor in it ({error})") from error


def _check(types: Mapping[str, str]) -> None:
    for name, type_name in types.items():
        if type_name not in READ:
            raise ContentError(f"{shown(name)} has elements of {type_name}, a type that NumPy lacks")


def _bfloat16(path: Path) -> dict[str, HostArray]:
    """The arrays of bfloat16, which the library gives as their bytes alone, as float32."""
    from safetensors import deserialize

    return {
        name: elements(tensor["data"], BFLOAT16).reshape(tensor["shape"])
        for name, tensor in deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
        if tensor["dtype"] == "BF16"
    }
