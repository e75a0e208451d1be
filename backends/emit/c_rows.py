"""Ops that read and write a whole row, in C: reductions, and products of the matrices of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..dtypes import is_float
from .c_kernels import CCode, Place, is_elementwise, row_of
from .c_moves import has_rows, is_move, row_lengths
from .program import BATCH, Instruction, Value

__all__ = ["is_row_op", "write_row_ops"]

_ALONG = frozenset({
    "cumprod_before", "cumsum", "inverse_deviation", "log_softmax", "logsumexp", "magnitude", "max", "min",
    "normalized", "prod", "softmax", "sum", "sum_to",
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
    if name == "layer_norm":
        return inputs[0].has_batch and not any(value.has_batch for value in inputs[1:])
    if name == "spread_at":
        return not is_move(instruction) and _strides_of_slices(instruction) is not None
    return name in ("matmul", "einsum") and _terms(instruction) is not None


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
    elif name == "layer_norm":
        (x, *affine), shape, eps = arguments
        pointers = ["NULL" if value is None else places[value].array for value in affine]
        size = math.prod(shape)
        given = [row_of(out, result), rows[x], *pointers, str(x.row_size // size), str(size), f"(REAL){eps!r}"]
        code.add(f"layer_norm({', '.join(given)});")
    elif name == "spread_at":
        _write_spread(code, instruction, rows, row_of(out, result))
    else:
        _write_product(code, instruction, rows, row_of(out, result))


def _extent(instruction: Instruction) -> tuple[int, int, int] | None:
    """The elements of a row before, in and after the dimensions of a reduction, which must be adjacent."""
    named = dict(zip(instruction.op.names, instruction.arguments, strict=True))
    x, (result, *_) = instruction.inputs[0], instruction.results
    lengths = row_lengths(x)
    if instruction.op.name == "sum_to":
        if len(result.shape) != len(x.shape):
            return None
        dims = [d for d, size in enumerate(result.shape) if size == 1 != x.shape[d]]
    elif instruction.op.name == "cumprod_before":
        dims = [len(lengths) - 1]
    else:
        given = named["dims"] if "dims" in named else named["dim"]
        if given is None:
            return None
        dims = sorted(d % len(lengths) for d in (given if isinstance(given, list | tuple) else (given,)))
        if not dims:
            return None
    first, last = dims[0], dims[-1] + 1
    if any(x.shape[d] is BATCH for d in dims) or any(lengths[d] != 1 for d in range(first, last) if d not in dims):
        return None
    return math.prod(lengths[:first]), math.prod(lengths[first:last]), math.prod(lengths[last:])


# -- values at steps of an index --------------------------------------------------------------------------------------


def _strides_of_slices(instruction: Instruction) -> list[tuple[int, int]] | None:
    """For each dimension of the values, the first index and the step in the result; None if it is no basic index."""
    values, index, _ = instruction.arguments
    parts = index if isinstance(index, tuple) else (index,)
    result = instruction.results[0]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts = (*parts[:at], *[slice(None)] * (len(result.shape) - len(parts) + 1), *parts[at + 1 :])
    parts = (*parts, *[slice(None)] * (len(result.shape) - len(parts)))
    if len(parts) != len(values.shape) or not all(isinstance(part, slice) for part in parts):
        return None
    if parts[0] != slice(None):
        return None
    lengths = row_lengths(result)
    steps = [part.indices(length) for part, length in zip(parts, lengths, strict=True)]
    strides = [math.prod(lengths[d + 1 :]) for d in range(len(lengths))]
    return [(start * stride, step * stride) for (start, _, step), stride in zip(steps, strides, strict=True)]


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


def _terms(instruction: Instruction) -> tuple[list[tuple[Value, str]], str] | None:
    """The operands of a product with the letters of their dimensions, and those of the result, the batch's first."""
    operands: Sequence[Value]
    if instruction.op.name == "einsum":
        operands, terms, out_term = instruction.arguments
        first = {term[0] for value, term in zip(operands, terms) if value.has_batch}
        if len(operands) > 2 or first != {out_term[0]}:
            return None
        if any(first & set(term[1:] if value.has_batch else term) for value, term in zip(operands, terms)):
            return None
    else:
        operands, (result,) = instruction.arguments, instruction.results
        if not operands[0].has_batch and not operands[1].has_batch:
            return None
        ndim = len(result.shape)
        if min(len(value.shape) for value in operands) < 2 or ndim < 3:
            return None
        if any(value.has_batch and len(value.shape) != ndim for value in operands):
            return None
        shared = "bcdefgh"[: ndim - 2]
        terms = [shared[ndim - len(value.shape) :] + end for value, end in zip(operands, ("nk", "km"), strict=True)]
        out_term = f"{shared}nm"
        sizes: dict[str, Any] = {}
        for value, term in zip(operands, terms):
            if any(sizes.setdefault(letter, size) != size for letter, size in zip(term, value.shape)):
                return None
    return list(zip(operands, terms, strict=True)), out_term


def _write_product(code: CCode, instruction: Instruction, rows: Mapping[Value, str], out: str) -> None:
    """Adds calls of `add_product`, in loops over the letters that it does not take."""
    found = _terms(instruction)
    assert found is not None
    operands, out_term = found
    (result,), batch = instruction.results, out_term[0]
    sizes = {letter: size for value, term in operands for letter, size in zip(term, row_lengths(value), strict=True)}
    del sizes[batch]
    strides = [_strides(value, term, batch) for value, term in operands]
    pointers = [rows[value] for value, _ in operands]
    if len(operands) == 1:
        strides, pointers = [*strides, {}], [*pointers, "&one"]
    x, y, total = *strides, _strides(result, out_term, batch)
    summed = [letter for letter in sizes if letter not in total]
    kept = [letter for letter in out_term[:0:-1] if sizes[letter] > 1]
    m = next((letter for letter in kept if letter in y and letter not in x), "")
    n = next((letter for letter in kept if letter in x and letter not in y), "")
    k = next((letter for letter in summed if letter in x and letter in y), summed[0] if summed else "")
    others = [letter for letter in sizes if letter not in (n, k, m) and sizes[letter] > 1]
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


def _strides(value: Value, term: str, batch: str) -> dict[str, int]:
    lengths = row_lengths(value)
    return {letter: math.prod(lengths[d + 1 :]) for d, letter in enumerate(term) if letter != batch}
