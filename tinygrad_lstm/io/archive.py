"""Zip archives, read with limits: the files of PyTorch, NumPy and Keras are such archives."""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..files import open_file
from .atomic import naming_errors
from .errors import shown

__all__ = ["OUTSIDE", "Archive", "open_archive"]

# An archive may unpack to this many times its size, and a small one to at least this many bytes.
LARGEST_RATIO = 100
ALWAYS_ALLOWED = 2**20

# Names that may lead outside of the folder into which an archive is unpacked.
OUTSIDE = re.compile(r"^[/\\]|^\w:|(^|[/\\])\.\.([/\\]|$)")

PIECE = 2**16
ENCRYPTED = 0x1
SIGNATURE = b"PK\x03\x04"
LOCAL_HEADER = struct.Struct("<26xHH")  # ..., the lengths of the name and of the extra field


@dataclass(frozen=True, slots=True)
class Entry:
    """One file within an archive.

    Attributes:
        header: the offset of its local header; its packed bytes are from `start` to `end`.
        size: its unpacked size in bytes.
        checksum: CRC-32 of the unpacked bytes; 0 if it is missing, as with
            `torch.serialization.set_crc32_options(False)`.
        deflated: whether it is compressed with deflate.
    """

    name: str
    header: int
    start: int
    end: int
    size: int
    checksum: int
    deflated: bool


class Archive:
    """The files within a zip archive, by name.

    Nothing is written to the disk. Made by `open_archive`, which checks all that can be checked without unpacking.

    Attributes:
        path: the archive's path.
        file_size: the archive's size in bytes.
    """

    def __init__(self, path: Path, file: BinaryIO, file_size: int, entries: dict[str, Entry]) -> None:
        self.path = path
        self.file_size = file_size
        self._file = file
        self._entries = entries

    @property
    def names(self) -> Collection[str]:
        return self._entries.keys()

    def size(self, name: str) -> int:
        """The number of bytes that `read(name)` returns."""
        return self._entries[name].size

    def read(self, name: str) -> bytearray:
        """The bytes of one file of the archive, unpacked.

        Raises:
            OSError: the archive cannot be read.
            ValueError: the archive has no such file, or it is damaged.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise ValueError(f"{self.path}: the archive has no {shown(name)}")
        content = bytearray(entry.size)
        filled = checksum = 0
        for piece in self._pieces(entry):
            if filled + len(piece) > entry.size:
                raise ValueError(f"{self.path}: {shown(name)} unpacks to more than the {entry.size} bytes it declares")
            content[filled : filled + len(piece)] = piece
            filled += len(piece)
            checksum = zlib.crc32(piece, checksum)
        if filled < entry.size:
            raise ValueError(f"{self.path}: {shown(name)} has {filled} bytes and declares {entry.size}")
        if entry.checksum not in (checksum, 0):
            raise ValueError(f"{self.path}: {shown(name)} is damaged: its checksum is wrong")
        return content

    def _pieces(self, entry: Entry) -> Iterator[bytes]:
        """The unpacked bytes, in pieces."""
        if not entry.deflated:
            yield from self._packed_pieces(entry)
            return
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for packed in self._packed_pieces(entry):
                while packed and not unpacker.eof:
                    yield unpacker.decompress(packed, PIECE)
                    packed = unpacker.unconsumed_tail
            yield unpacker.flush()
        except zlib.error as error:
            raise ValueError(f"{self.path}: {shown(entry.name)} is damaged ({error})") from error

    def _packed_pieces(self, entry: Entry) -> Iterator[bytes]:
        with naming_errors(self.path):
            self._file.seek(entry.start)
            for start in range(entry.start, entry.end, PIECE):
                yield self._file.read(min(PIECE, entry.end - start))


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens a zip archive for the duration of the context.

    An archive is refused if it names a file outside itself, or one file twice; if files overlap, are encrypted, or are
    compressed with a method except deflate; or if it would unpack to more than 100 times its size (1 MiB, if that is
    more).

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is not a zip archive, or is cut off, damaged, or refused.
    """
    with open_file(path) as file:
        with naming_errors(path):
            file_size = os.fstat(file.fileno()).st_size
            entries = [_entry(path, file, file_size, info) for info in _listed(path, file)]
        _check(path, entries, file_size)
        yield Archive(path, file, file_size, {entry.name: entry for entry in entries})


def _listed(path: Path, file: BinaryIO) -> list[zipfile.ZipInfo]:
    """The files in the directory at the archive's end."""
    try:
        with zipfile.ZipFile(file) as archive:
            return [info for info in archive.infolist() if not info.filename.endswith("/")]
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError, struct.error) as error:
        raise ValueError(f"{path}: a zip archive that is cut off or damaged ({error})") from error


def _entry(path: Path, file: BinaryIO, file_size: int, info: zipfile.ZipInfo) -> Entry:
    name = info.filename
    if OUTSIDE.search(name):
        raise ValueError(f"{path}: the archive names a file outside itself, {shown(name)}")
    if info.flag_bits & ENCRYPTED:
        raise ValueError(f"{path}: {shown(name)} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{path}: {shown(name)} is packed with method {info.compress_type}; only deflate is known")
    header = b""
    if 0 <= info.header_offset < file_size:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or not header.startswith(SIGNATURE):
        raise ValueError(f"{path}: a zip archive that is cut off or damaged (no {shown(name)} where it should be)")
    name_length, extra_length = LOCAL_HEADER.unpack(header)
    start = info.header_offset + LOCAL_HEADER.size + name_length + extra_length
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Entry(name, info.header_offset, start, start + info.compress_size, info.file_size, info.CRC, deflated)


def _check(path: Path, entries: list[Entry], file_size: int) -> None:
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError(f"{path}: the archive has two files of one name")
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header):
        if entry.header < end or entry.end > file_size:
            raise ValueError(f"{path}: {shown(entry.name)} overlaps another file of the archive, or its end")
        if not entry.deflated and entry.size != entry.end - entry.start:
            raise ValueError(
                f"{path}: {shown(entry.name)} has {entry.end - entry.start} bytes and declares {entry.size}"
            )
        end = entry.end
    allowed = max(LARGEST_RATIO * file_size, ALWAYS_ALLOWED)
    total = sum(entry.size for entry in entries)
    if total > allowed:
        raise ValueError(f"{path}: the archive would unpack to {total} bytes; from its size at most {allowed} are read")
