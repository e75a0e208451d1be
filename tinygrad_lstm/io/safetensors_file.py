"""Named arrays and strings in one safetensors file.

Reference: https://huggingface.co/docs/safetensors
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..files import open_file
from .atomic import naming_errors, write_atomically
from .dtypes import BFLOAT16, elements, item_size, shaped
from .errors import ContentError, naming_file, shown

__all__ = ["encode_safetensors", "read_metadata", "read_safetensors", "write_safetensors"]

# The format's names of the supported element types, and NumPy's names, in the order in which files have their tensors.
TYPES = {
    **{"U64": "uint64", "I64": "int64", "F64": "float64", "C64": "complex64"},
    **{"F32": "float32", "U32": "uint32", "I32": "int32"},
    **{"BF16": BFLOAT16, "F16": "float16", "U16": "uint16", "I16": "int16"},
    **{"I8": "int8", "U8": "uint8", "BOOL": "bool"},
}
METADATA = "__metadata__"
NAME = re.compile("[^\ud800-\udfff]*")  # surrogates are not valid UTF-8

LENGTH = 8  # bytes at the beginning, with the length of the header
LONGEST_HEADER = 100_000_000  # as for all readers of the format
MOST_DIMENSIONS = 32
FIELDS = {"dtype", "shape", "data_offsets"}

# The header is a JSON object of objects, which hold strings and lists of integers. It is parsed entry by entry with
# this grammar, since a hostile header would take many times its size in a general JSON parser. The quantifiers are
# possessive, so that there is no backtracking.
SPACE = rb"[ \t\r\n]*+"
STRING = rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"'
NUMBERS = rb"\[[\d, \t\r\n]*+\]"
FIELD = SPACE + STRING + SPACE + b":" + SPACE + b"(?:" + STRING + b"|" + NUMBERS + b")" + SPACE
OBJECT = rb"\{(?:" + SPACE + rb"|" + FIELD + rb"(?:," + FIELD + rb")*+)\}"
ENTRY = re.compile(SPACE + b"(" + STRING + b")" + SPACE + b":" + SPACE + b"(" + OBJECT + b")" + SPACE + b"([,}])")
EMPTY = re.compile(SPACE + rb"\}" + SPACE)
TYPE_NAME = re.compile(r"\w{1,20}", re.ASCII)


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is repeated")
    return content


DECODER = json.JSONDecoder(object_pairs_hook=_unrepeated)


class Contents(NamedTuple):
    """The contents of a safetensors file: tensors, strings, and the names of tensors that are bfloat16 in the file."""

    tensors: dict[str, HostArray]
    metadata: dict[str, str]
    bfloat16: list[str]


class _Place(NamedTuple):
    """A tensor as the header describes it: its bytes are from `start` to `end` after the header."""

    start: int
    end: int
    name: str
    type_name: str
    shape: tuple[int, ...]


def write_safetensors(path: str | Path, tensors: Mapping[str, HostArray], metadata: Mapping[str, str]) -> None:
    """Writes named arrays and strings to a safetensors file, atomically.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
        ValueError: as for `encode_safetensors`.
    """
    try:
        content = encode_safetensors(tensors, metadata)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    write_atomically(path, content)


def encode_safetensors(tensors: Mapping[str, HostArray], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file with these named arrays and strings.

    Raises:
        ValueError: an array's element type or name is not supported.
    """
    try:
        from safetensors.numpy import save
    except ImportError:  # it has no wheel for WebAssembly
        save = _serialized  # type: ignore[assignment]
    for name, array in tensors.items():
        if name == METADATA or not NAME.fullmatch(name):
            raise ValueError(f"a safetensors file can have no array that is called {shown(name)}")
        if array.dtype.name not in TYPES.values():
            raise ValueError(f"a safetensors file cannot hold {shown(name)}, an array of {array.dtype}; convert it")
    # The format stores bytes in C order; safetensors would write a strided array's memory unchanged.
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    return save(contiguous, dict(metadata) or None)


def _serialized(tensors: dict[str, HostArray], metadata: dict[str, str] | None) -> bytes:
    """The bytes that `safetensors.numpy.save` returns for contiguous arrays.

    It writes metadata in an arbitrary order, this function in the order of the dict.
    """
    types = list(TYPES.values())
    names = sorted(tensors, key=lambda name: (types.index(tensors[name].dtype.name), name))
    header: dict[str, object] = {} if metadata is None else {METADATA: metadata}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        type_name = list(TYPES)[types.index(tensors[name].dtype.name)]
        header[name] = {"dtype": type_name, "shape": tensors[name].shape, "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH)  # so that the first tensor is aligned
    little_endian = [tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False) for name in names]
    return b"".join([len(text).to_bytes(LENGTH, "little"), text, *(array.tobytes() for array in little_endian)])


