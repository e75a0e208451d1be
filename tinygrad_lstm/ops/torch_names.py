"""Methods of Tensor that only have a name of PyTorch's: each is a property or an op of a different name."""

from typing import Any

import numpy as np

from .._tensor import Tensor
from .define import add_method, composite
from .shape import flatten, reshape

__all__: list[str] = []


@composite
def dim(x: Tensor) -> Any:
    """The number of dimensions: `x.ndim`."""
    return x.ndim


@composite
def numel(x: Tensor) -> Any:
    """The number of elements: `x.size`."""
    return x.size


@composite
def ravel(x: Tensor) -> Tensor:
    """The elements in one dimension: `x.flatten()`."""
    return flatten(x)


@composite
def t(x: Tensor) -> Tensor:
    """A matrix transposed; a tensor of fewer dimensions is unchanged.

    Raises:
        ValueError: there are more than two dimensions.
    """
    if x.ndim > 2:
        raise ValueError(f"t: expected at most two dimensions, got shape {x.shape}; use x.mT or x.transpose")
    return x.T if x.ndim == 2 else x


@composite
def view(x: Tensor, *shape: Any) -> Tensor:
    """The elements in a different shape, sharing memory with x; `reshape` copies them if it must.

    Raises:
        RuntimeError: the elements of x are not in an order that allows this.
        ValueError: the shape has a different number of elements.
    """
    viewed = reshape(x, *shape)
    with x.device.current():
        shares = not x.size or x.device.xp.may_share_memory(viewed._array, x._array)
    if not shares:
        raise RuntimeError(
            f"view: the elements of shape {x.shape} are not in order in memory; use x.reshape, which copies"
        )
    return viewed


@composite
def contiguous(x: Tensor) -> Tensor:
    """x itself if its elements are in order in memory, else a copy with them in order."""
    return x if x._array.flags.c_contiguous else x.clone()


def _attach_casts() -> None:
    for name, dtype in {"half": np.float16, "long": np.int64, "int": np.int32, "bool": np.bool_}.items():

        def cast(x: Tensor, dtype: Any = dtype) -> Tensor:
            return x.to(dtype=dtype)

        cast.__doc__ = f"The tensor in {np.dtype(dtype)}."
        add_method(name, cast)


_attach_casts()
