"""Ops that only move elements: where an element of a result comes from, as an index with loop variables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .program import BATCH, Instruction, Size, Value

__all__ = [
    "MOVES",
    "At",
    "Index",
    "aligned",
    "basic_index",
    "breaks",
    "dims_of",
    "factors_of",
    "flat",
    "is_move",
    "pieces",
    "row_lengths",
    "same_elements",
    "source_of",
    "terms_of",
]

MOVES = frozenset({
    "broadcast_to", "cat", "flip", "getitem", "pad", "permute", "reshape", "roll", "split", "spread_at", "stack",
    "sum_to", "unbind",
})  # fmt: skip


class At(NamedTuple):
    """The index of one dimension: `step` times a loop variable, plus `start`. Without a variable it is `start`."""

    start: int = 0
    variable: str = ""
    step: int = 1

    def moved(self, start: int, step: int = 1) -> At:
        """The index `start + step * self`."""
        return At(start + step * self.start, self.variable, step * self.step)


Index = tuple[At, ...]
"""An index of each dimension of a value. That of the batch is not used."""


def row_lengths(value: Value) -> list[int]:
    """The lengths of all dimensions, in which the batch counts as 1."""
    return [1 if size is BATCH else size for size in value.shape]  # type: ignore[misc]


def flat(index: Index, value: Value) -> dict[str, int]:
    """The number of an element in a value's row: the factor of each loop variable; of "" the constant."""
    found = {"": 0}
    step = 1
    for at, length in zip(reversed(index), reversed(row_lengths(value)), strict=True):
        found[""] += at.start * step
        if at.variable:
            found[at.variable] = found.get(at.variable, 0) + at.step * step
        step *= length
    return found


def has_rows(value: Value) -> bool:
    """Whether its memory consists of rows, one for each of the batch; or it has no batch dimension."""
    if not value.has_batch:
        return True
    at = value.shape.index(BATCH)
    return all(size == 1 for size in value.shape[:at]) and BATCH not in value.shape[at + 1 :]


def aligned(index: Index, result: Value, value: Value) -> Index:
    """The index in an operand that is broadcast to a result."""
    extra = len(result.shape) - len(value.shape)
    return tuple(At() if size == 1 else index[extra + d] for d, size in enumerate(value.shape))


def same_elements(before: Sequence[Size], after: Sequence[Size]) -> bool:
    """Whether a reshape only adds and removes dimensions of length 1."""
    return [size for size in before if size != 1] == [size for size in after if size != 1]


def is_move(instruction: Instruction) -> bool:
    """Whether each element of the results is one of the inputs' of the same row, or a number."""
    name, arguments = instruction.op.name, instruction.arguments
    x, (result, *_) = instruction.inputs[0], instruction.results
    if name not in MOVES:
        return False
    if name == "sum_to":
        return same_elements(x.shape, result.shape)
    if name in ("cat", "stack", "split", "unbind"):
        whole = x if name in ("split", "unbind") else result
        return whole.shape[arguments[-1]] is not BATCH
    if name in ("getitem", "spread_at"):
        whole = x if name == "getitem" else result
        found = basic_index(arguments[1], whole.shape)
        return found is not None and (name == "getitem" or all(step == 1 for _, step, _ in found.taken))
    if name == "pad":
        return all(size is not BATCH or width == (0, 0) for size, width in zip(x.shape, arguments[1]))
    if name in ("flip", "roll"):
        return all(x.shape[d] is not BATCH for d in dims_of(arguments[-1], x))
    return not x.has_batch or result.has_batch


def terms_of(instruction: Instruction) -> tuple[Sequence[Value], Sequence[str], str] | None:
    """The operands of a product with a letter for each of their dimensions, and the result's letters, as in einsum.

    None if it is a different op, or a product of matrices without a batch of them.
    """
    if instruction.op.name == "einsum":
        operands, terms, out = instruction.arguments
        return operands, terms, out
    ndim, operands = len(instruction.results[0].shape), instruction.inputs
    if instruction.op.name != "matmul" or ndim < 3 or len(operands) < 2:
        return None
    if any(len(value.shape) < 2 or (value.has_batch and len(value.shape) != ndim) for value in operands):
        return None
    shared = "bcdefgh"[: ndim - 2]
    terms = [shared[ndim - len(value.shape) :] + end for value, end in zip(operands, ("nk", "km"), strict=True)]
    return operands, terms, f"{shared}nm"


def factors_of(instruction: Instruction) -> tuple[Sequence[Value], list[str], str] | None:
    """The same of a product element by element, with "." for dimensions of length 1; None if products are added up."""
    found = terms_of(instruction)
    if found is None:
        return None
    factors, given, out = found
    terms = [
        "".join("." if size == 1 else letter for letter, size in zip(term, value.shape, strict=True))
        for value, term in zip(factors, given, strict=True)
    ]
    return (factors, terms, out) if all({*term} <= {*out, "."} for term in terms) else None


