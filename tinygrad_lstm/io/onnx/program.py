"""What a model computes, as a list of calls of ops that is the same for inputs of every length.

It takes two runs. In the first, the measured run, each result's shape is taken down. The second, the traced run, has
inputs of other lengths: a dimension that differs from the first run is free, and `Tensor.shape` gives it as a `Length`,
which carries into later calls how they depend on it. So no rule is needed for the shapes of each op, and nothing is
guessed of integers: one that differs between the runs and does not say how it came about is an error. All else has to
be the same in both runs, whose lengths, steps and inputs' values differ.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from ..._tensor import Tensor
from ...creation import arange
from ...device import device_of
from ...graph import user_line
from ...nn import Module
from ...ops.indexing import get
from ...ops.shape import slices
from ...tracing.lengths import Derived, Length, Size, sources
from ...tracing.shapes import shapes_traced
from .recording import Held, Note, NotedStep, Run, Slot, UntraceableError

__all__ = ["Call", "Constant", "Loop", "Operand", "Program", "Trace", "Value", "spelled_out"]

_UNBIND, _GET = slices.op, get.op  # type: ignore[attr-defined]
_ARANGE = inspect.unwrap(arange)


# -- tensors -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that no input has a part in.

    Attributes:
        arrays: what it was in both runs: the same, unless the lengths of the inputs have a part in it.
        shape: as of a tensor.
        name: that of the parameter or buffer that it is; "" of others.
    """

    arrays: tuple[HostArray, HostArray]
    shape: tuple[Size, ...]
    name: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' type."""
        return self.arrays[0].dtype

    @functools.cached_property
    def array(self) -> HostArray | None:
        """The values, if they were the same in both runs."""
        before, now = self.arrays
        return now if now is before or _equal(before, now) else None

    @functools.cached_property
    def filling(self) -> HostArray | None:
        """The number, in an array (1,), that all elements were in both runs, if there is one; 0 of no elements."""
        first = next((array.reshape(-1)[:1] for array in self.arrays if array.size), np.zeros(1, self.dtype))
        filled = (np.broadcast_to(first.reshape(()), array.shape) for array in self.arrays)
        return first if all(map(_equal, filled, self.arrays)) else None


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
        line: the user's, from which it was called.
        results: those that it gave in both runs.
    """

    name: str
    function: Any
    arguments: Sequence[Any]
    place: str
    numbers: Sequence[int]
    line: str
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
        outputs: what the model gave, by name.
    """

    inputs: list[Value]
    calls: list[Call]
    outputs: Mapping[str, Operand]


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


def _taken(arguments: Any) -> list[Operand]:
    """The operands in a call's arguments, and those whose lengths it takes."""
    taken: list[Operand] = []
    for leaf in _leaves(arguments):
        taken += [leaf] if isinstance(leaf, Value | Constant) else sources(leaf)
        if isinstance(leaf, Constant):
            taken += [source for size in leaf.shape for source in sources(size)]
    return taken


def _needed(outputs: Sequence[Operand]) -> list[Call]:
    """The calls without which there would not be these outputs, each after those whose results it takes."""
    found: dict[Call, None] = {}  # in order
    stack = [(output, False) for output in reversed(_taken(outputs))]
    while stack:
        operand, ready = stack.pop()
        call = operand.call if isinstance(operand, Value) else None
        if call is None or call in found:
            continue
        if ready:
            found[call] = None
        else:
            stack.append((operand, True))
            stack += [(taken, False) for taken in reversed(_taken(call.arguments))]
    return list(found)


# -- the traced run ----------------------------------------------------------------------------------------------------


