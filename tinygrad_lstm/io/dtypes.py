"""The element types in files, and how bytes become arrays.

The types have NumPy's names here, such as "float32" and "f4", and "bfloat16", which NumPy lacks.
"""

import math
import re
import sys
from typing import Any, Literal

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_bool

from .errors import ContentError, shown

__all__ = [
    "BFLOAT16",
    "TORCH_STORAGES",
    "TORCH_TYPES",
    "ByteOrder",
    "array_dtype",
    "elements",
    "is_numpy_type",
    "item_size",
    "numpy_array",
    "shaped",
]

Bytes = bytearray | memoryview
ByteOrder = Literal["little", "big"]

BYTE_ORDERS: dict[str, ByteOrder] = {"<": "little", ">": "big"}

BFLOAT16 = "bfloat16"

TORCH_TYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", BFLOAT16, "float32", "float64", "complex64", "complex128"),
}
TORCH_STORAGES = {
    "BoolStorage": "bool",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}

# NumPy's type codes: the byte order, then numbers (without the long types, whose sizes differ between machines) or
# strings.
NUMPY_TYPE = re.compile(r"([<>|=]?)(b1|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,5})")


def item_size(type_name: str) -> int:
    """The number of bytes that an element takes in a file."""
    return _stored(type_name).itemsize


def _stored(type_name: str) -> np.dtype[Any]:
    return np.dtype("uint16" if type_name == BFLOAT16 else type_name)


def elements(content: Bytes, type_name: str, byte_order: ByteOrder = "little") -> HostArray:
    """The bytes of a file as an array of one dimension, in native byte order; bfloat16 as float32.

    It is a view of the bytes if no conversion is needed.

    Raises:
        ContentError: the number of bytes is not a multiple of the element size.
    """
    dtype = _stored(type_name)
    if len(content) % dtype.itemsize:
        raise ContentError(f"{len(content)} bytes are not a multiple of the size of {type_name}")
    array: HostArray = np.frombuffer(content, dtype)
    if byte_order != sys.byteorder:
        array = array.byteswap()
    if not array.flags.aligned:
        array = array.copy()
    if is_bool(dtype):  # bytes other than 0 and 1 would give wrong sums and products
        array = array.view(np.uint8) != 0
    if type_name == BFLOAT16:  # the upper half of a float32
        wide = array.astype(np.uint32)
        wide <<= 16
        array = wide.view(np.float32)
    return array


def array_dtype(type_name: str) -> np.dtype[Any]:
    """The dtype of the arrays that `elements` returns: float32 for bfloat16."""
    return elements(bytearray(), type_name).dtype


def is_numpy_type(code: str) -> bool:
    """Whether `numpy_array` supports NumPy's type with this code."""
    return NUMPY_TYPE.fullmatch(code) is not None


def numpy_array(content: Bytes, code: str, shape: tuple[int, ...], fortran_order: bool) -> HostArray:
    """An array from the bytes that NumPy saved, a view of them if possible.

    Args:
        code: NumPy's code of the element type, such as "<f4".

    Raises:
        ContentError: the elements are neither numbers nor strings, or their number does not match the shape.
    """
    parts = NUMPY_TYPE.fullmatch(code)
    if parts is None:
        raise ContentError(f"refuses an array of NumPy's type {shown(code)}{', Python objects' if 'O' in code else ''}")
    values = elements(content, parts[2], BYTE_ORDERS.get(parts[1], sys.byteorder))
    if math.prod(shape) != values.size:
        raise ContentError(f"its shape {shape} does not have the {values.size} elements that are there")
    return shaped(values, shape, order="F" if fortran_order else "C")


def shaped(values: HostArray, shape: tuple[int, ...], name: str = "", order: Literal["C", "F"] = "C") -> HostArray:
    """An array of one dimension in a shape of as many elements.

    Raises:
        ContentError: there are no elements, and NumPy has no empty arrays of such large lengths.
    """
    try:
        return values.reshape(shape, order=order)
    except ValueError as error:
        raise ContentError(f"NumPy has no arrays of shape {shape}{name and f', as {name} has'}") from error
