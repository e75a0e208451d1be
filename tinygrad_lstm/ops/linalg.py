"""Products of vectors, matrices and higher tensors."""

import math
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float, widened_dtype
from tinygrad_lstm.backends.sums import total
from tinygrad_lstm.backends.threads import for_products

from .._tensor import Tensor, operand
from ..arguments import integer
from ..creation import arange
from ..device import device_of
from .define import composite, op
from .indexing import getitem
from .reduction import dims_of, sum
from .rules import OverRows
from .shape import permute_op, reshape, reshape_op, unsqueeze

__all__ = [
    "addmm",
    "baddbmm",
    "bmm",
    "diagonal",
    "dot",
    "einsum",
    "linear",
    "matmul",
    "mm",
    "mv",
    "outer",
    "tensordot",
    "trace",
]


@op(
    promotion="common",
    broadcasts=True,
    x=lambda g, y, F: F.matmul_op(g, y.swapaxes(-1, -2)),
    y=lambda g, x, F: F.matmul_op(x.swapaxes(-1, -2), g),
    name="matmul",
)
def matmul_op(backend: Any, x: Array, y: Array) -> Array:
    """(..., n, k) times (..., k, m): (..., n, m)."""
    return backend.matmul(x, y)


@composite
def matmul(x: Tensor, y: Any) -> Tensor:
    """The matrix product, NumPy's `@`: (..., n, k) times (..., k, m) is (..., n, m).

    Leading dimensions broadcast. A 1-D x (k,) is a row and a 1-D y (k,) a column; the result lacks that dimension.

    Raises:
        ValueError: the inner lengths differ, leading dimensions do not broadcast, or an input is 0-d.
    """
    y = y if isinstance(y, Tensor) else operand(y, device_of(y) or x.device)
    if not x.ndim or not y.ndim:
        raise ValueError(f"matmul: shapes {x.shape} and {y.shape} must have a dimension at least; use x * y")
    if x.ndim > 2 and y.ndim == 2 and x.size and x.shape[-1] == y.shape[0]:
        # One large product instead of many small ones.
        rows = reshape_op(x, (-1, x.shape[-1]))
        return reshape_op(matmul_op(rows, y), (*x.shape[:-1], y.shape[1]))
    if x.ndim > 1 and y.ndim > 1:
        return matmul_op(x, y)
    rows = unsqueeze(x, 0) if x.ndim == 1 else x
    columns = unsqueeze(y, 1) if y.ndim == 1 else y
    product = matmul_op(rows, columns)
    shape = product.shape[:-2]
    shape += product.shape[-2:-1] if x.ndim > 1 else ()
    shape += product.shape[-1:] if y.ndim > 1 else ()
    return reshape(product, shape)


@op(
    promotion="common",
    x=lambda g, weight, F: F.matmul_op(g, weight),
    weight=OverRows(lambda g, x, F: F.matmul_op(g.swapaxes(-1, -2), x), rows=("g", "x")),
    bias=OverRows(lambda g, bias_shape, F: F.sum_to(g, bias_shape), rows=("g",)),
    name="linear",
)
def linear_op(backend: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    """x (N, I) times the transpose of weight (O, I), plus bias (O,): (N, O)."""
    out = backend.matmul(x, weight.swapaxes(0, 1))
    if bias is not None:
        if getattr(bias, "shape", ()) != weight.shape[:1]:
            raise ValueError(f"bias must have shape {weight.shape[:1]}, one number for each row of the weight")
        out += bias
    return out


@composite
def linear(x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    """x (..., I) times the transpose of weight (O, I), plus bias (O,): (..., O).

    Raises:
        ValueError: x does not have I columns, the weight is not 2-D, or the bias has a different shape.
    """
    if x.ndim == 2:
        return linear_op(x, weight, bias)
    if not x.ndim:
        raise ValueError("linear: x is 0-d; expected shape (..., I)")
    product = linear_op(reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])), weight, bias)
    return reshape(product, (*x.shape[:-1], product.shape[1]))


# -- torch's products, which do not broadcast --------------------------------------------------------------------------


def _product(name: str, x: Tensor, y: Any, *ndims: int) -> Tensor:
    """The matrix product of tensors with these numbers of dimensions, of 3-D ones with the same batch size."""
    y = y if isinstance(y, Tensor) else operand(y, device_of(y) or x.device)
    if (x.ndim, y.ndim) != ndims or (x.ndim == 3 and x.shape[0] != y.shape[0]):
        batch = " and the same batch size" if ndims[0] == 3 else ""
        raise ValueError(
            f"{name}: expected tensors of {ndims[0]} and {ndims[1]} dimensions{batch}, got shapes {x.shape} and "
            f"{y.shape}; use x @ y"
        )
    return matmul(x, y)


