"""HDF5 files as Keras writes them, read without the HDF5 library.

On damaged files that library sometimes crashes the process or does not end, which weights from elsewhere must not
cause. Keras uses little of the format: groups of the first kind, contiguous datasets, and attributes that are strings.
Only that is read here; everything else, such as links to other files, is refused by name.

Reference: The HDF Group, "HDF5 File Format Specification Version 3.0"; the comments name its sections.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tinygrad_lstm.backends.base import HostArray

from ..dtypes import BFLOAT16, ByteOrder, elements, shaped
from ..errors import ContentError, shown

__all__ = ["SIGNATURE", "Hdf5Contents", "read_hdf5"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

# II.A: the superblock, up to the address of the root group's header.
SUPERBLOCK = struct.Struct("<8sB4xBBx8xQ8xQ8x8xQ")
# III.A.1, III.B, III.C, III.D, III.E: a node of a group's tree, its leaves, their entries, and the two kinds of heaps.
TREE_NODE = struct.Struct("<4sBBH16x")
SYMBOL_NODE = struct.Struct("<4sBxH")
SYMBOL = struct.Struct("<QQI4x16x")
LOCAL_HEAP = struct.Struct("<4sB3xQ8xQ")
GLOBAL_HEAP = struct.Struct("<4sB3xQ")
HEAP_OBJECT = struct.Struct("<H6xQ")
# IV.A.1: an object's header, and that of each message in it.
OBJECT = struct.Struct("<B7xI4x")
MESSAGE = struct.Struct("<HHB3x")
ATTRIBUTE = struct.Struct("<BBHHH")
HEAP_STRING = struct.Struct("<IQI")  # IV.B: a length, the address of a global heap, an index there

SOFT_LINK = 2
MOST_DIMENSIONS = 32
SHARED = 0x2

# IV.A.2: the types of messages.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, FILTERS = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0B
ATTRIBUTES, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0x0C, 0x10, 0x11, 0x15

NEWER = "is written in a newer form of HDF5 than Keras uses; h5repack with --low=0 --high=0 rewrites it"

Messages = dict[int, list[bytes]]


class ElementType(NamedTuple):
    """The element type of a dataset: its name, its size in bytes, and the byte order."""

    name: str
    size: int
    byte_order: ByteOrder


def _integer(size: int, signed: bool, big: bool) -> bytes:
    return struct.pack("<BBxxIHH", 0x10, signed << 3 | big, size, 0, 8 * size)


def _float(size: int, exponent: int, big: bool) -> bytes:
    mantissa = 8 * size - exponent - 1
    bits = struct.pack("<HHBBBB", 0, 8 * size, mantissa, exponent, 0, mantissa)
    bias = 2 ** (exponent - 1) - 1
    return struct.pack("<BBBxI", 0x11, 0x20 | big, 8 * size - 1, size) + bits + struct.pack("<I", bias)


def _element_types() -> Iterator[tuple[bytes, ElementType]]:
    """The beginning of a datatype message (IV.A.2.d) for each element type."""
    orders: tuple[ByteOrder, ByteOrder] = ("little", "big")
    for big, order in enumerate(orders):
        for size in (1, 2, 4, 8):
            yield _integer(size, True, bool(big)), ElementType(f"int{8 * size}", size, order)
            yield _integer(size, False, bool(big)), ElementType(f"uint{8 * size}", size, order)
        for size, exponent in ((2, 5), (4, 8), (8, 11)):
            yield _float(size, exponent, bool(big)), ElementType(f"float{8 * size}", size, order)
    # h5py writes booleans as an enumeration, and bfloat16, which it does not know, as two opaque bytes.
    members = _integer(1, True, False) + b"FALSE\0\0\0TRUE\0\0\0\0" + b"\0\1"
    yield struct.pack("<BHxI", 0x18, 2, 1) + members, ElementType("bool", 1, "little")
    yield struct.pack("<B3xI", 0x15, 2), ElementType(BFLOAT16, 2, "little")


ELEMENT_TYPES = dict(_element_types())


@dataclass(frozen=True, slots=True)
class Hdf5Contents:
    """The contents of an HDF5 file by path, such as "layers/lstm/cell/vars/0"; the root's path is "".

    Attributes:
        arrays: the datasets.
        strings: for each group and dataset the attributes that are one or several strings, by name.
        bfloat16: the paths of the arrays that are bfloat16 in the file.
    """

    arrays: dict[str, HostArray] = field(default_factory=dict)
    strings: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    bfloat16: list[str] = field(default_factory=list)


def read_hdf5(content: bytearray) -> Hdf5Contents:
    """The datasets and strings of an HDF5 file.

    Raises:
        ContentError: it is not an HDF5 file, is cut off or damaged, or has content that Keras does not write.
    """
    try:
        return _Reader(content).contents()
    except struct.error as error:
        raise ContentError("an HDF5 file that is damaged: a structure in it is cut off") from error


class _Reader:
    def __init__(self, content: bytearray) -> None:
        self._content = memoryview(content)
        # At most the file's size is read in total. So reading ends at parts that overlap or refer to themselves: memory
        # and time are proportional to the file's size. Strings, which paths repeat, are counted separately.
        self._bytes_left = len(content)
        self._strings_left = len(content)
        self._extents: list[tuple[int, int, str]] = []  # of each array: its start, end and path
        self._heaps: dict[int, dict[int, bytes]] = {}

    def contents(self) -> Hdf5Contents:
        found = Hdf5Contents()
        pending = [("", self._root())]
        while pending:
            path, address = pending.pop()
            if path in found.strings:
                raise ContentError(f"an HDF5 file that is damaged: it has two {shown(path)}")
            messages = self._messages(path, address)
            found.strings[path] = dict(self._strings(path, messages.get(ATTRIBUTES, ())))
            if SYMBOL_TABLE in messages:
                children = list(self._children(path, messages[SYMBOL_TABLE][0]))
                pending += reversed(children)
            else:
                found.arrays[path] = self._array(path, messages)
                if _element_type(path, messages[DATATYPE][0]).name == BFLOAT16:
                    found.bfloat16.append(path)
        taken = 0
        for start, end, path in sorted(self._extents):
            if start < taken:
                raise ContentError(f"the dataset {shown(path)} overlaps a different one, or has two names")
            taken = end
        return found

    def _take(self, address: int, size: int) -> memoryview:
        """A part of the file, counted as read."""
        if address + size > len(self._content):
            raise ContentError("an HDF5 file that is cut off or damaged: it points past its end")
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise ContentError("an HDF5 file that is damaged: parts of it overlap")
        return self._content[address : address + size]

    def _string(self, text: bytes, stem: str = "") -> str:
        self._strings_left -= len(stem) + len(text)
        if self._strings_left < 0:
            raise ContentError("an HDF5 file that is damaged: its strings overlap")
        try:
            return stem + text.decode()
        except UnicodeDecodeError as error:
            raise ContentError("an HDF5 file that is damaged: a string in it is not UTF-8") from error

    def _root(self) -> int:
        """The address of the root group's header."""
        if self._content[: len(SIGNATURE)] != SIGNATURE:
            raise ContentError("is not an HDF5 file")
        _, version, offset_size, length_size, base, end, root = SUPERBLOCK.unpack(self._take(0, SUPERBLOCK.size))
        if version > 0:
            raise ContentError(NEWER)
        if (offset_size, length_size, base) != (8, 8, 0):
            raise ContentError("an HDF5 file that is damaged: its superblock is not one that Keras writes")
        if end > len(self._content):
            raise ContentError(f"an HDF5 file that is cut off: it has {len(self._content)} of {end} bytes")
        return int(root)

    def _messages(self, path: str, address: int) -> Messages:
        """The messages in the header of an object, by type (IV.A.1)."""
        version, size = OBJECT.unpack(self._take(address, OBJECT.size))
        if version != 1:
            raise ContentError(f"{shown(path)} {NEWER}")
        found: Messages = {}
        blocks = [(address + OBJECT.size, size)]
        while blocks:
            block = bytes(self._take(*blocks.pop()))
            place = 0
            while place < len(block):
                kind, size, flags = MESSAGE.unpack_from(block, place)
                place += MESSAGE.size + size
                message = block[place - size : place]
                if place > len(block):
                    raise ContentError(f"an HDF5 file that is damaged: the header of {shown(path)} is cut off")
                if kind == CONTINUATION:
                    blocks.append(struct.unpack_from("<QQ", message))
                elif flags & SHARED:
                    raise ContentError(f"{shown(path)} shares its type with others, which Keras's files do not")
                else:
                    found.setdefault(kind, []).append(message)
        if {LINK_INFO, LINK}.intersection(found):
            raise ContentError(
                f"{shown(path)} has links to other files, or layers whose names are not ASCII, neither of which is"
                " read; save the model as .keras"
            )
        if ATTRIBUTE_INFO in found:
            raise ContentError(f"{shown(path)} {NEWER}")
        return found

    def _children(self, path: str, message: bytes) -> Iterator[tuple[str, int]]:
        """The paths of a group's members, and the addresses of their headers (III.A.1 to III.D)."""
        tree, heap = struct.unpack_from("<QQ", message)
        signature, version, size, address = LOCAL_HEAP.unpack(self._take(heap, LOCAL_HEAP.size))
        self._check(signature == b"HEAP" and version == 0, path)
        names = bytes(self._take(address, size))
        nodes = [tree]
        while nodes:
            node = nodes.pop()
            signature, kind, level, number = TREE_NODE.unpack(self._take(node, TREE_NODE.size))
            self._check(signature == b"TREE" and kind == 0, path)
            below = struct.unpack(f"<{2 * number}Q", self._take(node + TREE_NODE.size, 16 * number))[1::2]
            if level:
                nodes += reversed(below)
                continue
            for leaf in below:
                yield from self._symbols(path, leaf, names)

    def _symbols(self, path: str, leaf: int, names: bytes) -> Iterator[tuple[str, int]]:
        signature, version, number = SYMBOL_NODE.unpack(self._take(leaf, SYMBOL_NODE.size))
        self._check(signature == b"SNOD" and version == 1, path)
        for start, address, kind in SYMBOL.iter_unpack(self._take(leaf + SYMBOL_NODE.size, number * SYMBOL.size)):
            end = names.find(b"\0", start)
            self._check(end > start and b"/" not in names[start:end], path)
            name = self._string(names[start:end], f"{path}/" if path else "")
            if kind == SOFT_LINK:
                raise ContentError(f"{shown(name)} is a soft link, which Keras does not write")
            yield name, address

    def _array(self, path: str, messages: Messages) -> HostArray:
        if not {DATASPACE, DATATYPE, LAYOUT} <= messages.keys():
            raise ContentError(f"{shown(path)} is neither a group nor a dataset")
        if EXTERNAL in messages:
            raise ContentError(f"the dataset {shown(path)} is in a different file, which is not read")
        shape = _shape(messages[DATASPACE][0])
        kind = _element_type(path, messages[DATATYPE][0])
        version, layout = struct.unpack_from("<BB", messages[LAYOUT][0])
        if FILTERS in messages or version not in (3, 4) or layout != 1:
            raise ContentError(
                f"the dataset {shown(path)} is compressed or not in one piece, as Keras does not write it;"
                " h5repack with -f NONE -l CONTI rewrites it"
            )
        address, size = struct.unpack_from("<QQ", messages[LAYOUT][0], 2)
        if size != math.prod(shape) * kind.size:
            raise ContentError(f"the dataset {shown(path)} of shape {shape} has {size} bytes, {kind.size} an element")
        content = memoryview(b"")
        if size:  # an empty array has no address
            content = self._take(address, size)
            self._extents.append((address, address + size, path))
        return shaped(elements(content, kind.name, kind.byte_order), shape, f"the dataset {shown(path)}")

    def _strings(self, path: str, messages: list[bytes] | tuple[()]) -> Iterator[tuple[str, list[str]]]:
        """The attributes of an object that are strings, by name (IV.A.2.m)."""
        for message in messages:
            version, flags, *sizes = ATTRIBUTE.unpack_from(message)
            self._check(version in (1, 2, 3) and (version == 1 or flags == 0), path)
            place = ATTRIBUTE.size + (version == 3)
            parts = []
            for size in sizes:
                parts.append(message[place : place + size])
                place += size + (-size % 8 if version == 1 else 0)
            name, datatype, dataspace = parts
            kind, character, width = struct.unpack_from("<BB2xI", datatype)
            number = math.prod(_shape(dataspace))
            if kind == 0x13:
                self._check(width > 0 and len(message) - place >= number * width, path)
                pieces = [message[place + k * width : place + (k + 1) * width].rstrip(b"\0") for k in range(number)]
            elif kind == 0x19 and character & 0xF == 1:
                self._check(len(message) - place >= number * HEAP_STRING.size, path)
                pieces = [
                    self._heap_string(*HEAP_STRING.unpack_from(message, place + k * HEAP_STRING.size))
                    for k in range(number)
                ]
            else:
                continue
            yield self._string(name.rstrip(b"\0")), [self._string(piece) for piece in pieces]

    def _heap_string(self, length: int, address: int, index: int) -> bytes:
        """A string of variable length, from a global heap (III.E)."""
        if not length:
            return b""
        if address not in self._heaps:
            self._heaps[address] = dict(self._heap_objects(address))
        text = self._heaps[address].get(index, b"")
        if len(text) < length:
            raise ContentError("an HDF5 file that is damaged: a string is not where it should be")
        return text[:length]

    def _heap_objects(self, address: int) -> Iterator[tuple[int, bytes]]:
        signature, version, size = GLOBAL_HEAP.unpack(self._take(address, GLOBAL_HEAP.size))
        self._check(signature == b"GCOL" and version == 1 and size >= GLOBAL_HEAP.size, "")
        heap = bytes(self._take(address + GLOBAL_HEAP.size, size - GLOBAL_HEAP.size))
        place = 0
        while place + HEAP_OBJECT.size <= len(heap):
            index, size = HEAP_OBJECT.unpack_from(heap, place)
            if not index:  # free space
                return
            place += HEAP_OBJECT.size
            yield index, heap[place : place + size]
            place += size + -size % 8

    def _check(self, holds: bool, path: str) -> None:
        if not holds:
            raise ContentError(f"an HDF5 file that is damaged at {shown(path or '/')}")


def _shape(message: bytes) -> tuple[int, ...]:
    """The dimensions in a dataspace message (IV.A.2.b)."""
    version, rank = struct.unpack_from("<BB", message)
    if rank > MOST_DIMENSIONS:
        raise ContentError(f"an HDF5 file that is damaged: it has an array of {rank} dimensions")
    return struct.unpack_from(f"<{rank}Q", message, {1: 8}.get(version, 4))


def _element_type(path: str, message: bytes) -> ElementType:
    for beginning, kind in ELEMENT_TYPES.items():
        if message.startswith(beginning):
            return kind
    raise ContentError(f"the dataset {shown(path)} has elements that are not integers, floats or booleans")
