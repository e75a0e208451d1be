"""The places of values that are computed for a few steps at once, just before the loop reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..dtypes import FLOAT16, is_float
from .code import IN_PLACE, Scope, is_view
from .loops import Loop
from .program import Instruction, Value, inputs_of, results_of

__all__ = ["Rooms", "RowsProduct", "is_rows_product"]


class Rooms:
    """Arrays for the results of instructions that run for as many steps as fit in the cache.

    An array is used again when nothing reads its value any more. A factor of a product in the loop is computed in the
    place of this product. Lines that make the arrays are added to the code.

    Args:
        scope: the scope of the lines before all loops.
        instructions: the instructions.
        loop: the loop that reads the results.
    """

    def __init__(self, scope: Scope, instructions: Sequence[Instruction], loop: Loop) -> None:
        self._scope, self._code, self._instructions, self._loop = scope, scope.code, instructions, loop
        self._read = set(inputs_of(instructions))
        made = set(results_of(each for each in instructions if not is_view(each)))
        self._products = loop.products_in_place(made)
        self._rooms = _assigned(instructions, loop.read, self._products)
        if instructions:
            rooms = set(self._rooms.values())
            read = self._read.difference(results_of(instructions))
            size = sum(value.row_bytes for value in (*made, *read) if value not in made or value in rooms)
            self._code.add(f"at_a_time = steps_in_cache(at_once, B, {size})")
        rows = Scope(scope.code, "at_a_time * B", {})
        for value in dict.fromkeys(self._rooms.values()):
            self._code.add(f"{self._code.name(value, 'few_{}')} = empty({rows.shape(value)}, {scope.dtype(value)})")
        self._steps: list[Value] = []

    def compute(self, known: Iterable[Value]) -> None:
        """Adds the lines that compute the instructions for a few steps, given values that are known of the chunk."""
        code = self._code
        code.add("m = few.stop - few.start", "M = m * B")
        scope = Scope(code, "M", self._scope.places)
        for value in known:
            if value in self._read:
                scope.places[value] = code.name(value, "few_{}")
                code.add(f"{scope.places[value]} = {code.name(value, 'steps_{}')}[few].reshape({scope.shape(value)})")
        for instruction in self._instructions:
            (first, *_) = instruction.results
            if is_view(instruction):
                scope.compute(instruction)
                continue
            if first in self._products:
                name = code.name(first, "few_{}")
                product = self._products[first]
                code.add(f"{name} = {self._loop.array(product)}[few].reshape({scope.shape(first)})")
            else:
                room = self._rooms[first]
                name = code.name(room, "rows_{}")
                if room is first:
                    code.add(f"{name} = {code.name(room, 'few_{}')}[:M]")
            scope.compute(instruction, name)
        self._steps = [value for value in results_of(self._instructions) if value in self._loop.read]
        for value in self._steps:
            if value not in self._products:
                steps = self._scope.shape(value, "m")
                code.add(f"{code.name(value, 'steps_{}')} = {scope.text(value)}.reshape({steps})")

    def take_step(self, step: Scope) -> None:
        """Adds the lines that take the results of a step."""
        code = self._code
        code.add("s = few.start + j")
        for value in self._steps:
            if value in self._products:
                step.places[value] = self._loop.place(self._products[value])
            else:
                step.places[value] = code.name(value, "{}_t")
                code.add(f"{step.places[value]} = {code.name(value, 'steps_{}')}[j]")


def _assigned(
    instructions: Sequence[Instruction], kept: set[Value], elsewhere: Mapping[Value, Value]
) -> dict[Value, Value]:
    """For each result that needs an array, the value whose array it uses: its own, or one that is not read any more."""
    roots: dict[Value, Value] = {}
    last: dict[Value, float] = {}
    for j, instruction in enumerate(instructions):
        for value in instruction.inputs:
            last[roots.get(value, value)] = j
        for value in instruction.results:
            source = instruction.inputs[0] if is_view(instruction) else value
            roots[value] = roots.get(source, source)
    last.update({roots[value]: len(instructions) for value in kept if value in roots})
    rooms: dict[Value, Value] = {}
    free: list[Value] = []
    for j, instruction in enumerate(instructions):
        (first, *_) = instruction.results
        read = dict.fromkeys(roots.get(value, value) for value in instruction.inputs)
        ended = [rooms[value] for value in read if last.get(value) == j and value in rooms]
        if not is_view(instruction) and first not in elsewhere:
            direct = (
                instruction.op.name in IN_PLACE - {"sigmoid"}
                and all(value.shape == first.shape for value in read)
                and all(roots.get(value, value) is value for value in instruction.inputs)
            )
            fitting = [room for room in (*(ended if direct else ()), *free) if _alike(room, first)]
            rooms[first] = fitting[0] if fitting else first
        free += [room for room in ended if room not in free]
        if first in rooms and rooms[first] in free:
            free.remove(rooms[first])
    return rooms


def _alike(one: Value, other: Value) -> bool:
    return one.shape == other.shape and bool(one.dtype == other.dtype)


class RowsProduct:
    """A product with the rows of many steps, into an array that is made before all loops.

    The bias is one more column of the weight, whose input is 1: this saves a pass over the result.

    Args:
        scope: the scope of the lines before all loops.
        instruction: the product.
        kept: values that have an array of all steps.
    """

    def __init__(self, scope: Scope, instruction: Instruction, kept: Sequence[Value]) -> None:
        self._code, self._instruction = scope.code, instruction
        (x, weight, bias), (out,) = instruction.arguments, instruction.results
        code, dtype, columns = scope.code, scope.dtype(out), x.shape[1]
        if out not in kept:
            shape = Scope(code, "at_once * B", {}).shape(out)
            code.add(f"{code.name(out, 'room_{}')} = empty({shape}, {dtype})")
        if bias is not None:
            code.add("# the bias is the last column of the weight, whose input is 1")
            name = code.name(out, "inputs_{}")
            code.add(f"{name} = empty((at_once * B, {columns} + 1), {dtype})", f"{name}[:, {columns}] = 1")
            joined = f"xp.concatenate([{scope.text(weight)}, {scope.text(bias)}[:, None]], axis=1)"
            code.add(f"{code.name(out, 'weight_{}')} = {joined}.T")

    def compute(self, rows: Scope, out: str | None) -> None:
        """Adds the lines that compute it, into the array `out` if the result is kept."""
        code, (x, _, bias), (result,) = self._code, self._instruction.arguments, self._instruction.results
        if out is None:
            out = code.name(result, "rows_{}")
            code.add(f"{out} = {code.name(result, 'room_{}')}[:N]")
        if bias is None:
            rows.compute(self._instruction, out)
            return
        inputs, weight = code.name(result, "inputs_{}"), code.name(result, "weight_{}")
        code.add(f"{inputs}[:N, :{x.shape[1]}] = {rows.text(x)}", f"{code.matmul}({inputs}[:N], {weight}, out={out})")
        rows.places[result] = out


def is_rows_product(instruction: Instruction) -> bool:
    """Whether it is the product of rows with a weight that has no batch dimension."""
    if instruction.op.name != "linear":
        return False
    x, weight, bias = instruction.arguments
    (out,) = instruction.results
    alike = all(value.dtype == out.dtype for value in instruction.inputs)
    plain = x.has_batch and len(x.shape) == 2 and not weight.has_batch and (bias is None or len(bias.shape) == 1)
    return alike and plain and is_float(out.dtype) and out.dtype != FLOAT16
