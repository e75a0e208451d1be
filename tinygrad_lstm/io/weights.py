"""Arrays with names in one safetensors file."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..backends.base import HostArray
from .atomic import naming_errors, write_atomically

__all__ = ["load_weights", "save_weights"]


class Contents(NamedTuple):
    """What a safetensors file holds."""

    tensors: dict[str, HostArray]
    metadata: dict[str, str]


def write_safetensors(path: str | Path, tensors: Mapping[str, HostArray], metadata: Mapping[str, str]) -> None:
    """Writes arrays and texts, each under a name, to a safetensors file, atomically."""
    from safetensors.numpy import save

    # The format stores bytes in C order; safetensors would write a strided array's memory as it lies.
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    write_atomically(path, save(contiguous, dict(metadata) or None))


def read_safetensors(path: str | Path) -> Contents:
    """Reads a safetensors file.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is no safetensors file, only a part of one, or has tensors of a dtype that NumPy lacks.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # its errors name the file, and a folder is told from a file
        pass
    try:
        with naming_errors(path), safe_open(path, framework="numpy") as file:
            return Contents({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    except (AttributeError, TypeError) as error:  # how a dtype such as bfloat16 fails
        raise ValueError(f"{path}: a tensor cannot be read as a NumPy array ({error})") from error


def save_weights(path: str | Path, weights: Mapping[str, HostArray]) -> None:
    """Writes arrays, such as a model's weights, to a safetensors file, atomically.

    Args:
        path: the file; one that is there already is replaced.
        weights: NumPy arrays by name.

    Raises:
        OSError: the file cannot be written; one that was there before stays whole.
    """
    write_safetensors(path, weights, {})


def load_weights(path: str | Path) -> dict[str, HostArray]:
    """The arrays of a safetensors file by name.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is no safetensors file, or only a part of one.
    """
    return read_safetensors(path).tensors
