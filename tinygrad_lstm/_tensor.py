"""`Tensor`: an array, its device, its gradient, and the node that made it."""

import builtins
import itertools
import math
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import (
    BOOL,
    DEFAULT_FLOAT,
    INT64,
    DType,
    can_store,
    check_differentiable,
    checked_dtype,
    fits,
    is_dtype,
    is_float,
    is_integer,
)

from .arguments import ElementCount
from .autograd import Differentiable
from .device import Device, device_of, get_device
from .exchange import Exchange, to_array
from .graph import OWN_CODE, GraphNode, Leaf
from .mode import Switch, mode, no_grad
from .tracer_hooks import shape_seen, shapes_traced

__all__ = ["Tensor", "as_tensor", "tensor"]

_hook_numbers = itertools.count()


class Tensor(Exchange["Tensor"], Differentiable):
    """An n-dimensional array on a device, which may record how it came about.

    Made by `tg.tensor` and its kin, and by ops. `data` is the array itself, NumPy's or CuPy's; what is written through
    it is not seen by autograd, so change a tensor by its methods whose names end in `_`, or by `x[i] = v`.

    Methods that stand for ops are documented there: `x.sum(dim)` is `tg.sum(x, dim)`.
    """

    __slots__ = ("__weakref__", "_array", "_leaf", "_node", "_version", "_viewed_at", "device", "grad")

    _leaf: Leaf  # once it was needed
    _node: GraphNode | None  # what made the tensor, or its leaf; None where it requires no gradient
    grad: "Tensor | None"

    def __init__(
        self, data: Any, dtype: DType = None, device: str | Device | None = None, requires_grad: bool = False
    ) -> None:
        place = data.device if device is None and isinstance(data, Tensor) else get_device(device)
        self._array = to_array(data, dtype, place)
        self.device = place
        self.grad = None
        self._node = None
        self._version = None
        self._viewed_at = None
        if requires_grad:
            self.requires_grad = True

    @staticmethod
    def _wrap(array: Array, device: Device, node: GraphNode | None = None) -> "Tensor":
        """A tensor around an array as it is, made by `node`."""
        self = _new(Tensor)
        self._array = array
        self.device = device
        self._node = node
        self.grad = None
        self._version = None
        self._viewed_at = None
        return self

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array, NumPy's or CuPy's; sharing memory with the tensor."""
        self._show_array()
        return self._array

    @data.setter
    def data(self, array: Any) -> None:
        array = as_tensor(array, self.device)._array
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"data: expected {self.dtype} of shape {self.shape}, got {array.dtype} of shape {array.shape}; "
                "make a new tensor instead"
            )
        self._show_write()
        self._mark_written()
        self._array = array

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' type, as NumPy names it."""
        dtype: np.dtype[Any] = self._array.dtype
        return dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each dimension."""
        shape: tuple[int, ...] = self._array.shape
        return shape_seen(self, shape) if shapes_traced.blocks else shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        ndim: int = self._array.ndim
        return ndim

    @property
    def size(self) -> int:
        """The number of elements, as of NumPy's arrays. Torch's `x.size(0)` is `x.shape[0]`."""
        number = math.prod(self.shape)
        return ElementCount(number) if number.__class__ is int else number  # not of a length of a traced run

    @property
    def T(self) -> "Tensor":
        """The tensor with its dimensions in reverse order."""
        return self.permute(tuple(range(self.ndim - 1, -1, -1)))

    @property
    def mT(self) -> "Tensor":
        """The tensor with its last two dimensions exchanged."""
        return self.swapaxes(-1, -2)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return iter(self.unbind(0))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if not is_integer(self.dtype):
            raise TypeError(f"an index must be an integer, got a {self.dtype} tensor")
        return int(self.item())

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        if not self.is_leaf:
            raise RuntimeError("deepcopy: only leaves can be copied, this tensor was made by an op; use .detach()")
        copied = _unpickled(type(self), self, self.device, self.requires_grad)
        copied.grad = None if self.grad is None else Tensor(self.grad)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: the values, the device's name and `requires_grad`; a gradient is not part of it."""
        if not self.is_leaf:
            raise RuntimeError("pickle: only leaves can be pickled, this tensor was made by an op; use .detach()")
        return _unpickled, (type(self), self._read(), self.device, self.requires_grad)

    def __repr__(self) -> str:
        prefix = "tensor("
        text = np.array2string(self._read(), separator=", ", prefix=prefix)
        notes = [] if self.size or self.shape == (0,) else [f"shape={self.shape}"]
        notes += [] if self.dtype in (DEFAULT_FLOAT, INT64, BOOL) else [f"dtype={self.dtype}"]
        notes += [] if self.device == "cpu" else [f"device={str(self.device)!r}"]
        if self.requires_grad:
            notes.append("requires_grad=True" if self.is_leaf else f"op={self._graph_node().op.name}")
        return ", ".join([prefix + text, *notes]) + ")"

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from .html import tensor_html

        return tensor_html(self)

    def __format__(self, spec: str) -> str:
        """With a specification that of its one element, as in f"{loss:.3f}"; without one the text of `repr`."""
        return format(self.item(), spec) if spec else repr(self)

    # -- out of the library -------------------------------------------------------------------------------------------

    def item(self) -> Any:
        """The one element as a Python number; reads the device's value on the host.

        Raises:
            ValueError: the tensor has not exactly one element.
        """
        if self.size != 1:
            raise ValueError(f"item: a tensor of shape {self.shape} has {self.size} elements; it must have one")
        return self._read().item()

    def tolist(self) -> Any:
        """The elements as Python numbers in nested lists; reads the device's values on the host."""
        return self._read().tolist()

    def _read(self) -> HostArray:
        return self.device.backend.to_host(self._read_on_device())

    def _read_on_device(self) -> Array:
        """The array, whose values decide on something: a tracer must know."""
        tracer = mode().value.tracer
        if tracer is not None:
            tracer.see_read(self)
        return self._array

    # -- devices and dtypes -------------------------------------------------------------------------------------------

    def to(self, device: "str | Device | DType | Tensor" = None, dtype: DType = None) -> "Tensor":
        """The tensor on another device, or of another dtype; differentiable. The same tensor if nothing changes.

        Floats become integers without what follows their decimal point. NaN, infinities and numbers beyond the range of
        an integer dtype become some integer or other, as in NumPy, which warns: look first, at `isfinite()` for one.

        Args:
            device: a device or its name; or a dtype, as in `x.to("float64")`; or a tensor, whose device and dtype are
                taken.
            dtype: the elements' type.

        >>> import tinygrad_lstm as tg
        >>> tg.tensor([1, 2]).to("cpu", dtype="float32")
        tensor([1., 2.])
        """
        if isinstance(device, Tensor):
            dtype, device = dtype or device.dtype, device.device
        elif dtype is None and device is not None and not isinstance(device, Device) and is_dtype(device):
            device, dtype = None, device
        moved = self
        if dtype is not None and checked_dtype(dtype) != self.dtype:
            moved = moved.astype(checked_dtype(dtype))
        if device is not None and get_device(device) is not self.device:
            moved = moved._move(get_device(device))
        return moved

    def cpu(self) -> "Tensor":
        """The tensor on the CPU."""
        return self.to("cpu")

    def cuda(self, index: int = 0) -> "Tensor":
        """The tensor on a CUDA device."""
        return self.to(f"cuda:{index}")

    def float(self) -> "Tensor":
        """The tensor as float32."""
        return self.to(dtype=np.float32)

    def double(self) -> "Tensor":
        """The tensor as float64."""
        return self.to(dtype=np.float64)

    # -- autograd -----------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are followed back to, or through, this tensor; can be set on leaves."""
        self._show_asked()
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._node is not None and self._node.__class__ is not Leaf:
            raise RuntimeError("requires_grad can be set on leaves only; this tensor was made by an op: use .detach()")
        if value:
            check_differentiable(self.dtype)
        if bool(value) != (
            self._node is not None
        ):  # noted before and after, as a graph made meanwhile holds the values
            self._node = self._own_leaf() if value else None
            if self._version is not None or not value:
                self._shared_version().in_graph = True

    def _show_asked(self) -> None:
        tracer = mode().value.tracer
        if tracer is not None and not sys._getframe(2).f_code.co_filename.startswith(OWN_CODE):
            tracer.see_requires_grad(self)

    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        """Sets `requires_grad`, and gives the tensor back."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made this tensor."""
        self._show_asked()
        return self._node is None or self._node.__class__ is Leaf

    def detach(self) -> "Tensor":
        """The same values, sharing memory, to which no gradient flows."""
        detached = Tensor._wrap(self._array, self.device)
        detached._version = self._shared_version()
        return detached

    def detach_(self) -> "Tensor":
        """Takes the tensor itself out of the graph that made it; returns it. What was computed of it is unchanged."""
        self._shared_version()
        self._node = None
        return self

    def retain_grad(self) -> "Tensor":
        """Lets `backward` keep this tensor's gradient in `.grad` though it is no leaf; gives the tensor back.

        Raises:
            RuntimeError: the tensor does not require a gradient.
        """
        if not self.requires_grad:
            raise RuntimeError("retain_grad: this tensor does not require a gradient, so there will be none to keep")
        if not self.is_leaf:
            reference = weakref.ref(self)

            def keep(g: Tensor) -> None:
                if (tensor := reference()) is not None:
                    tensor.grad = g if tensor.grad is None else tensor.grad + g

            self._add_hook(keep, math.inf)
        return self

    def register_hook(self, hook: "Callable[[Tensor], Tensor | None]") -> "HookHandle":
        """Calls `hook` with a copy of this tensor's gradient whenever it is known; what it returns takes its place.

        Hooks are called in the order in which they were registered.

        Returns:
            A handle whose `remove()` undoes this.

        Raises:
            RuntimeError: the tensor does not require a gradient.
            ValueError, TypeError: (in `backward`) the hook returns a tensor of a different shape, or not a tensor.
        """
        if not self.requires_grad:
            raise RuntimeError("register_hook: this tensor does not require a gradient, so none will come by")
        return self._add_hook(hook, next(_hook_numbers))

    def _add_hook(self, hook: "Callable[[Tensor], Tensor | None]", number: builtins.float) -> "HookHandle":
        node, device = self._graph_node(), self.device

        def on_gradient(g: Any) -> Any:
            given = g.clone() if isinstance(g, Tensor) else Tensor._wrap(device.backend.as_array(g.copy()), device)
            with Switch(recording=isinstance(g, Tensor)):
                replaced = hook(given)
            if replaced is None:
                return g
            if not isinstance(replaced, Tensor):
                raise TypeError(f"hook: expected a Tensor or None back, got {type(replaced).__name__}")
            if replaced.shape != given.shape:
                raise ValueError(f"hook: the gradient has shape {given.shape}, but the hook returned {replaced.shape}")
            replaced = given._matching(replaced)
            return replaced if isinstance(g, Tensor) else replaced._array

        hooks = node.with_extras().hooks
        hooks[number] = on_gradient
        return HookHandle(hooks, number)

    def _matching(self, value: Any) -> "Tensor":
        """`value` as a tensor of this one's device and dtype."""
        if not isinstance(value, Tensor):  # numbers take the dtype at once: in float32 they would lose digits
            return Tensor(value, self.dtype, self.device)
        if value.device is not self.device:
            raise RuntimeError(
                f"a tensor on {str(value.device)!r} was given for one on {str(self.device)!r}; move it with .to(device)"
            )
        return value.to(dtype=self.dtype)

    def _graph_node(self) -> GraphNode:
        """The node that made this tensor; of a leaf, the one into which its gradient flows."""
        return self._own_leaf() if self._node is None else self._node

    def _own_leaf(self) -> Leaf:
        """The node of this tensor as a leaf; always the same, whether or not it requires a gradient meanwhile."""
        if not hasattr(self, "_leaf"):
            self._leaf = Leaf(self)
        return self._leaf


