"""Arrays that commands read from files and write to them: .npy, .npz, .csv, .wav."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..files import read_file
from ..io.atomic import write_atomically
from ..io.errors import ContentError, naming_file, shown
from ..io.formats import NPY_MAGIC, ZIP
from ..io.npz_file import read_npy, read_npz, write_npy, write_npz
from ..io.tables import parse_table
from ..io.wav import RIFF, read_wav

__all__ = ["ENDINGS", "FileArray", "read_arrays", "write_arrays"]

ENDINGS = (".npy", ".npz", ".csv")
"""The endings of files that `write_arrays` writes."""


@dataclass(frozen=True)
class FileArray:
    """An array from a file.

    Attributes:
        array: its numbers.
        columns: the names of its columns, in the header of a .csv file.
        rate: the number of samples a second of a .wav file.
    """

    array: HostArray
    columns: tuple[str, ...] = ()
    rate: int | None = None


def read_arrays(path: Path, channel: int | None = None) -> dict[str, FileArray]:
    """The arrays of a file: those of an .npz file by name, the only one of a different file under "".

    A .csv file has numbers, and may have names of the columns in its first line: (rows, columns), or (rows,) of one
    column, of integers if all are written as integers. A .wav file is (T,), or (T, channels).

    Args:
        channel: which channel of a .wav file to take, from 0; by default all.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is of a different format or damaged; it is not a sound and a channel is given.
    """
    head = read_file(path)[:12]
    if head.startswith(RIFF):
        sound, rate = read_wav(path)
        return {"": FileArray(_channel(path, sound, channel), rate=rate)}
    if channel is not None:
        raise ValueError(f"{path}: expected a .wav file, of which --channel takes a channel")
    if head.startswith(ZIP):
        return {name: FileArray(array) for name, array in read_npz(path).items()}
    return {"": FileArray(read_npy(path)) if head.startswith(NPY_MAGIC) else _read_csv(path)}


def _channel(path: Path, sound: HostArray, channel: int | None) -> HostArray:
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    if channel is None or channels == 1 == channel + 1:
        return sound
    if not 0 <= channel < channels:
        raise ValueError(f"{path}: --channel: expected 0 to {channels - 1}, got {channel}")
    return sound[:, channel]


def _read_csv(path: Path) -> FileArray:
    with naming_file(path):
        try:
            table = parse_table(read_file(path))
        except UnicodeDecodeError as error:
            raise ContentError("of no known kind; expected .npy, .npz, .csv or .wav") from error
    array: HostArray = table.numbers.astype(np.int64) if table.integers.all() else table.numbers
    return FileArray(array[:, 0] if array.shape[1] == 1 else array, table.columns)


def write_arrays(path: Path, arrays: Mapping[str, HostArray]) -> None:
    """Writes arrays by name, in the format of the file's ending: several only to .npz. An existing file is replaced.

    A .csv file has a row for each time step: an array of two or more dimensions must have one sequence only, so that at
    most two of its dimensions are longer than 1.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
        ValueError: the ending is invalid, or the file cannot have these arrays.
    """
    ending = path.suffix.lower()
    if ending == ".npz":
        write_npz(path, arrays)
        return
    if len(arrays) != 1:
        raise ValueError(f"{path}: {ending} has one array, and there are {', '.join(map(shown, arrays))}; use .npz")
    ((name, array),) = arrays.items()
    if ending == ".npy":
        write_npy(path, array)
    elif ending == ".csv":
        write_atomically(path, _as_csv(path, name, array).encode())
    else:
        raise ValueError(f"{path}: expected the ending {', '.join(ENDINGS)}")


def _as_csv(path: Path, name: str, array: HostArray) -> str:
    longer = [size for size in array.shape[:-1] if size != 1]
    if len(longer) > 1:
        raise ValueError(f"{path}: a table has two dimensions, and {shown(name)} has shape {array.shape}; use .npy")
    table = array.reshape(-1, 1) if array.ndim < 2 else array.reshape(-1, array.shape[-1])
    header = [name] if table.shape[1] == 1 else [f"{name}_{k}" for k in range(table.shape[1])]
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(header)
    # A float is written with the fewest digits that are read as the same number.
    writer.writerows([[str(number) for number in row] for row in table])
    return content.getvalue()
