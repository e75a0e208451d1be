"""Lists of tensors, in which loops collect their results. A list is never changed: ops return new ones.

Reference: tensorflow/core/kernels/list_kernels.h
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from .....creation import zeros
from ...rules import Ints, Value, host_ints, tensors
from ..rules import rule

__all__ = ["TensorList"]

MOST_ELEMENTS = 2**24
"""The most elements of a list that is reserved."""


@dataclass(frozen=True, eq=False)
class TensorList:
    """Tensors of one dtype.

    Attributes:
        given: the elements; None for one that is not set, which is zeros. Or a tensor, whose rows are the elements.
        shape: the shape of an element, with -1 for free lengths; None if it is not known.
        dtype: the elements' dtype; None for elements that are lists.
    """

    given: tuple[Any, ...] | Tensor
    shape: tuple[int, ...] | None
    dtype: Any

    @classmethod
    def of(cls, x: Tensor) -> "TensorList":
        """The list of the rows of a tensor."""
        return cls(x, tuple(x.shape[1:]), x.dtype)

    @cached_property
    def items(self) -> tuple[Any, ...]:
        """The elements."""
        return tuple(ops.unbind(self.given, 0)) if isinstance(self.given, Tensor) else self.given

    def zeros(self) -> "TensorList":
        """A list of zeros."""
        return TensorList((None,) * len(self.items), self.shape, self.dtype)

    def element(self, index: int, shape: Sequence[int]) -> Any:
        """An element; one that is not set has this shape, as far as the list does not know it."""
        found = self.items[index]
        return self._unset(shape) if found is None else found

    def stacked(self, shape: Sequence[int]) -> Any:
        """The elements as one tensor."""
        if isinstance(self.given, Tensor):
            return self.given
        unset = self._unset(shape) if any(each is None for each in self.items) else None
        found: list[Any] = [unset if each is None else each for each in self.items]
        if not found:
            return zeros(0, *[max(length, 0) for length in self._known(shape)], dtype=self.dtype)
        return ops.stack(tensors(*found)) if any(isinstance(each, Tensor) for each in found) else np.stack(found)

    def _unset(self, shape: Sequence[int]) -> Tensor:
        lengths = self._known(shape)
        set_ = next((each for each in self.items if each is not None), None)
        if set_ is not None:
            lengths = [own if length < 0 else length for length, own in zip(lengths, set_.shape, strict=True)]
        if any(length < 0 for length in lengths):
            raise ValueError("an element of a list that is not set, and whose shape is not known")
        return zeros(*lengths, dtype=self.dtype, device=getattr(set_, "device", None))

    def _known(self, shape: Sequence[int]) -> list[int]:
        own = self.shape
        if own is None or not len(own):
            return list(shape)
        if len(shape) != len(own):
            return list(own)
        return [given if length < 0 else length for length, given in zip(own, shape, strict=True)]


def _shape(element_shape: Value) -> tuple[int, ...] | None:
    """The shape of elements; a number is that of an unknown rank."""
    return tuple(int(length) for length in element_shape.tolist()) if element_shape.ndim else None


def _reserved(shape: Value, number: Ints, dtype: Any) -> TensorList:
    if not 0 <= number[0] <= MOST_ELEMENTS:
        raise ValueError(f"a list of {number[0]} tensors")
    return TensorList((None,) * number[0], _shape(shape), dtype)


@rule("TensorListReserve")
def reserve(element_shape: Value, num_elements: Ints, *, element_dtype: Any = None) -> Any:
    return _reserved(element_shape, num_elements, element_dtype)


@rule("EmptyTensorList")
def empty(element_shape: Value, max_num_elements: Ints, *, element_dtype: Any = None) -> Any:
    return TensorList((), _shape(element_shape), element_dtype)


@rule("TensorListFromTensor")
def from_tensor(x: Value, element_shape: Value, *, element_dtype: Any = None) -> Any:
    return TensorList.of(x) if isinstance(x, Tensor) else TensorList(tuple(x), tuple(x.shape[1:]), element_dtype)


@rule("TensorListGetItem")
def get_item(list_: Any, index: Ints, element_shape: Ints) -> Any:
    return list_.element(index[0], element_shape)


@rule("TensorListSetItem")
def set_item(list_: Any, index: Ints, item: Any, *, resize_if_index_out_of_bounds: bool = False) -> Any:
    items = list(list_.items)
    at = index[0]
    if resize_if_index_out_of_bounds and len(items) <= at < MOST_ELEMENTS:
        items += [None] * (at + 1 - len(items))
    if not 0 <= at < len(items):
        raise IndexError(f"element {at} of a list of {len(items)} tensors")
    items[at] = item
    return TensorList(tuple(items), list_.shape, list_.dtype)


@rule("TensorListPushBack")
def push_back(list_: Any, item: Any) -> Any:
    return TensorList((*list_.items, item), list_.shape, list_.dtype)


@rule("TensorListPopBack")
def pop_back(list_: Any, element_shape: Ints) -> Any:
    last = list_.element(-1, element_shape)
    return TensorList(list_.items[:-1], list_.shape, list_.dtype), last


@rule("TensorListStack")
def stack(list_: Any, element_shape: Ints) -> Any:
    return list_.stacked(element_shape)


@rule("TensorListGather")
def gather(list_: Any, indices: Ints, element_shape: Ints) -> Any:
    if isinstance(list_.given, Tensor) and indices == list(range(int(list_.given.shape[0]))):
        return list_.given
    return TensorList(tuple(list_.items[at] for at in indices), list_.shape, list_.dtype).stacked(element_shape)


@rule("TensorListLength")
def length(list_: Any) -> Any:
    return host_ints(list_.given.shape[0] if isinstance(list_.given, Tensor) else len(list_.given))


@rule("TensorListResize")
def resize(list_: Any, size: Ints) -> Any:
    if not 0 <= size[0] <= MOST_ELEMENTS:
        raise ValueError(f"a list of {size[0]} tensors")
    items = list_.items[: size[0]]
    return TensorList((*items, *[None] * (size[0] - len(items))), list_.shape, list_.dtype)


@rule("TensorListElementShape")
def element_shape(list_: Any) -> Any:
    return np.array(-1) if list_.shape is None else np.array(list_.shape, object)


# -- the arrays of TensorFlow 1: what is written is in the flow, which each op takes and returns -----------------------


@rule("TensorArrayV3")
def tensor_array(size: Ints, *, dtype: Any = None, element_shape: Any = None, dynamic_size: bool = False) -> Any:
    shape = np.array(-1) if element_shape is None else np.array(element_shape, np.int64)
    made = _reserved(shape, size, dtype)
    return made, made


@rule("TensorArrayWriteV3")
def write(handle: Any, index: Ints, value: Any, flow: Any) -> Any:
    return set_item(flow, index, value, resize_if_index_out_of_bounds=True)


@rule("TensorArrayScatterV3")
def scatter(handle: Any, indices: Ints, value: Value, flow: Any) -> Any:
    if isinstance(value, Tensor) and indices == list(range(len(flow.items))):
        return TensorList.of(value)
    items = list(flow.items) + [None] * (max(indices, default=-1) + 1 - len(flow.items))
    for index, item in zip(indices, ops.unbind(value, 0) if isinstance(value, Tensor) else value, strict=True):
        items[index] = item
    return TensorList(tuple(items), flow.shape, flow.dtype)


@rule("TensorArrayReadV3")
def read(handle: Any, index: Ints, flow: Any) -> Any:
    return flow.element(index[0], flow.shape or ())


@rule("TensorArrayGatherV3")
def gather_items(handle: Any, indices: Ints, flow: Any, *, element_shape: Any = None) -> Any:
    return gather(flow, indices, list(element_shape or flow.shape or ()))


@rule("TensorArraySizeV3")
def number_of_items(handle: Any, flow: Any) -> Any:
    return length(flow)
