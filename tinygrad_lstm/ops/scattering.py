"""Ops that write or add values at indices of a copy of x, and ops that select elements by their place.

Each op that writes has a method whose name ends in `_`, which does so in place. If several values are written to one
element, the last one stays, and only it has a gradient; PyTorch leaves this undefined. Values are a tensor of x's
dtype, or anything else that is converted to it; a number or 0-d tensor is written to each element.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec

import numpy as np

from tinygrad_lstm.backends.dtypes import INT64, is_bool

from .._tensor import Tensor, operand
from ..arguments import integer
from ..creation import arange
from .clamping import clamp
from .comparison import eq
from .cumulative import cumsum
from .define import add_method, composite, shown_whole
from .elementwise import where
from .indexing import (
    add_at,
    added_at,
    getitem,
    getitem_op,
    index_tensor,
    places_along,
    prepared,
    setitem,
    written_at,
)
from .padding import pad
from .reduction import dim_of
from .shape import broadcast_to, broadcast_to_op, flatten, reshape_op, unsqueeze

__all__ = [
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "masked_scatter",
    "masked_select",
    "one_hot",
    "put",
    "scatter",
    "scatter_add",
    "take",
]

P = ParamSpec("P")


class _Change(NamedTuple):
    """Values for the elements at an index of x.

    Attributes:
        adds: whether they are added, instead of written.
        flat: whether the index is of x with all elements in one dimension.
    """

    index: Any
    values: Tensor
    adds: bool = False
    flat: bool = False

    def of_copy(self, x: Tensor) -> Tensor:
        return self._made(x, added_at if self.adds else written_at)

    def in_place(self, x: Tensor) -> Tensor:
        return self._made(x, add_at if self.adds else setitem)

    def _made(self, x: Tensor, op: Callable[..., Tensor]) -> Tensor:
        if not self.flat:
            return op(x, self.values, self.index)
        return reshape_op(op(reshape_op(x, (x.size,)), self.values, self.index), x.shape)


def _also_in_place(change: Callable[Concatenate[Tensor, P], _Change]) -> Callable[Concatenate[Any, P], Tensor]:
    """Makes an op that applies a change to a copy of x, and the method that applies it in place."""

    def call(x: Any, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        return change(x, *args, **kwargs).of_copy(x)

    def in_place(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        made = change(x, *args, **kwargs)
        if made.flat and not x._array.flags.c_contiguous:  # its elements in one dimension would be a copy
            return x._write(in_place.__name__, made.of_copy(x))
        with x.device.current():
            if x.device.xp.may_share_memory(made.values._array, x._array):
                made = made._replace(values=made.values.clone())
        x._check_in_place(in_place.__name__, made.values.requires_grad)
        x._note_in_place(made.in_place(x)._node)
        return x

    in_place.__doc__ = f"`{change.__name__}` in place."
    add_method(f"{change.__name__}_", in_place)
    call.__name__, call.__qualname__, call.__doc__ = change.__name__, change.__qualname__, change.__doc__
    signature = inspect.signature(change).replace(return_annotation=Tensor)
    call.__signature__ = in_place.__signature__ = signature  # type: ignore[attr-defined]
    return composite(shown_whole(call))


def _values(name: str, given: Any, x: Tensor) -> Tensor:
    """The values to be written to x, in its dtype.

    Raises:
        RuntimeError: a tensor is on a different device.
        TypeError: a tensor has a different dtype.
    """
    if isinstance(given, Tensor) and given.dtype != x.dtype:
        raise TypeError(f"{name}: x is of {x.dtype}, and the values are of {given.dtype}; use .to(dtype='{x.dtype}')")
    return x._matching(given)


# -- along a dimension -------------------------------------------------------------------------------------------------


def _along(name: str, x: Tensor, dim: int, index: Any, src: Any, adds: bool) -> _Change:
    values, places = _values(name, src, x), places_along(name, x, dim, index)
    if not values.ndim:
        values = broadcast_to_op(values, places.shape)
    elif values.shape != places.shape:
        shape = places.shape or (1,)
        if values.ndim != len(shape) or any(n > length for n, length in zip(shape, values.shape, strict=True)):
            raise ValueError(f"{name}: src of shape {values.shape} must be as long as index, of shape {places.shape}")
        values = getitem_op(values, tuple([slice(length) for length in shape])).reshape(places.shape)
    return _Change(places._array, values, adds, flat=True)


@_also_in_place
def scatter(x: Tensor, dim: int, index: Any, src: Any = None, value: Any = None, reduce: str | None = None) -> _Change:
    """x with src[i, j, ...] written to x[i, ..., index[i, j, ...], ...], with `index` at `dim`.

    Args:
        dim: the dimension of x that `index` selects from.
        index: integers, with x's number of dimensions, even if it is empty. Its other lengths are at most x's. A
            negative one counts from the end, which PyTorch refuses here.
        src: a number, or values; those beyond the shape of `index` are not used.
        value: another name for `src`.
        reduce: "add" adds the values, as `scatter_add`. PyTorch's "multiply" has no derivative, and is refused.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU are not checked).
        TypeError: `src` is a tensor of a different dtype; not exactly one of `src` and `value` is given.
        ValueError: `index` or `src` has an invalid shape; `reduce` is unknown.

    >>> import tinygrad_lstm as tg
    >>> tg.zeros(2, 3).scatter(1, [[2], [0]], 1.0)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if reduce not in (None, "add"):
        raise ValueError(f"scatter: reduce is {reduce!r}; expected None or 'add'")
    if (src is None) == (value is None):
        raise TypeError("scatter: expected either src= or value=")
    return _along("scatter", x, dim, index, value if src is None else src, adds=reduce == "add")