def read_safetensors(path: str | Path) -> Contents:
    """Reads a safetensors file; bfloat16 becomes float32.

    The safetensors library is not used, since it parses a header of up to 100 MB in Rust, and aborts the process if it
    has not enough memory.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is not a safetensors file, is only a part of one, or has tensors of a type that NumPy
            lacks.
    """
    with open_file(path) as file, naming_errors(path), naming_file(path):
        places, metadata = _header(file)
        arrays = {place.name: _array(file, place) for place in places}
    tensors = {name: arrays[name] for name in sorted(arrays)}
    return Contents(tensors, metadata, sorted(place.name for place in places if place.type_name == BFLOAT16))


def read_metadata(path: str | Path) -> dict[str, str]:
    """The strings of a safetensors file. Raises the errors of `read_safetensors`."""
    with open_file(path) as file, naming_errors(path), naming_file(path):
        return _header(file)[1]


def _header(file: BufferedReader) -> tuple[list[_Place], dict[str, str]]:
    """The places of the tensors, in order, and the metadata. The file's position is then after its header."""
    file_size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(LENGTH), "little")
    if file_size < LENGTH + length:
        raise _partial(f"its header of {length} bytes is cut off")
    if length > LONGEST_HEADER:
        raise _partial(f"its header has {length} bytes; at most {LONGEST_HEADER} are read")
    places: list[_Place] = []
    metadata: dict[str, str] = {}
    names = set()
    for name, content in _entries(file.read(length)):
        if name in names:
            raise _partial(f"its header has two {shown(name)}")
        names.add(name)
        if name == METADATA:
            metadata = _metadata(content)
        else:
            places.append(_place(name, content))
    places.sort()
    end = 0
    for place in places:
        if place.start != end:
            raise _partial(f"{shown(place.name)} does not begin where another tensor ends")
        end = place.end
    if LENGTH + length + end != file_size:
        raise _partial(f"its header describes {end} bytes of tensors, but {file_size - LENGTH - length} are there")
    return places, metadata


def _entries(header: bytes) -> Iterator[tuple[str, dict[str, object]]]:
    """The entries of a header."""
    at = len(header) if EMPTY.fullmatch(header, 1) else 1
    closed = at > 1
    while not closed:
        entry = ENTRY.match(header, at)
        if entry is None:
            raise _partial(f"its header cannot be read from byte {at} on")
        try:
            name = json.loads(entry[1].decode())
            name.encode()  # escapes may encode surrogates
            content = DECODER.decode(entry[2].decode())
        except ValueError as error:
            raise _partial(f"its header cannot be read from byte {at} on") from error
        yield name, content
        at, closed = entry.end(), entry[3] == b"}"
    if header[:1] != b"{" or header[at:].strip(b" \t\r\n"):
        raise _partial("its header is not one JSON object")


def _metadata(content: dict[str, object]) -> dict[str, str]:
    found = {name: text for name, text in content.items() if isinstance(text, str)}
    if len(found) < len(content):
        raise _partial("its metadata are not strings")
    return found


def _place(name: str, content: dict[str, object]) -> _Place:
    """The place of a tensor, after its description is checked."""
    match content:
        case {"dtype": str() as kind, "shape": list() as shape, "data_offsets": [int() as start, int() as end]}:
            good = content.keys() == FIELDS and TYPE_NAME.fullmatch(kind)
        case _:
            good = None
    if not good:
        raise _partial(f"{shown(name)} is not described by a dtype, a shape and two data_offsets")
    if kind not in TYPES:
        raise ContentError(f"{shown(name)} has elements of {kind}, a type that NumPy lacks")
    if len(shape) > MOST_DIMENSIONS:
        raise ContentError(f"NumPy has no array for a tensor in it, {shown(name)} of {len(shape)} dimensions")
    if start > end or end - start != math.prod(shape) * item_size(TYPES[kind]):
        raise _partial(f"{shown(name)} of shape {tuple(shape)} and {kind} cannot have {end - start} bytes")
    return _Place(start, end, name, TYPES[kind], tuple(shape))


def _array(file: BufferedReader, place: _Place) -> HostArray:
    """The next array in the file."""
    content = np.empty(place.end - place.start, np.uint8).data
    if file.readinto(content) < len(content):
        raise _partial("it has become shorter")
    return shaped(elements(content, place.type_name), place.shape, shown(place.name))


def _partial(reason: str) -> ContentError:
    return ContentError(f"not a whole safetensors file ({reason})")
