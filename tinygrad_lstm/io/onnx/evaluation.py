"""Ops of ONNX that move elements, evaluated with NumPy: exporters compute weights from stored arrays with these.

Reference: https://onnx.ai/onnx/operators/
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float, is_integer, limits

from ..dtypes import item_size
from .tensors import TYPES, array_of

__all__ = ["EVALUATED", "KEEPING", "NEEDED", "Attributes", "filling"]

Attributes: TypeAlias = Mapping[str, Any]
"""A node's attributes by name, and its number of outputs as "outputs"."""

Take: TypeAlias = Callable[[int], None]
"""Counts the bytes of a result before it is made; raises if they are too many."""


def _ints(array: HostArray | None, attribute: Any) -> list[int] | None:
    """Integers that are an input in newer versions of an op, and an attribute in older ones.

    Raises:
        ValueError: the input is not a vector of integers.
    """
    if array is None:
        return None if attribute is None else list(attribute)
    if array.ndim > 1 or not is_integer(array.dtype):
        raise ValueError("expected a vector of integers")
    return [int(number) for number in array.reshape(-1)]


def _checked_shape(shape: Sequence[int] | None) -> tuple[int, ...]:
    """A shape.

    Raises:
        ValueError: it is not a shape.
    """
    if shape is None or any(length < 0 for length in shape):
        raise ValueError(f"expected a shape, got {shape}")
    return tuple(shape)


def _cast(take: Take, attributes: Attributes, x: HostArray) -> HostArray:
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(attributes["to"]) if isinstance(attributes.get("to"), int) else ""
    if kind not in TYPES or kind == "BFLOAT16" or np.iscomplexobj(x):
        raise ValueError(f"the type {kind or attributes.get('to')} is not cast to")
    dtype = TYPES[kind][0]
    take(x.size * item_size(dtype))
    return x.astype(dtype)


def _concat(take: Take, attributes: Attributes, *arrays: HostArray | None) -> HostArray:
    given = [array for array in arrays if array is not None]
    if len({array.dtype for array in given}) != 1:
        raise ValueError("expected arrays of one type")
    take(sum(array.nbytes for array in given))
    return np.concatenate(given, attributes.get("axis", 1))


def _slice(
    take: Take,
    attributes: Attributes,
    x: HostArray,
    starts: HostArray | None = None,
    ends: HostArray | None = None,
    axes: HostArray | None = None,
    steps: HostArray | None = None,
) -> HostArray:
    first, last = _ints(starts, attributes.get("starts")), _ints(ends, attributes.get("ends"))
    if first is None or last is None:
        raise ValueError("expected starts and ends")
    dims = [range(x.ndim)[dim] for dim in _ints(axes, attributes.get("axes")) or range(len(first))]
    if len(set(dims)) < len(dims):
        raise ValueError(f"the axes {dims} are not distinct")
    parts = [slice(None)] * x.ndim
    for dim, start, end, step in zip(dims, first, last, _ints(steps, None) or [1] * len(first), strict=True):
        # Going backward from before the first element, ONNX takes that element.
        parts[dim] = slice(max(start, -x.shape[dim]) if step < 0 else start, end, step)
    return x[tuple(parts)]


