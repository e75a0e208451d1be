"""A step over a sequence as C: the function that goes through its steps. `c_backward.py` has the one that goes back.

Threads share the rows of the batch. What is the same at all steps is computed beforehand, and what follows from sums
over all rows afterwards, both with an array module.
"""

from __future__ import annotations

from .c_kernels import CCode, Place
from .c_writer import LARGE_WEIGHT, CFunction, Writer, add_steps, check
from .program import Value
from .schedule import Forward

__all__ = ["forward_c"]

_FEW_ROWS = 4
"""Batches of so few rows: reading a large weight takes longer than computing with it, so each thread reads a part."""


def forward_c(schedule: Forward) -> CFunction:
    """The function `forward`, which goes through the steps of a sequence.

    Raises:
        CannotEmitError: there is no C code for a part of the program.
    """
    program = schedule.program
    check(program.operands, (*schedule.ahead, *schedule.loop))
    fixed = {*program.captured, *(value for each in schedule.once for value in each.results)}
    writer = Writer(fixed)
    in_ahead = dict.fromkeys(value for instruction in schedule.ahead for value in instruction.results)
    of_loop = {value for instruction in schedule.loop for value in instruction.inputs}
    handed = [
        value for value in in_ahead if value in of_loop or value in (*schedule.kept, program.output, *program.after)
    ]

    unfinished = set(handed) - {*schedule.kept, *program.after, program.output}

    def kept(value: Value) -> Place:
        return Place(
            writer.pointer(("kept", value), value, writer.code.name(value, "kept_{}"), "job->kept_from * B"), "r"
        )

    def inputs() -> dict[Value, Place]:
        return {
            value: Place(writer.pointer(value, value, writer.code.name(value), "job->begin * B", True), "r")
            for value in program.inputs
        }

    def place_of(value: Value) -> Place:
        return kept(value) if value in schedule.kept else writer.room(value, "chunk")

    def ahead(code: CCode) -> None:
        targets = [(value, place_of(value)) for value in handed]
        writer.phase(code, "r", schedule.ahead, inputs(), targets, set(), unfinished)

    def loop(code: CCode) -> None:
        known = inputs()
        for value in handed:
            biases = writer.biases.get(value, []) if value in unfinished else []
            known[value] = Place(place_of(value).array, "r", tuple(writer.fixed_place(each).array for each in biases))
        targets: list[tuple[Value, Place]] = [(v, kept(v)) for v in schedule.kept if v not in in_ahead]
        for value, state in zip(program.after, program.states):
            before = writer.pointer(("before", state), state, writer.code.name(state), "job->begin * B")
            after = writer.pointer(("after", state), state, writer.code.name(state, "next_{}"), "job->begin * B")
            known[state] = Place(before, "r")
            targets.append((value, Place(after, "r")))
        if program.output is not program.after[0]:
            out = writer.pointer("out", program.output, "out", "job->begin * B")
            targets.append((program.output, Place(out, "r")))
        add_steps(code, "job->reverse", lambda: writer.phase(
            code, "b", schedule.loop, known, targets, unfinished, set()
        ))  # fmt: skip

    parts = [("n * B", writer.part("ahead", ahead))] if handed else []
    parts.append(("B", writer.part("loop", loop)))
    large = any(each.value is not None and each.value.row_size >= LARGE_WEIGHT for each in writer.function.panels)
    by_rows = f"B > {_FEW_ROWS} ? threads : 1" if large else "threads"
    code, writer.function.lasting = writer.code, len(writer.function.arrays)
    with code.block("void forward(Index threads, Index T, Index B, Index at_once, int reverse, int saving, int packed, "
                    "void **arrays, REAL **panels)"):  # fmt: skip
        with code.block("if (!packed)"):
            code.add(*writer.packs())
        with code.block("for (Index done = 0; done < T; done += at_once)"):
            code.add("const Index n = T - done < at_once ? T - done : at_once;")
            code.add("const Index begin = reverse ? T - done - n : done;")
            code.add("Job job = {T, B, begin, n, saving ? begin : 0, reverse, saving, 0, arrays, panels, threads};")
            code.add(*(f"share({by_rows}, {rows}, {name}, &job);" for rows, name in parts))
    writer.function.source += code.source("").lstrip("\n")
    return writer.function
