"""The format of a file of weights, determined only by its content, not by its name."""

import errno
import io
import os
import re
from pathlib import Path
from typing import BinaryIO, Literal

from ..files import open_file
from .atomic import naming_errors

__all__ = [
    "NPY_MAGIC",
    "NPY_SUFFIX",
    "SAVED_MODEL",
    "TFJS_MODEL",
    "TORCH_EXPORT",
    "TORCH_PICKLE",
    "Format",
    "find_format",
]

Format = Literal[
    "safetensors",
    "PyTorch",
    "PyTorch before 1.6",
    "PyTorch export",
    "NumPy",
    "NumPy array",
    "pickle",
    "JSON",
    "a table",
    "a folder of arrays",
    "Keras",
    "ONNX",
    "TensorFlow checkpoint",
    "SavedModel",
    "TensorFlow.js",
    "TensorFlow graph",
]

KNOWN = (
    "known are safetensors, PyTorch's and TorchScript's, Keras's (.keras and .h5), ONNX, TensorFlow's (SavedModel, "
    "checkpoints, frozen graphs and model.json), NumPy's .npz and .npy, pickles, JSON, and tables of numbers (.csv)"
)

HEAD = 512  # the bytes by which most formats are recognised
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
HDF5 = b"\x89HDF\r\n\x1a\n"
NPY_MAGIC = b"\x93NUMPY"
TAR, TAR_AT = b"ustar", 257
LFS = b"version https://git-lfs"
PICKLE = re.compile(rb"\x80[\x00-\x05]|\(*(?:\([dl]p\d+\n|c[\w.]+\n[\w.]+\n|[]}]q\x00)")
TORCH_LEGACY, TORCH_LEGACY_WITHIN = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", 32  # its magic number, pickled
SAFETENSORS, SAFETENSORS_AT = b"{", 8

# Files of text: JSON, or rows of numbers, of which the first may have names for the columns.
BOM = b"\xef\xbb\xbf"
TEXT = re.compile(rb"(?:%s)?[\t\n\r\x20-\x7e\x80-\xff]*" % BOM)
CELLS = re.compile(rb"[,;\s]+")

# The files within archives by which their formats are recognised.
TORCH_PICKLE = "/data.pkl"  # after the name of a folder
TORCH_EXPORT = "/models/model.json"  # the same
TORCH_OLD_EXPORT = "serialized_exported_program.json"
KERAS_FILES = {"config.json", "model.weights.h5"}
NPY_SUFFIX = ".npy"
ARRAY_SUFFIXES = (NPY_SUFFIX, ".csv", ".tsv", ".txt", ".dat")  # of the files in a folder of arrays

# The fields that an ONNX file may have, and whether each is a number or length-prefixed bytes.
NUMBER, BYTES = 0, 2
ONNX_FIELDS = {1: NUMBER, 5: NUMBER, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), BYTES)}
ONNX_GRAPH = 7
MOST_BEFORE_GRAPH = 1000

# TensorFlow's files and folders.
CHECKPOINT_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")  # at the end of an index
CHECKPOINT_INDEX, CHECKPOINT_DATA = ".index", re.compile(r"(.*)\.data-\d{5}-of-\d{5}")
SAVED_MODEL, SAVED_MODEL_TEXT, TFJS_MODEL = "saved_model.pb", "saved_model.pbtxt", "model.json"
GRAPH_FIRST_NODE, NODE_NAME, NODE_OP = b"\x0a", b"\x0a", b"\x12"  # the beginnings of fields of GraphDef and NodeDef
TFJS_KEYS = (b'"weightsManifest"', b'"modelTopology"')


def find_format(path: Path) -> Format:
    """The format of a file, of a folder, or of the files of a checkpoint that begin with this path.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: its format is not supported, it is a damaged archive, or it is a pipe or a device.
    """
    if path.is_dir():
        return _format_of_folder(path)
    if path.name == SAVED_MODEL:
        return "SavedModel"
    if not path.exists() and path.with_name(path.name + CHECKPOINT_INDEX).exists():
        return "TensorFlow checkpoint"
    with open_file(path) as file, naming_errors(path):
        head = file.read(HEAD)
        is_onnx = _is_onnx(file)
        end = _end(file)
        is_json = _is_json(head)
        is_tfjs = is_json and _is_tfjs(file)
        is_graph = _is_tensorflow_graph(head)
    if end == CHECKPOINT_MAGIC:
        return "TensorFlow checkpoint"
    if is_tfjs:
        return "TensorFlow.js"
    if is_graph:
        return "TensorFlow graph"
    if head.startswith(ZIP):
        return _format_of_archive(path)
    if head.startswith(HDF5):
        return "Keras"
    if TORCH_LEGACY in head[:TORCH_LEGACY_WITHIN]:
        return "PyTorch before 1.6"
    if text := _text_format(head):
        return text
    if head.startswith(SAFETENSORS, SAFETENSORS_AT):
        return "safetensors"
    if is_onnx:
        return "ONNX"
    if head.startswith(NPY_MAGIC):
        return "NumPy array"
    if PICKLE.match(head):
        return "pickle"
    if head.startswith(TAR, TAR_AT):
        reason = "a tar archive, as PyTorch wrote them before 0.1.10: load and save it again with a later PyTorch"
    elif head.startswith(LFS):
        reason = "a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
    elif parts := CHECKPOINT_DATA.fullmatch(path.name):
        reason = f"the arrays of a TensorFlow checkpoint without their names: give its index, {parts[1]}.index"
    else:
        reason = f"of no known kind; {KNOWN}"
    raise ValueError(f"{path}: {reason}")


