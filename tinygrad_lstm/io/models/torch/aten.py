"""PyTorch's functions (ATen ops), as the code of a TorchScript archive and an exported program call them.

A rule has the parameters of the op's schema, in the same order. Tensors may also be numbers: lengths are integers.

Reference: PyTorch's `aten/src/ATen/native/native_functions.yaml`.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from .... import creation, ops
from ...._tensor import Tensor
from ...._tensor import tensor as make_tensor

__all__ = ["CREATES", "MAKES_ZEROS", "RULES", "VIEWS", "aten", "dims_of", "dtype_of"]

RULES: dict[str, Callable[..., Any]] = {}
"""The rules by the names of the ops."""

VIEWS = {
    *("view", "reshape", "flatten", "transpose", "permute", "t", "squeeze", "unsqueeze", "expand", "expand_as"),
    *("select", "slice", "narrow", "split", "chunk", "unbind", "detach", "numpy_T", "unflatten", "contiguous", "alias"),
    *("split_with_sizes", "diagonal", "to", "type_as", "view_as", "reshape_as"),
}
"""The ops whose results may share memory with their input."""

CREATES = {
    *("zeros", "ones", "full", "empty", "arange", "tensor", "scalar_tensor", "linspace", "logspace", "eye"),
    *("hann_window", "hamming_window", "blackman_window", "fft_fftfreq", "fft_rfftfreq"),
}
"""The ops that make tensors of numbers."""

MAKES_ZEROS = {"zeros", "zeros_like", "new_zeros"}
"""The ops whose results are zeros."""

# PyTorch's numbers of dtypes (c10/core/ScalarType.h).
# That of number 15, bfloat16, NumPy lacks: it is float32 here.
_DTYPES = (
    *("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "", "", "", "bool"),
    *("", "", "", "float32"),
)
_NAMES = {
    "bfloat16": "float32",
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "long": "int64",
    "int": "int32",
}


def aten(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the rule of an op, under one or several names."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def dtype_of(code: Any) -> Any:
    """A dtype from PyTorch's number or name of it; None for None.

    Raises:
        ValueError: there is no such dtype here.
    """
    if isinstance(code, str):
        code = code.removeprefix("torch.")
        name = _NAMES.get(code, code)
    elif isinstance(code, int) and not isinstance(code, bool):
        name = _DTYPES[code] if 0 <= code < len(_DTYPES) else ""
    else:
        return code
    if name not in _DTYPES or not name:
        raise ValueError(f"the dtype {code} is not supported")
    return name


# Ops that have the same parameters here.
_SAME = """
    abs acos acosh addmm argmax argmin argsort asin asinh atan atan2 atanh baddbmm bitwise_and bitwise_not
    bitwise_or bitwise_xor bmm ceil chunk clamp conv1d conv2d conv_transpose1d cos cosh cosine_similarity cummax
    cummin cumprod diagonal diff dot dropout elu equal erf exp expm1 flatten flip floor gather gelu glu hardsigmoid
    hardtanh hypot index_add index_copy index_fill index_select isclose isfinite isinf isnan leaky_relu lerp linear
    log log10 log1p log2 logaddexp logcumsumexp logical_and logical_not logical_or logical_xor logsumexp masked_fill
    masked_scatter masked_select matmul maximum median minimum mish mm movedim mv nan_to_num nanmedian one_hot outer
    prelu quantile reciprocal relu relu6 repeat_interleave rms_norm round rsqrt scaled_dot_product_attention
    scatter_add selu sigmoid sign silu sin sinh softplus sort sqrt square swapaxes take take_along_dim tan tanh topk
    trace transpose tril triu trunc unbind unsqueeze where