@_also_in_place
def scatter_add(x: Tensor, dim: int, index: Any, src: Any) -> _Change:
    """x with src[i, j, ...] added to x[i, ..., index[i, j, ...], ...], with `index` at `dim`.

    An element that is selected several times receives all of its values. Otherwise as `scatter`.
    """
    return _along("scatter_add", x, dim, index, src, adds=True)


def _slices(name: str, x: Tensor, dim: int, index: Any, source: Tensor, adds: bool) -> _Change:
    """The change of the slices of x along `dim` that a 1-D index selects."""
    lengths = x.shape or (1,)
    dim = dim_of(name, dim, x.shape, zero_d=True)
    index = index_tensor(name, index, lengths, dim, x.device)
    if index.ndim > 1:
        raise ValueError(f"{name}: index of shape {index.shape} must have one dimension")
    shape = (*lengths[:dim], index.size, *lengths[dim + 1 :])
    if source.ndim and source.shape != shape:
        raise ValueError(f"{name}: source of shape {source.shape}; expected {shape}, for x of shape {x.shape}")
    places = reshape_op(index, (index.size,))._array
    return _Change((*(slice(None),) * dim, places) if dim else places, source, adds, flat=not x.ndim)


@_also_in_place
def index_add(x: Tensor, dim: int, index: Any, source: Any, alpha: float = 1) -> _Change:
    """x with `alpha` times the slices of `source` along `dim` added to the slices that a 1-D index selects.

    A slice that is selected several times receives all of its values.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU are not checked).
        TypeError: `source` is a tensor of a different dtype; x is of integers, and `alpha` is a float, or of bool.
        ValueError: the index is not 1-D; `source` does not have x's shape, with the index's length at `dim`.

    >>> import tinygrad_lstm as tg
    >>> tg.zeros(3).index_add(0, [0, 0, 2], [1.0, 2.0, 3.0])
    tensor([3., 0., 3.])
    """
    values = _values("index_add", source, x)
    if alpha != 1:
        values = values * alpha
        if values.dtype != x.dtype:
            raise TypeError(f"index_add: alpha is {alpha}, which does not keep the dtype of x, {x.dtype}")
    return _slices("index_add", x, dim, index, values, adds=True)


@_also_in_place
def index_copy(x: Tensor, dim: int, index: Any, source: Any) -> _Change:
    """x with the slices of `source` along `dim` written to the slices that a 1-D index selects.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU are not checked).
        TypeError: `source` is a tensor of a different dtype.
        ValueError: the index is not 1-D; `source` does not have x's shape, with the index's length at `dim`.
    """
    return _slices("index_copy", x, dim, index, _values("index_copy", source, x), adds=False)


@_also_in_place
def index_fill(x: Tensor, dim: int, index: Any, value: Any) -> _Change:
    """x with a number, or a 0-d tensor, written to the slices along `dim` that a 1-D index selects.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU are not checked).
        TypeError: the value is a tensor of a different dtype.
        ValueError: the index is not 1-D; the value is not 0-d.
    """
    value = _values("index_fill", value, x)
    if value.ndim:
        raise ValueError(f"index_fill: value of shape {value.shape}; expected a number or a 0-d tensor")
    return _slices("index_fill", x, dim, index, value, adds=False)


# -- at any elements ---------------------------------------------------------------------------------------------------


@composite
@shown_whole
def take(x: Tensor, index: Any) -> Tensor:
    """The elements of flattened x that an index of any shape selects, in its shape.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU are not checked).
    """
    return getitem_op(reshape_op(x, (x.size,)), index_tensor("take", index, (x.size,), 0, x.device)._array)


