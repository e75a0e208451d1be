"""Tensors within TensorFlow's messages.

Reference: tensorflow/core/framework/tensor.proto
"""

import math
from collections.abc import Sequence

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..dtypes import BFLOAT16, elements, item_size, shaped
from ..errors import ContentError, shown
from .messages import ARRAY_TYPES, TYPE_NAMES
from .wire import Message

__all__ = ["array_of", "shape_of"]

MOST_DIMENSIONS = 32
LARGEST_FILL = 2**20
"""The most bytes of a tensor of which the file has only the first elements, of which the last is repeated."""

_FIELDS = {
    **{"float32": "float_val", "float64": "double_val", "int64": "int64_val", "bool": "bool_val"},
    **{"float16": "half_val", BFLOAT16: "half_val", "uint32": "uint32_val", "uint64": "uint64_val"},
    **{"complex64": "scomplex_val", "complex128": "dcomplex_val"},
}
"""The field with the elements of each type; of other types it is int_val."""

_AS_BITS = {"float16", BFLOAT16}
_IN_PAIRS = {"complex64": "float32", "complex128": "float64"}


def shape_of(name: str, shape: Message) -> tuple[int, ...]:
    """The shape of a tensor.

    Raises:
        ContentError: a length is negative, or there are too many dimensions.
    """
    lengths = tuple(dim["size"] for dim in shape["dim"])
    if len(lengths) > MOST_DIMENSIONS or any(length < 0 for length in lengths):
        raise ContentError(f"{shown(name)} has an invalid shape")
    return lengths


def array_of(name: str, tensor: Message, shape: Sequence[int] | None = None) -> HostArray:
    """A tensor as an array of its own; bfloat16 becomes float32.

    Args:
        name: what it is called, for messages.
        tensor: the message.
        shape: its shape, if the message does not have it.

    Raises:
        ContentError: it has a type without arrays, or its elements do not match its shape.
    """
    type_name = TYPE_NAMES.get(tensor["dtype"], "")
    if type_name not in ARRAY_TYPES:
        raise ContentError(f"{shown(name)} has the element type {shown(type_name or str(tensor['dtype']))}")
    lengths = shape_of(name, tensor["tensor_shape"]) if shape is None else tuple(shape)
    number = math.prod(lengths)
    found = _elements(name, tensor, type_name)
    if found.size < number and (found.size or not tensor["tensor_content"]):
        if number * item_size(type_name) > max(LARGEST_FILL, found.nbytes):
            raise ContentError(f"{shown(name)} has {found.size} elements, far fewer than its shape {lengths}")
        last = found[-1:] if found.size else np.zeros(1, found.dtype)
        found = np.concatenate([found, np.broadcast_to(last, number - found.size)])
    if found.size != number:
        raise ContentError(f"{shown(name)} has {found.size} elements, which do not match its shape {lengths}")
    return shaped(found, lengths, shown(name))


def _elements(name: str, tensor: Message, type_name: str) -> HostArray:
    """The elements that the message has, of one dimension."""
    if tensor["tensor_content"]:
        return elements(tensor["tensor_content"], type_name).copy()
    numbers = tensor[_FIELDS.get(type_name, "int_val")]
    try:
        if type_name in _AS_BITS:
            return elements(bytearray(np.array(numbers, "<u2").tobytes()), type_name)
        if type_name in _IN_PAIRS:
            return np.array(numbers[: len(numbers) // 2 * 2], _IN_PAIRS[type_name]).view(type_name)
        if type_name == "uint64":
            numbers = [number % 2**64 for number in numbers]
        return np.array(numbers, type_name)
    except OverflowError as error:
        raise ContentError(f"{shown(name)} has elements that {type_name} does not have") from error
