"""Two runs of a step for different batch sizes, as one program.

A length that differs is the batch size; everything else must be the same in both runs.
"""

import copy
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tinygrad_lstm.backends.emit.program import BATCH, Instruction, Size, Value, mapped

from .._tensor import Tensor
from .run import BATCHES, Known, Note, Run, UntraceableError

__all__ = ["Values", "merged", "merged_notes", "same"]


class Values:
    """The values of a program, by their places in two runs for different batch sizes."""

    def __init__(self, first: Run, second: Run, known: Mapping[int, Value] | None = None) -> None:
        self._first, self._second = first, second
        self._values: dict[int, Value] = dict(known or {})
        self._taken: set[str] = {value.name for value in self._values.values()}

    def __getitem__(self, place: int) -> Value:
        found = self._values.get(place)
        if found is None:  # made in the step, but not by an op
            found = self._made(place, "constant")
            found.constant = _constant(self._first.tensors[place], self._second.tensors[place], found.has_batch)
        return found

    def input(self, place: int, name: str) -> Value:
        """An input of the program."""
        return self._made(place, name)

    def mask(self, place: int) -> Value:
        """A mask of dropout, as an input of the program."""
        made = self._made(place, "kept")
        if made.shape[:1] != (BATCH,) or BATCH in made.shape[1:]:
            raise UntraceableError(
                f"the step drops elements of a tensor of shape {made.shape}, whose first dimension is not the batch; "
                "drop them outside of the step"
            )
        return made

    def _made(self, place: int, wanted: str, number: int = 0) -> Value:
        """A value with this name; with the next free number from `number` on, if that is not 0 or the name is taken."""
        first, second = self._first.tensors[place], self._second.tensors[place]
        if first.dtype != second.dtype or first.ndim != second.ndim:
            raise UntraceableError("the step computes different dtypes or dimensions for different batch sizes")
        shape = tuple(_merged_number(a, b) for a, b in zip(first.shape, second.shape, strict=True))
        stem = re.sub(r"\W", "_", wanted)
        name = f"{stem}_{number}" if number else stem
        while name in self._taken or keyword.iskeyword(name):
            number = max(number + 1, 2)
            name = f"{stem}_{number}"
        self._taken.add(name)
        made = self._values[place] = Value(name, shape, first.dtype)
        return made

    def __call__(self, noted: Any) -> Any:
        """What the notes name by `Known`, as values: one, or all in an argument."""
        return mapped(noted, lambda part: self[part.place] if isinstance(part, Known) else part)

    def instructions(self, notes: Sequence[Note]) -> list[Instruction]:
        """The instructions of merged notes."""
        made, names = [], self._first.names
        for note in notes:
            arguments = self(note.arguments)
            results = tuple(
                self._made(place, names[place]) if place in names else self._made(place, note.op.name, 1)
                for place in note.places
            )
            instruction = Instruction(_in_tables(note.op), arguments, results, note.detached)
            for value in results:
                value.instruction = instruction
            made.append(instruction)
        return made


def merged_notes(first: Sequence[Note], second: Sequence[Note]) -> list[Note]:
    """The notes of two runs, with `BATCH` in place of their batch sizes.

    Raises:
        UntraceableError: they differ in more.
    """
    if len(first) != len(second):
        raise UntraceableError("the step applies different ops to different batch sizes or values")
    return [_merged_note(note, other) for note, other in zip(first, second)]


def _merged_note(note: Note, other: Note) -> Note:
    if note.op is not other.op or note.places != other.places or note.detached != other.detached:
        raise UntraceableError("the step applies different ops to different batch sizes or values")
    return replace(note, arguments=merged(note.arguments, other.arguments))


def merged(first: Any, second: Any) -> Any:
    """An argument of both runs, with `BATCH` in place of their batch sizes."""
    if isinstance(first, list | tuple) and type(first) is type(second) and len(first) == len(second):
        return type(first)(merged(a, b) for a, b in zip(first, second))
    if isinstance(first, slice) and isinstance(second, slice):
        ends = zip((first.start, first.stop, first.step), (second.start, second.stop, second.step))
        return slice(*(merged(a, b) for a, b in ends))
    if isinstance(first, int) and isinstance(second, int) and not isinstance(first, bool):
        return _merged_number(first, second)
    if not same(first, second):
        raise UntraceableError(
            f"the step gives an op {first!r} in one run and {second!r} in another: it draws random numbers, or "
            "computes with the batch size"
        )
    return first


def _in_tables(op: Any) -> Any:
    """The op by a name that tables of ops may have. One that a user defines is different from ours of that name."""
    ours = op.forward.__module__.partition(".")[0] == __name__.partition(".")[0]
    if ours:
        return op
    renamed = copy.copy(op)
    renamed.name = f"users_{op.name}"
    return renamed


def _merged_number(first: int, second: int) -> Size:
    if first == second:
        return first
    if (first, second) == BATCHES:
        return BATCH
    raise UntraceableError(f"the step computes with the batch size: {first} and {second} for batches of {BATCHES}")


def _constant(first: Tensor, second: Tensor, has_batch: bool) -> Any:
    """What a tensor that a step makes holds: a number if all its elements are equal, else an array."""
    arrays = [tensor.device.backend.to_host(tensor._array) for tensor in (first, second)]
    if arrays[0].size and all((array == arrays[0].flat[0]).all() for array in arrays):
        return arrays[0].flat[0].item()
    if has_batch or not same(*arrays):
        raise UntraceableError("the step makes a tensor whose values are different in each run, or for each batch size")
    return first._array


def same(first: Any, second: Any) -> bool:
    """Whether two arguments are the same."""
    if first is second:
        return True
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    if hasattr(first, "dtype") and hasattr(first, "shape"):
        return hasattr(second, "dtype") and first.shape == second.shape and bool((first == second).all())
    if type(first) is not type(second):
        return False
    return bool(first == second) or (first != first and second != second)
