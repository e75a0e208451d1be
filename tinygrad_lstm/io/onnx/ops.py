"""How each op is written in ONNX: a table, by op.

An entry is a function of the graph and of the op's arguments. It adds nodes, and gives the name of the result, or a
list of names where there are several. Recurrent layers are in `recurrent`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...ops import convolution, elementwise, indexing, linalg, loss, normalization, reduction, shape
from ...ops.reduction import Dim, dim_of, dims_of
from .graph import Graph, Input, largest, smallest, some
from .program import Call, Constant, Length, Operand, Reciprocal, Size, Value

__all__ = ["Entry", "write", "writes"]

Entry = Callable[..., Any]

_RESHAPED = shape.reshaped.op  # type: ignore[attr-defined]
_PRODUCTS = (linalg.affine.op, linalg.matrix_product.op)  # type: ignore[attr-defined]

ENTRIES: dict[Any, Entry] = {}
"""By op, or by function made of ops, which is then written as a whole."""


def writes(*functions: Callable[..., Any]) -> Callable[[Entry], Entry]:
    """Makes a function the entry of ops, or of functions made of ops."""

    def enter(entry: Entry) -> Entry:
        ENTRIES.update({getattr(function, "op", None) or inspect.unwrap(function): entry for function in functions})
        return entry

    return enter


def _write_alike(make: Callable[[str], Entry], kinds: Mapping[Any, str]) -> None:
    """Makes the entries of ops that differ in the kind of node alone."""
    for op, kind in kinds.items():
        writes(op)(make(kind))


def _entry_for(name: str, function: Any) -> Entry:
    """The entry of an op.

    Raises:
        ValueError: there is none.
    """
    if function not in ENTRIES:
        names = sorted({getattr(known, "name", "") or known.__name__ for known in ENTRIES})
        raise ValueError(
            f"export_onnx: op {name!r} cannot be written as ONNX; do what it does by those that can: {', '.join(names)}"
        )
    return ENTRIES[function]


def write(g: Graph, calls: Sequence[Call]) -> None:
    """Writes calls into a graph, one after the other.

    Raises:
        ValueError: one has no entry, or cannot be written as it is.
    """
    g.calls = calls
    for call in calls:
        if all(map(g.has, call.results)):  # written with another
            continue
        if len(numbers := sorted(set(call.numbers))) > 1:
            raise ValueError(
                f"export_onnx: op {call.name!r} gives {numbers[0]} results in one run and {numbers[1]} in another, by "
                "the length of an input, and they are used one by one; use ops that take the whole sequence"
            )
        g.call = call
        given = _entry_for(call.name, call.function)(g, *call.arguments)
        for value, name in zip(call.results, [given] if isinstance(given, str) else given, strict=True):
            g.note(value, name)


# -- one element at a time ---------------------------------------------------------------------------------------------


def _as(g: Graph, dtype: Any, x: Any) -> Input:
    """An operand, or a number in its place, in a dtype."""
    return g.number(x, dtype) if isinstance(x, int | float | Length | Reciprocal) else g.cast(x, dtype)


def _unary(kind: str) -> Entry:
    return lambda g, x: g.node(kind, x)


def _arithmetic(kind: str) -> Entry:
    """An op that computes in the dtype of its result, to which it brings its operands, and numbers among them."""

    def entry(g: Graph, *operands: Any) -> str:
        dtype = g.call.result.dtype
        if dtype == np.bool_:
            raise ValueError(
                f"export_onnx: op {g.call.name!r} is given bool tensors, with which ONNX does not compute; use "
                "tg.logical_and and its kin, or astype before"
            )
        return g.node(kind, *(_as(g, dtype, x) for x in operands))

    return entry


_write_alike(
    _unary,
    {
        elementwise.neg: "Neg",
        elementwise.abs: "Abs",
        elementwise.sign: "Sign",
        elementwise.exp: "Exp",
        elementwise.log: "Log",
        elementwise.sqrt: "Sqrt",
        elementwise.reciprocal: "Reciprocal",
        elementwise.sin: "Sin",
        elementwise.cos: "Cos",
        elementwise.tanh: "Tanh",
        elementwise.sigmoid: "Sigmoid",
        elementwise.log1pexp: "Softplus",
        elementwise.relu: "Relu",
        elementwise.erf: "Erf",
    },
)

_write_alike(
    _arithmetic,
    {
        elementwise.add: "Add",
        elementwise.sub: "Sub",
        elementwise.mul: "Mul",
        loss.weigh: "Mul",
        elementwise.div: "Div",
        elementwise.pow: "Pow",
        elementwise.maximum: "Max",
        elementwise.minimum: "Min",
    },
)


@writes(elementwise.floor)
def _floor(g: Graph, x: Operand) -> str:
    return g.node("Floor", x) if x.dtype.kind == "f" else g.name(x)


@writes(elementwise.round)
def _round(g: Graph, x: Operand, decimals: int) -> str:
    if x.dtype.kind != "f":
        return g.name(x)
    scale = g.number(10.0**decimals, x.dtype)
    return g.node("Div", g.node("Round", g.node("Mul", x, scale)), scale)


@writes(elementwise.square)
def _square(g: Graph, x: Operand) -> str:
    return g.node("Mul", x, x)


@writes(elementwise.clamp)
def _clamp(g: Graph, x: Operand, low: float | None, high: float | None) -> str:
    out = g.call.result
    bounds = [None if bound is None else g.number(bound, out.dtype) for bound in (low, high)]
    return g.node("Clip", g.cast(x, out.dtype), *bounds)


@writes(elementwise.clone)
def _clone(g: Graph, x: Operand) -> str:
    return g.name(x)


@writes(elementwise.cast)
def _cast(g: Graph, x: Operand, dtype: Any, original: Any) -> str:
    return g.name(g.cast(x, dtype))


@writes(elementwise.expm1)
def _expm1(g: Graph, x: Operand) -> str:
    return g.node("Sub", g.node("Exp", x), g.number(1, x.dtype))


@writes(elementwise.log1p)
def _log1p(g: Graph, x: Operand) -> str:
    return g.node("Log", g.node("Add", x, g.number(1, x.dtype)))


@writes(elementwise.rsqrt)
def _rsqrt(g: Graph, x: Operand) -> str:
    return g.node("Reciprocal", g.node("Sqrt", x))


@writes(elementwise.where)
def _where(g: Graph, condition: Any, x: Any, y: Any) -> str:
    dtype = g.call.result.dtype
    return g.node("Where", _as(g, np.bool_, condition), _as(g, dtype, x), _as(g, dtype, y))


@writes(elementwise.isnan)
def _isnan(g: Graph, x: Operand) -> str:
    return g.node("IsNaN", _wide(g, x))


@writes(elementwise.isfinite)
def _isfinite(g: Graph, x: Operand) -> str:
    wide = _wide(g, x)
    return g.node("Not", g.node("Or", g.node("IsInf", wide), g.node("IsNaN", wide)))


def _wide(g: Graph, x: Operand) -> Input:
    """A tensor as one of the floats that ONNX looks for infinities in."""
    return g.cast(x, np.promote_types(x.dtype, np.float32))


# -- comparisons and logic ---------------------------------------------------------------------------------------------


def _comparison(kind: str) -> Entry:
    """A comparison, of bool by way of integers: ONNX has not all of them."""

    def entry(g: Graph, x: Any, y: Any) -> str:
        like = (x if isinstance(x, Value | Constant) else y).dtype
        dtype = np.int32 if like == np.bool_ else like
        return g.node(kind, _as(g, dtype, x), _as(g, dtype, y))

    return entry


_write_alike(
    _comparison,
    {
        elementwise.eq: "Equal",
        elementwise.lt: "Less",
        elementwise.le: "LessOrEqual",
        elementwise.gt: "Greater",
        elementwise.ge: "GreaterOrEqual",
    },
)


@writes(elementwise.ne)
def _ne(g: Graph, x: Any, y: Any) -> str:
    return g.node("Not", ENTRIES[elementwise.eq.op](g, x, y))  # type: ignore[attr-defined]


def _logic(kind: str) -> Entry:
    """Of operands that count as true where they are not zero."""
    return lambda g, *operands: g.node(kind, *(_as(g, np.bool_, x) for x in operands))


_write_alike(
    _logic,
    {
        elementwise.logical_and: "And",
        elementwise.logical_or: "Or",
        elementwise.logical_xor: "Xor",
        elementwise.logical_not: "Not",
    },
)


# -- reductions --------------------------------------------------------------------------------------------------------


def _reduced(g: Graph, kind: str, x: Input, dims: Sequence[int], keepdim: bool) -> str:
    if not dims:
        return g.name(x)
    if kind == "ReduceSum":  # the first whose dimensions became an input
        return g.node(kind, x, np.array(dims, np.int64), keepdims=int(keepdim))
    return g.node(kind, x, axes=list(dims), keepdims=int(keepdim))


def _reduction(kind: str) -> Entry:
    """A reduction in the dtype that its result has."""

    def entry(g: Graph, x: Operand, dim: Dim, keepdim: bool) -> str:
        return _reduced(g, kind, g.cast(x, g.call.result.dtype), _dims(x, dim), keepdim)

    return entry


def _dims(x: Operand, dim: Dim) -> tuple[int, ...]:
    return dims_of("export_onnx", dim, (0,) * len(x.shape))


def _dim(x: Operand, dim: int) -> int:
    return dim_of("export_onnx", dim, (0,) * len(x.shape))


_write_alike(
    _reduction,
    {
        reduction.sum: "ReduceSum",
        reduction.mean: "ReduceMean",
        reduction.prod: "ReduceProd",
        reduction.logsumexp: "ReduceLogSumExp",
        reduction.largest: "ReduceMax",
        reduction.smallest: "ReduceMin",
    },
)


def _quantified(kind: str) -> Entry:
    """`any` and `all`, of ones and zeros; of nothing too."""

    def entry(g: Graph, x: Operand, dim: Dim, keepdim: bool) -> str:
        zeros_and_ones = g.cast(g.cast(x, np.bool_), np.int32, np.bool_)
        return g.name(g.cast(_reduced(g, kind, zeros_and_ones, _dims(x, dim), keepdim), np.bool_, np.int32))

    return entry


_write_alike(_quantified, {reduction.any: "ReduceSum", reduction.all: "ReduceProd"})


def _variance(g: Graph, x: Operand, dim: Dim, correction: float, keepdim: bool) -> str:
    dims, dtype = _dims(x, dim), g.call.result.dtype
    wide = g.cast(x, dtype)
    centred = g.node("Sub", wide, _reduced(g, "ReduceMean", wide, dims, True))
    biased = _reduced(g, "ReduceMean", g.node("Mul", centred, centred), dims, keepdim)
    lengths = g.ints(x.shape[d] for d in dims)
    number = g.cast(g.node("ReduceProd", lengths, keepdims=0), dtype, np.dtype(np.int64))
    return g.node("Mul", biased, g.node("Div", number, g.node("Sub", number, g.number(correction, dtype))))


writes(reduction.var)(_variance)


@writes(reduction.std)
def _std(g: Graph, x: Operand, dim: Dim, correction: float, keepdim: bool) -> str:
    return g.node("Sqrt", _variance(g, x, dim, correction, keepdim))


def _searched(kind: str) -> Entry:
    def entry(g: Graph, x: Operand, dim: int | None, keepdim: bool) -> str:
        if dim is not None:
            return g.node(kind, x, axis=_dim(x, dim), keepdims=int(keepdim))
        place = g.node(kind, g.node("Reshape", x, np.array([-1])), axis=0, keepdims=0)
        return g.node("Reshape", place, np.ones(len(x.shape), np.int64)) if keepdim else place

    return entry


_write_alike(_searched, {reduction.argmax: "ArgMax", reduction.argmin: "ArgMin"})


@writes(reduction.cumsum)
def _cumsum(g: Graph, x: Operand, dim: int) -> str:
    return g.node("CumSum", g.cast(x, g.call.result.dtype), np.array(_dim(x, dim)))


def _over_one_dim(kind: str) -> Entry:
    def entry(g: Graph, x: Operand, dim: Dim) -> str:
        dims = _dims(x, dim)
        if len(dims) != 1:
            raise ValueError(
                f"export_onnx: op {g.call.name!r} goes over the dimensions {dims}, and in ONNX over one; flatten them"
            )
        return g.node(kind, x, axis=dims[0])

    return entry


_write_alike(_over_one_dim, {loss.softmax: "Softmax", loss.log_softmax: "LogSoftmax"})


# -- shapes ------------------------------------------------------------------------------------------------------------


@writes(shape.reshaped)
def _reshaped(g: Graph, x: Operand, lengths: Sequence[Size]) -> str:
    """A length that depends on the inputs is taken from x where x has it at that place, or worked out from the rest."""
    out = g.call.result.shape
    if (found := _unflattened(x, out)) is not None:
        product, rows = found
        name: str = ENTRIES[product.function](g, rows, *product.arguments[1:])
        return name
    if 0 in out:  # which would stand for a length of x
        return g.node("Reshape", x, g.ints(out), allowzero=1)
    taken = [0 if isinstance(n, Length) and x.shape[d : d + 1] == (n,) else n for d, n in enumerate(out)]
    left = [d for d, n in enumerate(taken) if isinstance(n, Length)]
    if len(left) == 1:
        taken[left[0]] = -1
    return g.node("Reshape", x, g.ints(taken))


def _unflattened(product: Operand, out: Sequence[Size]) -> tuple[Call, Operand] | None:
    """A product, and its rows before they were flattened for it, if it is to have their dimensions again.

    ONNX multiplies rows in any number of dimensions, as they are.

    Args:
        out: the shape that the product is to have.
    """
    call = product.call if isinstance(product, Value) else None
    rows = call.arguments[0] if call is not None and call.function in _PRODUCTS else None
    flattened = rows.call if isinstance(rows, Value) else None
    if call is None or rows is None or flattened is None or flattened.function is not _RESHAPED:
        return None
    given: Operand = flattened.arguments[0]
    as_flat = len(rows.shape) == len(product.shape) == 2 and rows.shape[-1:] == given.shape[-1:]
    return (call, given) if as_flat and tuple(out) == (*given.shape[:-1], product.shape[-1]) else None


@writes(shape.permuted)
def _permuted(g: Graph, x: Operand, order: Sequence[int]) -> str:
    return g.node("Transpose", x, perm=list(order)) if list(order) != sorted(order) else g.name(x)


@writes(shape.flip)
def _flip(g: Graph, x: Operand, dim: Dim) -> str:
    dims = _dims(x, dim)
    ends = [np.full(len(dims), end) for end in (largest, smallest)]
    return g.node("Slice", x, *ends, np.array(dims, np.int64), np.full(len(dims), -1)) if dims else g.name(x)


@writes(shape.roll)
def _roll(g: Graph, x: Operand, shifts: int | Sequence[int], dim: int | Sequence[int] | None) -> str:
    """By Gather, so that shifts may be larger than a length that is known when the graph runs."""
    if dim is None:
        rolled = _rolled(g, g.node("Reshape", x, np.array([-1])), 0, shifts)
        return g.node("Reshape", rolled, g.node("Shape", x), allowzero=1)
    pairs = [(shifts, dim)] if isinstance(dim, int) else zip(shifts, dim, strict=True)  # type: ignore[arg-type]
    name: Input = x
    for shift, each in pairs:
        name = _rolled(g, name, _dim(x, each), shift)
    return g.name(name)


def _rolled(g: Graph, x: Input, dim: int, shift: Any) -> str:
    length = g.node("Squeeze", g.node("Shape", x, start=dim, end=dim + 1), np.array([0]))
    places = g.node("Range", np.array(0), length, np.array(1))
    around = g.node("Mod", g.node("Sub", places, g.number(shift, np.int64)), g.node("Max", length, np.array(1)))
    return g.node("Gather", x, around, axis=dim)


@writes(shape.broadcasted)
def _broadcasted(g: Graph, x: Operand, lengths: Sequence[Size]) -> str:
    if 0 in lengths:  # which onnxruntime's Expand does not give
        return g.filled(np.zeros(1, x.dtype), lengths)
    return g.node("Expand", x, g.ints(lengths))


@writes(shape.padded)
def _padded(g: Graph, x: Operand, widths: Sequence[tuple[Size, Size]], value: float) -> str:
    ends = [before for before, _ in widths] + [after for _, after in widths]
    return g.node("Pad", x, g.ints(ends), g.number(value, x.dtype)) if widths else g.name(x)


def _triangle(upper: bool) -> Entry:
    return lambda g, x, diagonal: g.node("Trilu", x, g.number(diagonal, np.int64), upper=int(upper))


writes(shape.tril)(_triangle(upper=False))
writes(shape.triu)(_triangle(upper=True))


@writes(shape.joined)
def _joined(g: Graph, tensors: Sequence[Operand], dim: int) -> str:
    return g.joined(tensors, dim)


@writes(shape.layered)
def _layered(g: Graph, tensors: Sequence[Operand], dim: int) -> str:
    return g.joined([g.unsqueezed(x, dim) for x in tensors], dim)


@writes(shape.pieces)
def _pieces(g: Graph, x: Operand, sizes: Sequence[Size], dim: int) -> list[str]:
    return g.several(len(sizes), "Split", x, g.ints(sizes), axis=dim)


@writes(shape.slices)
def _slices(g: Graph, x: Operand, dim: int) -> list[str]:
    return g.unbound(x, dim, len(g.call.results))


def _fixed(g: Graph, number: Any) -> Any:
    """What a node has as an attribute, or has to be known beforehand.

    Raises:
        ValueError: it depends on the lengths of the inputs.
    """
    if isinstance(number, Length):
        raise ValueError(
            f"export_onnx: op {g.call.name!r} takes the number {some(number.values)}, by the lengths of the inputs, "
            "and ONNX takes none there that is not always the same; leave that dimension out of dynamic="
        )
    return number


# -- places ------------------------------------------------------------------------------------------------------------


def _index(g: Graph, index: Any) -> Input:
    """An index of integers, as ONNX takes it.

    Raises:
        ValueError: it is a mask, other than a constant in one dimension.
    """
    if isinstance(index, Constant) and index.array is not None and index.dtype == np.bool_ and len(index.shape) == 1:
        return np.flatnonzero(index.array)
    if isinstance(index, bool) or (isinstance(index, Value | Constant) and index.dtype.kind not in "iu"):
        raise ValueError(
            f"export_onnx: op {g.call.name!r} is given a mask, and how many elements it takes depends on the input's "
            "values; use tg.where"
        )
    return g.cast(index, np.int64)


@writes(indexing.get)
def _getitem(g: Graph, x: Operand, index: Any) -> str:
    """Slices first, then what takes dimensions away, from the last to the first, then new ones."""
    parts = _spelled_out(index, len(x.shape))
    of_x = [part for part in parts if part is not None]  # one for each dimension
    slices = {dim: part for dim, part in enumerate(of_x) if isinstance(part, slice)}
    numbers = {dim: part for dim, part in enumerate(of_x) if type(part) in (int, Length)}
    arrays = {dim: part for dim, part in enumerate(of_x) if dim not in slices and dim not in numbers}
    new, rank = _new_dims(g, parts, arrays)
    taken = _sliced(g, x, slices)
    if arrays:
        if numbers or (len(arrays) > 1 and list(arrays) != list(range(len(arrays)))):
            raise ValueError(
                "export_onnx: op 'getitem' is given arrays as an index together with numbers, or for dimensions that "
                "are not the first; index by one after the other"
            )
        shape = [length for dim, length in enumerate(g.call.result.shape) if dim not in new][:rank]
        taken = _at_arrays(g, taken, arrays, shape)
    for dim, number in reversed(numbers.items()):
        taken = g.node("Gather", taken, g.number(number, np.int64), axis=dim)
    return g.node("Unsqueeze", taken, np.array(new)) if new else g.name(taken)


def _new_dims(g: Graph, parts: Sequence[Any], arrays: Mapping[int, Any]) -> tuple[list[int], int]:
    """Where in the result the new dimensions stand, and how many dimensions the arrays have, broadcast together."""
    kept = sum(part is None or isinstance(part, slice) for part in parts)
    rank = len(g.call.result.shape) - kept
    first = next(iter(arrays.values()), None)
    new, at = [], 0
    for part in parts:
        new += [at] if part is None else []
        at += 1 if part is None or isinstance(part, slice) else rank if part is first else 0
    return new, rank


def _at_arrays(g: Graph, x: Input, arrays: Mapping[int, Any], shape: Sequence[Size]) -> str:
    """The elements at arrays of places: along one dimension, or along all of the first ones at once."""
    if len(arrays) == 1:
        ((dim, array),) = arrays.items()
        return g.node("Gather", x, _index(g, array), axis=dim)
    places = [g.node("Expand", _index(g, array), g.ints(shape)) for array in arrays.values()]
    return g.node(
        "GatherND", x, g.node("Concat", *(g.node("Unsqueeze", each, np.array([-1])) for each in places), axis=-1)
    )


def _spelled_out(index: Any, ndim: int) -> list[Any]:
    """The parts of an index, with what `...` stands for, and what is not said at the end."""
    parts = list(index) if isinstance(index, tuple) else [index]
    rest = [slice(None)] * (ndim - sum(part is not None and part is not Ellipsis for part in parts))
    at = next((k for k, part in enumerate(parts) if part is Ellipsis), None)
    return [*parts, *rest] if at is None else [*parts[:at], *rest, *parts[at + 1 :]]


def _sliced(g: Graph, x: Input, slices: Mapping[int, slice]) -> Input:
    cut = {dim: part for dim, part in slices.items() if part != slice(None)}
    if not cut:
        return x
    # Where Python, going backward from before the first element, takes nothing, ONNX takes that element. So what is
    # taken is cut out beforehand.
    if cut_out := {dim: _forward(part) for dim, part in cut.items() if _begins_from_end(part)}:
        x = _sliced(g, x, cut_out)
        cut |= {dim: slice(None, None, cut[dim].step) for dim in cut_out}
    starts, ends, steps = [], [], []
    for part in cut.values():
        step = 1 if part.step is None else _fixed(g, part.step)
        first, last = (0, largest) if step > 0 else (largest, smallest)
        starts.append(first if part.start is None else part.start)
        ends.append(last if part.stop is None else part.stop)
        steps.append(step)
    return g.node("Slice", x, g.ints(starts), g.ints(ends), np.array(list(cut)), np.array(steps))


def _begins_from_end(part: slice) -> bool:
    """Whether a slice goes backward, and begins at a place that is counted from the end and may not be there."""
    known = type(part.step) is type(part.start) is int and not isinstance(part.stop, Length)
    return known and part.step < 0 and part.start < -1


def _forward(part: slice) -> slice:
    """What a slice that goes backward takes, as one that goes forward by single steps."""
    return slice(None if part.stop is None else part.stop + 1 or largest, part.start + 1)


@writes(indexing.gather)
def _gather(g: Graph, x: Operand, dim: int, index: Any) -> str:
    return g.node("GatherElements", x, _index(g, index), axis=_dim(x, dim))


@writes(indexing.take_along_axis)
def _take_along_axis(g: Graph, x: Operand, indices: Any, dim: int) -> str:
    dim, lengths = _dim(x, dim), list(g.call.result.shape)
    wide = [*lengths[:dim], x.shape[dim], *lengths[dim + 1 :]]
    places = g.node("Expand", _index(g, indices), g.ints(lengths))
    return g.node("GatherElements", g.node("Expand", x, g.ints(wide)), places, axis=dim)


@writes(indexing.index_select)
def _index_select(g: Graph, x: Operand, dim: int, index: Any) -> str:
    return g.node("Gather", x, _index(g, index), axis=_dim(x, dim))


@writes(indexing.embedding)
def _embedding(g: Graph, ids: Any, weight: Operand, padding_idx: int | None) -> str:
    return g.node("Gather", weight, _index(g, ids), axis=0)


# -- products and layers -----------------------------------------------------------------------------------------------


@writes(linalg.matrix_product)
def _matmul(g: Graph, x: Input, y: Input) -> str:
    return g.node("MatMul", x, y)


@writes(linalg.affine)
def _affine(g: Graph, x: Input, weight: Input, bias: Input) -> str:
    """The weight stays as it is, under its name: who runs the graph transposes it once, beforehand."""
    product = g.node("MatMul", x, g.node("Transpose", weight, perm=[1, 0]))
    return product if bias is None else g.node("Add", product, bias)


@writes(linalg.contraction)
def _contraction(g: Graph, operands: Sequence[Operand], terms: Sequence[str], out_term: str) -> str:
    return g.node("Einsum", *operands, equation=f"{','.join(terms)}->{out_term}")


@writes(convolution.conv1d)
def _conv1d(
    g: Graph,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    stride: int,
    padding: int | str,
    dilation: int,
    groups: int,
) -> str:
    size, stride, padding, dilation = (_fixed(g, each) for each in (weight.shape[2], stride, padding, dilation))
    ends = convolution.padded_ends(padding, stride, dilation * (size - 1))
    dtype, alone = g.call.result.dtype, len(x.shape) == 2
    given = [g.cast(each, dtype) if each is not None else None for each in (x, weight, bias)]
    if alone:
        given[0] = g.node("Unsqueeze", given[0], np.array([0]))
    out = g.node("Conv", *given, strides=[stride], pads=list(ends), dilations=[dilation], group=groups)
    return g.node("Squeeze", out, np.array([0])) if alone else out


@writes(normalization.normalized_affine)
def _layer_norm(g: Graph, inputs: Sequence[Operand | None], lengths: Sequence[Size], eps: float) -> str:
    x, weight, bias = inputs
    scale = g.filled(np.ones(1, g.call.result.dtype), lengths) if weight is None else weight
    return g.node("LayerNormalization", x, scale, bias, axis=-len(lengths), epsilon=eps)
