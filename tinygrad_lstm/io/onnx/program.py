"""What a model computes, as a list of calls of ops that is the same for inputs of every length.

`merged` makes it of several runs, with inputs of other lengths each time, laid side by side. What is the same in all of
them stays as it is; a whole number that is not is a `Length`; a tensor that no input has a part in is a `Constant`,
however it came about.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from ...device import device_of
from ...ops.shape import slices
from .recording import Held, Note, NotedStep, Run, Slot

__all__ = [
    "Call",
    "Constant",
    "Formula",
    "Length",
    "Loop",
    "Operand",
    "Program",
    "Reciprocal",
    "Size",
    "Value",
    "formula",
    "merged",
]

_UNBIND = slices.op  # type: ignore[attr-defined]


# -- numbers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Length:
    """A whole number that depends on the lengths of the inputs: what it was in each run."""

    values: tuple[int, ...]


@dataclass(frozen=True)
class Reciprocal:
    """1 divided by a length, as in a mean."""

    length: Length


Size: TypeAlias = int | Length


def _size(numbers: Sequence[int]) -> Size:
    """A whole number, given what it was in each run."""
    return numbers[0] if len(set(numbers)) == 1 else Length(tuple(numbers))


def _shape(shapes: Sequence[Sequence[int]]) -> tuple[Size, ...]:
    """A shape, given what it was in each run."""
    return tuple(_size(lengths) for lengths in zip(*shapes, strict=True))


class Formula(NamedTuple):
    """How a length follows from others: factor · (their product // divisor) + addend; not all of these at once."""

    lengths: tuple[Length, ...]
    divisor: int = 1
    factor: int = 1
    addend: int = 0


def formula(length: Length, known: Sequence[Length]) -> Formula | None:
    """How a length follows from those known: by one simple step of arithmetic, or a product of two; else None."""
    wanted = np.array(length.values)
    bases = [Formula((each,)) for each in known]
    bases += [Formula(pair) for pair in itertools.combinations_with_replacement(known, 2)]
    bases += [Formula((each,), divisor) for each in known for divisor in range(2, 9)]
    for base in bases:
        value = np.prod([each.values for each in base.lengths], axis=0) // base.divisor
        if value.all() and not (wanted % value).any() and len(factors := set(wanted // value)) == 1:
            return base._replace(factor=int(factors.pop()))
    for base in bases[: len(known)]:
        if len(addends := set(wanted - np.array(base.lengths[0].values))) == 1:
            return base._replace(addend=int(addends.pop()))
    return None


# -- tensors -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that no input has a part in.

    Attributes:
        arrays: what it was in each run: the same, unless the lengths of the inputs have a part in it.
        name: that of the parameter or buffer that it is; "" of others.
    """

    arrays: tuple[HostArray, ...]
    name: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' type."""
        return self.arrays[0].dtype

    @property
    def shape(self) -> tuple[Size, ...]:
        """The length of each dimension."""
        return _shape([array.shape for array in self.arrays])

    @functools.cached_property
    def array(self) -> HostArray | None:
        """The values, if they were the same in all runs."""
        first, *others = self.arrays
        return first if all(other is first or _equal(first, other) for other in others) else None

    @functools.cached_property
    def filling(self) -> HostArray | None:
        """The number, in an array (1,), that all elements were in all runs, if there is one; 0 of no elements."""
        first = next((array.reshape(-1)[:1] for array in self.arrays if array.size), np.zeros(1, self.dtype))
        filled = (np.broadcast_to(first.reshape(()), array.shape) for array in self.arrays)
        return first if all(map(_equal, filled, self.arrays)) else None

    @property
    def progression(self) -> tuple[Size, int] | None:
        """The first number and the step, if the elements are whole numbers, one step apart along one dimension."""
        flat = [array.reshape(-1) for array in self.arrays]
        if any(len(own) < 2 or len(own) != max(array.shape) for own, array in zip(flat, self.arrays, strict=True)):
            return None
        starts, steps = [int(own[0]) for own in flat], [int(own[1]) - int(own[0]) for own in flat]
        numbers = (start + step * np.arange(len(own)) for start, step, own in zip(starts, steps, flat, strict=True))
        if len(set(steps)) > 1 or not all(map(np.array_equal, flat, numbers)):
            return None
        return _size(starts), steps[0]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that is an input, or that a call gives.

    Attributes:
        shape, dtype: as of a tensor.
        call: what gives it; None for an input, and for what a step is given.
        varies: whether the inputs' values have a part in it, and not their lengths alone.
    """

    shape: tuple[Size, ...]
    dtype: np.dtype[Any]
    call: "Call | None"
    varies: bool = True


Operand: TypeAlias = Value | Constant


def _equal(a: HostArray, b: HostArray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


# -- calls -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Call:
    """An op, or a function made of ops, applied.

    Attributes:
        name: its name in messages.
        function: the op, or the function.
        arguments: all of them, in order, with operands in place of tensors and arrays.
        place: of a recurrent layer, the name of its place in the model.
        numbers: how many results it gave in each run.
        results: those that it gave in all runs.
    """

    name: str
    function: Any
    arguments: Sequence[Any]
    place: str
    numbers: Sequence[int]
    results: list[Operand] = field(default_factory=list)

    @property
    def result(self) -> Operand:
        """What it gave, if that is one tensor."""
        return self.results[0]


@dataclass(frozen=True, eq=False)
class Loop:
    """One step of a cell that goes through sequences.

    Attributes:
        before: the states that the step is given.
        items: the elements that it takes, each with the call that takes a sequence apart.
        calls: those of the step.
        after: the states that it gives.
        outer: the operands that it takes from around it, the sequences among them.
    """

    before: list[Value]
    items: Mapping[Value, Call]
    calls: list[Call]
    after: list[Operand]
    outer: list[Operand]


@dataclass(frozen=True)
class Program:
    """What a model computes.

    Attributes:
        inputs: as many as the model was given.
        calls: those that the outputs need, each after those whose results it takes.
        outputs: what the model gave.
    """

    inputs: list[Value]
    calls: list[Call]
    outputs: list[Operand]


def _leaves(argument: Any) -> Iterator[Any]:
    """What a call's arguments hold, in lists, tuples and slices too; of a step, what it takes from around it."""
    if isinstance(argument, Loop):
        yield from argument.outer
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _leaves(part)
    elif isinstance(argument, slice):
        yield from _leaves((argument.start, argument.stop, argument.step))
    else:
        yield argument


def _operands(arguments: Any) -> list[Operand]:
    """The operands in a call's arguments."""
    return [leaf for leaf in _leaves(arguments) if isinstance(leaf, Value | Constant)]


def _needed(outputs: Sequence[Operand]) -> list[Call]:
    """The calls without which there would not be these outputs, each after those whose results it takes."""
    found: dict[Call, None] = {}  # in order
    stack = [(output, False) for output in reversed(outputs)]
    while stack:
        operand, ready = stack.pop()
        call = operand.call if isinstance(operand, Value) else None
        if call is None or call in found:
            continue
        if ready:
            found[call] = None
        else:
            stack.append((operand, True))
            stack += [(taken, False) for taken in reversed(_operands(call.arguments))]
    return list(found)


# -- runs side by side -------------------------------------------------------------------------------------------------


def merged(runs: Sequence[Run], names: Mapping[int, str]) -> Program:
    """What runs of a model have in common.

    Args:
        runs: with inputs whose lengths differ wherever they may.
        names: those of the model's parameters and buffers, by the ids of their arrays.

    Raises:
        ValueError: the runs differ in more than lengths.
    """
    _check_alike(runs)
    merger = _Merger(names)
    for notes in zip(*(run.notes for run in runs), strict=True):
        merger.take(notes)
    merger.check_reads(runs[0].reads)
    outputs = [merger.merged("an output", parts) for parts in zip(*(run.outputs for run in runs), strict=True)]
    inputs = [value for value in merger.calls[0].results if isinstance(value, Value)]
    return Program(inputs, _needed(outputs), outputs)


def _check_alike(runs: Sequence[Run]) -> None:
    """Raises unless the runs apply the same ops."""
    first, *others = runs
    for other in others:
        pairs = zip(first.notes, other.notes, strict=False)
        differing = next(((a.name, b.name) for a, b in pairs if a.function is not b.function), None)
        if differing or len(first.notes) != len(other.notes) or len(first.outputs) != len(other.outputs):
            where = f", {differing[0]!r} where that has {differing[1]!r}" if differing else ""
            raise ValueError(
                f"export_onnx: forward applies {len(first.notes) - 1} ops to inputs of some lengths, and "
                f"{len(other.notes) - 1} to those of others{where}: it goes through the steps one by one, or chooses "
                "by a length or a value; use a layer for the whole sequence, such as LSTM, or tg.where, or leave that "
                "dimension out of dynamic="
            )


class _Merger:
    """Makes calls of notes, one after the other."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._steps: list[Sequence[int]] = []  # of each loop that is open, the number of the noted step in each run
        self._items: list[dict[Call, Value]] = []  # and the elements that the step takes
        self.calls: list[Call] = []

    def take(self, notes: Sequence[Note]) -> None:
        """The next call, as it was noted in each run."""
        first = notes[0]
        given = first.function is None
        if given and self.calls:  # states before a step, not inputs
            self._steps.append([note.step for note in notes])
            self._items.append({})
        arguments = self.merged(f"op {first.name!r}", [note.arguments for note in notes])
        call = Call(first.name, first.function, arguments, first.place, [len(note.results) for note in notes])
        operands = _operands(arguments)
        varies = given or any(operand.varies for operand in operands if isinstance(operand, Value))
        known = not given and all(_is_known(operand) for operand in operands)
        by_length = any(isinstance(number, Length | Reciprocal) for number in _leaves(arguments))
        for arrays in zip(*(note.results for note in notes), strict=False):
            constant = self._constant(arrays) if known else None
            if constant is not None and (
                constant.filling is not None or (constant.array is not None and not by_length)
            ):
                call.results.append(constant)
            else:
                shape, dtype = _shape([array.shape for array in arrays]), arrays[0].dtype
                call.results.append(Value(shape, dtype, None if given else call, varies))
        self.calls.append(call)

    def merged(self, user: str, parts: Sequence[Any]) -> Any:
        """What a user is given, of what it was given in each run.

        Raises:
            ValueError: it differs in more than a length.
        """
        first, kinds = parts[0], {type(part) for part in parts}
        if kinds == {Held}:
            return self._constant([part.array for part in parts])
        if kinds == {Slot} and (operand := self._result(parts)) is not None:
            return operand
        if kinds == {NotedStep}:
            return self._loop(first.note, self.merged(user, [part.after for part in parts]))
        if kinds <= {list, tuple} and len(kinds) == 1 and len({len(part) for part in parts}) == 1:
            return type(first)([self.merged(user, column) for column in zip(*parts, strict=True)])
        if kinds == {slice}:
            return slice(*self.merged(user, [(part.start, part.stop, part.step) for part in parts]))
        if all(_is_same(first, part) for part in parts):
            return first
        if (number := _number(parts)) is not None:
            return number
        one, another = map(self._said, (first, next(part for part in parts if not _is_same(first, part))))
        raise ValueError(
            f"export_onnx: {user} is given {one} in one run and {another} in another, with inputs of other lengths or "
            "values; only tensors, and lengths, may depend on inputs"
        )

    def check_reads(self, reads: Sequence[Slot]) -> None:
        """Raises if the inputs' values have a part in what was read by Python, which may have gone by it."""
        for slot in reads:
            call = self.calls[slot.note]
            value = call.results[slot.result] if slot.result < len(call.results) else None
            if isinstance(value, Value) and value.varies:
                what = "an input" if call.function is None else f"what {call.name!r} gave"
                raise ValueError(
                    f"export_onnx: forward reads {what} as Python's numbers, which an ONNX file cannot go by; choose "
                    "with tg.where, index with the tensor itself, and check inputs before forward"
                )

    def _said(self, part: Any) -> str:
        """A part of an argument, for a message."""
        if isinstance(part, Slot):
            return f"what {self.calls[part.note].name!r} gave"
        return f"an array of shape {part.array.shape}" if isinstance(part, Held) else repr(part)

    def _constant(self, arrays: Sequence[Array]) -> Constant:
        first, *others = arrays
        if all(other is first for other in others):
            return Constant((_on_host(first),) * len(arrays), self._names.get(id(first), ""))
        return Constant(tuple(_on_host(array) for array in arrays))

    def _result(self, slots: Sequence[Slot]) -> Operand | None:
        """The result that the slots stand for: the same one in all runs, or that of the step that was noted in each."""
        numbers = [slot.result for slot in slots]
        if len({slot.note for slot in slots}) > 1:
            return None
        call = self.calls[slots[0].note]
        if self._steps and call.function is _UNBIND and numbers == self._steps[-1]:
            item = call.results[0]
            return self._items[-1].setdefault(call, Value(item.shape, item.dtype, None))
        return call.results[numbers[0]] if len(set(numbers)) == 1 and numbers[0] < len(call.results) else None

    def _loop(self, begun: int, after: list[Operand]) -> Loop:
        """The calls since that of the number `begun`, which gave the states before, as those of one step."""
        before = [value for value in self.calls[begun].results if isinstance(value, Value)]
        inside = set(self.calls[begun + 1 :])
        self._steps.pop()
        items = {item: unbound for unbound, item in self._items.pop().items()}
        calls = [call for call in _needed(after) if call in inside]
        own = {*before, *items, *(result for call in calls for result in call.results)}
        sequences = [unbound.arguments[0] for unbound in items.values()]
        taken = [*after, *_operands([call.arguments for call in calls]), *sequences]
        return Loop(before, items, calls, after, [operand for operand in taken if operand not in own])


def _is_known(operand: Operand) -> bool:
    """Whether a tensor is the same whatever the lengths of the inputs, or all one number, of whatever lengths."""
    return isinstance(operand, Constant) and (operand.array is not None or operand.filling is not None)


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and (callable(a) or bool(a == b) or (a != a and b != b)))


def _number(parts: Sequence[Any]) -> Length | Reciprocal | None:
    """A number that differs from run to run, if it is whole, or 1 divided by a whole number."""
    kinds = {type(part) for part in parts}
    if kinds == {int}:
        return Length(tuple(parts))
    if kinds != {float} or not all(np.isfinite(part) and part for part in parts):
        return None
    if (whole := _whole(parts)) is not None:
        return Length(whole)
    whole = _whole([1 / part for part in parts])
    return None if whole is None else Reciprocal(Length(whole))


def _whole(numbers: Sequence[float]) -> tuple[int, ...] | None:
    """The numbers as integers, if they are, but for rounding."""
    rounded = tuple(round(number) for number in numbers)
    return rounded if np.allclose(numbers, rounded, rtol=1e-12, atol=0) else None


def _on_host(array: Array) -> HostArray:
    device = device_of(array)
    return np.asarray(array) if device is None else device.backend.to_host(array)
