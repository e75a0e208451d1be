"""A derivative over a sequence as C: the function that goes back through its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..dtypes import is_float
from .c_kernels import CannotEmitError, CCode, Place, is_elementwise
from .c_moves import dims_of
from .c_writer import CFunction, Contraction, Panels, Room, Writer, add_steps, check
from .program import BATCH, Instruction, Value, needed, results_of
from .schedule import Backward, Forward

__all__ = ["backward_c"]


def backward_c(schedule: Backward, forward: Forward) -> CFunction:
    """The function `backward`, which goes back through the steps of a sequence.

    Raises:
        CannotEmitError: there is no C code for a part of the derivative.
    """
    return _Backward(schedule, forward).function()


class _RowSum(NamedTuple):
    """A sum over the rows of all steps: of rows, or of products of the columns of rows with the rows of `x`.

    Attributes:
        result: the sum.
        rows: the rows.
        x: those of the other factor.
    """

    result: Value
    rows: Value
    x: Value | None = None


class _Backward:
    def __init__(self, schedule: Backward, forward: Forward) -> None:
        derivative, program = schedule.derivative, schedule.derivative.program
        self._schedule, self._program = schedule, program
        self._of_operand, self._carried = derivative.of_operand, derivative.carried
        # Arithmetic is computed again wherever it is read; the results of other ops are computed once for a chunk.
        self._arithmetic = [each for each in schedule.ahead if is_elementwise(each)]
        self._once_a_chunk = results_of(each for each in schedule.ahead if not is_elementwise(each))
        self._sums, parts = _row_sums(schedule)
        self._after = [*schedule.after, *parts]
        check(program.operands, (*schedule.ahead, *schedule.loop, *self._after))
        if any(not value.has_batch for value in schedule.totals):
            raise CannotEmitError("a sum that only the steps can compute")
        fixed = {*program.captured, *results_of(schedule.once)}
        self._writer = Writer(fixed)
        self._arrays = self._arrays_of_steps(forward, fixed)

    def _arrays_of_steps(self, forward: Forward, fixed: set[Value]) -> dict[Value, tuple[Any, str]]:
        """What is known of the steps of a chunk: the key of an array, and the first row."""
        program, of_output = self._program, self._schedule.derivative.cotangents[0]
        found: dict[Value, tuple[Any, str]] = {value: (value, "job->begin * B") for value in program.inputs}
        found |= {state: (("states", state), "(job->begin + job->reverse) * B") for state in program.states}
        for value, state in zip(program.after, program.states):
            if value not in found and value not in fixed and value.constant is None:
                found[value] = (("states", state), "(job->begin + 1 - job->reverse) * B")
        found |= {value: (("kept", value), "job->begin * B") for value in forward.kept}
        return found if of_output is None else {**found, of_output: ("g_out", "job->begin * B")}

    # -- places --------------------------------------------------------------------------------------------------------

    def _known(self) -> dict[Value, Place]:
        """The places of what is known of the steps of a chunk."""
        return {
            value: self._writer.of_steps(key, value, first=first, constant=True)
            for value, (key, first) in self._arrays.items()
        }

    def _chunk(self, values: Sequence[Value]) -> dict[Value, Place]:
        return {value: self._writer.room(value, "chunk") for value in values}

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _ahead(self, code: CCode) -> None:
        self._writer.phase(
            code, "r", self._schedule.ahead, self._known(), list(self._chunk(self._once_a_chunk).items()), set(), set()
        )

    def _loop(self, code: CCode) -> None:
        writer, schedule = self._writer, self._schedule
        places, targets = self._known() | self._chunk(self._once_a_chunk), []
        for state, g in self._carried.items():
            for name in ("even", "odd"):
                writer.pointer((name, state), state, code.name(state, f"{name}_{{}}"))
            places[g] = Place(code.name(g), "b")
            gradient = self._of_operand[state]
            if gradient is not None:
                targets.append((gradient, Place(code.name(g, "next_{}"), "b")))
        targets += self._chunk(schedule.kept).items()
        parts = {g: writer.room(g, "batch") for g in schedule.totals}
        totals = {g: writer.pointer(("total", g), g, code.name(g, "total_{}")) for g in schedule.totals}

        def body() -> None:
            code.add("const int odd = (job->done + i) & 1;")
            for state, g in self._carried.items():
                names = [code.name(state, f"{name}_{{}}") for name in ("even", "odd")]
                code.add(f"REAL *const {code.name(g)} = odd ? {names[1]} : {names[0]};")
                code.add(f"REAL *const {code.name(g, 'next_{}')} = odd ? {names[0]} : {names[1]};")
            for state, g in self._carried.items():
                if self._of_operand[state] is None:
                    code.add(f"{_of_rows(state)} {code.name(g, 'next_{}')}[k] = 0;")
            steps = [*self._arithmetic, *schedule.loop]
            writer.phase(code, "b", steps, places, [*targets, *parts.items()], set(), set())
            for g, total in totals.items():
                code.add(f"{_of_rows(g)} {total}[k] += {parts[g].array}[k];")

        add_steps(code, "!job->reverse", body)

    def _rows(self, wanted: Callable[[], dict[Value, Place]], before: Sequence[Value]) -> Callable[[CCode], None]:
        """What writes the code that computes values for the rows of a chunk, when some are known from before."""

        def body(code: CCode) -> None:
            places = self._known() | self._chunk([*self._once_a_chunk, *self._schedule.kept, *before])
            pairs = [(value, place) for value, place in wanted().items() if place != places.get(value)]
            instructions = needed([*self._arithmetic, *self._after], [value for value, _ in pairs], places)
            self._writer.phase(code, "r", instructions, places, pairs, set(), set())

        return body

    # -- the function --------------------------------------------------------------------------------------------------

    def function(self) -> CFunction:
        """The function and its parts."""
        writer, program = self._writer, self._program
        code = writer.code
        parts = [("1", "n * B", writer.part("ahead_back", self._ahead))] if self._once_a_chunk else []
        parts.append(("1", "B", writer.part("back", self._loop)))
        there = {*self._arrays, *self._schedule.kept, *self._once_a_chunk}
        rows = [value for each in self._sums for value in (each.rows, each.x) if value is not None]
        loose = [value for value in dict.fromkeys(rows) if value not in there]
        gradients = [(k, value, self._of_operand[value]) for k, value in enumerate(program.inputs)]
        after = {g: {g, *results_of(needed(self._after, [g]))} for _, _, g in gradients if g is not None}
        readers = {k for k, _, g in gradients if g is not None and not after[g].isdisjoint(loose)}
        if loose:
            part = writer.part("rows_of_sums", self._rows(lambda: self._chunk(loose), ()))
            condition = " || ".join(f"needs[{k}]" for k in (*sorted(readers), len(program.inputs)))
            parts.append((condition, "n * B", part))
        for k, value, gradient in gradients:
            if gradient is not None:
                part = self._gradient_of(value, gradient, loose if k in readers else ())
                parts.append((f"needs[{k}]", "n * B", part))
        calls = [self._call_of_sum(each) for each in self._sums]
        with code.block("void backward(Index threads, Index T, Index B, Index at_once, int reverse, const int *needs, "
                        "void **arrays, REAL **panels)"):  # fmt: skip
            code.add(*writer.packs())
            with code.block("for (Index done = 0; done < T; done += at_once)"):
                code.add("const Index n = T - done < at_once ? T - done : at_once;")
                code.add("const Index begin = reverse ? done : T - done - n;")
                code.add(
                    "const Job given = {T, B, begin, n, begin, reverse, 1, done, arrays, panels, threads}, "
                    "*const job = &given;"
                )
                for condition, number, name in parts:
                    code.add(f"{f'if ({condition}) ' * (condition != '1')}share(threads, {number}, {name}, &given);")
                if calls:
                    with code.block(f"if (needs[{len(program.inputs)}])"):
                        code.add(*calls)
        writer.function.source += code.source("").lstrip("\n")
        return writer.function

    def _gradient_of(self, value: Value, gradient: Value, before: Sequence[Value]) -> str:
        """The part that computes the gradient of an input from what is known, and from values that are before."""
        return self._writer.part(
            f"gradient_of_{value.name}",
            self._rows(lambda: {gradient: self._writer.of_steps(("g", value), value, "g_{}")}, before),
        )

    def _call_of_sum(self, each: _RowSum) -> str:
        """The line that adds the rows of a chunk to a sum."""
        writer = self._writer

        def rows(value: Value) -> str:
            if value not in self._arrays:
                return f"(REAL *)arrays[{writer.array(Room(value, 'chunk'))}]"
            key, first = self._arrays[value]
            return f"(REAL *)arrays[{writer.array(key)}] + ({first}) * {value.row_size}"

        total = f"arrays[{writer.array(Contraction(each.result, each.result.lengths))}]"
        if each.x is None:
            return f"add_rows_up(threads, {total}, {rows(each.rows)}, {each.rows.row_size}, n * B, done > 0);"
        panels = writer.panels(Panels(None, False, each.x.row_size))
        return (
            f"add_products_of_rows(threads, {total}, {rows(each.rows)}, {each.rows.row_size}, {rows(each.x)}, "
            f"panels[{panels}], {each.x.row_size}, n * B, done > 0);"
        )


def _of_rows(value: Value) -> str:
    return f"for (Index k = first * {value.row_size}; k < last * {value.row_size}; k++)"


def _row_sums(schedule: Backward) -> tuple[list[_RowSum], list[Instruction]]:
    """The sums over rows of a derivative, and instructions that compute rows for them."""
    found, parts = [], []
    for instruction in schedule.sums:
        (result, *_) = instruction.results
        inputs = [value for value in instruction.inputs if value.has_batch]
        if not inputs or instruction.op.name == "permute":
            continue
        if any(not is_float(value.dtype) or value.constant is not None for value in inputs):
            raise CannotEmitError("a sum over rows of constants")
        pair = _factors(instruction)
        if pair is not None:
            found.append(_RowSum(result, *pair))
        elif instruction.op.name in ("sum", "sum_to") and result.row_size == inputs[0].row_size:
            found.append(_RowSum(result, inputs[0]))
        else:
            parts.append(_of_each_row(instruction))
            found.append(_RowSum(result, parts[-1].results[0]))
    return found, parts


def _factors(instruction: Instruction) -> tuple[Value, Value] | None:
    """The rows g and x of a product gᵀ · x; None if it is a different sum."""
    if instruction.op.name == "matmul":
        turned, x = instruction.arguments
        if turned.instruction is None or turned.instruction.op.name != "permute":
            raise CannotEmitError("a product over rows of a matrix that is not transposed")
        return turned.instruction.arguments[0], x
    if instruction.op.name != "einsum" or len(instruction.inputs) != 2:
        return None
    operands, terms, out = instruction.arguments
    pairs = [(value, term[1:]) for value, term in zip(operands, terms) if value.has_batch and value.shape[0] is BATCH]
    if len(pairs) == 2 and terms[0][0] == terms[1][0]:
        for (g, of_g), (x, of_x) in (pairs, pairs[::-1]):
            if of_g + of_x == out:
                return g, x
    return None


def _of_each_row(instruction: Instruction) -> Instruction:
    """The instruction that computes, for each row, what is summed over all rows."""
    name, (result, *_), x = instruction.op.name, instruction.results, instruction.inputs[0]
    shape: tuple[Any, ...]
    arguments: tuple[Any, ...]
    if name == "einsum":
        operands, terms, out = instruction.arguments
        batch = next(term[0] for value, term in zip(operands, terms) if value.has_batch)
        shape, arguments = (BATCH, *result.shape), (operands, terms, batch + out)
    elif name == "sum_to":
        kept = (*(1,) * (len(x.shape) - len(result.shape)), *result.shape)
        shape = (BATCH, *kept[1:])
        arguments = (x, shape)
    elif name == "sum":
        dims = tuple(sorted({*dims_of(instruction.arguments[1], x)} - {0}))
        shape = (BATCH, *(1 if d in dims else size for d, size in enumerate(x.shape) if d))
        arguments = (x, dims, True)
    else:
        raise CannotEmitError(f"there is no C code for {instruction!r}")
    rows = Value(f"{result.name}_rows", shape, result.dtype)
    rows.instruction = Instruction(instruction.op, arguments, (rows,))
    return rows.instruction
