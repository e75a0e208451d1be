"""`Parameter`: a tensor that a module trains."""

from typing import Any

from tinygrad_lstm.backends.dtypes import DType

from .._tensor import Tensor
from ..device import Device

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A leaf that requires a gradient. As an attribute of a `Module` it is one of its parameters.

    It contains a copy of `data` (a tensor, an array or a list of numbers), as `tg.tensor` does.

    Raises:
        TypeError: the elements are integers, which have no gradient, and `requires_grad` is true.

    >>> from tinygrad_lstm import nn
    >>> nn.Parameter([1.0, 2.0])
    tensor([1., 2.], requires_grad=True)
    """

    __slots__ = ()
    shared_read_only = True

    def __init__(
        self, data: Any, dtype: DType = None, device: str | Device | None = None, requires_grad: bool = True
    ) -> None:
        super().__init__(data, dtype, device, requires_grad)

    @classmethod
    def around(cls, tensor: Tensor) -> "Parameter":
        """A tensor as a parameter: a view of it, part of its graph. A parameter is returned unchanged."""
        if isinstance(tensor, cls):
            return tensor
        view: Any = tensor.reshape(tensor.shape)
        view.__class__ = cls
        made: Parameter = view
        return made
