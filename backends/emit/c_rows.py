"""Ops that read and write a whole row, in C: reductions, and products of the matrices of a row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..dtypes import is_float
from .c_kernels import CCode, Place, is_elementwise, reshaped_whole, row_of
from .c_moves import At, Index, basic_index, dims_of, flat, has_rows, is_move, row_lengths, source_of, terms_of
from .program import BATCH, Instruction, Value

__all__ = ["is_row_op", "read_by_row_op", "write_row_ops"]

_ALONG = frozenset({
    "cumprod_before", "cumsum", "cumsum_from_end", "inverse_deviation", "log_softmax", "logsumexp", "magnitude", "max",
    "min", "normalized", "prod", "softmax", "sum", "sum_to",
})  # fmt: skip
"""Ops along dimensions. Each is a function of runtime/rows.h."""


def is_row_op(instruction: Instruction) -> bool:
    """Whether it computes a row from rows that are in memory."""
    name, inputs, (result, *_) = instruction.op.name, instruction.inputs, instruction.results
    if is_elementwise(instruction) or not result.has_batch or not all(map(has_rows, (*inputs, result))):
        return False
    if any(not is_float(value.dtype) for value in (*inputs, result)):
        return False
    if name in _ALONG:
        return not is_move(instruction) and inputs[0].has_batch and _extent(instruction) is not None
    if any(BATCH in value.shape[1:] for value in (*inputs, result)):
        return False
    if name == "spread_at":
        return not is_move(instruction) and _strides_of_slices(instruction) is not None
    return name in ("matmul", "einsum") and _terms(instruction) is not None


def read_by_row_op(instruction: Instruction, is_there: Callable[[Value], bool]) -> Sequence[Value]:
    """The values whose rows such an op reads, if those for which `is_there` is true are in memory in any case."""
    product = _product_of(instruction, is_there)
    return instruction.inputs if product is None else [value for value, _ in product.operands]


def write_row_ops(code: CCode, outputs: Mapping[Value, Place], places: Mapping[Value, Place]) -> None:
    """Adds the lines that compute a row of the results of such ops into their places, given those of the inputs."""
    statistics = {_rows_of(value): value for value in outputs if _op_of(value) == "inverse_deviation"}
    for value in outputs:
        if _op_of(value) == "normalized":
            scales = statistics.pop(_rows_of(value), None)
            _write_row_op(code, value, places, outputs[value], None if scales is None else (scales, outputs[scales]))
    for value in outputs:
        if _op_of(value) != "normalized" and (_op_of(value) != "inverse_deviation" or value in statistics.values()):
            _write_row_op(code, value, places, outputs[value])


def _op_of(value: Value) -> str:
    return "" if value.instruction is None else value.instruction.op.name


def _rows_of(value: Value) -> tuple[Any, ...]:
    """What an op is applied to, and its settings."""
    return () if value.instruction is None else value.instruction.arguments


def _write_row_op(
    code: CCode, result: Value, places: Mapping[Value, Place], out: Place, scales: tuple[Value, Place] | None = None
) -> None:
    """Adds the lines that compute a row of the result; of `normalized` also the inverse deviations, if asked for."""
    instruction = result.instruction
    assert instruction is not None
    product = _product_of(instruction, places.__contains__)
    if product is not None:
        _write_product(code, product, places, result, row_of(out, result))
        return
    rows = {value: row_of(places[value], value) for value in instruction.inputs}
    name, arguments = instruction.op.name, instruction.arguments
    if name in _ALONG:
        extent = _extent(instruction)
        assert extent is not None
        function = "sum" if name == "sum_to" else name
        given = [row_of(out, result), rows[instruction.inputs[0]], *map(str, extent)]
        if name == "normalized":
            given.insert(1, "NULL" if scales is None else row_of(scales[1], scales[0]))
        if name in ("normalized", "inverse_deviation"):
            given.append(f"(REAL){arguments[2]!r}")
        code.add(f"{function}_along({', '.join(given)});")
    else:
        _write_spread(code, instruction, rows, row_of(out, result))


def _extent(instruction: Instruction) -> tuple[int, int, int] | None:
    """The elements of a row before, in and after the dimensions of a reduction, which must be adjacent."""
    named = dict(zip(instruction.op.names, instruction.arguments, strict=True))
    x, (result, *_) = instruction.inputs[0], instruction.results
    lengths = row_lengths(x)
    if instruction.op.name == "sum_to":
        if len(result.shape) != len(x.shape):
            return None
        dims = [d for d, size in enumerate(result.shape) if size == 1 != x.shape[d]]
    else:
        given = named["dims"] if "dims" in named else named["dim"]
        dims = [] if given is None else sorted(dims_of(given, x))
        if not dims:
            return None
    first, last = dims[0], dims[-1] + 1
    if any(x.shape[d] is BATCH for d in dims) or any(lengths[d] != 1 for d in range(first, last) if d not in dims):
        return None
    return math.prod(lengths[:first]), math.prod(lengths[first:last]), math.prod(lengths[last:])


# -- values at steps of an index --------------------------------------------------------------------------------------


def _strides_of_slices(instruction: Instruction) -> list[tuple[int, int]] | None:
    """For each dimension of the values, the first index and the step in the result; None if it is no basic index."""
    (result,), (_, index, _) = instruction.results, instruction.arguments
    lengths, found = row_lengths(result), basic_index(index, result.shape)
    if found is None or found.dims != [*range(len(lengths))]:
        return None
    strides = [math.prod(lengths[d + 1 :]) for d in range(len(lengths))]
    return [(start * stride, step * stride) for (start, step, _), stride in zip(found.taken, strides, strict=True)]


def _write_spread(code: CCode, instruction: Instruction, rows: Mapping[Value, str], out: str) -> None:
    values, (result,) = instruction.arguments[0], instruction.results
    found = _strides_of_slices(instruction)
    assert found is not None
    lengths = row_lengths(values)
    code.add(f"for (Index j = 0; j < {result.row_size}; j++) ({out})[j] = 0;")
    loops = [(name, d) for name, d in zip("klmquvw", range(1, len(lengths)))]
    to = " + ".join([str(sum(start for start, _ in found[1:])), *(f"{n} * {found[d][1]}" for n, d in loops)])
    of = " + ".join(f"{n} * {math.prod(lengths[d + 1 :])}" for n, d in loops)
    heads = " ".join(f"for (Index {n} = 0; {n} < {lengths[d]}; {n}++)" for n, d in loops)
    code.add(f"{heads} ({out})[{to}] = ({rows[values]})[{of}];")


# -- products ----------------------------------------------------------------------------------------------------------


class _Product(NamedTuple):
    """A sum of products of elements of one or two values.

    Attributes:
        operands: values that are in memory, and indices in them whose variables are the letters.
        out: the letters of the result's dimensions.
        sizes: of the letters.
    """

    operands: list[tuple[Value, Index]]
    out: str
    sizes: dict[str, int]


def _product_of(instruction: Instruction, is_there: Callable[[Value], bool]) -> _Product | None:
    """An op as a sum of products of values that are in memory; None if it is none.

    A permuted or broadcast factor is read where it comes from. A sum of products element by element is such a sum if at
    most one factor is stored for it, instead of the products.
    """
    found = _terms_of_sum(instruction, is_there) if instruction.op.name in ("sum", "sum_to") else _terms(instruction)
    if found is None:
        return None
    operands, out = found
    sizes = {letter: size for value, term in operands for letter, size in zip(term, row_lengths(value), strict=True)}
    return _Product([_source(value, term, is_there) for value, term in operands], out, sizes)


_SMALL = 8  # a factor with that many times fewer elements than the products is stored in no time

_STRIDED = frozenset({"broadcast_to", "flip", "getitem", "permute", "reshape", "split", "sum_to", "unbind"})
"""Moves after which the elements of a value are at constant distances in memory."""


def _source(value: Value, term: str, is_there: Callable[[Value], bool]) -> tuple[Value, Index]:
    """Where the elements of a factor are in memory."""
    found = value, tuple(At(0, letter) for letter in term)
    while not is_there(found[0]):
        instruction = found[0].instruction
        if instruction is None or instruction.op.name not in _STRIDED or not is_move(instruction):
            break
        source = None if reshaped_whole(instruction) else source_of(*found)
        if not isinstance(source, tuple) or source[0].constant is not None:
            break
        found = source
    return found


def _terms(instruction: Instruction) -> tuple[list[tuple[Value, str]], str] | None:
    """The operands of a product with the letters of their dimensions, and those of the result, the batch's first."""
    found = terms_of(instruction)
    if found is None or len(found[0]) > 2:
        return None
    operands, out = list(zip(*found[:2], strict=True)), found[2]
    if {term[0] for value, term in operands if value.has_batch} != {out[0]}:
        return None
    sizes: dict[str, Any] = {}
    for value, term in operands:
        if out[0] in (term[1:] if value.has_batch else term):
            return None
        if any(sizes.setdefault(letter, size) != size for letter, size in zip(term, value.shape)):
            return None
    return operands, out