def _split(take: Take, attributes: Attributes, x: HostArray, split: HostArray | None = None) -> list[HostArray]:
    axis, number = attributes.get("axis", 0), attributes["outputs"]
    length = x.shape[axis]
    sizes = _ints(split, attributes.get("split"))
    if sizes is None:  # equal parts; the last may be smaller
        each = -(-length // number)
        sizes = [each] * (number - 1) + [length - each * (number - 1)]
    if len(sizes) != number or sum(_checked_shape(sizes)) != length:
        raise ValueError(f"the sizes {sizes} do not make up {length}")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _gather(take: Take, attributes: Attributes, x: HostArray, places: HostArray) -> HostArray:
    axis = attributes.get("axis", 0)
    if not is_integer(places.dtype):
        raise ValueError("expected integers as places")
    length = x.shape[axis]
    if places.size and not (places.min() >= -length and places.max() < length):  # NumPy may not check empty arrays
        raise ValueError(f"expected places from {-length} to {length - 1}")
    take(places.size * x.nbytes // max(length, 1))
    return np.take(x, places, axis)


def _reshape(take: Take, attributes: Attributes, x: HostArray, shape: HostArray | None = None) -> HostArray:
    lengths = _ints(shape, attributes.get("shape"))
    if lengths is None or min(lengths, default=0) < -1:
        raise ValueError(f"expected a shape, got {lengths}")
    if not attributes.get("allowzero"):
        lengths = [length or x.shape[dim] for dim, length in enumerate(lengths)]
    if not x.flags.c_contiguous:
        take(x.nbytes)
    return x.reshape(lengths)


def _flatten(take: Take, attributes: Attributes, x: HostArray) -> HostArray:
    axis = attributes.get("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"the axis {axis} is out of range for {x.ndim} dimensions")
    if not x.flags.c_contiguous:
        take(x.nbytes)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(take: Take, attributes: Attributes, x: HostArray) -> HostArray:
    return x.transpose(attributes.get("perm"))


def _squeeze(take: Take, attributes: Attributes, x: HostArray, axes: HostArray | None = None) -> HostArray:
    dims = _ints(axes, attributes.get("axes"))
    return x.squeeze(None if dims is None else tuple({range(x.ndim)[dim] for dim in dims}))


def _unsqueeze(take: Take, attributes: Attributes, x: HostArray, axes: HostArray | None = None) -> HostArray:
    return np.expand_dims(x, tuple(_ints(axes, attributes.get("axes")) or ()))


def _expand(take: Take, attributes: Attributes, x: HostArray, shape: HostArray) -> HostArray:
    full = np.broadcast_shapes(x.shape, _checked_shape(_ints(shape, None)))
    take(math.prod(full) * x.itemsize)
    return np.broadcast_to(x, full)


def _tile(take: Take, attributes: Attributes, x: HostArray, repeats: HostArray) -> HostArray:
    times = _checked_shape(_ints(repeats, None))
    if len(times) != x.ndim:
        raise ValueError("expected a number for each dimension")
    take(math.prod(times) * x.nbytes)
    return np.tile(x, times)


def filling(attributes: Attributes) -> HostArray:
    """The element with which ConstantOfShape fills a tensor."""
    value = np.zeros(1, np.float32) if "value" not in attributes else array_of("value", attributes["value"])
    if value.size != 1:
        raise ValueError("expected a value of one element")
    return value.reshape(())


def _constant_of_shape(take: Take, attributes: Attributes, shape: HostArray) -> HostArray:
    value, lengths = filling(attributes), _checked_shape(_ints(shape, None))
    take(math.prod(lengths) * value.itemsize)
    return np.broadcast_to(value, lengths)


def _shape(take: Take, attributes: Attributes, x: HostArray) -> HostArray:
    return np.array(x.shape[attributes.get("start", 0) : attributes.get("end")], np.int64)


def _along(axis: int, scale: HostArray, x: HostArray) -> HostArray:
    """A scale or zero point, one for x or one for each index along an axis, broadcastable with x."""
    if scale.size == 1:
        return scale.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return scale.reshape(shape)


_QUANTIZING = {"axis", "outputs"}
"""The attributes that quantization supports; blocks and types that NumPy lacks are not supported."""


def _dequantize(
    take: Take, attributes: Attributes, x: HostArray, scale: HostArray, zero: HostArray | None = None
) -> HostArray:
    if not attributes.keys() <= _QUANTIZING or not is_integer(x.dtype) or not is_float(scale.dtype):
        raise ValueError("quantization in blocks or of other types")
    axis = attributes.get("axis", 1)
    take(2 * x.size * max(scale.itemsize, 4))
    centred = x.astype(np.int32) - (0 if zero is None else _along(axis, zero.astype(np.int32), x))
    made: HostArray = centred.astype(scale.dtype) * _along(axis, scale, x)
    return made


def _quantize(
    take: Take, attributes: Attributes, x: HostArray, scale: HostArray, zero: HostArray | None = None
) -> HostArray:
    axis, zero = attributes.get("axis", 1), np.zeros((), np.uint8) if zero is None else zero
    floats = is_float(x.dtype) and is_float(scale.dtype)
    if not attributes.keys() <= _QUANTIZING or not floats or not is_integer(zero.dtype):
        raise ValueError("quantization in blocks or to other types")
    take(2 * x.nbytes)
    rounded = np.rint(x / _along(axis, scale, x)) + _along(axis, zero, x)
    made: HostArray = np.clip(rounded, *limits(zero.dtype)).astype(zero.dtype)
    return made


EVALUATED: dict[str, Callable[..., HostArray | list[HostArray]]] = {
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DequantizeLinear": _dequantize,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "QuantizeLinear": _quantize,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

NEEDED = {
    kind: sum(each.default is each.empty and each.kind is not each.VAR_POSITIONAL for each in parameters) - 2
    for kind, rule in EVALUATED.items()
    if (parameters := inspect.signature(rule).parameters.values())
}
"""The number of required inputs of an op."""

KEEPING = EVALUATED.keys() - {"ConstantOfShape", "DequantizeLinear", "QuantizeLinear", "Shape"}
"""The ops whose outputs contain only elements of their inputs."""