"""
RULES |= {name: getattr(ops, name) for name in _SAME.split()}
RULES |= {
    "clamp_min": ops.clamp_min,
    "clamp_max": ops.clamp_max,
    "clip": ops.clamp,
    "sgn": ops.sign,
    "special_expit": ops.sigmoid,
    "fmax": ops.maximum,
    "fmin": ops.minimum,
    "log_sigmoid": ops.logsigmoid,
    "logsigmoid": ops.logsigmoid,
    "concat": ops.cat,
    "concatenate": ops.cat,
    "swapdims": ops.swapaxes,
    "split_with_sizes": ops.split,
    "unsafe_split": ops.split,
    "unsafe_chunk": ops.chunk,
    "split": ops.split,
    "arctan": ops.atan,
    "multiply": operator.mul,
    "mul": operator.mul,
    "true_divide": operator.truediv,
    "neg": operator.neg,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
    "pow": operator.pow,
    "remainder": operator.mod,
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
    "__not__": operator.not_,
    "floordiv": operator.floordiv,
    "floor_divide": operator.floordiv,
}


# -- numbers and shapes ------------------------------------------------------------------------------------------------


@aten("add", "add_scalar")
def add(x: Any, y: Any, alpha: float = 1) -> Any:
    return x + (y if alpha == 1 else alpha * y)


@aten("sub", "subtract")
def sub(x: Any, y: Any, alpha: float = 1) -> Any:
    return x - (y if alpha == 1 else alpha * y)


@aten("rsub")
def rsub(x: Any, y: Any, alpha: float = 1) -> Any:
    return y - (x if alpha == 1 else alpha * x)


@aten("div", "divide")
def div(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return x / y
    down = x // y
    return down if rounding_mode == "floor" else down + ((down < 0) & (down * y != x))


@aten("fmod")
def fmod(x: Any, y: Any) -> Any:
    return x - div(x, y, "trunc") * y


@aten("size", "prim.shape", "sym_size")
def size(x: Any, dim: int | None = None) -> Any:
    return list(x.shape) if dim is None else x.shape[dim]


@aten("dim")
def dim(x: Tensor) -> int:
    return x.ndim


@aten("len")
def length(x: Any) -> int:
    return len(x)


@aten("numel")
def numel(x: Tensor) -> int:
    return math.prod(x.shape)


@aten("__contains__")
def contains(values: Sequence[Any], value: Any) -> bool:
    return value in values


@aten(
    *(
        "prim.NumToTensor",
        "prim.Int",
        "Int",
        "ScalarImplicit",
        "IntImplicit",
        "contiguous",
        "clone",
        "alias",
        "detach_",
    ),
    *("lift_fresh_copy", "lift_fresh", "requires_grad_", "resolve_conj"),
)
def same(x: Any, *others: Any, **settings: Any) -> Any:
    return x


@aten("prim.truncated")
def truncated(x: Any) -> Any:
    """`int(x)` of a number."""
    return x if isinstance(x, Tensor) else math.trunc(x)


@aten("prim.min")
def smallest(*values: Any) -> Any:
    return min(*values)


@aten("prim.max")
def largest(*values: Any) -> Any:
    return max(*values)


@aten("prim.is_nested")
def is_nested(x: Tensor) -> bool:
    return False


@aten("detach")
def detach(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


@aten("prim.dtype")
def dtype(x: Tensor) -> Any:
    return x.dtype


@aten("prim.device", "device", "prim.layout", "layout")
def device(x: Any) -> None:
    return None


@aten("list")
def as_list(x: Sequence[Any]) -> list[Any]:
    return list(x)


@aten("__getitem__")
def getitem(values: Any, index: Any) -> Any:
    return values[index]


# -- dtypes and new tensors --------------------------------------------------------------------------------------------


@aten("to", "_to_copy")
def to(x: Any, *settings: Any, dtype: Any = None, **others: Any) -> Any:
    """Its overloads have a dtype, a device and a dtype, or a tensor first; the device stays the same."""
    if not isinstance(x, Tensor):
        return x
    for each in settings if dtype is None else ():
        if isinstance(each, Tensor):
            dtype = each.dtype
        elif (
            dtype is None and each is not None and not isinstance(each, bool) and (each in _DTYPES or each != str(each))
        ):
            dtype = each
    return x if dtype is None else x.astype(dtype_of(dtype))


@aten("type_as")
def type_as(x: Tensor, y: Tensor) -> Tensor:
    return x.astype(y.dtype)


@aten("zeros", "empty")
def zeros(size: Sequence[int], dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return creation.zeros(tuple(size), dtype=dtype_of(dtype))


@aten("ones")
def ones(size: Sequence[int], dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return creation.ones(tuple(size), dtype=dtype_of(dtype))


@aten("full")
def full(size: Sequence[int], fill_value: Any, dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return creation.full(tuple(size), fill_value, dtype=dtype_of(dtype))


@aten("zeros_like", "empty_like")
def zeros_like(x: Tensor, dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return creation.zeros_like(x) if dtype is None else creation.zeros_like(x).astype(dtype_of(dtype))


@aten("ones_like")
def ones_like(x: Tensor, dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return creation.ones_like(x) if dtype is None else creation.ones_like(x).astype(dtype_of(dtype))


@aten("full_like")
def full_like(x: Tensor, fill_value: Any, dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return (
        creation.full_like(x, fill_value)
        if dtype is None
        else creation.full_like(x, fill_value).astype(dtype_of(dtype))
    )


@aten("new_zeros")
def new_zeros(x: Tensor, size: Sequence[int], dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return creation.zeros(tuple(size), dtype=dtype_of(dtype) or x.dtype, device=x.device)


@aten("new_ones")
def new_ones(x: Tensor, size: Sequence[int], dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return creation.ones(tuple(size), dtype=dtype_of(dtype) or x.dtype, device=x.device)


@aten("new_full")
def new_full(x: Tensor, size: Sequence[int], fill_value: Any, dtype: Any = None, **settings: Any) -> Tensor:
    return creation.full(tuple(size), fill_value, dtype=dtype_of(dtype) or x.dtype, device=x.device)


@aten("arange")
def arange(*limits: Any, dtype: Any = None, **settings: Any) -> Tensor:
    """Its overloads have the end, the start and the end, or also a step; then dtype, layout, device and pin_memory."""
    if len(limits) > 4:
        dtype, limits = limits[-4], limits[:-4]
    start, stop, *step = [0, *limits] if len(limits) == 1 else limits
    return creation.arange(start, stop, step[0] if step else 1, dtype_of(dtype))


@aten("linspace")
def linspace(start: float, end: float, steps: int, dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return creation.linspace(start, end, steps, dtype=dtype_of(dtype))


@aten("logspace")
def logspace(
    start: float, end: float, steps: int, base: float = 10.0, dtype: Any = None, *others: Any, **settings: Any
) -> Tensor:
    return base ** creation.linspace(start, end, steps, dtype=dtype_of(dtype))


@aten("eye")
def eye(n: int, m: Any = None, *others: Any, dtype: Any = None, **settings: Any) -> Tensor:
    """Its overloads have a number of columns or not; then dtype, layout, device and pin_memory."""
    if len(others) == 3:
        m, dtype = None, m
    elif others:
        dtype = others[0]
    return creation.eye(n, n if m is None else m, dtype=dtype_of(dtype))


@aten("tensor", "scalar_tensor")
def tensor(data: Any, dtype: Any = None, **settings: Any) -> Tensor:
    return make_tensor(data, dtype=dtype_of(dtype))


# -- shapes of tensors -------------------------------------------------------------------------------------------------


@aten("view", "reshape", "_unsafe_view")
def reshape(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.reshape(tuple(size))


@aten("view_as", "reshape_as")
def reshape_as(x: Tensor, y: Tensor) -> Tensor:
    return x.reshape(y.shape)


@aten("unflatten")
def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    return x.unflatten(dim, tuple(sizes))


@aten("permute")
def permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.permute(*dims)


@aten("t", "numpy_T", "mT")
def t(x: Tensor) -> Tensor:
    return x.t() if x.ndim == 2 else x.transpose(-2, -1)


@aten("squeeze")
def squeeze(x: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    return ops.squeeze(x, tuple(dim) if isinstance(dim, Sequence) else dim)


@aten("expand")
def expand(x: Tensor, size: Sequence[int], implicit: bool = False) -> Tensor:
    return x.expand(*size)


@aten("expand_as")
def expand_as(x: Tensor, y: Tensor) -> Tensor:
    return x.expand(*y.shape)


@aten("repeat")
def repeat(x: Tensor, repeats: Sequence[int]) -> Tensor:
    return x.repeat(*repeats)


@aten("tile")
def tile(x: Tensor, dims: Sequence[int]) -> Tensor:
    return ops.tile(x, tuple(dims))


@aten("roll")
def roll(x: Tensor, shifts: Any, dims: Any = ()) -> Tensor:
    """Of the flattened tensor if no dimensions are given."""
    return ops.roll(x, dims_of(shifts), dims_of(dims))


def dims_of(dim: Any) -> Any:
    """The dimensions of an op: None for none."""
    return (tuple(dim) or None) if isinstance(dim, Sequence) else dim


@aten("cat")
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return ops.cat(tensors, dim)


@aten("stack")
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return ops.stack(tensors, dim)


@aten("select")
def select(x: Any, dim: int, index: int = 0) -> Any:
    return x.select(dim, index) if isinstance(x, Tensor) else x[index]


@aten("slice")
def slice_(x: Any, dim: Any = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    if not isinstance(x, Tensor):  # of a list: start, end, step
        return list(x)[slice(dim, start, end)]
    end = None if end is not None and end >= 2**63 - 1 else end
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


@aten("narrow")
def narrow(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    return x.narrow(dim, start, length)


@aten("index")
def index(x: Tensor, indices: Sequence[Any]) -> Tensor:
    return x[tuple([slice(None) if each is None else each for each in indices])]


@aten("pad")
def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    return ops.pad(x, tuple(pad), mode, 0.0 if value is None else value)


@aten("constant_pad_nd")
def constant_pad(x: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    return ops.pad(x, tuple(pad), "constant", value)


@aten("unfold")
def unfold(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    return ops.unfold(x, dimension, size, step)
