"""Variables that were saved in parts.

Reference: tensorflow/core/framework/tensor_slice.proto, tensorflow/core/util/saved_tensor_slice_util.h
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..errors import ContentError, shown
from .wire import Message

__all__ = ["IS_PART", "Part", "joined", "key_of_part", "part_of"]

IS_PART = b"\x00"
"""The beginning of the key of a part in an index."""


class Part(NamedTuple):
    """A part of a variable: where it begins, and its shape."""

    starts: tuple[int, ...]
    shape: tuple[int, ...]


def part_of(name: str, slice: Message, shape: Sequence[int]) -> Part:
    """A part of a variable of this shape, from its message.

    Raises:
        ContentError: it is not within the variable.
    """
    extents = slice["extent"]
    starts = tuple(extent["start"] for extent in extents)
    lengths = tuple(extent.get("length", whole) for extent, whole in zip(extents, shape, strict=False))
    ends = map(sum, zip(starts, lengths, strict=False))
    if len(extents) != len(shape) or min(starts + lengths, default=0) < 0 or any(map(int.__gt__, ends, shape)):
        raise ContentError(f"{shown(name)} has a part that is not within it")
    return Part(starts, lengths)


def key_of_part(name: str, slice: Message) -> bytes:
    """The key in the index of a part of a variable.

    Reference: tensorflow/core/lib/strings/ordered_code.h
    """
    escaped = name.encode("utf-8").replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff")
    extents = slice["extent"]
    key = IS_PART + escaped + b"\x00\x01" + (bytes([1, len(extents) % 256]) if extents else b"\x00")
    for extent in extents:
        key += _ordered(extent["start"]) + _ordered(extent.get("length", -1))
    return key


def _ordered(number: int) -> bytes:
    """A signed integer such that bytes have the order of integers: the first bits say how many bytes it has."""
    size = 1
    while not -(1 << (7 * size - 1)) <= number < 1 << (7 * size - 1):
        size += 1
    begin = ((1 << size) - 1) << (7 * size)
    return ((number & ((1 << (8 * size)) - 1)) ^ begin).to_bytes(size, "big")


def joined(name: str, shape: tuple[int, ...], parts: Sequence[tuple[Part, HostArray]]) -> HostArray:
    """A variable of this shape.

    Raises:
        ContentError: the parts do not cover it, or have different element types.
    """
    dtypes = {array.dtype for _, array in parts}
    if len(dtypes) > 1:
        raise ContentError(f"the parts of {shown(name)} have different element types")
    number = sum(array.size for _, array in parts)
    if not parts or number != math.prod(shape):
        raise ContentError(f"the parts of {shown(name)} have {number} elements, and its shape is {shape}")
    result: HostArray = np.empty(shape, dtypes.pop())
    covered: HostArray = np.zeros(shape, bool)
    for part, array in parts:
        region = tuple(slice(start, start + length) for start, length in zip(part.starts, part.shape, strict=True))
        result[region], covered[region] = array, True
    if not covered.all():
        raise ContentError(f"the parts of {shown(name)} do not cover it")
    return result