class Trace(Run):
    """The traced run of a model: makes a call of each note, which it holds to that of the measured run.

    Args:
        model, inputs: as of a run.
        measured: the run before, with inputs of other lengths wherever they are free.

    Attributes:
        lengths: those of the inputs that are free.
    """

    def __init__(self, model: Module, inputs: Mapping[str, Tensor], measured: Run) -> None:
        super().__init__(model, inputs)
        self._measured = measured
        self._calls: list[Call] = []
        self._steps: list[tuple[int, int]] = []  # of each loop that is open, the numbers of the noted steps
        self._items: list[dict[Call, Value]] = []  # and the elements that the step takes
        self._names = {id(each.data): name for name, each in [*model.named_parameters(), *model.named_buffers()]}
        self.lengths: list[Length] = []

    def program(self, forward: Callable[..., Mapping[str, Tensor]]) -> Program:
        """What the model computes, by calling the function that runs it.

        Raises:
            UntraceableError: the runs differ in more than lengths; or as `note`.
        """
        with shapes_traced():
            self.note(forward)
        before, now = self._measured.outputs, self.outputs
        if len(self._measured.notes) != len(self.notes) or before.keys() != now.keys():
            raise self._unlike()
        outputs = {name: self._merged("an output", before[name], now[name]) for name in now}
        inputs = [value for value in self._calls[0].results if isinstance(value, Value)]
        return Program(inputs, _needed(list(outputs.values())), outputs)

    def see_shape(self, tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Gives the shape with a `Length` for each free dimension."""
        slot = self._slots.get(id(tensor._array))
        known: Any = () if slot is None else self._result(slot).shape
        return known if known == shape else shape

    def see_read(self, tensor: Tensor) -> None:
        """Raises if the inputs' values have a part in what is read by Python, which may go by it."""
        slot = self._slots.get(id(tensor._array))
        value = None if slot is None else self._result(slot)
        if isinstance(value, Value) and value.varies:
            what = "an input" if value.call is None else f"what {value.call.name!r} gave"
            raise UntraceableError(
                f"export_onnx: forward reads {what} as Python's numbers, which an ONNX file cannot go by; choose with "
                f"tg.where, index with the tensor itself, and check inputs before forward ({user_line()})"
            )

    def _steps_noted(self, T: int) -> int:
        """All of them, as each has to be like that of the measured run."""
        return int(T)

    def _forget(self, begun: int) -> None:
        super()._forget(begun)
        if begun < len(self._calls):
            del self._calls[begun:]
            self._steps.pop()
            self._items.pop()

    def _note(self, name: str, function: Any, arguments: Sequence[Any], result: Any, step: int = 0) -> None:
        super()._note(name, function, arguments, result, step)
        number = len(self.notes) - 1
        before = self._measured.notes[number] if number < len(self._measured.notes) else None
        if before is None or before.function is not function:
            raise self._unlike(before, self.notes[-1])
        self._take(before, self.notes[-1])

    def _unlike(self, before: Note | None = None, now: Note | None = None) -> UntraceableError:
        """The error where the runs apply different ops."""
        where = f", {before.name!r} where that has {now.name!r}" if before and now else ""
        line = f" ({user_line()})" if now else ""
        return UntraceableError(
            f"export_onnx: forward applies {len(self._measured.notes) - 1} ops to inputs of some lengths, and others "
            f"to those of others{where}: it goes through the steps one by one, or chooses by a length or a value; use "
            f"a layer for the whole sequence, such as LSTM, or tg.where, or leave that dimension out of dynamic={line}"
        )

    def _take(self, before: Note, now: Note) -> None:
        """The next call, as it was noted in both runs."""
        given = now.function is None
        if given and self._calls:  # states before a step, not inputs
            self._steps.append((before.step, now.step))
            self._items.append({})
        taken = [self._result(leaf) for leaf in _leaves(now.arguments) if isinstance(leaf, Slot)]
        known = [size for operand in taken for size in operand.shape if isinstance(size, Length)]
        arguments = self._merged(f"op {now.name!r}", before.arguments, now.arguments, known)
        numbers = len(before.results), len(now.results)
        call = Call(now.name, now.function, arguments, now.place, numbers, user_line())
        operands = _operands(arguments)
        varies = given or any(operand.varies for operand in operands if isinstance(operand, Value))
        folded = not given and all(_is_known(operand) for operand in operands)
        by_length = any(isinstance(number, Derived) for number in _leaves(arguments))
        if given:
            known = self.lengths
        elif now.function is _GET:
            known = _kept(*arguments)
        elif now.function is not _ARANGE:  # whose length is none of the numbers that it takes, if it is empty
            known += [leaf for leaf in _leaves(arguments) if isinstance(leaf, Length) and not _is_new(leaf)]
        for arrays in zip(before.results, now.results, strict=False):
            constant = self._constant(*arrays, known) if folded else None
            if constant is not None and (
                (constant.filling is not None and not any(map(_is_new, constant.shape)))
                or (constant.array is not None and not by_length)
            ):
                call.results.append(constant)
                continue
            value = Value(self._shape(*arrays, known), arrays[0].dtype, None if given else call, varies)
            call.results.append(value)
            for size in value.shape:
                if isinstance(size, Length) and _is_new(size):
                    size.source = value
                    self.lengths += [] if self._calls else [size]
        self._calls.append(call)

    def _merged(self, user: str, before: Any, now: Any, known: Sequence[Length] = ()) -> Any:
        """What a user is given, of what it was given in both runs.

        Args:
            known: lengths that it has to do with.

        Raises:
            UntraceableError: it differs in more than a length.
        """
        kinds = (type(before), type(now))
        if kinds == (Held, Held):
            return self._constant(before.array, now.array, self.lengths)
        if kinds == (Slot, Slot) and (operand := self._result_of_both(before, now)) is not None:
            return operand
        if kinds == (NotedStep, NotedStep):
            return self._loop(now.note, self._merged(user, before.after, now.after))
        if kinds in ((list, list), (tuple, tuple)) and len(before) == len(now):
            return kinds[0]([self._merged(user, *parts, known) for parts in zip(before, now, strict=True)])
        if kinds == (slice, slice):
            return slice(*(self._merged(user, getattr(before, end), getattr(now, end), known) for end in _ENDS))
        if isinstance(now, Derived):
            if now.values[0] == before:
                return now
        elif _is_same(before, now):
            return now
        elif kinds in ((int, int), (float, float)):
            # A plain number: the length of a tensor itself is told by its two values, and nothing else is.
            length = _found((before, now), [*known, *self.lengths])
            if length is not None or type(now) is int:
                return Length(before, now) if length is None else length
        one, another = map(self._said, (before, now))
        raise UntraceableError(
            f"export_onnx: {user} is given {one} in one run and {another} in another, with inputs of other lengths or "
            f"values; only tensors, and lengths, may depend on inputs ({user_line()})"
        )

    def _said(self, part: Any) -> str:
        """A part of an argument, for a message."""
        if isinstance(part, Slot):
            return f"what {self._calls[part.note].name!r} gave"
        return f"an array of shape {part.array.shape}" if isinstance(part, Held) else repr(part)

    def _shape(self, before: Array, now: Array, known: Sequence[Length]) -> tuple[Size, ...]:
        """The shape that an array had in both runs, whose free lengths may be some of those known."""
        sizes: list[Size] = []
        known = [*known]
        for pair in zip(before.shape, now.shape, strict=True):
            if pair[0] == pair[1]:
                sizes.append(pair[0])
                continue
            length = _found(pair, known)
            if length is None:
                length = Length(*pair)
                known.append(length)
            sizes.append(length)
        return tuple(sizes)

    def _constant(self, before: Array, now: Array, known: Sequence[Length]) -> Constant:
        shape, on_host = self._shape(before, now, known), _on_host(before)
        return Constant((on_host, on_host if now is before else _on_host(now)), shape, self._names.get(id(now), ""))

    def _result(self, slot: Slot) -> Operand:
        """The result that a slot of this run stands for; of a sequence taken apart, one like it."""
        results = self._calls[slot.note].results
        return results[min(slot.result, len(results) - 1)]

    def _result_of_both(self, before: Slot, now: Slot) -> Operand | None:
        """The result that the slots stand for: the same one in both runs, or that of the step noted in each."""
        numbers = (before.result, now.result)
        if before.note != now.note:
            return None
        call = self._calls[now.note]
        if self._steps and call.function is _UNBIND and numbers == self._steps[-1]:
            item = call.results[0]
            return self._items[-1].setdefault(call, Value(item.shape, item.dtype, None))
        return call.results[numbers[0]] if len(set(numbers)) == 1 and numbers[0] < len(call.results) else None

    def _loop(self, begun: int, after: list[Operand]) -> Loop:
        """The calls since that of the number `begun`, which gave the states before, as those of one step."""
        before = [value for value in self._calls[begun].results if isinstance(value, Value)]
        inside = set(self._calls[begun + 1 :])
        self._steps.pop()
        items = {item: unbound for unbound, item in self._items.pop().items()}
        calls = [call for call in _needed(after) if call in inside]
        own = {*before, *items, *(result for call in calls for result in call.results)}
        sequences = [unbound.arguments[0] for unbound in items.values()]
        taken = [*_taken([after, *(call.arguments for call in calls)]), *sequences]
        return Loop(before, items, calls, after, [operand for operand in taken if operand not in own])


_ENDS = ("start", "stop", "step")


def spelled_out(index: Any, ndim: int) -> list[Any]:
    """The parts of an index, with what `...` stands for, and what is not said at the end."""
    parts = list(index) if isinstance(index, tuple) else [index]
    rest = [slice(None)] * (ndim - sum(part is not None and part is not Ellipsis for part in parts))
    at = next((k for k, part in enumerate(parts) if part is Ellipsis), None)
    return [*parts, *rest] if at is None else [*parts[:at], *rest, *parts[at + 1 :]]


def _kept(x: Operand, index: Any) -> list[Length]:
    """The lengths that a tensor's elements at an index may have. A slice's own, which ends where x does, is none."""
    parts = [part for part in spelled_out(index, len(x.shape)) if part is not None]
    pairs = zip(x.shape, parts, strict=False)  # fewer parts, if one is a mask of several dimensions
    whole = [size for size, part in pairs if part in (slice(None), slice(None, None, -1))]
    of_arrays = [size for part in parts if isinstance(part, Value | Constant) for size in part.shape]
    return [size for size in (*whole, *of_arrays) if isinstance(size, Length)]


def _found(values: tuple[Any, Any], known: Sequence[Length]) -> Length | None:
    """The first length that is these two values in the runs."""
    return next((length for length in known if length.values == values), None)


def _is_known(operand: Operand) -> bool:
    """Whether a tensor is the same whatever the lengths of the inputs, or all one number, of whatever lengths."""
    return isinstance(operand, Constant) and (operand.array is not None or operand.filling is not None)


def _is_new(size: Size) -> bool:
    """Whether it is a length that is not known from another tensor."""
    return isinstance(size, Length) and size.how is None and size.source is None


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and (callable(a) or bool(a == b) or (a != a and b != b)))


def _on_host(array: Array) -> HostArray:
    device = device_of(array)
    return np.asarray(array) if device is None else device.backend.to_host(array)
