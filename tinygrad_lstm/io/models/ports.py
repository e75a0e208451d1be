"""The inputs of a model from a file: what they are, and tensors for them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import checked_dtype, is_float

from ..._tensor import Tensor, as_tensor
from ...creation import ones, randn, zeros
from ...device import Device
from ...printable import printable
from .names import batches_of

__all__ = ["Made", "Port", "UnknownShapeError", "by_port", "checked"]


@dataclass(frozen=True)
class Port:
    """An input of a model.

    Attributes:
        name: its name in the file.
        shape: for each dimension its length, or the name of a free length; or None for a shape that is not known.
        dtype: the elements' type in the file, such as "float32"; "" if it is not known.
        optional: whether the file says that it can be left out.
        guessed: whether the file has no names of lengths. Inputs may then differ in a length of the same name.
    """

    name: str
    shape: tuple[int | str, ...] | None = None
    dtype: str = ""
    optional: bool = False
    guessed: bool = False

    @property
    def free(self) -> list[str]:
        """The names of its free lengths."""
        return [length for length in self.shape or () if isinstance(length, str)]

    @property
    def batch_names(self) -> list[str]:
        """The names of its free lengths that are the batch; tf2onnx gives dimensions that it does not know numbers."""
        numbered = self.free[:1] if len(self.free) > 1 and self.free[0].startswith("unk__") else []
        return [*numbered, *batches_of(self.free)]

    @functools.cached_property
    def is_float(self) -> bool:
        """Whether the elements are floats, as far as is known."""
        return not self.dtype or is_float(checked_dtype(self.dtype))

    def __str__(self) -> str:
        shape = "" if self.shape is None else f" ({', '.join(map(str, self.shape))}{',' * (len(self.shape) == 1)})"
        return printable(f"{self.name}{shape}{self.dtype and ' ' + self.dtype}")


class UnknownShapeError(ValueError):
    """The file does not say enough of the shape of an input.

    Attributes:
        reason: what it does not say.
        name: the name of the input in the file.
    """

    def __init__(self, reason: str, advice: str, name: str) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason = reason
        self.name = name


@dataclass(frozen=True)
class Made:
    """Which dtypes and which device have inputs that are made of arrays, or from nothing.

    Attributes:
        dtype: that of the model's parameters; None if it has none of floats.
        file_dtype: that of the parameters in the file. Until `to(dtype=...)` changes it, an input has its own dtype.
        device: the device.
    """

    dtype: np.dtype[Any] | None
    file_dtype: np.dtype[Any] | None
    device: Device

    def dtype_of(self, port: Port) -> Any:
        """The dtype of an input; None if it is not known."""
        of_model = self.dtype is not None and port.is_float and (not port.dtype or self.dtype != self.file_dtype)
        return self.dtype if of_model else port.dtype or None

    def zero_state(self, port: Port, sizes: Mapping[str, int]) -> Tensor:
        """The state that a model starts from, with these sizes of free lengths, and 1 for others."""
        shape = [length if isinstance(length, int) else sizes.get(length, 1) for length in port.shape or ()]
        return zeros(shape, dtype=self.dtype_of(port), device=self.device)

    def example(self, port: Port, shape: Sequence[int]) -> Tensor:
        """Random numbers, or ones for integers."""
        if port.is_float:
            return randn(*shape, device=self.device).astype(self.dtype_of(port) or "float32")
        return ones(*shape, dtype=port.dtype, device=self.device)


def by_port(
    title: str, ports: Sequence[Port], names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Inputs that are given by position, or by their names or the file's, by the file's names.

    Raises:
        TypeError: an input is unknown, or given twice.
    """
    if len(args) > len(ports):
        raise TypeError(f"{title}: expected at most {len(ports)} inputs, got {len(args)}")
    given = {port.name: value for port, value in zip(ports, args, strict=False)}
    named: dict[str, Port] = {}
    for name, port in zip(names, ports, strict=True) if kwargs else ():
        named.setdefault(name, port)
        named.setdefault(port.name, port)
    for name, value in kwargs.items():
        if name not in named:
            raise TypeError(f"{title}: {name!r} is not an input; they are {', '.join(names)}")
        if named[name].name in given:
            raise TypeError(f"{title}: the input {name!r} is given twice")
        given[named[name].name] = value
    return given


def checked(title: str, port: Port, value: Any, sizes: dict[str, int], made: Made) -> Any:
    """An input as a tensor, or a sequence as a tuple of them; notes the sizes of its free lengths.

    Raises:
        ValueError: it has a different shape or kind of dtype.
    """
    if isinstance(value, list | tuple) and port.shape is None and not port.dtype:
        return tuple([checked(title, port, each, sizes, made) for each in value])
    if not isinstance(value, Tensor):
        array: HostArray = np.asarray(value)
        if (port.is_float or not is_float(array.dtype)) if port.dtype else is_float(array.dtype):
            array = array.astype(made.dtype_of(port) or array.dtype)
        value = as_tensor(array, made.device)
    x: Tensor = value
    fits = port.shape is None or len(port.shape) == x.ndim
    for length, own in zip(port.shape or (), x.shape, strict=False):
        if isinstance(length, str) and length:
            fits = fits and (sizes.setdefault(length, own) == own or port.guessed)
        elif isinstance(length, int):
            fits = fits and length == own
    if not fits or (port.dtype and port.is_float != is_float(x.dtype)):
        raise ValueError(f"{title}: expected {port}, got {x.dtype} {x.shape}")
    return x
