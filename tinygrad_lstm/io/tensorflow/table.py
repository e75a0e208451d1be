"""Sorted tables of LevelDB's format, as which TensorFlow writes the index of a checkpoint.

Reference: https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

from collections.abc import Iterator

from ..errors import ContentError
from .checksum import masked_crc32c
from .wire import varint

__all__ = ["MAGIC", "read_table"]

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
"""The last bytes of a table."""

FOOTER = 48  # bytes at the end, which say where the index of blocks is
TRAILER = 5  # bytes after each block: how it is compressed, and a checksum
PLAIN, SNAPPY = 0, 1
LARGEST_SNAPPY_RATIO = 32  # a copy of up to 64 bytes takes at least 3

# Each key is stored as its difference from the one before. Together they may be this many times as large as the file.
LARGEST_KEY_RATIO = 100
ALWAYS_ALLOWED = 2**20


def read_table(content: bytes) -> dict[bytes, memoryview]:
    """The values of a table by their keys, in its order.

    Raises:
        ContentError: it is not a table, is cut off or damaged, or would take much more memory than its size.
    """
    if len(content) < FOOTER or not content.endswith(MAGIC):
        raise ContentError("not an index of a TensorFlow checkpoint, or cut off")
    view = memoryview(content)
    footer = view[-FOOTER:]
    allowed = max(LARGEST_KEY_RATIO * len(content), ALWAYS_ALLOWED)
    found: dict[bytes, memoryview] = {}
    at = 0
    for _ in range(2):  # the index of metadata is not needed
        _, at = varint(footer, at)
    for _, handle in _entries(_block(view, footer[at:])):
        for key, value in _entries(_block(view, handle)):
            allowed -= len(key)
            if allowed < 0:
                raise ContentError("the names in the index take much more memory than the file")
            if key in found:
                raise ContentError("the index has a name twice")
            found[key] = value
    return found


def _block(content: memoryview, handle: memoryview) -> memoryview:
    """A block of the table."""
    start, at = varint(handle, 0)
    size, _ = varint(handle, at)
    end = start + size
    if end + TRAILER > len(content):
        raise ContentError("the index is cut off")
    kind = content[end]
    if masked_crc32c(content[start : end + 1]) != int.from_bytes(content[end + 1 : end + TRAILER], "little"):
        raise ContentError("the index is damaged: a checksum is wrong")
    if kind not in (PLAIN, SNAPPY):
        raise ContentError(f"the index is compressed with the unknown method {kind}")
    return content[start:end] if kind == PLAIN else memoryview(_unpacked(content[start:end]))


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a block."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ContentError("the index is damaged: a block is too short")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or own + size > end - at:
            raise ContentError("the index is damaged: an entry is cut off")
        key = key[:shared] + bytes(block[at : at + own])
        at += own
        yield key, block[at : at + size]
        at += size


def _unpacked(packed: memoryview) -> bytearray:
    """The bytes that Snappy compressed.

    Reference: https://github.com/google/snappy/blob/main/format_description.txt
    """
    size, at = varint(packed, 0)
    if size > LARGEST_SNAPPY_RATIO * len(packed):
        raise ContentError(f"the index is damaged: {len(packed)} bytes would unpack to {size}")
    unpacked = bytearray()
    while at < len(packed):
        tag = packed[at]
        kind, upper = tag & 3, tag >> 2
        if kind == 0:  # bytes as they are; from 60 on, `upper` says in how many bytes their number is
            more = max(upper - 59, 0)
            length = 1 + (int.from_bytes(packed[at + 1 : at + 1 + more], "little") if more else upper)
            at += 1 + more
            unpacked += packed[at : at + length]
            at += length
        else:  # a copy of what was unpacked before
            width = {1: 1, 2: 2, 3: 4}[kind]
            offset = int.from_bytes(packed[at + 1 : at + 1 + width], "little")
            length = (upper & 7) + 4 if kind == 1 else upper + 1
            offset += (upper >> 3) << 8 if kind == 1 else 0
            at += 1 + width
            if not 0 < offset <= len(unpacked):
                raise ContentError("the index is damaged: it cannot be unpacked")
            piece = unpacked[-offset : len(unpacked) - offset + length]
            unpacked += (piece * (length // len(piece) + 1))[:length]
        if len(unpacked) > size:
            break
    if len(unpacked) != size or at > len(packed):
        raise ContentError("the index is damaged: it cannot be unpacked")
    return unpacked
