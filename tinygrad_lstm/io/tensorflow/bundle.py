"""Checkpoints of an index and files with the bytes of the tensors, as TensorFlow writes them since 0.12.

Reference: tensorflow/core/util/tensor_bundle/tensor_bundle.h
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygrad_lstm.backends.base import HostArray

from ...files import open_file
from ..atomic import naming_errors
from ..dtypes import ByteOrder, elements, item_size, shaped
from ..errors import ContentError, naming_file, shown
from .checksum import masked_crc32c
from .messages import ARRAY_TYPES, BUNDLE_ENTRY, BUNDLE_HEADER, TYPE_NAMES
from .parts import IS_PART, Part, joined, key_of_part, part_of
from .tensors import shape_of
from .wire import Message, from_wire

__all__ = ["bundle_arrays"]

MOST_NAMED = 20  # the most files in one message


@dataclass(frozen=True)
class _Place:
    """A tensor as the index describes it, or a part of one: its bytes are from `start` to `end` of a file."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    shard: int
    start: int
    end: int
    checksum: int


def bundle_arrays(
    prefix: Path, header: memoryview, table: Mapping[bytes, memoryview]
) -> tuple[dict[str, HostArray], dict[str, str]]:
    """The arrays of a checkpoint and the names of their element types, by name; checksums are compared.

    Args:
        prefix: the path without the ending of the index.
        header: the value in the index with an empty key.
        table: its other values.

    Raises:
        OSError: a file cannot be read.
        ContentError: files are missing (one error names all), cut off, damaged, or hostile.
    """
    entries = {key: from_wire(value, BUNDLE_ENTRY) for key, value in table.items()}
    names = {_name(key): entry for key, entry in entries.items() if not key.startswith(IS_PART)}
    whole = {name: _place(name, entry) for name, entry in names.items() if not entry["slices"]}
    whole = {name: place for name, place in whole.items() if place.type_name in ARRAY_TYPES}
    in_parts = {name: _parts(name, entry, entries) for name, entry in names.items() if entry["slices"]}
    places = [*whole.values(), *(place for parts in in_parts.values() for _, place in parts)]
    read = _read(prefix, from_wire(header, BUNDLE_HEADER), places)
    arrays = {name: read[place] for name, place in whole.items()}
    for name, parts in in_parts.items():
        shape = shape_of(name, names[name]["shape"])
        arrays[name] = joined(name, shape, [(part, read[place]) for part, place in parts])
    return arrays, {name: TYPE_NAMES[names[name]["dtype"]] for name in arrays}


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise ContentError(f"the name {shown(key)} is not UTF-8") from error


def _place(name: str, entry: Message) -> _Place:
    shape, start, size = shape_of(name, entry["shape"]), entry["offset"], entry["size"]
    type_name = TYPE_NAMES.get(entry["dtype"])
    if type_name is None:
        raise ContentError(f"{shown(name)} has the unknown element type {entry['dtype']}")
    if start < 0 or size < 0 or entry["shard_id"] < 0:
        raise ContentError(f"{shown(name)} has an invalid place")
    if type_name in ARRAY_TYPES and math.prod(shape) * item_size(type_name) != size:
        raise ContentError(f"{shown(name)} has {size} bytes, which do not match {type_name} of shape {shape}")
    return _Place(name, type_name, shape, entry["shard_id"], start, start + size, entry["crc32c"])


def _parts(name: str, entry: Message, entries: Mapping[bytes, Message]) -> list[tuple[Part, _Place]]:
    """The parts of a variable, which have entries of their own."""
    shape, found = shape_of(name, entry["shape"]), []
    for slice in entry["slices"]:
        part, own = part_of(name, slice, shape), entries.get(key_of_part(name, slice))
        if own is None:
            raise ContentError(f"{shown(name)} lacks one of its parts")
        place = _place(name, own)
        if place.shape != part.shape or own["dtype"] != entry["dtype"] or place.type_name not in ARRAY_TYPES:
            raise ContentError(f"{shown(name)} has a part with an invalid shape or element type")
        found.append((part, place))
    return found


def _read(prefix: Path, header: Message, places: Sequence[_Place]) -> dict[_Place, HostArray]:
    """The arrays at these places, each with memory of its own."""
    order: ByteOrder = "big" if header["endianness"] else "little"
    number = header["num_shards"]
    shards = sorted({place.shard for place in places})
    if shards and shards[-1] >= number:
        raise ContentError(f"it has tensors in the file {shards[-1] + 1} of {number}")
    paths = {shard: prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{number:05d}") for shard in shards}
    if missing := [path.name for path in paths.values() if not path.exists()]:
        raise ContentError(f"missing are the files {', '.join(map(shown, missing[:MOST_NAMED]))}")
    found: dict[_Place, HostArray] = {}
    for shard, path in paths.items():
        own = sorted((place for place in places if place.shard == shard), key=lambda place: (place.start, place.end))
        with open_file(path) as file, naming_file(path), naming_errors(path):
            end = 0
            for place in own:
                if place.start < end:
                    raise ContentError(f"the bytes of {shown(place.name)} are also those of a different tensor")
                end = place.end
            if end > file.seek(0, 2):
                raise ContentError(f"cut off: {shown(own[-1].name)} ends at byte {end}")
            for place in own:
                content = bytearray(place.end - place.start)
                file.seek(place.start)
                file.readinto(content)
                if masked_crc32c(content) != place.checksum:
                    raise ContentError(f"{shown(place.name)} is damaged: its checksum is wrong")
                found[place] = shaped(elements(content, place.type_name, order), place.shape, shown(place.name))
    return found
