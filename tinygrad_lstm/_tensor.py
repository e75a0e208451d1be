"""`Tensor`: an array, its device, its gradient, and the node that made it."""

import builtins
import itertools
import math
import warnings
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, ClassVar

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import (
    BOOL,
    DEFAULT_FLOAT,
    FLOAT64,
    INT64,
    DType,
    can_store,
    check_bounds,
    check_differentiable,
    check_integers,
    checked_dtype,
    exact_integers,
    fits,
    is_bool,
    is_dtype,
    is_float,
    is_integer,
)

from . import autograd
from .device import Device, device_of, get_device
from .exchange import Exchange
from .graph import GraphNode, Leaf, Node, Pick, Version, next_number
from .mode import mode, no_grad
from .tracing import shapes

__all__ = ["Tensor", "as_tensor", "tensor"]

_hook_numbers = itertools.count()


class Tensor(Exchange):
    """An n-dimensional array on a device, which may record how it came about.

    Made by `tg.tensor` and its kin, and by ops. `data` is the array itself, NumPy's or CuPy's; what is written through
    it is not seen by autograd, so change a tensor by its methods whose names end in `_`, or by `x[i] = v`.

    Methods that stand for ops are documented there: `x.sum(dim)` is `tg.sum(x, dim)`.
    """

    __slots__ = ("__weakref__", "_array", "_node", "_requires_grad", "_version", "_viewed_at", "device", "grad")

    _array: Array
    _node: GraphNode | None
    _requires_grad: bool
    _version: Version | None
    _viewed_at: int | None
    device: Device
    grad: "Tensor | None"

    def __init__(
        self, data: Any, dtype: DType = None, device: str | Device | None = None, requires_grad: bool = False
    ) -> None:
        place = data.device if device is None and isinstance(data, Tensor) else get_device(device)
        self._array = _to_array(data, dtype, place)
        self.device = place
        self.grad = None
        self._node = None
        self._version = None
        self._viewed_at = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True

    # The ops attach these methods; each is documented where it is defined, in ops/.
    __array_function__: ClassVar[Callable[..., Any]]
    __array_ufunc__: ClassVar[Callable[..., Any]]
    getitem: ClassVar[Callable[..., "Tensor"]]
    _move: ClassVar[Callable[..., "Tensor"]]
    _put: ClassVar[Callable[..., "Tensor"]]
    abs: ClassVar[Callable[..., "Tensor"]]
    add: ClassVar[Callable[..., "Tensor"]]
    all: ClassVar[Callable[..., "Tensor"]]
    any: ClassVar[Callable[..., "Tensor"]]
    argmax: ClassVar[Callable[..., "Tensor"]]
    argmin: ClassVar[Callable[..., "Tensor"]]
    astype: ClassVar[Callable[..., "Tensor"]]
    binary_cross_entropy_with_logits: ClassVar[Callable[..., "Tensor"]]
    broadcast_to: ClassVar[Callable[..., "Tensor"]]
    chunk: ClassVar[Callable[..., "tuple[Tensor, ...]"]]
    clamp: ClassVar[Callable[..., "Tensor"]]
    clone: ClassVar[Callable[..., "Tensor"]]
    conv1d: ClassVar[Callable[..., "Tensor"]]
    cos: ClassVar[Callable[..., "Tensor"]]
    cross_entropy: ClassVar[Callable[..., "Tensor"]]
    cumsum: ClassVar[Callable[..., "Tensor"]]
    div: ClassVar[Callable[..., "Tensor"]]
    dropout: ClassVar[Callable[..., "Tensor"]]
    elu: ClassVar[Callable[..., "Tensor"]]
    eq: ClassVar[Callable[..., "Tensor"]]
    erf: ClassVar[Callable[..., "Tensor"]]
    exp: ClassVar[Callable[..., "Tensor"]]
    expand: ClassVar[Callable[..., "Tensor"]]
    expm1: ClassVar[Callable[..., "Tensor"]]
    flatten: ClassVar[Callable[..., "Tensor"]]
    flip: ClassVar[Callable[..., "Tensor"]]
    floor: ClassVar[Callable[..., "Tensor"]]
    gather: ClassVar[Callable[..., "Tensor"]]
    ge: ClassVar[Callable[..., "Tensor"]]
    gelu: ClassVar[Callable[..., "Tensor"]]
    gt: ClassVar[Callable[..., "Tensor"]]
    index_select: ClassVar[Callable[..., "Tensor"]]
    isfinite: ClassVar[Callable[..., "Tensor"]]
    isnan: ClassVar[Callable[..., "Tensor"]]
    l1_loss: ClassVar[Callable[..., "Tensor"]]
    layer_norm: ClassVar[Callable[..., "Tensor"]]
    le: ClassVar[Callable[..., "Tensor"]]
    leaky_relu: ClassVar[Callable[..., "Tensor"]]
    lerp: ClassVar[Callable[..., "Tensor"]]
    linear: ClassVar[Callable[..., "Tensor"]]
    log: ClassVar[Callable[..., "Tensor"]]
    log1p: ClassVar[Callable[..., "Tensor"]]
    log_softmax: ClassVar[Callable[..., "Tensor"]]
    logical_and: ClassVar[Callable[..., "Tensor"]]
    logical_not: ClassVar[Callable[..., "Tensor"]]
    logical_or: ClassVar[Callable[..., "Tensor"]]
    logical_xor: ClassVar[Callable[..., "Tensor"]]
    logsumexp: ClassVar[Callable[..., "Tensor"]]
    lt: ClassVar[Callable[..., "Tensor"]]
    masked_fill: ClassVar[Callable[..., "Tensor"]]
    matmul: ClassVar[Callable[..., "Tensor"]]
    max: ClassVar[Callable[..., "Tensor"]]
    maximum: ClassVar[Callable[..., "Tensor"]]
    mean: ClassVar[Callable[..., "Tensor"]]
    min: ClassVar[Callable[..., "Tensor"]]
    minimum: ClassVar[Callable[..., "Tensor"]]
    mse_loss: ClassVar[Callable[..., "Tensor"]]
    mul: ClassVar[Callable[..., "Tensor"]]
    ne: ClassVar[Callable[..., "Tensor"]]
    neg: ClassVar[Callable[..., "Tensor"]]
    nll_loss: ClassVar[Callable[..., "Tensor"]]
    norm: ClassVar[Callable[..., "Tensor"]]
    outer: ClassVar[Callable[..., "Tensor"]]
    pad: ClassVar[Callable[..., "Tensor"]]
    permute: ClassVar[Callable[..., "Tensor"]]
    pow: ClassVar[Callable[..., "Tensor"]]
    prod: ClassVar[Callable[..., "Tensor"]]
    reciprocal: ClassVar[Callable[..., "Tensor"]]
    relu: ClassVar[Callable[..., "Tensor"]]
    repeat: ClassVar[Callable[..., "Tensor"]]
    reshape: ClassVar[Callable[..., "Tensor"]]
    roll: ClassVar[Callable[..., "Tensor"]]
    round: ClassVar[Callable[..., "Tensor"]]
    rsqrt: ClassVar[Callable[..., "Tensor"]]
    sigmoid: ClassVar[Callable[..., "Tensor"]]
    sign: ClassVar[Callable[..., "Tensor"]]
    silu: ClassVar[Callable[..., "Tensor"]]
    sin: ClassVar[Callable[..., "Tensor"]]
    smooth_l1_loss: ClassVar[Callable[..., "Tensor"]]
    softmax: ClassVar[Callable[..., "Tensor"]]
    softplus: ClassVar[Callable[..., "Tensor"]]
    split: ClassVar[Callable[..., "tuple[Tensor, ...]"]]
    sqrt: ClassVar[Callable[..., "Tensor"]]
    square: ClassVar[Callable[..., "Tensor"]]
    squeeze: ClassVar[Callable[..., "Tensor"]]
    std: ClassVar[Callable[..., "Tensor"]]
    sub: ClassVar[Callable[..., "Tensor"]]
    sum: ClassVar[Callable[..., "Tensor"]]
    swapaxes: ClassVar[Callable[..., "Tensor"]]
    take_along_axis: ClassVar[Callable[..., "Tensor"]]
    tanh: ClassVar[Callable[..., "Tensor"]]
    transpose: ClassVar[Callable[..., "Tensor"]]
    tril: ClassVar[Callable[..., "Tensor"]]
    triu: ClassVar[Callable[..., "Tensor"]]
    unbind: ClassVar[Callable[..., "tuple[Tensor, ...]"]]
    unsqueeze: ClassVar[Callable[..., "Tensor"]]
    var: ClassVar[Callable[..., "Tensor"]]
    where: ClassVar[Callable[..., "Tensor"]]

    @staticmethod
    def _wrap(array: Array, device: Device, node: GraphNode | None = None) -> "Tensor":
        """A tensor around an array as it is, made by `node`."""
        self = _new(Tensor)
        self._array = array
        self.device = device
        self._node = node
        self._requires_grad = node is not None
        self.grad = None
        self._version = None
        self._viewed_at = None
        return self

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array, NumPy's or CuPy's; sharing memory with the tensor."""
        return self._array

    @data.setter
    def data(self, array: Any) -> None:
        array = as_tensor(array, self.device)._array
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"data: expected {self.dtype} of shape {self.shape}, got {array.dtype} of shape {array.shape}; "
                "make a new tensor instead"
            )
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
        return shapes.shape_seen(self, shape) if shapes.under_way else shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

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
        copied = _new(type(self))
        Tensor.__init__(copied, self, requires_grad=self._requires_grad)
        copied.grad = None if self.grad is None else Tensor(self.grad)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: the values, the device's name and `requires_grad`; a gradient is not part of it."""
        if not self.is_leaf:
            raise RuntimeError("pickle: only leaves can be pickled, this tensor was made by an op; use .detach()")
        return _unpickled, (type(self), self.device.backend.to_host(self._array), self.device, self._requires_grad)

    def __repr__(self) -> str:
        prefix = "tensor("
        text = np.array2string(self.detach().cpu()._array, separator=", ", prefix=prefix)
        notes = [] if self.size or self.shape == (0,) else [f"shape={self.shape}"]
        notes += [] if self.dtype in (DEFAULT_FLOAT, INT64, BOOL) else [f"dtype={self.dtype}"]
        notes += [] if self.device == "cpu" else [f"device={str(self.device)!r}"]
        if self._requires_grad:
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
        recorder = mode().value.recorder
        if recorder is not None:
            recorder.see_read(self)
        return self.device.backend.to_host(self._array)

    # -- devices and dtypes -------------------------------------------------------------------------------------------

    def to(self, device: str | Device | DType = None, dtype: DType = None) -> "Tensor":
        """The tensor on another device, or of another dtype; differentiable. Itself where nothing changes.

        Floats become integers without what follows their decimal point. NaN, infinities and numbers beyond the range of
        an integer dtype become some integer or other, as in NumPy, which warns: look first, at `isfinite()` for one.

        Args:
            device: a device or its name; or a dtype, as in `x.to("float64")`.
            dtype: the elements' type.

        >>> import tinygrad_lstm as tg
        >>> tg.tensor([1, 2]).to("cpu", dtype="float32")
        tensor([1., 2.])
        """
        if dtype is None and device is not None and not isinstance(device, Device) and is_dtype(device):
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
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not self.is_leaf:
            raise RuntimeError("requires_grad can be set on leaves only; this tensor was made by an op: use .detach()")
        if value:
            check_differentiable(self.dtype)
        if value != self._requires_grad:  # noted before and after, as a graph made meanwhile holds the values
            self._requires_grad = bool(value)
            if self._version is not None or not value:
                self._shared_version().in_graph = True

    def requires_grad_(self, value: bool = True) -> "Tensor":
        """Sets `requires_grad`, and gives the tensor back."""
        self.requires_grad = value
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made this tensor."""
        return self._node is None or isinstance(self._node, Leaf)

    def backward(
        self, grad: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:
        """Adds to `.grad` of every leaf that this tensor was made from the gradient of this tensor.

        Args:
            grad: the gradient of some scalar with respect to this tensor, of its shape; 1 for a one-element tensor.
            retain_graph: keep what the graph kept, so that it can be walked again; by default as `create_graph`.
            create_graph: record the walk itself, so that the gradients can be differentiated in turn.
            inputs: add to these tensors alone.

        Raises:
            RuntimeError: no gradient is followed here; this is no scalar and `grad` is missing; the graph was freed by
                an earlier backward; a value that a derivative needs was changed in place.
            ValueError: `grad` has not this tensor's shape.
        """
        autograd.backward([self], None if grad is None else [grad], retain_graph, create_graph, inputs)

    def detach(self) -> "Tensor":
        """The same values, sharing memory, to which no gradient flows."""
        detached = Tensor._wrap(self._array, self.device)
        detached._version = self._shared_version()
        return detached

    def retain_grad(self) -> "Tensor":
        """Lets `backward` keep this tensor's gradient in `.grad` though it is no leaf; gives the tensor back.

        Raises:
            RuntimeError: the tensor does not require a gradient.
        """
        if not self._requires_grad:
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
            ValueError, TypeError: (in `backward`) the hook returns a tensor of another shape, or no tensor.
        """
        if not self._requires_grad:
            raise RuntimeError("register_hook: this tensor does not require a gradient, so none will come by")
        return self._add_hook(hook, next(_hook_numbers))

    def _add_hook(self, hook: "Callable[[Tensor], Tensor | None]", number: builtins.float) -> "HookHandle":
        node, device = self._graph_node(), self.device

        def on_gradient(g: Any) -> Any:
            given = g.clone() if isinstance(g, Tensor) else Tensor._wrap(device.backend.as_array(g.copy()), device)
            replaced = hook(given)
            if replaced is None:
                return g
            if not isinstance(replaced, Tensor):
                raise TypeError(f"hook: expected a Tensor or None back, got {type(replaced).__name__}")
            if replaced.shape != given.shape:
                raise ValueError(f"hook: the gradient has shape {given.shape}, but the hook returned {replaced.shape}")
            replaced = given._matching(replaced)
            return replaced if isinstance(g, Tensor) else replaced._array

        node.hooks = {} if node.hooks is None else node.hooks
        node.hooks[number] = on_gradient
        return HookHandle(node.hooks, number)

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
        """The node that made this tensor; for a leaf, the one into which its gradient flows."""
        if self._node is None:
            self._node = Leaf(self)
        return self._node

    # -- in place -----------------------------------------------------------------------------------------------------

    def _share_version(self, *views: "Tensor") -> None:
        """Notes that the views share this tensor's memory."""
        version, now = self._shared_version(), next_number()
        for view in views:
            view._version = version
            view._viewed_at = now

    def _shared_version(self) -> Version:
        if self._version is None:
            self._version = Version(self._node, self._requires_grad)
        return self._version

    def _check_current(self, asker: str) -> None:
        """Raises if this is a view of a tensor into whose graph something was written after the view was taken."""
        if self._viewed_at is not None and self._shared_version().recorded > self._viewed_at:
            raise RuntimeError(
                f"{asker}: an input of shape {self.shape} is a view of a tensor that was changed in place later; "
                "take the view again"
            )

    def _mark_written(self) -> None:
        version = self._shared_version()
        version.written = next_number()
        maker = version.maker.parents[0] if isinstance(version.maker, Pick) else version.maker
        if isinstance(maker, Node):
            maker.output_version().written = version.written

    def _write(self, name: str, result: "Tensor") -> "Tensor":
        """Puts the result of an op on this tensor in its place, in memory and in the graph."""
        if result.shape != self.shape:
            raise ValueError(f"{name}: the result has shape {result.shape}, which does not fit into {self.shape}")
        if not can_store(result.dtype, self.dtype):
            raise TypeError(f"{name}: the result is {result.dtype}, which does not fit into a {self.dtype} tensor")
        self._check_in_place(name, result._requires_grad)
        if result.dtype != self.dtype:
            result = result.to(dtype=self.dtype)
        with self.device.current():
            self._array[...] = result._array
        self._note_in_place(result._node)
        return self

    def _check_in_place(self, name: str, recorded: bool) -> None:
        if self._shares_elements():
            raise RuntimeError(
                f"{name}: this tensor of shape {self.shape} is a read-only view, such as expand gives, in which "
                "elements may share memory; change a .clone() of it"
            )
        if not (mode().value.recording and (recorded or self._requires_grad)):
            return
        if self._requires_grad and self.is_leaf:
            raise RuntimeError(f"{name}: a leaf that requires a gradient cannot be changed in place; use tg.no_grad()")
        if self._viewed_at is not None:
            raise RuntimeError(
                f"{name}: this is a view of another tensor, whose graph would not see the change; "
                "change the other by x[index] = value, or a .clone() of this one"
            )
        check_differentiable(self.dtype)

    def _shares_elements(self) -> bool:
        """Whether this is a broadcast view, which not every device makes read-only by itself, or read-only."""
        array = self._array
        if not getattr(array.flags, "writeable", True):
            return True
        if 0 not in array.strides or 0 in array.shape:
            return False
        return builtins.any([not stride and n > 1 for stride, n in zip(array.strides, array.shape)])

    def _note_in_place(self, node: GraphNode | None) -> None:
        self._mark_written()
        if node is not None:
            version = self._shared_version()
            version.recorded, version.maker, version.in_graph = version.written, None, True
            self._node, self._requires_grad = node, True

    def add_(self, other: Any) -> "Tensor":
        """Adds in place."""
        return self._write("add_", self + other)

    def sub_(self, other: Any) -> "Tensor":
        """Subtracts in place."""
        return self._write("sub_", self - other)

    def mul_(self, other: Any) -> "Tensor":
        """Multiplies in place."""
        return self._write("mul_", self * other)

    def div_(self, other: Any) -> "Tensor":
        """Divides in place."""
        return self._write("div_", self / other)

    def clamp_(self, min: Any = None, max: Any = None) -> "Tensor":
        """Limits to a range in place."""
        return self._write("clamp_", self.clamp(min, max))

    def masked_fill_(self, mask: Any, value: Any) -> "Tensor":
        """Writes `value` where `mask` is true."""
        return self._write("masked_fill_", self.masked_fill(mask, value))

    def copy_(self, source: Any) -> "Tensor":
        """Writes the values of `source`, which broadcasts and may be on another device or of another dtype."""
        self[...] = source.to(self.device) if isinstance(source, Tensor) else source
        return self

    def fill_(self, value: Any) -> "Tensor":
        """Writes one value everywhere."""
        self[...] = value
        return self

    def zero_(self) -> "Tensor":
        """Writes zeros."""
        return self.fill_(0)

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writes in place; differentiable in the tensor and in `value`.

        Raises:
            OverflowError, ValueError: as `tg.tensor`, of numbers that this tensor's integer dtype cannot hold.
        """
        given = value.to(dtype=self.dtype) if isinstance(value, Tensor) else self._matching(value)
        self._check_in_place("setitem", given._requires_grad)
        self._note_in_place(self._put(given, index)._node)

    # -- operators ----------------------------------------------------------------------------------------------------

    def __neg__(self) -> "Tensor":
        return self.neg()

    def __pos__(self) -> "Tensor":
        return self

    def __abs__(self) -> "Tensor":
        return self.abs()

    def __invert__(self) -> "Tensor":
        self._check_bool("~", self)
        return self.logical_not()

    def __getitem__(self, index: Any) -> "Tensor":
        return self.getitem(index)

    def __round__(self, decimals: int = 0) -> "Tensor":
        return self.round(decimals)

    def __add__(self, other: Any) -> "Tensor":
        return Tensor.add(self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return Tensor.add(other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return Tensor.sub(self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return Tensor.sub(other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return Tensor.mul(self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return Tensor.mul(other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return Tensor.div(self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return Tensor.div(other, self)

    def __pow__(self, other: Any) -> "Tensor":
        return Tensor.pow(self, other)

    def __rpow__(self, other: Any) -> "Tensor":
        return Tensor.pow(other, self)

    def __matmul__(self, other: Any) -> "Tensor":
        return Tensor.matmul(self, other)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return Tensor.matmul(other, self)

    def __lt__(self, other: Any) -> "Tensor":
        return Tensor.lt(self, other)

    def __le__(self, other: Any) -> "Tensor":
        return Tensor.le(self, other)

    def __gt__(self, other: Any) -> "Tensor":
        return Tensor.gt(self, other)

    def __ge__(self, other: Any) -> "Tensor":
        return Tensor.ge(self, other)

    def __eq__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return Tensor.eq(self, other)

    def __ne__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return Tensor.ne(self, other)

    def __and__(self, other: Any) -> "Tensor":
        return Tensor.logical_and(self, self._check_bool("&", other))

    def __or__(self, other: Any) -> "Tensor":
        return Tensor.logical_or(self, self._check_bool("|", other))

    def __xor__(self, other: Any) -> "Tensor":
        return Tensor.logical_xor(self, self._check_bool("^", other))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def _check_bool(self, sign: str, other: Any) -> Any:
        """`other`, if it and this tensor are bool: of integers, NumPy's signs mean their bits, which is no op here."""
        other = other if isinstance(other, Tensor | bool) else as_tensor(other, device_of(other) or self.device)
        for value in (self, other):
            if isinstance(value, Tensor) and not is_bool(value.dtype):
                raise TypeError(
                    f"{sign}: expected bool tensors, got {value.dtype} of shape {value.shape}; compare first, "
                    "as in (x != 0), or use tg.logical_and, logical_or, logical_xor, logical_not"
                )
        return other