@composite
def mm(x: Tensor, mat2: Any) -> Tensor:
    """The product of two matrices.

    Raises:
        ValueError: an input is not a matrix, or the inner lengths differ.
    """
    return _product("mm", x, mat2, 2, 2)


@composite
def bmm(x: Tensor, mat2: Any) -> Tensor:
    """The products of two batches of matrices: (b, n, k) times (b, k, m) is (b, n, m).

    Raises:
        ValueError: an input does not have three dimensions, or batch sizes or inner lengths differ.
    """
    return _product("bmm", x, mat2, 3, 3)


@composite
def mv(x: Tensor, vec: Any) -> Tensor:
    """The product of a matrix and a vector.

    Raises:
        ValueError: the inputs are not a matrix and a vector, or the lengths differ.
    """
    return _product("mv", x, vec, 2, 1)


@composite
def dot(x: Tensor, tensor: Any) -> Tensor:
    """The scalar product of two vectors.

    Raises:
        ValueError: an input is not a vector, or the lengths differ.
    """
    return _product("dot", x, tensor, 1, 1)


def _plus_product(name: str, x: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    product = product if alpha == 1 else product * alpha
    if beta == 0:  # the elements of x are ignored, even NaNs
        return product
    total = (x if beta == 1 else x * beta) + product
    if total.shape != product.shape:
        raise ValueError(f"{name}: shape {x.shape} does not broadcast to that of the product, {product.shape}")
    return total


@composite
def addmm(x: Tensor, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · x + alpha · (mat1 @ mat2) of matrices; x broadcasts.

    Raises:
        ValueError: as for `mm`, or x does not broadcast to the shape of the product.
    """
    return _plus_product("addmm", x, mm(mat1, mat2), beta, alpha)


@composite
def baddbmm(x: Tensor, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · x + alpha · (batch1 @ batch2) of batches of matrices; x broadcasts.

    Raises:
        ValueError: as for `bmm`, or x does not broadcast to the shape of the product.
    """
    return _plus_product("baddbmm", x, bmm(batch1, batch2), beta, alpha)


@composite
def outer(x: Tensor, y: Any) -> Tensor:
    """The product of each element of x with each element of y, both flattened: (x.size, y.size)."""
    y = y if isinstance(y, Tensor) else operand(y, device_of(y) or x.device)
    return reshape(x, (x.size, 1)) * reshape(y, (1, y.size))


@composite
def tensordot(x: Tensor, y: Any, dim: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """The sum of products over dimensions of x and of y; torch's `dims=` is another name for `dim=`.

    The other dimensions of x come first, then those of y.

    Args:
        dim: the number of dimensions, the last of x and the first of y; or the dimensions of x and those of y. The
            two must have the same lengths.

    Raises:
        IndexError: a dimension is out of range.
        ValueError: the dimensions do not match, or one is given twice.

    >>> import tinygrad_lstm as tg
    >>> tg.tensordot(tg.ones(2, 3, 4), tg.ones(4, 3, 5), ([1, 2], [1, 0])).shape
    (2, 5)
    """
    y = y if isinstance(y, Tensor) else operand(y, device_of(y) or x.device)
    if isinstance(dim, Sequence):
        of_x, of_y = (dims_of("tensordot", tuple(given), z.shape) for given, z in zip(dim, (x, y), strict=True))
    else:
        number = integer("tensordot", "dim", dim, "an integer or two lists of dimensions")
        if not 0 <= number <= min(x.ndim, y.ndim):
            raise ValueError(f"tensordot: dims is {number}; expected 0 to {min(x.ndim, y.ndim)}, or lists")
        of_x, of_y = tuple(range(x.ndim - number, x.ndim)), tuple(range(number))
    if [x.shape[d] for d in of_x] != [y.shape[d] for d in of_y]:
        raise ValueError(
            f"tensordot: dims {of_x} of shape {x.shape} and {of_y} of shape {y.shape} must have the same lengths"
        )
    kept_x = tuple(d for d in range(x.ndim) if d not in of_x)
    kept_y = tuple(d for d in range(y.ndim) if d not in of_y)
    shape = (*(x.shape[d] for d in kept_x), *(y.shape[d] for d in kept_y))
    rows, inner = math.prod(x.shape[d] for d in kept_x), math.prod(x.shape[d] for d in of_x)
    left = reshape(permute_op(x, kept_x + of_x), (rows, inner))
    right = reshape(permute_op(y, of_y + kept_y), (inner, math.prod(y.shape[d] for d in kept_y)))
    return reshape(matmul_op(left, right), shape)


# -- diagonals ---------------------------------------------------------------------------------------------------------


def _diagonal_of(xp: Any, x: Array, offset: int, dim1: int, dim2: int) -> Array:
    """A view of a diagonal, as the last dimension; writing into it writes into x."""
    rest = [d for d in range(len(x.shape)) if d not in (dim1, dim2)]
    length = max(min(x.shape[dim1] + min(offset, 0), x.shape[dim2] - max(offset, 0)), 0)
    lead: list[Any] = [slice(None)] * len(x.shape)
    if length:
        lead[dim1], lead[dim2] = slice(max(-offset, 0), None), slice(max(offset, 0), None)
    shape = (*(x.shape[d] for d in rest), length)
    strides = (*(x.strides[d] for d in rest), x.strides[dim1] + x.strides[dim2])
    return xp.lib.stride_tricks.as_strided(x[tuple(lead)], shape, strides)


@op(x=lambda g, offset, dim1, dim2, F: F.diagonal_op(g, offset, dim1, dim2))
def on_diagonal(xp: Any, x: Array, offset: int, dim1: int, dim2: int, shape: tuple[int, ...]) -> Array:
    """Zeros of this shape with x on a diagonal."""
    spread = xp.zeros(shape, x.dtype)
    _diagonal_of(xp, spread, offset, dim1, dim2)[...] = x
    return spread


@op(
    x=lambda g, offset, dim1, dim2, x_shape, F: F.on_diagonal(g, offset, dim1, dim2, x_shape),
    view=True,
    name="diagonal",
)
def diagonal_op(xp: Any, x: Array, offset: int, dim1: int, dim2: int) -> Array:
    return _diagonal_of(xp, x, offset, dim1, dim2)


@composite
def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonal of two dimensions, which becomes the last dimension.

    Args:
        offset: 0 is the main diagonal, 1 the one above it, -1 the one below it.

    Raises:
        IndexError: a dimension is out of range.
        ValueError: `dim1` and `dim2` are the same dimension.
    """
    first, second = dims_of("diagonal", (dim1, dim2), x.shape)
    return diagonal_op(x, integer("diagonal", "offset", offset), first, second)


@composite
def trace(x: Tensor) -> Tensor:
    """The sum of a matrix's main diagonal.

    Raises:
        ValueError: x does not have two dimensions.
    """
    if x.ndim != 2:
        raise ValueError(f"trace: expected a matrix, got shape {x.shape}; use x.diagonal(0, dim1, dim2).sum(-1)")
    return sum(diagonal_op(x, 0, 0, 1))


# -- einsum ------------------------------------------------------------------------------------------------------------


def _einsum_rule(g: Any, operands: Sequence[Any], terms: tuple[str, ...], out_term: str, F: Any) -> list[Any]:
    """Each operand's gradient is an einsum of g with the other operands."""
    gradients = []
    for k, (array, term) in enumerate(zip(operands, terms, strict=True)):
        others = [other for j, other in enumerate(operands) if j != k]
        other_terms = [other for j, other in enumerate(terms) if j != k]
        alone = "".join(letter for letter in term if letter not in out_term and letter not in "".join(other_terms))
        if alone:  # only this operand is summed over it: its gradient is constant along it
            shape = tuple(1 if letter not in alone else array.shape[d] for d, letter in enumerate(term))
            ones = F.ones_like(F.sum_to(array, shape))
            others.append(ones.reshape(tuple(length for length, letter in zip(shape, term) if letter in alone)))
            other_terms.append("".join(letter for letter in term if letter in alone))
        gradients.append(F.einsum_op([g, *others], (out_term, *other_terms), term))
    return gradients


@op(promotion="common", operands=_einsum_rule, name="einsum")
def einsum_op(xp: Any, operands: Sequence[Array], terms: tuple[str, ...], out_term: str) -> Array:
    """An einsum in which each term has each letter once."""
    dtype = operands[0].dtype
    summed = [_alone_summed(xp, array, k, terms, out_term) for k, array in enumerate(operands)]
    arrays, terms = [array for array, _ in summed], tuple(term for _, term in summed)
    if len(arrays) == 2 and sorted(terms[0]) == sorted(terms[1]):
        # An elementwise product, which NumPy's einsum would add up with a running sum.
        order = (*out_term, *(letter for letter in terms[0] if letter not in out_term))
        x, y = (xp.transpose(array, [term.index(letter) for letter in order]) for array, term in zip(arrays, terms))
        return total(xp, x * y, tuple(range(len(out_term), len(order))), dtype=dtype)
    with for_products():
        out = xp.einsum(f"{','.join(terms)}->{out_term}", *arrays, optimize=True)
    if out.dtype != dtype:
        return out.astype(dtype)
    return out.copy() if len(operands) == 1 else out  # NumPy's may be a view


def _alone_summed(xp: Any, array: Array, k: int, terms: tuple[str, ...], out_term: str) -> tuple[Array, str]:
    """Operand k and its term, summed over the dimensions that no other operand has; float16 becomes float32."""
    elsewhere = {*out_term, *"".join(term for j, term in enumerate(terms) if j != k)}
    wide = widened_dtype(array.dtype) if is_float(array.dtype) else array.dtype
    alone = tuple(d for d, letter in enumerate(terms[k]) if letter not in elsewhere)
    if alone:
        array = total(xp, array, alone, dtype=wide)
    return array.astype(wide, copy=False), "".join(letter for letter in terms[k] if letter in elsewhere)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Einstein summation, as `numpy.einsum`: with repeated letters, `...`, and with or without `->`.

    Raises:
        ValueError: the equation does not match the operands.

    >>> import tinygrad_lstm as tg
    >>> tg.einsum("ij,j->i", tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.ones(2))
    tensor([3., 7.])
    """
    tensors = [operand(given) for given in operands]
    terms, out_term = _explicit(equation, tensors)
    diagonals: list[Tensor] = []
    for k, tensor in enumerate(tensors):
        diagonal, terms[k] = _diagonal(tensor, terms[k])
        diagonals.append(diagonal)
    lengths: dict[str, int] = {}
    for tensor, term in zip(diagonals, terms, strict=True):
        for letter, length in zip(term, tensor.shape, strict=True):
            if lengths.setdefault(letter, length) == 1:
                lengths[letter] = length
            elif length not in (1, lengths[letter]):
                raise ValueError(f"einsum: {letter!r} in {equation!r} is {lengths[letter]} and {length} long")
    # A dimension of length 1 that broadcasts is removed.
    for k, (tensor, term) in enumerate(zip(diagonals, terms, strict=True)):
        kept = [d for d, letter in enumerate(term) if tensor.shape[d] == lengths[letter]]
        if len(kept) != len(term):
            diagonals[k] = reshape(tensor, [tensor.shape[d] for d in kept])
            terms[k] = "".join(term[d] for d in kept)
    return einsum_op(diagonals, tuple(terms), out_term)


def _explicit(equation: str, tensors: list[Tensor]) -> tuple[list[str], str]:
    """The terms of an equation and of its output, with letters in place of `...`."""
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ValueError(f"einsum: {equation!r} has {len(terms)} terms, but {len(tensors)} operands were given")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    widths = [tensor.ndim - len(term.replace("...", "")) for tensor, term in zip(tensors, terms, strict=True)]
    for tensor, term, width in zip(tensors, terms, widths, strict=True):
        if width < 0 or (width and "..." not in term):
            raise ValueError(f"einsum: term {term!r} of {equation!r} does not fit shape {tensor.shape}")
    widest = max((width for width, term in zip(widths, terms, strict=True) if "..." in term), default=0)
    dots = "".join(free[:widest])
    written = [term.replace("...", dots[len(dots) - width :]) for width, term in zip(widths, terms, strict=True)]
    if not arrow:
        once = [letter for letter, number in Counter(left.replace("...", "").replace(",", "")).items() if number == 1]
        right = "..." + "".join(sorted(once))
    out_term = right.replace("...", dots)
    unknown = set(out_term) - set("".join(written))
    if unknown or len(set(out_term)) != len(out_term):
        raise ValueError(f"einsum: the output {right!r} of {equation!r} must name letters of the terms, each once")
    return written, out_term


def _diagonal(tensor: Tensor, term: str) -> tuple[Tensor, str]:
    """The diagonal of the dimensions that share a letter, as one dimension, and the term with each letter once."""
    for letter, number in Counter(term).items():
        if number > 1:
            at = [d for d, other in enumerate(term) if other == letter]
            lengths = {tensor.shape[d] for d in at}
            if len(lengths) > 1:
                raise ValueError(f"einsum: {letter!r} in {term!r} has different lengths in shape {tensor.shape}")
            rest = [d for d in range(tensor.ndim) if d not in at]
            tensor = getitem(tensor.permute([*at, *rest]), (arange(lengths.pop(), device=tensor.device),) * number)
            term = letter + "".join(term[d] for d in rest)
    return tensor, term