def _format_of_folder(path: Path) -> Format:
    if (path / SAVED_MODEL).exists():
        return "SavedModel"
    if (path / SAVED_MODEL_TEXT).exists():
        raise ValueError(f"{path}: a SavedModel as text: save it again, as {SAVED_MODEL}")
    if (path / TFJS_MODEL).exists():
        return "TensorFlow.js"
    names = [each.name for each in path.iterdir() if not each.name.startswith(".")]
    if names and all(name.endswith(ARRAY_SUFFIXES) for name in names):
        return "a folder of arrays"
    reason = f"a folder, which has neither {SAVED_MODEL} nor {TFJS_MODEL}, and not only arrays (.npy, .csv, .txt)"
    raise IsADirectoryError(errno.EISDIR, reason, str(path))


def _text_format(head: bytes) -> Format | None:
    """JSON or a table, if a file begins with that."""
    if TEXT.fullmatch(head) is None:
        return None
    start = head.removeprefix(BOM).lstrip()
    if start[:1] in (b"{", b"["):
        return "JSON"
    lines = [line for line in start.splitlines() if line.strip() and not line.startswith(b"#")]
    if len(head) == HEAD:  # the last cell may be cut off
        lines[-1:] = [line.rstrip(b"0123456789.eE+-") for line in lines[-1:]]
    return "a table" if any(map(_is_row, lines[:2])) else None


def _is_row(line: bytes) -> bool:
    """Whether a line has numbers, with commas, semicolons or white space between them."""
    try:
        return bool([float(cell) for cell in CELLS.split(line.replace(b'"', b"")) if cell])
    except ValueError:
        return False


def _end(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - len(CHECKPOINT_MAGIC), 0))
    return file.read()


def _is_json(head: bytes) -> bool:
    """Whether a file is a JSON object. A safetensors file, which begins with a small number, is not."""
    return head.lstrip()[:1] == b"{" and b"\0" not in head[:SAFETENSORS_AT]


def _is_tensorflow_graph(head: bytes) -> bool:
    """Whether a file begins with a node, which begins with its name and the name of its op.

    Reference: GraphDef in tensorflow/core/framework/graph.proto; the format has no magic number.
    """
    file = io.BytesIO(head)
    if file.read(1) != GRAPH_FIRST_NODE or not _varint(file):
        return False
    for tag in NODE_NAME, NODE_OP:
        if file.read(1) != tag:
            return False
        name = file.read(_varint(file) or 0)
        if not name.isascii() or not name.decode().isprintable():
            return False
    return name.isalnum() or name.startswith(b"_")


def _is_tfjs(file: BinaryIO) -> bool:
    """Whether a JSON file has a key of a model of TensorFlow.js."""
    file.seek(0)
    content = file.read()
    return any(key in content for key in TFJS_KEYS)


def _format_of_archive(path: Path) -> Format:
    from .archive import open_archive

    with open_archive(path) as archive:
        names = archive.names
    if any(name.endswith(TORCH_PICKLE) for name in names):
        return "PyTorch"
    if any(name.endswith(TORCH_EXPORT) for name in names):
        return "PyTorch export"
    if TORCH_OLD_EXPORT in names:
        raise ValueError(f"{path}: a program that torch.export saved before PyTorch 2.8: load it and save it again")
    if set(names) >= KERAS_FILES:
        return "Keras"
    if all(name.endswith(NPY_SUFFIX) for name in names):
        return "NumPy"
    raise ValueError(f"{path}: a zip archive that is none of PyTorch's, Keras's or NumPy's")


def _is_onnx(file: BinaryIO) -> bool:
    """Whether a file has only the fields of an ONNX file, up to its graph or to where it is cut off.

    Reference: ModelProto in onnx.proto; the format has no magic number.
    """
    field = None
    file_size = file.seek(0, os.SEEK_END)
    file.seek(0)
    for _ in range(MOST_BEFORE_GRAPH):
        tag = _varint(file)
        if field == ONNX_GRAPH or tag is None:
            break
        field, kind = divmod(tag, 8)
        if ONNX_FIELDS.get(field) != kind:
            return False
        value = _varint(file) or 0
        if kind == BYTES:
            file.seek(min(file.tell() + value, file_size))
    return field is not None


def _varint(file: BinaryIO) -> int | None:
    """An integer as protobuf writes it, seven bits a byte, lowest bits first; None at the end of the file."""
    number = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            break
    return number
