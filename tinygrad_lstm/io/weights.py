"""Weights in files of several formats: arrays by name."""

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
        path: the file; an existing one is replaced. Its suffix chooses the format: `.safetensors` (also without a
            suffix), or NumPy's `.npz`.
        weights: arrays, or values that NumPy converts to arrays, by name.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
        ValueError: the suffix is invalid; the format does not support a name or the type of an array.
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
    """The arrays of a file by name, read without the framework that wrote it and without running code in it.

    The format is determined by the file's content: safetensors; PyTorch's `torch.save`, TorchScript and `.pt2`; Keras's
    `.keras` and `.h5`; ONNX (extra "onnx"); of TensorFlow a checkpoint (its prefix or index), a SavedModel's folder, a
    frozen graph, and the `model.json` of TensorFlow.js; NumPy's `.npz` and `.npy`; pickles of arrays in plain
    containers; JSON; a table of numbers, such as a `.csv`; a folder of `.npy` files and tables. Nested dictionaries and
    lists become dotted names, such as "model.lstm.weight_ih_l0"; values that are not arrays are skipped. An array
    without a name has that of its file. Numbers of JSON and of tables become float32.

    Returns:
        The arrays, which are writable, of the types in the file, except that bfloat16 becomes float32 (see `types`).
        Tensors that PyTorch saved as views of one storage share memory. For Keras and ONNX files, `layers` describes
        the recurrent layers.

    Raises:
        OSError: the file is not there or cannot be read.
        RuntimeError: the format needs an extra that is not installed.
        ValueError: the format is not supported, or the file is cut off, damaged, or hostile: it needs code to be run,
            or would take much more memory than its size.

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
        case "PyTorch export":
            from .torch.export_file import read_torch_export

            return read_torch_export
        case "NumPy":
            from .npz_file import read_npz

            return read_npz
        case "NumPy array":
            from .npz_file import read_npy_file

            return read_npy_file
        case "pickle":
            from .torch.pickle_file import read_pickle_file

            return read_pickle_file
        case "JSON":
            from .text_files import read_json

            return read_json
        case "a table":
            from .text_files import read_table

            return read_table
        case "a folder of arrays":
            from .text_files import read_folder

            return read_folder
        case "Keras":
            from .keras.file import read_keras

            return read_keras
        case "ONNX":
            from .onnx.file import read_onnx

            return read_onnx
        case "TensorFlow checkpoint":
            from .tensorflow.checkpoint import read_checkpoint

            return read_checkpoint
        case "SavedModel":
            from .tensorflow.checkpoint import read_saved_model_variables

            return read_saved_model_variables
        case "TensorFlow graph":
            from .tensorflow.graph_def import read_graph_def

            return read_graph_def
        case "TensorFlow.js":
            from .tensorflow.tfjs import read_tfjs

            return read_tfjs


def _read_safetensors(path: Path) -> Weights:
    contents = read_safetensors(path)
    return Weights(contents.tensors, types=dict.fromkeys(contents.bfloat16, BFLOAT16))