_new = object.__new__


def _unpickled(kind: type[Tensor], values: Any, device: Device, requires_grad: bool) -> Tensor:
    made = _new(kind)
    Tensor.__init__(made, values, device=device, requires_grad=requires_grad)
    return made


class HookHandle:
    """Undoes the registration of a hook: by `remove()`, or at the end of a `with` block."""

    __slots__ = ("_hooks", "_number")

    def __init__(self, hooks: MutableMapping[Any, Any], number: float) -> None:
        self._hooks = hooks
        self._number = number

    def remove(self) -> None:
        """Takes the hook away; does nothing the second time."""
        self._hooks.pop(self._number, None)

    def __enter__(self) -> "HookHandle":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def tensor(data: Any, dtype: DType = None, device: str | Device | None = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`.

    Args:
        data: numbers, nested lists of them, an array of NumPy's or CuPy's, or a Tensor.
        dtype: the elements' type; by default arrays keep theirs, Python floats become float32, ints int64, bools bool.
        device: where it lies; by default on the default device.
        requires_grad: whether gradients flow back to it.

    Raises:
        OverflowError: a number is beyond the range of an integer dtype. (Elements of arrays are converted as by `to`.)
        TypeError: the elements are no numbers, or complex ones; or integers that should require a gradient.
        ValueError: ragged lists, or NaN for an integer dtype.

    Warns:
        UserWarning: `data` is a tensor that requires a gradient: the copy is not part of its graph.

    >>> import tinygrad_lstm as tg
    >>> tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    if isinstance(data, Tensor) and data.requires_grad and mode().value.recording:
        warnings.warn(
            "tensor: the copy is not part of the graph of the tensor that is given, which requires a gradient; "
            "use .clone() for a copy that is, or .detach().clone() for one that is not",
            stacklevel=2,
        )
    return Tensor(data, dtype, device, requires_grad)


def as_tensor(data: Any, device: str | Device | None = None, *, dtype: DType = None) -> Tensor:
    """`data` as a tensor: itself if it is one, around an array of the same device without a copy, else a new one.

    With `dtype`, it is in this dtype, and only copied if it has a different one. PyTorch has `dtype` before `device`.
    """
    if dtype is not None:
        given = isinstance(data, Tensor) or device_of(data) is not None
        return as_tensor(data, device).to(dtype=dtype) if given else Tensor(data, dtype, device)
    if isinstance(data, Tensor):
        return data
    owner = device_of(data)
    if owner is not None and get_device(device or owner) is owner and checked_dtype(data.dtype) == data.dtype:
        return Tensor._wrap(data, owner)
    return Tensor(data, device=device)


def operand(data: Any, device: str | Device | None = None) -> Tensor:
    """`data` as an input of an op, like `as_tensor`; but while ops record, a copy of an array.

    A derivative may need what the array holds now, and its owner may fill it anew before the walk.
    """
    made = as_tensor(data, device)
    if made._array is data and mode().value.recording:
        return Tensor._wrap(made.device.backend.from_device(data, made.device.backend), made.device)
    return made


@no_grad()
def cast_like(given: Any, like: Tensor) -> Tensor:
    """Values for a tensor's place, in its dtype and on its device.

    Raises:
        ValueError: they are not numbers, have a different shape or kind, or are out of the dtype's range.
    """
    expected = f"expected {like.dtype} {like.shape}"
    try:
        # Through NumPy's float64, so that a number too large for a float32 is seen.
        value = as_tensor(given if isinstance(given, Tensor) or device_of(given) else np.array(given))
    except (TypeError, ValueError) as error:
        described = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        raise ValueError(f"given {described}, {expected}") from error
    if value.shape != like.shape or not can_store(value.dtype, like.dtype):
        raise ValueError(f"given {value.dtype} {value.shape}, {expected}")
    with np.errstate(over="ignore"):
        cast = value.to(dtype=like.dtype)
    if not fits(value.dtype, like.dtype):
        kept = cast.isfinite() == value.isfinite() if is_float(like.dtype) else cast == value
        if not kept.all():
            raise ValueError(f"given {value.dtype} numbers beyond the range of {like.dtype}")
    return cast.to(like.device)
