"""NumPy's functions on tensors: a function for which there is an op returns a tensor and is differentiable.

Any other function is computed on the tensors' arrays, and raises TypeError if a tensor requires a gradient or is not on
the CPU. A ufunc without an op always raises TypeError.
"""

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor, as_tensor
from ..creation import full_like, ones_like, zeros_like
from . import (
    clamping,
    comparison,
    cumulative,
    elementwise,
    indexing,
    linalg,
    padding,
    reduction,
    rounding,
    scattering,
    sorting,
    trigonometric,
)
from .shape import (
    broadcast_to,
    cat,
    flatten,
    flip,
    movedim,
    permute,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tril,
    triu,
    unsqueeze,
)

Function = Callable[..., Any]

UFUNCS: dict[Any, Function] = {
    np.negative: elementwise.neg,
    np.positive: lambda x: x,
    np.absolute: elementwise.abs,
    np.sign: elementwise.sign,
    np.floor: rounding.floor,
    np.ceil: rounding.ceil,
    np.trunc: rounding.trunc,
    np.rint: rounding.round,
    np.square: elementwise.square,
    np.exp: elementwise.exp,
    np.expm1: elementwise.expm1,
    np.log: elementwise.log,
    np.log1p: elementwise.log1p,
    np.log2: elementwise.log2,
    np.log10: elementwise.log10,
    np.sqrt: elementwise.sqrt,
    np.reciprocal: elementwise.reciprocal,
    np.sin: trigonometric.sin,
    np.cos: trigonometric.cos,
    np.tan: trigonometric.tan,
    np.arcsin: trigonometric.asin,
    np.arccos: trigonometric.acos,
    np.arctan: trigonometric.atan,
    np.sinh: trigonometric.sinh,
    np.cosh: trigonometric.cosh,
    np.arcsinh: trigonometric.asinh,
    np.arccosh: trigonometric.acosh,
    np.arctanh: trigonometric.atanh,
    np.tanh: elementwise.tanh,
    np.isnan: comparison.isnan,
    np.isfinite: comparison.isfinite,
    np.isinf: comparison.isinf,
    np.logical_not: comparison.logical_not,
    np.invert: lambda x: ~x,
    np.add: elementwise.add,
    np.subtract: elementwise.sub,
    np.multiply: elementwise.mul,
    np.true_divide: rounding.div,
    np.power: elementwise.pow,
    np.floor_divide: rounding.floor_divide,
    np.remainder: rounding.remainder,
    np.arctan2: trigonometric.atan2,
    np.hypot: trigonometric.hypot,
    np.logaddexp: elementwise.logaddexp,
    np.maximum: elementwise.maximum,
    np.minimum: elementwise.minimum,
    np.equal: comparison.eq,
    np.not_equal: comparison.ne,
    np.less: comparison.lt,
    np.less_equal: comparison.le,
    np.greater: comparison.gt,
    np.greater_equal: comparison.ge,
    np.logical_and: comparison.logical_and,
    np.logical_or: comparison.logical_or,
    np.logical_xor: comparison.logical_xor,
    np.bitwise_and: lambda x, y: as_tensor(x) & y if isinstance(y, Tensor) else x & y,
    np.bitwise_or: lambda x, y: as_tensor(x) | y if isinstance(y, Tensor) else x | y,
    np.bitwise_xor: lambda x, y: as_tensor(x) ^ y if isinstance(y, Tensor) else x ^ y,
    np.matmul: linalg.matmul,
}
COMPARISONS = {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal}


# -- functions whose arguments differ from their op's; parameters have NumPy's names and order -------------------------


def _reducing(op: Function) -> Function:
    return lambda a, axis=None, *, keepdims=False: op(a, axis, keepdims)


def _spread(op: Function) -> Function:
    return lambda a, axis=None, *, ddof=0, keepdims=False: op(a, axis, ddof, keepdims)


def _cumulating(op: Function) -> Function:
    return lambda a, axis=None: op(flatten(a), 0) if axis is None else op(a, axis)


def _sorted(op: Function) -> Function:
    return lambda a, axis=-1, *, stable=None: op(flatten(a), 0) if axis is None else op(a, axis)


def _unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
) -> Any:
    if return_index:
        raise TypeError("np.unique: of tensors there is no return_index; give it x.detach().cpu().numpy()")
    return sorting.different(as_tensor(ar), return_inverse, return_counts, axis, equal_nan)