def _terms_of_sum(
    instruction: Instruction, is_there: Callable[[Value], bool]
) -> tuple[list[tuple[Value, str]], str] | None:
    """The same for a sum of products element by element."""
    x, (result,) = instruction.inputs[0], instruction.results
    made = x.instruction
    if is_there(x) or made is None or made.op.name != "mul" or len(made.inputs) != 2 or x.shape[0] is not BATCH:
        return None
    if not all(is_float(value.dtype) and value.has_batch for value in made.inputs):
        return None
    letters = "bcdefgh"[: len(x.shape)]
    alone = iter("BCDEFGHIJKLMNOPQRSTUVW")  # of dimensions of length 1

    def term_of(value: Value) -> str:
        of_dims = zip(letters[len(x.shape) - len(value.shape) :], value.shape, x.shape[-len(value.shape) :])
        return "".join(letter if size == full else next(alone) for letter, size, full in of_dims)

    operands = [(value, term_of(value)) for value in made.inputs]
    sources = [_source(value, term, is_there)[0] for value, term in operands]
    stored = {value for value in sources if not is_there(value) and value.row_size * _SMALL > x.row_size}
    if len(stored) > 1:
        return None
    kept = len(result.shape) == len(x.shape)
    if kept:
        return operands, term_of(result)
    dims = dims_of(instruction.arguments[1], x)
    return operands, "".join(letter for d, letter in enumerate(letters) if d not in dims)