@_also_in_place
def put(x: Tensor, index: Any, source: Any, accumulate: bool = False) -> _Change:
    """x with the elements of `source`, in order, written to the elements of flattened x that an index selects.

    Args:
        accumulate: adds the values instead; an element that is selected several times receives all of them.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU are not checked).
        TypeError: `source` is a tensor of a different dtype.
        ValueError: `source` and the index do not have the same number of elements.
    """
    values, index = _values("put", source, x), index_tensor("put", index, (x.size,), 0, x.device)
    if values.ndim and values.size != index.size:
        raise ValueError(f"put: source of shape {values.shape} must have as many elements as index, {index.shape}")
    values = reshape_op(values, index.shape) if values.ndim else values
    return _Change(index._array, values, accumulate, flat=True)


@_also_in_place
def index_put(x: Tensor, indices: Sequence[Any], values: Any, accumulate: bool = False) -> _Change:
    """x after `x[indices] = values`, or with `accumulate` after the values are added to x[indices].

    Args:
        indices: for each of the first dimensions of x an index, as `x[...]` takes it: integers or a mask.
        values: they broadcast to the shape of x[indices].
        accumulate: an element that is selected several times receives all of its values.

    Raises:
        IndexError: an index is out of range (index tensors on a GPU are not checked); there are too many.
        TypeError: `values` is a tensor of a different dtype.
        ValueError: the values do not broadcast.

    >>> import tinygrad_lstm as tg
    >>> tg.zeros(2, 2).index_put(([0, 0, 1], [1, 1, 0]), [1.0, 2.0, 3.0], accumulate=True)
    tensor([[0., 3.],
            [3., 0.]])
    """
    return _Change(prepared(tuple(indices), x), _values("index_put", values, x), accumulate)


# -- by masks ----------------------------------------------------------------------------------------------------------


def _mask(name: str, given: Any, x: Tensor) -> Tensor:
    mask = operand(given, x.device)
    if not is_bool(mask.dtype):
        raise TypeError(f"{name}: mask is of {mask.dtype}; expected bool")
    return mask


@composite
@shown_whole
def masked_select(x: Tensor, mask: Any) -> Tensor:
    """The elements of x where the mask is true, in one dimension. x and the mask broadcast against each other.

    On a GPU, the host waits for the number of elements.

    Raises:
        TypeError: the mask is not of bool.
        ValueError: the shapes do not broadcast.
    """
    mask = _mask("masked_select", mask, x)
    try:
        shape = np.broadcast_shapes(x.shape, mask.shape)
    except ValueError:
        raise ValueError(f"masked_select: x {x.shape} and mask {mask.shape} do not broadcast") from None
    return getitem(broadcast_to(x, shape), broadcast_to(mask, shape))


@composite
def masked_scatter(x: Tensor, mask: Any, source: Any) -> Tensor:
    """x with the elements of `source`, in order, written where the mask is true. The mask broadcasts to x's shape.

    Raises:
        TypeError: the mask is not of bool; `source` is a tensor of a different dtype.
        ValueError: the mask does not broadcast; it is true for more elements than `source` has (not checked on a GPU).
    """
    mask = broadcast_to(_mask("masked_scatter", mask, x), x.shape)
    values = flatten(_values("masked_scatter", source, x))
    places = cumsum(flatten(mask).to(dtype=INT64), 0) - 1
    if x.device == "cpu" and (number := places._array.max(initial=-1) + 1) > values.size:
        raise ValueError(f"masked_scatter: the mask is true for {number} elements, but source has {values.size}")
    if not values.size:
        values = pad(values, (0, 1))  # which is not chosen
    return where(mask, reshape_op(getitem_op(values, clamp(places, 0)._array), x.shape), x)


@composite
@shown_whole
def one_hot(x: Tensor, num_classes: int = -1) -> Tensor:
    """For class ids x (any shape), int64 vectors that are 1 at the id and 0 elsewhere: (*x.shape, num_classes).

    Args:
        num_classes: by default the largest id plus 1, for which a GPU's values are copied to the host.

    Raises:
        IndexError: an id is negative, or at least `num_classes`. On a GPU, its vector is zero.
        TypeError: the ids or `num_classes` are not integers.
        ValueError: there are no ids, and `num_classes` is not given; it is negative, but not -1.
    """
    num_classes = integer("one_hot", "num_classes", num_classes)
    if num_classes < -1:
        raise ValueError(f"one_hot: num_classes is {num_classes}; expected 0 or more, or -1 for the largest id plus 1")
    if num_classes < 0 and not x.size:
        raise ValueError(f"one_hot: x of shape {x.shape} has no ids, so num_classes must be given")
    number = int(x.max().item()) + 1 if num_classes < 0 else num_classes
    ids = index_tensor("one_hot", x, (number,), 0, x.device, lowest=0)
    return eq(unsqueeze(ids, -1), arange(number, device=x.device)).to(dtype=INT64)