def _norm(x: Any, ord: float | None = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    x = as_tensor(x)
    if ord is not None and (x.ndim if axis is None else np.size(axis)) != 1:
        raise TypeError("np.linalg.norm: tensors have no norms of matrices; give one axis, or leave ord out")
    return reduction.norm(x, 2 if ord is None else ord, axis, keepdims)


def _concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    return cat([flatten(array) for array in arrays] if axis is None else arrays, axis or 0)


def _transpose(a: Any, axes: Sequence[int] | None = None) -> Tensor:
    return as_tensor(a).T if axes is None else permute(a, axes)


def _squeeze(a: Any, axis: Any = None) -> Tensor:
    squeezed = squeeze(a, axis)
    if axis is not None and a.ndim - squeezed.ndim != np.size(axis):
        raise ValueError(f"np.squeeze: a dimension of axis {axis} is longer than 1 in shape {a.shape}")
    return squeezed


def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return linalg.diagonal(a, offset, axis1, axis2).sum(-1)


def _take(a: Any, indices: Any, axis: int | None = None) -> Tensor:
    if axis is None:
        return scattering.take(a, indices)
    x = as_tensor(a)
    dim = reduction.dim_of("np.take", axis, x.shape)
    index = indexing.index_tensor("np.take", indices, x.shape, dim, x.device)
    return indexing.getitem(x, (*(slice(None),) * dim, index))


def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    length = ary.shape[axis]
    if isinstance(indices_or_sections, Sequence | np.ndarray):
        ends = [0, *(slice(end).indices(length)[1] for end in indices_or_sections), length]
        sizes = [max(after - before, 0) for before, after in itertools.pairwise(ends)]
    else:
        if length % indices_or_sections:
            raise ValueError(f"np.split: {length} elements cannot be split into {indices_or_sections} equal parts")
        sizes = [length // indices_or_sections] * indices_or_sections
    return list(split(ary, sizes, axis))


def _dot(a: Any, b: Any) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    if max(a.ndim, b.ndim) > 2:
        raise TypeError("np.dot: tensors of more than two dimensions are multiplied by np.matmul or np.einsum")
    return linalg.matmul(a, b) if a.ndim and b.ndim else a * b


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    return clamping.clamp(a, a_min if min is None else min, a_max if max is None else max)


FUNCTIONS: dict[Any, Function] = {
    np.sum: _reducing(reduction.sum),
    np.prod: _reducing(reduction.prod),
    np.mean: _reducing(reduction.mean),
    np.max: _reducing(reduction.max_op),
    np.amax: _reducing(reduction.max_op),
    np.min: _reducing(reduction.min_op),
    np.amin: _reducing(reduction.min_op),
    np.any: _reducing(reduction.any),
    np.all: _reducing(reduction.all),
    np.argmax: _reducing(reduction.argmax),
    np.argmin: _reducing(reduction.argmin),
    np.var: _spread(reduction.var),
    np.std: _spread(reduction.std),
    np.cumsum: _cumulating(cumulative.cumsum),
    np.cumprod: _cumulating(cumulative.cumprod),
    np.diff: lambda a, n=1, axis=-1, prepend=None, append=None: cumulative.diff(a, n, axis, prepend, append),
    np.sort: _sorted(lambda a, axis: sorting.sort(a, axis).values),
    np.argsort: _sorted(sorting.argsort),
    np.median: _reducing(lambda a, axis, keepdims: sorting.quantile(a, 0.5, axis, keepdims)),
    np.quantile: lambda a, q, axis=None, *, method="linear", keepdims=False: sorting.quantile(
        a, q, axis, keepdims, method
    ),
    np.searchsorted: lambda a, v, side="left", sorter=None: sorting.searchsorted(a, v, side=side, sorter=sorter),
    np.unique: _unique,
    np.nonzero: lambda a: sorting.nonzero(a, as_tuple=True),
    np.linalg.norm: _norm,
    np.round: lambda a, decimals=0: rounding.round(a, decimals),
    np.around: lambda a, decimals=0: rounding.round(a, decimals),
    np.clip: _clip,
    np.where: lambda condition, x, y: elementwise.where(condition, x, y),
    np.isclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: comparison.isclose(a, b, rtol, atol, equal_nan),
    np.allclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: comparison.allclose(a, b, rtol, atol, equal_nan),
    np.nan_to_num: lambda x, copy=True, nan=0.0, posinf=None, neginf=None: elementwise.nan_to_num(
        x, nan, posinf, neginf
    ),
    np.copy: lambda a: elementwise.clone(a),
    np.zeros_like: lambda a, dtype=None: zeros_like(a, dtype),
    np.ones_like: lambda a, dtype=None: ones_like(a, dtype),
    np.full_like: lambda a, fill_value, dtype=None: full_like(a, fill_value, dtype),
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a, axis=None: a.size if axis is None else a.shape[axis],
    np.reshape: lambda a, shape: reshape(a, shape),
    np.ravel: lambda a: flatten(a),
    np.transpose: _transpose,
    np.matrix_transpose: lambda x: x.mT,
    np.swapaxes: lambda a, axis1, axis2: swapaxes(a, axis1, axis2),
    np.squeeze: _squeeze,
    np.expand_dims: lambda a, axis: unsqueeze(a, axis),
    np.flip: lambda m, axis=None: flip(m, axis),
    np.roll: lambda a, shift, axis=None: roll(a, shift, axis),
    np.broadcast_to: lambda array, shape: broadcast_to(array, shape),
    np.tile: lambda A, reps: padding.tile(A, reps),
    np.repeat: lambda a, repeats, axis=None: padding.repeat_interleave(a, repeats, axis),
    np.moveaxis: lambda a, source, destination: movedim(a, source, destination),
    np.diagonal: lambda a, offset=0, axis1=0, axis2=1: linalg.diagonal(a, offset, axis1, axis2),
    np.trace: _trace,
    np.tensordot: lambda a, b, axes=2: linalg.tensordot(a, b, axes),
    np.tril: lambda m, k=0: tril(m, k),
    np.triu: lambda m, k=0: triu(m, k),
    np.concatenate: _concatenate,
    np.stack: lambda arrays, axis=0: stack(arrays, axis),
    np.split: _split,
    np.take_along_axis: lambda arr, indices, axis=-1: indexing.take_along_dim(arr, indices, axis),
    np.take: _take,
    np.einsum: lambda subscripts, *operands: linalg.einsum(subscripts, *operands),
    np.outer: lambda a, b: linalg.outer(a, b),
    np.dot: _dot,
}


# -- the protocols -----------------------------------------------------------------------------------------------------


def _name(function: Any) -> str:
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module.replace('numpy', 'np', 1)}.{function.__name__}"


def _array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy calls this for a ufunc of a tensor, or of an array and a tensor, as in `array * tensor`.

    Raises:
        TypeError: there is no op for the ufunc; options are given; a method of the ufunc is called.
    """
    name = _name(ufunc)
    if method != "__call__":
        raise TypeError(f"{name}.{method}: not of tensors; use their own methods, such as x.sum(dim)")
    if options:
        given = ", ".join(f"{option}=" for option in options)
        raise TypeError(f"{name}: {given} cannot be given beside a tensor; take the result, a new tensor")
    if ufunc not in UFUNCS:
        raise TypeError(f"{name}: there is no op for it; compute it of x.detach().cpu().numpy(), without a gradient")
    if ufunc in COMPARISONS:  # NumPy's scalars pass themselves as 0-d arrays
        inputs = tuple(x[()] if isinstance(x, np.ndarray) and not x.ndim else x for x in inputs)
    return UFUNCS[ufunc](*inputs)


def _array_function(
    self: Tensor, function: Function, types: Sequence[type], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """NumPy calls this for any other function of a tensor.

    Raises:
        TypeError: the op for the function does not take these arguments; or there is none, and a tensor requires a
            gradient or is not on the CPU.
    """
    name, found = _name(function), FUNCTIONS.get(function)
    if found is None or (function is np.where and len(args) == 1):
        arrays, named = _as_arrays(name, list(args)), _as_arrays(name, dict(kwargs))
        return function(*arrays, **named)
    try:
        inspect.signature(found).bind(*args, **kwargs)
    except TypeError as error:
        parameters = ", ".join(inspect.signature(found).parameters)
        raise TypeError(f"{name}: {error}; of tensors it takes {parameters}") from None
    return found(*args, **kwargs)


def _as_arrays(name: str, given: Any) -> Any:
    """The arguments with read-only arrays in place of tensors."""
    if isinstance(given, Tensor):
        if given.requires_grad or given.device != "cpu":
            reason = "requires a gradient" if given.requires_grad else f"is on {str(given.device)!r}"
            raise TypeError(f"{name}: there is no op for it, and a tensor {reason}; give it x.detach().cpu().numpy()")
        array = given.numpy().view()
        array.flags.writeable = False
        return array
    if isinstance(given, dict):
        return {key: _as_arrays(name, value) for key, value in given.items()}
    return type(given)(_as_arrays(name, part) for part in given) if type(given) in (list, tuple) else given


Tensor.__array_ufunc__ = _array_ufunc
Tensor.__array_function__ = _array_function
