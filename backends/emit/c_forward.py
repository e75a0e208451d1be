"""A step over a sequence as C: the function that goes through its steps. `c_backward.py` has the one that goes back.

Threads share the rows of the batch. What is the same at all steps is computed beforehand, and what follows from sums
over all rows afterwards, both with an array module.
"""

from __future__ import annotations

from dataclasses import replace

from .c_kernels import CCode, Place
from .c_writer import LARGE_WEIGHT, CFunction, Writer, add_steps, check
from .program import Value, inputs_of, results_of
from .schedule import Forward

__all__ = ["forward_c"]

_FEW_ROWS = 4
"""Batches of so few rows: reading a large weight takes longer than computing with it, so each thread reads a part."""


def forward_c(schedule: Forward) -> CFunction:
    """The function `forward`, which goes through the steps of a sequence.

    Raises:
        CannotEmitError: there is no C code for a part of the program.
    """
    return _Forward(schedule).function()


class _Forward:
    def __init__(self, schedule: Forward) -> None:
        self._schedule, self._program = schedule, schedule.program
        program = schedule.program
        check(program.operands, (*schedule.ahead, *schedule.loop))
        self._writer = Writer({*program.captured, *results_of(schedule.once)})
        self._ahead_of_loop = dict.fromkeys(results_of(schedule.ahead))
        lasting = {*schedule.kept, *program.outputs}
        self._handed = [v for v in self._ahead_of_loop if v in lasting or v in inputs_of(schedule.loop)]
        self._unfinished = set(self._handed) - lasting

    # -- places --------------------------------------------------------------------------------------------------------

    def _inputs(self) -> dict[Value, Place]:
        return {value: self._writer.of_steps(value, value, constant=True) for value in self._program.inputs}

    def _kept(self, value: Value) -> Place:
        return self._writer.of_steps(("kept", value), value, "kept_{}", "job->kept_from * B")

    def _handed_place(self, value: Value) -> Place:
        return self._kept(value) if value in self._schedule.kept else self._writer.room(value, "chunk")

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _ahead(self, code: CCode) -> None:
        targets = [(value, self._handed_place(value)) for value in self._handed]
        self._writer.phase(code, "r", self._schedule.ahead, self._inputs(), targets, set(), self._unfinished)

    def _loop(self, code: CCode) -> None:
        writer, schedule, program = self._writer, self._schedule, self._program
        known = self._inputs()
        for value in self._handed:
            known[value] = self._handed_place(value)
            if value in self._unfinished:
                biases = tuple(writer.fixed_place(each).array for each in writer.biases.get(value, ()))
                known[value] = replace(known[value], more=biases)
        targets = [(value, self._kept(value)) for value in schedule.kept if value not in self._ahead_of_loop]
        for value, state in zip(program.after, program.states):
            known[state] = writer.of_steps(("before", state), state)
            targets.append((value, writer.of_steps(("after", state), state, "next_{}")))
        if program.output is not program.after[0]:
            out = writer.pointer("out", program.output, "out", "job->begin * B")
            targets.append((program.output, Place(out, "r")))
        add_steps(code, "job->reverse", lambda: writer.phase(
            code, "b", schedule.loop, known, targets, self._unfinished, set()
        ))  # fmt: skip

    # -- the function --------------------------------------------------------------------------------------------------

    def function(self) -> CFunction:
        """The function and its parts."""
        writer = self._writer
        parts = [("n * B", writer.part("ahead", self._ahead))] if self._handed else []
        parts.append(("B", writer.part("loop", self._loop)))
        large = any(each.value is not None and each.value.row_size >= LARGE_WEIGHT for each in writer.function.panels)
        by_rows = f"B > {_FEW_ROWS} ? threads : 1" if large else "threads"
        code, writer.function.lasting = writer.code, len(writer.function.arrays)
        with code.block("void forward(Index threads, Index T, Index B, Index at_once, int reverse, int saving, "
                        "int packed, void **arrays, REAL **panels)"):  # fmt: skip
            with code.block("if (!packed)"):
                code.add(*writer.packs())
            with code.block("for (Index done = 0; done < T; done += at_once)"):
                code.add("const Index n = T - done < at_once ? T - done : at_once;")
                code.add("const Index begin = reverse ? T - done - n : done;")
                code.add("Job job = {T, B, begin, n, saving ? begin : 0, reverse, saving, 0, arrays, panels, threads};")
                code.add(*(f"share({by_rows}, {rows}, {name}, &job);" for rows, name in parts))
        writer.function.source += code.source("").lstrip("\n")
        return writer.function
