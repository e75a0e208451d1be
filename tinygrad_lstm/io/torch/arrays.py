"""The arrays that a PyTorch file describes, each checked, as a view of its storage."""

import math
from collections.abc import Callable

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..dtypes import BFLOAT16, TORCH_TYPES, ByteOrder, elements, item_size, numpy_array
from ..errors import ContentError, shown
from .pickled import NumpyArray, NumpyType, Storage, Tensor

__all__ = ["TorchArrays", "is_bfloat16"]

MOST_DIMENSIONS = 32
LARGEST_SIZE = 2**63 - 1


class TorchArrays:
    """Makes arrays from their descriptions in a pickle.

    Args:
        read: returns the bytes of a storage.
        byte_order: the byte order of the storages.
        file_size: in bytes; the NumPy arrays within the pickle may not be larger in total.
    """

    def __init__(self, read: Callable[[Storage], bytearray], byte_order: ByteOrder, file_size: int) -> None:
        self._read = read
        self._byte_order = byte_order
        self._room = file_size
        self._storages: dict[str, tuple[str, HostArray]] = {}
        self._made: dict[Tensor | NumpyArray, HostArray] = {}

    def array(self, described: Tensor | NumpyArray) -> HostArray:
        """The array of a description, made once.

        Raises:
            ContentError: the description contradicts itself or its storage.
        """
        if described in self._made:
            return self._made[described]
        array = self._tensor(described) if isinstance(described, Tensor) else self._numpy_array(described)
        self._made[described] = array
        return array

    def _tensor(self, tensor: Tensor) -> HostArray:
        storage = tensor.storage
        if not isinstance(storage, Storage):
            raise ContentError("it has no storage")
        values = self._elements(storage, _type_name(tensor, storage))
        return _view(values, tensor.offset, _sizes(tensor.shape), _sizes(tensor.strides))

    def _elements(self, storage: Storage, type_name: str) -> HostArray:
        if storage.key not in self._storages:
            content = self._read(storage)
            if len(content) != storage.size * item_size(storage.type_name):
                raise ContentError(
                    f"its storage {shown(storage.key)} has {len(content)} bytes, which is a different size"
                )
            self._storages[storage.key] = type_name, elements(content, type_name, self._byte_order)
        known_type, values = self._storages[storage.key]
        if known_type != type_name:
            raise ContentError(f"its storage {shown(storage.key)} has elements of {known_type} and of {type_name}")
        return values

    def _numpy_array(self, array: NumpyArray) -> HostArray:
        if not (isinstance(array.type, NumpyType) and isinstance(array.content, bytes | bytearray | str)):
            raise ContentError("refuses an array of NumPy's that holds Python objects")
        self._room -= len(array.content)
        if self._room < 0:
            raise ContentError("the arrays of NumPy's in it would take more room than the file has")
        try:
            content = array.content.encode("latin-1") if isinstance(array.content, str) else array.content
        except UnicodeEncodeError as error:
            raise ContentError("its elements are not bytes") from error
        code = array.type.byte_order + array.type.code
        return numpy_array(bytearray(content), code, _sizes(array.shape), bool(array.fortran_order))


def is_bfloat16(described: Tensor | NumpyArray) -> bool:
    """Whether an array is bfloat16 in the file."""
    if not (isinstance(described, Tensor) and isinstance(described.storage, Storage)):
        return False
    return _type_name(described, described.storage) == BFLOAT16


def _type_name(tensor: Tensor, storage: Storage) -> str:
    """The type of a tensor's elements: its own type if it has one, or else its storage's."""
    if tensor.type is None:
        return storage.type_name
    if tensor.type.module != "torch" or tensor.type.name not in TORCH_TYPES:
        raise ContentError(f"NumPy has no type for {shown(str(tensor.type))}")
    return tensor.type.name


def _sizes(value: object) -> tuple[int, ...]:
    """A shape or strides."""
    if isinstance(value, tuple) and len(value) <= MOST_DIMENSIONS:
        sizes = tuple(size for size in value if isinstance(size, int) and 0 <= size <= LARGEST_SIZE)
        if len(sizes) == len(value):
            return sizes
    raise ContentError("its shape or its strides are negative, too large, or not integers")


def _view(values: HostArray, offset: object, shape: tuple[int, ...], strides: tuple[int, ...]) -> HostArray:
    """A view of a one-dimensional array; offset and strides are in elements."""
    if not isinstance(offset, int) or not 0 <= offset <= LARGEST_SIZE or len(shape) != len(strides):
        raise ContentError("its shape, strides and offset contradict each other")
    count = math.prod(shape)
    if count > values.size:
        raise ContentError(
            f"its shape {shape} has more elements than its storage, {values.size}: save an expanded tensor's clone()"
        )
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if count and last >= values.size:
        raise ContentError(f"it reaches element {last} of a storage that has {values.size}")
    try:
        if not count:
            return np.empty(shape, values.dtype)
        steps = [stride * values.itemsize if size > 1 else values.itemsize for size, stride in zip(shape, strides)]
        return np.ndarray(shape, values.dtype, values, offset * values.itemsize, steps)
    except ValueError as error:
        raise ContentError(f"NumPy has no arrays of shape {shape}") from error
