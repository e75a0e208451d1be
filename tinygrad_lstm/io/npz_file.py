"""NumPy's files: arrays, .npy, and archives of arrays, .npz, without the pickles that NumPy may put into them.

Reference: `numpy.lib.format`, which describes the format.
"""

import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..files import read_file
from .archive import OUTSIDE, open_archive
from .atomic import write_atomically
from .contents import Weights
from .dtypes import is_numpy_type, numpy_array
from .errors import ContentError, naming_file, shown
from .formats import NPY_MAGIC, NPY_SUFFIX

__all__ = ["read_npy", "read_npy_file", "read_npz", "write_npy", "write_npz"]

LENGTH_SIZES = {1: 2, 2: 4, 3: 4}  # bytes of the header's length, by the version of the format
MOST_DIMENSIONS, MOST_DIGITS = 32, 19

# The header is a dictionary in Python's syntax, of three entries.
TYPE = re.compile(rb"""['"]descr['"]\s*:\s*['"]([^'"]*)['"]""")
OBJECTS = (b"O", b"|O")
ORDER = re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)""")
SHAPE = re.compile(rb"""['"]shape['"]\s*:\s*\(([\dL, ]*)\)""")
SIZE = re.compile(rb"\d+")

# The valid names of files in an archive: zipfile would cut a name off at a NUL, and surrogates are not valid UTF-8.
FILE_NAME = re.compile("[^\0\ud800-\udfff]{0,10000}")


def read_npz(path: Path) -> Weights:
    """The arrays of an .npz file by name, as `numpy.load` returns them with `allow_pickle=False`.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is cut off or damaged, or has arrays of Python objects or of structures.
    """
    arrays = {}
    with open_archive(path) as archive, naming_file(path):
        for name in archive.names:
            try:
                arrays[name.removesuffix(NPY_SUFFIX)] = _array(archive.read(name))
            except ContentError as error:
                raise ContentError(f"{shown(name)}: {error}") from error
    return Weights(arrays)


def read_npy(path: Path) -> HostArray:
    """The array of an .npy file. Raises the errors of `read_npz`."""
    with naming_file(path):
        return _array(bytearray(read_file(path)))


def read_npy_file(path: Path) -> Weights:
    """The array of an .npy file, which has the file's name without its ending; or the arrays of its Python objects.

    `numpy.save(path, {"weight": array})` pickles a dictionary or list, of which the arrays are read.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is cut off or damaged, or has an array of structures.
    """
    with naming_file(path):
        content = bytearray(read_file(path))
        data_at = _data_at(content)
        if (code := TYPE.search(content[:data_at])) and code[1] in OBJECTS:
            from .torch.pickle_file import pickled_weights
            from .torch.pickle_reader import Stream

            return pickled_weights(Stream(BytesIO(content[data_at:]), len(content) - data_at), len(content), path.stem)
        return Weights({path.stem: _array(content)})


def write_npy(path: str | Path, array: HostArray) -> None:
    """Writes an array of numbers to an .npy file, atomically.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    content = BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=False)
    write_atomically(path, content.getvalue())


def write_npz(path: str | Path, arrays: Mapping[str, HostArray]) -> None:
    """Writes arrays by name to an .npz file, atomically, as `numpy.savez` does.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
        ValueError: an array's element type is not supported, such as Python objects; its name is not valid in an
            archive.
    """
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            if not FILE_NAME.fullmatch(name) or OUTSIDE.search(name):
                raise ValueError(f"{path}: an archive can have no file that is called {shown(name)}; use safetensors")
            if not is_numpy_type(array.dtype.str):
                raise ValueError(f"{path}: cannot hold {shown(name)}, an array of {array.dtype}; convert it")
            with archive.open(zipfile.ZipInfo(name + NPY_SUFFIX), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    write_atomically(path, content.getvalue())


def _data_at(content: bytearray) -> int:
    """The offset of the data of an .npy file, which follow its header."""
    version_at, length_at = len(NPY_MAGIC), len(NPY_MAGIC) + 2
    version = content[version_at] if content.startswith(NPY_MAGIC) and len(content) > version_at else None
    if version not in LENGTH_SIZES:
        raise ContentError("not an .npy file of a known version")
    header_at = length_at + LENGTH_SIZES[version]
    return header_at + int.from_bytes(content[length_at:header_at], "little")


def _array(content: bytearray) -> HostArray:
    """The array of an .npy file."""
    data_at = _data_at(content)
    header = content[:data_at]
    order, shape = ORDER.search(header), SHAPE.search(header)
    if data_at > len(content) or order is None or shape is None:
        raise ContentError("damaged: its header cannot be read")
    type_code = TYPE.search(header)
    if type_code is None:
        raise ContentError("refuses an array of structures")
    sizes = SIZE.findall(shape[1])
    if len(sizes) > MOST_DIMENSIONS or any(len(size) > MOST_DIGITS for size in sizes):
        raise ContentError("its shape has too many or too large sizes")
    data, code = memoryview(content)[data_at:], type_code[1].decode("latin-1")
    return numpy_array(data, code, tuple(map(int, sizes)), order[1] == b"True")