_new = object.__new__


def _unpickled(kind: type[Tensor], values: HostArray, device: Device, requires_grad: bool) -> Tensor:
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
    if isinstance(data, Tensor) and data._requires_grad and mode().value.recording:
        warnings.warn(
            "tensor: the copy is not part of the graph of the tensor that is given, which requires a gradient; "
            "use .clone() for a copy that is, or .detach().clone() for one that is not",
            stacklevel=2,
        )
    return Tensor(data, dtype, device, requires_grad)


def as_tensor(data: Any, device: str | Device | None = None) -> Tensor:
    """`data` as a tensor: itself if it is one, around an array of the same device without a copy, else a new one."""
    if isinstance(data, Tensor):
        return data
    owner = device_of(data)
    here = owner is not None and (device is None or get_device(device) is owner)
    if owner is not None and here and checked_dtype(data.dtype) == data.dtype:
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
def fitting(given: Any, like: Tensor) -> Tensor:
    """Values for a tensor's place, in its dtype and on its device.

    Raises:
        ValueError: they are no numbers, have another shape or kind, or are beyond the range of the dtype.
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


def _to_array(data: Any, dtype: DType, device: Device) -> Array:
    """A new array on the device."""
    wanted = None if dtype is None else checked_dtype(dtype)
    owner = data.device if isinstance(data, Tensor) else device_of(data)
    if owner is not None:
        array = data._array if isinstance(data, Tensor) else data
        wanted = wanted or checked_dtype(array.dtype)
        with device.making("tensor"):
            return device.backend.from_device(array, owner.backend).astype(wanted, copy=False)
    try:
        array = np.array(data)
    except ValueError as error:
        raise ValueError(f"tensor: {error}; give nested lists of equal lengths") from error
    if wanted is not None:
        array = exact_integers(data, array) if is_integer(wanted) else array
        check_bounds("tensor", array, wanted)
    else:
        array_like = isinstance(data, np.generic) or _holds_arrays(data)
        if not array_like:
            check_integers("tensor", data, array)
        wanted = DEFAULT_FLOAT if array.dtype == FLOAT64 and not array_like else checked_dtype(array.dtype)
    with device.making("tensor"):
        return device.backend.from_host(array.astype(wanted, copy=False))


def _holds_arrays(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(isinstance(part, np.ndarray | np.generic) for part in data)
