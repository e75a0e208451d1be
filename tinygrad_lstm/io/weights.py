"""Weights in files: arrays by name, in whatever format they were saved."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from .contents import Weights
from .dtypes import BFLOAT16
from .formats import Format, find_format
from .safetensors_file import read_safetensors, write_safetensors

__all__ = ["load_weights", "save_weights"]


def save_weights(path: str | Path, weights: Mapping[str, HostArray]) -> None:
    """Writes arrays, such as a model's weights, to a file, atomically.

    Args:
        path: the file; one that is there already is replaced. Its ending says in which format: `.safetensors`, as also
            without an ending, or NumPy's `.npz`.
        weights: arrays, or what NumPy makes arrays of, by name.

    Raises:
        OSError: the file cannot be written; one that was there before stays whole.
        ValueError: the ending is another; the format can have no such name, or no elements of an array's type.
    """
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    ending = Path(path).suffix.lower()
    if ending == ".npz":
        from .npz_file import write_npz

        write_npz(path, arrays)
    elif ending in ("", ".safetensors"):
        write_safetensors(path, arrays, {})
    else:
        raise ValueError(f"{path}: weights are not written as {ending!r}; use the ending .safetensors or .npz")


def load_weights(path: str | Path) -> Weights:
    """The arrays of a file by name, read without the framework that wrote it, and without running anything in it.

    The format is told by the file's content: safetensors; PyTorch's `torch.save` and TorchScript archives; Keras's
    `.keras` and `.h5`; ONNX (extra "onnx"); NumPy's `.npz`. A PyTorch checkpoint's nested dictionaries give dotted
    names, such as "model.lstm.weight_ih_l0"; what is no array in it is left out.

    Returns:
        The arrays, which can be written to: of the types that they have in the file, except that bfloat16 becomes
        float32, as `types` says. Tensors that PyTorch saved as views of one storage share their memory. Of Keras and
        ONNX files, `layers` says what their recurrent layers compute.

    Raises:
        OSError: the file is not there or cannot be read.
        RuntimeError: the format needs an extra that is not installed.
        ValueError: the file is of another format, cut off, damaged, or hostile: it names what cannot be read as data
            alone, or would take much more memory than its own size.

    >>> import tempfile
    >>> import numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "model.npz"
    >>> np.savez(path, weight=np.ones((2, 3)))
    >>> load_weights(path)["weight"].shape
    (2, 3)
    """
    path = Path(path)
    return _reader(find_format(path))(path)


def _reader(format: Format) -> Callable[[Path], Weights]:
    match format:
        case "safetensors":
            return _read_safetensors
        case "PyTorch":
            from .torch.file import read_torch

            return read_torch
        case "PyTorch before 1.6":
            from .torch.file import read_torch_legacy

            return read_torch_legacy
        case "NumPy":
            from .npz_file import read_npz

            return read_npz
        case "Keras":
            from .keras.file import read_keras

            return read_keras
        case "ONNX":
            from .onnx.file import read_onnx

            return read_onnx


def _read_safetensors(path: Path) -> Weights:
    contents = read_safetensors(path)
    return Weights(contents.tensors, types=dict.fromkeys(contents.bfloat16, BFLOAT16))