class _BasicIndex(NamedTuple):
    """A basic index.

    Attributes:
        taken: the first element, the step and the number of elements of each dimension that is indexed.
        dims: for each dimension of what it selects, the dimension that is indexed; None for a new one.
    """

    taken: list[tuple[int, int, Size]]
    dims: list[int | None]


def basic_index(index: Any, shape: Sequence[Size]) -> _BasicIndex | None:
    """A basic index of an array of this shape; None if it is a different kind of index."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(part is None or part is Ellipsis or type(part) in (int, slice) for part in parts):
        return None
    missing = len(shape) - sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    at = parts.index(Ellipsis)
    parts[at : at + 1] = [slice(None)] * missing
    found, d = _BasicIndex([], []), 0
    for part in parts:
        if part is None:
            found.dims.append(None)
            continue
        size = shape[d]
        if part == slice(None) or (size is BATCH and part in (slice(0, BATCH), slice(0, BATCH, 1))):
            found.taken.append((0, 1, size))
            found.dims.append(d)
        elif not isinstance(size, int):
            return None
        elif isinstance(part, slice):
            try:
                chosen = range(*part.indices(size))
            except TypeError:
                return None
            found.taken.append((chosen.start, chosen.step, len(chosen)))
            found.dims.append(d)
        else:
            found.taken.append((part % size, 1, 1))
        d += 1
    return found


def dims_of(given: Any, x: Value) -> list[int]:
    """The dimensions of a value that an argument names; None names all."""
    dims = range(len(x.shape)) if given is None else given if isinstance(given, list | tuple) else (given,)
    return [d % len(x.shape) for d in dims]


def source_of(value: Value, index: Index) -> tuple[Value, Index] | int | float:
    """Where an element of the result of a move comes from; or the number that it is.

    All elements for which the loop variables stand must come from the same input; see `breaks`.
    """
    instruction = value.instruction
    assert instruction is not None
    name, arguments = instruction.op.name, instruction.arguments
    x = instruction.inputs[0]
    if name == "broadcast_to":
        return x, aligned(index, value, x)
    if name in ("reshape", "sum_to"):
        kept = iter([at for at, size in zip(index, value.shape) if size != 1])
        return x, tuple(At() if size == 1 else next(kept) for size in x.shape)
    if name == "permute":
        order = [d % len(x.shape) for d in arguments[1]]
        return x, tuple(index[order.index(d)] for d in range(len(order)))
    if name in ("cat", "split", "stack", "unbind"):
        d = arguments[-1] % (len(x.shape) + (name == "stack"))
        return _joined(instruction, value, d, index)
    if name == "getitem":
        found = basic_index(arguments[1], x.shape)
        assert found is not None
        moved = [At(start) for start, _, _ in found.taken]
        for at, dim in zip(index, found.dims):
            if dim is not None:
                start, step, _ = found.taken[dim]
                moved[dim] = at.moved(start, step)
        return x, tuple(moved)
    if name == "spread_at":
        found = basic_index(arguments[1], value.shape)
        assert found is not None
        starts = [start for start, _, _ in found.taken]
        if not _within(index, starts, [size for _, _, size in found.taken]):
            return 0
        inside = [At() if dim is None else index[dim].moved(-found.taken[dim][0]) for dim in found.dims]
        return x, tuple(inside)
    if name == "pad":
        before = [width for width, _ in arguments[1]]
        if not _within(index, before, x.shape):
            return float(arguments[2])
        return x, tuple(at.moved(-width) for at, width in zip(index, before, strict=True))
    turned = list(index)
    if name == "flip":
        for d in dims_of(arguments[-1], x):
            turned[d] = index[d].moved(row_lengths(x)[d] - 1, -1)
    else:
        for d, shift in _shifts(instruction).items():
            turned[d] = index[d].moved(-shift if index[d].start >= shift else row_lengths(x)[d] - shift)
    return x, tuple(turned)


def _within(index: Index, starts: Sequence[int], sizes: Sequence[Size]) -> bool:
    """Whether an index is in the part of an array that begins there and has these sizes."""
    ranges = zip(index, starts, sizes, strict=True)
    return all(not isinstance(size, int) or 0 <= at.start - start < size for at, start, size in ranges)


def _joined(instruction: Instruction, value: Value, d: int, index: Index) -> tuple[Value, Index]:
    name, arguments = instruction.op.name, instruction.arguments
    if name == "cat":
        start = index[d].start
        for part in arguments[0]:
            if start < part.shape[d]:
                return part, (*index[:d], At(start, *index[d][1:]), *index[d + 1 :])
            start -= part.shape[d]
        raise AssertionError("an index beyond the join")
    if name == "stack":
        return arguments[0][index[d].start], (*index[:d], *index[d + 1 :])
    number = instruction.results.index(value)
    if name == "unbind":
        return arguments[0], (*index[:d], At(number), *index[d:])
    first = sum(each.shape[d] for each in instruction.results[:number])  # type: ignore[misc]
    return arguments[0], (*index[:d], index[d].moved(first), *index[d + 1 :])


def _shifts(instruction: Instruction) -> dict[int, int]:
    """The dimensions of a roll, and by how much each is shifted. One may be given twice."""
    x, shifts, dim = instruction.arguments
    dims = [] if dim is None else dims_of(dim, x)
    given = shifts if isinstance(shifts, list | tuple) else [shifts]
    found = dict.fromkeys(dims, 0)
    for d, shift in zip(dims, given) if len(dims) == len(given) else itertools.product(dims, given):
        found[d] = (found[d] + shift) % row_lengths(x)[d]
    return found


Breaks = list[set[int]]


def breaks(value: Value, is_leaf: Callable[[Value], bool], found: dict[Value, Breaks]) -> Breaks:
    """For each dimension, the places between which all elements of a value are one expression of the leaves' elements.

    Args:
        is_leaf: whether a value's elements are not computed from those of its inputs.
        found: those of other values, to which these are added.
    """
    if value not in found:
        lengths = row_lengths(value)
        ends: Breaks = [{0, length} for length in lengths]
        if not is_leaf(value) and value.instruction is not None:
            for of_input in _breaks_of_inputs(value, lambda part: breaks(part, is_leaf, found)):
                for d, places in enumerate(of_input):
                    ends[d] |= {place for place in places if 0 < place < lengths[d]}
        found[value] = ends
    return found[value]


def _breaks_of_inputs(value: Value, of: Callable[[Value], Breaks]) -> Iterator[Breaks]:
    """Where the breaks of each input are in a value that is computed from them."""
    instruction = value.instruction
    assert instruction is not None
    name, arguments, inputs = instruction.op.name, instruction.arguments, instruction.inputs
    factors = factors_of(instruction)
    if factors is not None:
        for part, term in zip(*factors[:2], strict=True):
            yield [of(part)[term.index(letter)] if letter in term else set() for letter in factors[2]]
    elif name not in MOVES or name == "broadcast_to":
        for part in inputs:
            extra = len(value.shape) - len(part.shape)
            ends = [set() if size == 1 else places for size, places in zip(part.shape, of(part), strict=True)]
            yield [*(set() for _ in range(extra)), *ends]
    elif name == "cat":
        start, d = 0, arguments[-1] % len(value.shape)
        for part in arguments[0]:
            ends = of(part)
            yield [*ends[:d], {place + start for place in ends[d]}, *ends[d + 1 :]]
            start += part.shape[d]
    elif name == "stack":
        d = arguments[-1] % len(value.shape)
        for part in arguments[0]:
            ends = of(part)
            yield [*ends[:d], set(range(len(arguments[0]))), *ends[d:]]
    elif name in ("reshape", "sum_to"):
        if same_elements(inputs[0].shape, value.shape):
            kept = iter([places for places, size in zip(of(inputs[0]), inputs[0].shape) if size != 1])
            yield [set() if size == 1 else next(kept) for size in value.shape]
    else:
        yield _moved_breaks(value, of(inputs[0]))


def _moved_breaks(value: Value, ends: Breaks) -> Breaks:
    """The breaks of a value whose elements are those of one input, whose own are given, or a number."""
    instruction = value.instruction
    assert instruction is not None
    name, arguments, lengths = instruction.op.name, instruction.arguments, row_lengths(value)
    if name == "spread_at":
        found = basic_index(arguments[1], value.shape)
        assert found is not None
        places = [{start, start + size} if isinstance(size, int) else set() for start, _, size in found.taken]
        for dim, inner in zip(found.dims, ends):
            if dim is not None:
                places[dim] |= {place + found.taken[dim][0] for place in inner}
        return places
    if name == "pad":
        return [{place + before for place in inner} for inner, (before, _) in zip(ends, arguments[1], strict=True)]
    places = [set() for _ in lengths]
    if name == "roll":
        places = list(ends)
        for d, shift in _shifts(instruction).items():
            places[d] = {shift, *((place + shift) % lengths[d] for place in ends[d])}
        return places
    # For the others, a probe finds where each dimension of the input is in the value, in which direction, and how far.
    source = source_of(value, tuple(At(0, str(d)) for d in range(len(lengths))))
    assert isinstance(source, tuple)
    for at, inner in zip(source[1], ends, strict=True):
        if at.variable:
            moved = ((place - at.start) / at.step for place in inner)
            places[int(at.variable)] |= {math.ceil(place) if at.step > 0 else math.floor(place) + 1 for place in moved}
    return places


def pieces(ends: Breaks) -> list[tuple[tuple[int, int], ...]]:
    """The pieces between breaks: the first element and the length of each dimension."""
    ranges = [list(itertools.pairwise(sorted(places))) for places in ends]
    return [tuple((begin, end - begin) for begin, end in piece) for piece in itertools.product(*ranges)]