def _write_product(code: CCode, product: _Product, places: Mapping[Value, Place], result: Value, out: str) -> None:
    """Adds calls of `add_product`, in loops over the letters that it does not take."""
    sizes = {letter: size for letter, size in product.sizes.items() if size > 1}
    strides = [flat(index, value) for value, index in product.operands]
    pointers = [
        row_of(places[value], value) + (f" + {stride['']}" if stride[""] else "")
        for (value, _), stride in zip(product.operands, strides)
    ]
    if len(strides) == 1:
        strides, pointers = [*strides, {}], [*pointers, "&one"]
    x, y = strides
    total = flat(tuple(At(0, letter) for letter in product.out), result)
    for first, second in itertools.permutations([*sizes], 2):
        if {first, second} <= {*sizes} and all(
            each.get(first, 0) == each.get(second, 0) * sizes[second] for each in (x, y, total)
        ):  # two dimensions that are one in memory
            sizes[second] *= sizes.pop(first)
    summed = sorted((letter for letter in sizes if letter not in total), key=lambda each: x.get(each, 0))
    kept = [letter for letter in product.out[:0:-1] if letter in sizes]
    m = next((letter for letter in kept if letter in y and letter not in x), "")
    n = next((letter for letter in kept if letter in x and letter not in y), "")
    k = next((letter for letter in summed if letter in x and letter in y), summed[0] if summed else "")
    others = [letter for letter in sizes if letter not in (n, k, m)]
    code.add(f"for (Index j = 0; j < {result.row_size}; j++) ({out})[j] = 0;")
    names = dict(zip(others, ("k", "l", "m", "q", "u", "v", "w")))

    def moved(pointer: str, stride: Mapping[str, int]) -> str:
        steps = [f"{names[letter]} * {stride[letter]}" for letter in others if letter in stride]
        return " + ".join([pointer, *steps])

    heads = [f"for (Index {names[each]} = 0; {names[each]} < {sizes[each]}; {names[each]}++)" for each in others]
    given = [
        moved(out, total), total.get(n, 0), total.get(m, 0), moved(pointers[0], x), x.get(n, 0), x.get(k, 0),
        moved(pointers[1], y), y.get(k, 0), y.get(m, 0), sizes.get(n, 1), sizes.get(k, 1), sizes.get(m, 1),
    ]  # fmt: skip
    code.add(" ".join([*heads, f"add_product({', '.join(map(str, given))});"]))
