"""The traced run of a model, which makes its program.

There are two runs. The first, the measured run, records each result's shape. The second, the traced run, has inputs of
different lengths: a dimension that differs from the first run is free, and `Tensor.shape` returns it as a `Length`,
which records how later numbers depend on it. So ops need no shape rules. A plain integer that differs between the runs
must be equal to a length in both runs; otherwise it is an error, since its origin is unknown. Everything else must be
the same in both runs, whose lengths, steps and values of inputs differ.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from .._tensor import Tensor
from ..creation import arange
from ..device import device_of
from ..lengths import Derived, Length, Size
from ..nn import Module
from ..ops.convolution import conv1d, conv2d
from ..ops.indexing import getitem_op
from ..ops.pooling import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from ..ops.shape import reshape_op, unbind_op
from ..tracer_hooks import shapes_traced
from .program import Call, Constant, Loop, Operand, Program, Value, full_index, leaves, needed, operands, taken
from .recording import Held, Note, NotedStep, Run, ShortExampleError, Slot, UntraceableError

__all__ = ["Trace"]

_UNBIND, _GET, _RESHAPE = unbind_op.op, getitem_op.op, reshape_op.op  # type: ignore[attr-defined]
_ARANGE = inspect.unwrap(arange)
_OF_WINDOWS = {inspect.unwrap(each) for each in (conv1d, conv2d, max_pool1d, max_pool2d, avg_pool1d, avg_pool2d)}
_ENDS = ("start", "stop", "step")


class Trace(Run):
    """The traced run of a model: makes a call from each note and compares it with the note of the measured run.

    Args:
        model, inputs: as for `Run`.
        measured: the measured run, whose free lengths of inputs are different.

    Attributes:
        lengths: the free lengths of the inputs.
    """

    def __init__(self, model: Module, inputs: Mapping[str, Tensor], measured: Run) -> None:
        super().__init__(model, inputs)
        self._measured = measured
        self._calls: list[Call] = []
        self._steps: list[tuple[int, int]] = []  # for each open loop, the indices of the noted steps
        self._items: list[dict[Call, Value]] = []  # and the elements that the step uses
        self._names = {id(each.data): name for name, each in [*model.named_parameters(), *model.named_buffers()]}
        self.lengths: list[Length] = []

    def program(self, forward: Callable[..., Mapping[str, Tensor]]) -> Program:
        """The program of the model, made by calling the function that runs it.

        Raises:
            UntraceableError: the runs differ in more than lengths; or as for `note`.
        """
        with shapes_traced:
            self.note(forward)
        before, now = self._measured.outputs, self.outputs
        if len(self._measured.notes) != len(self.notes) or before.keys() != now.keys():
            raise self._difference()
        outputs = {name: self._merged("an output", before[name], now[name]) for name in now}
        inputs = [value for value in self._calls[0].results if isinstance(value, Value)]
        return Program(inputs, needed(list(outputs.values())), outputs)

    def see_shape(self, tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape with a `Length` for each free dimension."""
        slot = self._slots.get(id(tensor._array))
        known: Any = () if slot is None else self._result(slot).shape
        return known if known == shape else shape

    def see_read(self, tensor: Tensor) -> None:
        """Raises if a value that Python reads depends on the inputs' values, since Python may branch on it."""
        slot = self._slots.get(id(tensor._array))
        value = None if slot is None else self._result(slot)
        if isinstance(value, Value) and value.varies:
            what = "an input" if value.call is None else f"the result of {value.call.name!r}"
            raise UntraceableError(
                f"forward reads {what} as Python numbers, which are not recorded; choose with tg.where, index with the "
                f"tensor itself, and check inputs before forward ({self._line()})"
            )

    def _steps_noted(self, T: int) -> int:
        """All steps, since each must be like that of the measured run."""
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
            raise self._difference(before, self.notes[-1])
        self._take(before, self.notes[-1])

    def _difference(self, before: Note | None = None, now: Note | None = None) -> UntraceableError:
        """The error if the runs apply different ops."""
        where = f" ({now.name!r} in place of {before.name!r})" if before and now else ""
        line = f" ({self._line()})" if now else ""
        return UntraceableError(
            f"forward applies {len(self._measured.notes) - 1} ops to inputs of one length, and different "
            f"ops to inputs of another length{where}: it loops over the steps, or branches on a length or a value; use "
            f"a layer for the whole sequence, such as LSTM, or tg.where, or leave that dimension out of dynamic={line}"
        )

    def _take(self, before: Note, now: Note) -> None:
        """Adds the next call from the notes of both runs."""
        given = now.function is None
        if given and self._calls:  # states before a step, not inputs
            self._steps.append((before.step, now.step))
            self._items.append({})
        given_to = [self._result(leaf) for leaf in leaves(now.arguments) if isinstance(leaf, Slot)]
        lengths = [size for operand in given_to for size in operand.shape if isinstance(size, Length)]
        arguments = self._merged(f"op {now.name!r}", before.arguments, now.arguments, lengths)
        numbers = len(before.results), len(now.results)
        call = Call(now.name, now.function, arguments, now.place, numbers, self._line())
        values = operands(arguments)
        varies = given or any(value.varies for value in values if isinstance(value, Value))
        folded = not given and all(_is_known(value) for value in values)
        by_length = any(isinstance(number, Derived) for number in leaves(arguments))
        known = self.lengths if given else _lengths_of_results(call, lengths)
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
        if call.function in _OF_WINDOWS:
            self._check_windows(call)
        self._calls.append(call)

    def _check_windows(self, call: Call) -> None:
        """Raises if there are as many windows in both runs, as if their number did not depend on the length.

        There may be, if the length is also that of a window or of a stride.
        """
        x, *others = call.arguments
        settings = [*leaves(others), *(size for operand in operands(others) for size in operand.shape)]
        if any(isinstance(setting, Derived) for setting in settings):
            return
        for size, number in zip(x.shape[2:], call.results[0].shape[2:], strict=False):
            if isinstance(size, Length) and not isinstance(number, Length):
                raise ShortExampleError(
                    f"op {call.name!r} returns the length {number} for both {size.values[0]} and {size.values[1]}, as "
                    "its stride is longer than the examples; give longer examples, or leave that dimension "
                    f"out of dynamic= ({self._line()})"
                )

    def _merged(self, user: str, before: Any, now: Any, known: Sequence[Length] = ()) -> Any:
        """An argument of a user, from its arguments in both runs.

        Args:
            known: lengths that it may be equal to.

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
            # A plain number: it may be the length of a tensor with the same two values.
            length = _found((before, now), [*known, *self.lengths])
            if length is not None or type(now) is int:
                return Length(before, now) if length is None else length
        one, another = map(self._described, (before, now))
        raise UntraceableError(
            f"{user} is given {one} in one run and {another} in another, whose inputs have different "
            f"lengths and values; only tensors and lengths may depend on inputs ({self._line()})"
        )

    def _described(self, part: Any) -> str:
        """A part of an argument, for a message."""
        if isinstance(part, Slot):
            return f"the result of {self._calls[part.note].name!r}"
        return f"an array of shape {part.array.shape}" if isinstance(part, Held) else repr(part)

    def _shape(self, before: Array, now: Array, known: Sequence[Length]) -> tuple[Size, ...]:
        """The shape of an array from both runs; its free lengths may be among those known."""
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
        """The result of a slot of this run; for an unbound sequence, a similar one."""
        results = self._calls[slot.note].results
        return results[min(slot.result, len(results) - 1)]

    def _result_of_both(self, before: Slot, now: Slot) -> Operand | None:
        """The result of two slots: the same one in both runs, or the element of the step noted in each."""
        numbers = (before.result, now.result)
        if before.note != now.note:
            return None
        call = self._calls[now.note]
        if self._steps and call.function is _UNBIND and numbers == self._steps[-1]:
            item = call.results[0]
            return self._items[-1].setdefault(call, Value(item.shape, item.dtype, None))
        return call.results[numbers[0]] if len(set(numbers)) == 1 and numbers[0] < len(call.results) else None

    def _loop(self, begun: int, after: list[Operand]) -> Loop:
        """The calls after number `begun`, which made the states before, as those of one step."""
        before = [value for value in self._calls[begun].results if isinstance(value, Value)]
        inside = set(self._calls[begun + 1 :])
        self._steps.pop()
        items = {item: unbound for unbound, item in self._items.pop().items()}
        calls = [call for call in needed(after) if call in inside]
        own = {*before, *items, *(result for call in calls for result in call.results)}
        sequences = [unbound.arguments[0] for unbound in items.values()]
        outer = [*taken([after, *(call.arguments for call in calls)]), *sequences]
        return Loop(before, items, calls, after, [operand for operand in outer if operand not in own])


def _lengths_of_results(call: Call, lengths: Sequence[Length]) -> list[Length]:
    """The known lengths that the results of a call may have.

    Args:
        lengths: the lengths of its operands.
    """
    if call.function is _GET:
        return _kept(*call.arguments)
    if call.function is _ARANGE:  # empty if the end is before the start
        return []
    own = (leaf for leaf in leaves(call.arguments) if isinstance(leaf, Length))
    found = [*lengths, *(length for length in own if not _is_new(length))]
    return [*found, *_inferred(*call.arguments)] if call.function is _RESHAPE else found


def _inferred(x: Operand, lengths: Sequence[Size]) -> list[Length]:
    """The length that -1 means in the shape that x is to have, if it is there and free."""
    others = [length for length in lengths if length != -1]
    if len(others) == len(lengths) or not math.prod(others):
        return []
    length = math.prod(x.shape) // math.prod(others)
    return [length] if isinstance(length, Length) else []


def _kept(x: Operand, index: Any) -> list[Length]:
    """The known lengths in the shape of x[index]. That of a partial slice is not among them."""
    parts = [part for part in full_index(index, len(x.shape)) if part is not None]
    pairs = zip(x.shape, parts, strict=False)  # fewer parts if one is a mask of several dimensions
    whole = [size for size, part in pairs if part in (slice(None), slice(None, None, -1))]
    of_arrays = [size for part in parts if isinstance(part, Value | Constant) for size in part.shape]
    return [size for size in (*whole, *of_arrays) if isinstance(size, Length)]


def _found(values: tuple[Any, Any], known: Sequence[Length]) -> Length | None:
    """The first length with these two values in the runs."""
    return next((length for length in known if length.values == values), None)


def _is_known(operand: Operand) -> bool:
    """Whether a tensor does not depend on the lengths of the inputs, or is filled with one number."""
    return isinstance(operand, Constant) and (operand.array is not None or operand.filling is not None)


def _is_new(size: Size) -> bool:
    """Whether it is a length that is not known from a different tensor."""
    return isinstance(size, Length) and size.how is None and size.source is None


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and (callable(a) or bool(a == b) or (a != a and b != b)))


def _on_host(array: Array) -> HostArray:
    device = device_of(array)
    return np.asarray(array) if device is None else device.backend.to_host(array)
