"""Checkpoints of one file, as TensorFlow wrote them before 0.12.

Reference: tensorflow/core/util/saved_tensor_slice.proto
"""

from collections.abc import Iterable

from tinygrad_lstm.backends.base import HostArray

from ..errors import ContentError, shown
from .messages import OLD_CHECKPOINT, TYPE_NAMES
from .parts import Part, joined, part_of
from .tensors import array_of, shape_of
from .wire import from_wire

__all__ = ["IS_OLD", "old_arrays"]

IS_OLD = b"\x0a"
"""The beginning of the header: its first field is a message, not a number as in newer checkpoints."""


def old_arrays(header: memoryview, values: Iterable[memoryview]) -> tuple[dict[str, HostArray], dict[str, str]]:
    """The arrays of a checkpoint and the names of their element types, by name.

    Args:
        header: the value in the table with an empty key.
        values: its other values.

    Raises:
        ContentError: the file is damaged.
    """
    described = {each["name"]: each for each in from_wire(header, OLD_CHECKPOINT)["meta"]["tensor"]}
    shapes = {name: shape_of(name, each["shape"]) for name, each in described.items()}
    found: dict[str, list[tuple[Part, HostArray]]] = {name: [] for name in described}
    for value in values:
        data = from_wire(value, OLD_CHECKPOINT)["data"]
        name = data["name"]
        if name not in described:
            raise ContentError(f"it does not say the shape of {shown(name)}")
        part = part_of(name, data["slice"], shapes[name])
        data["data"].setdefault("dtype", described[name]["type"])
        found[name].append((part, array_of(name, data["data"], part.shape)))
    arrays = {name: joined(name, shapes[name], parts) for name, parts in found.items()}
    return arrays, {name: TYPE_NAMES.get(each["type"], "") for name, each in described.items()}
