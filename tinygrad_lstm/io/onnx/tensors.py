"""Tensors of ONNX files as arrays.

Reference: TensorProto in onnx.proto.
"""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import checked_dtype

from ..dtypes import BFLOAT16, elements
from ..errors import ContentError, shown

if TYPE_CHECKING:
    from onnx import TensorProto

__all__ = ["TYPES", "array_of", "dtype_of"]

MOST_DIMENSIONS = 32

# The element types of NumPy, and bfloat16, each with the field of a tensor that has them if it has no raw bytes.
TYPES = {
    "FLOAT": ("float32", "float_data"),
    "DOUBLE": ("float64", "double_data"),
    "FLOAT16": ("float16", "int32_data"),
    "BFLOAT16": (BFLOAT16, "int32_data"),
    "COMPLEX64": ("complex64", "float_data"),
    "COMPLEX128": ("complex128", "double_data"),
    "BOOL": ("bool", "int32_data"),
    "INT8": ("int8", "int32_data"),
    "INT16": ("int16", "int32_data"),
    "INT32": ("int32", "int32_data"),
    "INT64": ("int64", "int64_data"),
    "UINT8": ("uint8", "int32_data"),
    "UINT16": ("uint16", "int32_data"),
    "UINT32": ("uint32", "uint64_data"),
    "UINT64": ("uint64", "uint64_data"),
}
FIELD_TYPES = {
    "float_data": "float32",
    "double_data": "float64",
    "int32_data": "int32",
    "int64_data": "int64",
    "uint64_data": "uint64",
}


def dtype_of(number: int) -> np.dtype[Any]:
    """The dtype of tensors with this element type; float32 for bfloat16.

    Raises:
        ContentError: tensors cannot have such elements.
    """
    from onnx import TensorProto

    types = {number: type_name for type_name, number in TensorProto.DataType.items()}
    type_name = types.get(number, str(number))
    own_type = TYPES.get(type_name, ("complex", ""))[0]
    if own_type.startswith("complex"):
        raise ContentError(f"elements of {type_name}, which tensors cannot have")
    return checked_dtype("float32" if own_type == BFLOAT16 else own_type)


def array_of(name: str, tensor: "TensorProto") -> HostArray:
    """The elements of a tensor, whose number must match its shape; bfloat16 as float32.

    Raises:
        ContentError: they are of a type that NumPy lacks, or do not match the shape.
    """
    types = {number: type_name for type_name, number in tensor.DataType.items()}
    type_name = types.get(tensor.data_type, str(tensor.data_type))
    if type_name not in TYPES:
        raise ContentError(f"the array {shown(name)} has elements of {type_name}, which NumPy lacks")
    if len(tensor.dims) > MOST_DIMENSIONS:
        raise ContentError(f"the array {shown(name)} has more than {MOST_DIMENSIONS} dimensions")
    own_type, field = TYPES[type_name]
    try:
        if tensor.HasField("raw_data"):
            array = elements(bytearray(tensor.raw_data), own_type)
        else:
            array = _from_numbers(getattr(tensor, field), own_type, FIELD_TYPES[field])
        shape = tuple(tensor.dims)
        if array.size != math.prod(shape):
            raise ContentError(f"{array.size} elements do not have the shape {shape}")
        return array.reshape(shape)
    except (ContentError, ValueError) as error:
        raise ContentError(f"the array {shown(name)} is damaged: {error}") from error


def _from_numbers(numbers: Sequence[int | float], own_type: str, field_type: str) -> HostArray:
    """Elements that are stored as numbers of a different type; float16 and bfloat16 are stored as their bits."""
    wide = np.fromiter(numbers, field_type, len(numbers))
    if own_type.startswith("complex"):
        return elements(bytearray(wide), own_type, sys.byteorder)
    bits = own_type in ("float16", BFLOAT16)
    narrow = wide.astype("uint16" if bits else own_type)
    if not np.array_equal(narrow, wide, equal_nan=True):
        raise ContentError(f"numbers that no {own_type} holds")
    return elements(bytearray(narrow), own_type, sys.byteorder) if bits else narrow
