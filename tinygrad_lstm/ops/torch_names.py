"""Methods of Tensor that only have a name of PyTorch's: each is a property or an op of a different name."""

from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor, tensor
from ..arguments import integer
from ..creation import empty, full, ones, zeros
from .define import add_method, composite
from .indexing import getitem
from .reduction import dim_of
from .shape import expand, flatten, reshape

__all__: list[str] = []

# -- properties --------------------------------------------------------------------------------------------------------


@composite
def dim(x: Tensor) -> Any:
    """The number of dimensions: `x.ndim`."""
    return x.ndim


@composite
def ndimension(x: Tensor) -> Any:
    """The number of dimensions: `x.ndim`."""
    return x.ndim


@composite
def nelement(x: Tensor) -> Any:
    """The number of elements: `x.size`."""
    return x.size


@composite
def numel(x: Tensor) -> Any:
    """The number of elements: `x.size`."""
    return x.size


@composite
def element_size(x: Tensor) -> Any:
    """The number of bytes of an element: `x.dtype.itemsize`."""
    return x.dtype.itemsize


@composite
def is_floating_point(x: Tensor) -> Any:
    """Whether the dtype is float16, float32 or float64."""
    return is_float(x.dtype)


@composite
def is_contiguous(x: Tensor) -> Any:
    """Whether the elements are in order in memory."""
    return bool(x._array.flags.c_contiguous)


# -- shapes and parts --------------------------------------------------------------------------------------------------


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
def view_as(x: Tensor, other: Tensor) -> Tensor:
    """`x.view(other.shape)`."""
    return view(x, other.shape)


@composite
def reshape_as(x: Tensor, other: Tensor) -> Tensor:
    """`x.reshape(other.shape)`."""
    return reshape(x, other.shape)


@composite
def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """`x.expand(other.shape)`."""
    return expand(x, other.shape)


@composite
def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """A dimension split into several, of these lengths; one may be -1 and is computed.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: the product of the lengths is different.
    """
    dim = dim_of("unflatten", dim, x.shape)
    return reshape(x, (*x.shape[:dim], *sizes, *x.shape[dim + 1 :]))


@composite
def select(x: Tensor, dim: int, index: int) -> Tensor:
    """The slice at an index along `dim`, without this dimension: `x[:, index]` for a `dim` of 1.

    Raises:
        IndexError: `dim` or `index` is out of range.
    """
    return getitem(x, (*(slice(None),) * dim_of("select", dim, x.shape), integer("select", "index", index)))


@composite
def narrow(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` slices along `dim`, from `start` on: `x[:, start : start + length]` for a `dim` of 1.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: the slices are not all there.
    """
    dim = dim_of("narrow", dim, x.shape)
    start, length, size = integer("narrow", "start", start), integer("narrow", "length", length), x.shape[dim]
    first = start + size if start < 0 else start
    if not 0 <= first <= first + length <= size:
        raise ValueError(f"narrow: start {start} and length {length} do not fit dim {dim} of shape {x.shape}")
    return getitem(x, (*(slice(None),) * dim, slice(first, first + length)))


@composite
def contiguous(x: Tensor) -> Tensor:
    """x itself if its elements are in order in memory, else a copy with them in order."""
    return x if is_contiguous(x) else x.clone()


# -- dtypes, and new tensors of the same dtype and device --------------------------------------------------------------


@composite
def type_as(x: Tensor, other: Tensor) -> Tensor:
    """x in the dtype of `other`, and on its device."""
    return x.to(other)


def _add_cast(name: str, dtype: str) -> None:
    def cast(x: Tensor) -> Tensor:
        return x.to(dtype=dtype)

    cast.__doc__ = f"The tensor in {dtype}."
    add_method(name, cast)


def _add_maker(maker: Callable[..., Tensor]) -> None:
    def make(x: Tensor, *given: Any, **named: Any) -> Tensor:
        named = {name: value for name, value in named.items() if value is not None}
        return maker(*given, **{"dtype": x.dtype, "device": x.device, **named})

    make.__doc__ = f"`tg.{maker.__name__}` with x's dtype, on its device, unless others are given."
    add_method(f"new_{maker.__name__}", make)


for _name, _dtype in (
    *(("half", "float16"), ("long", "int64"), ("int", "int32"), ("short", "int16"), ("char", "int8")),
    *(("byte", "uint8"), ("bool", "bool")),
):
    _add_cast(_name, _dtype)
for _maker in (empty, full, ones, tensor, zeros):
    _add_maker(_maker)
