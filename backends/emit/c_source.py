"""A step over a sequence as C: the source of its functions, and what they are given.

Threads share the rows of the batch. What does not differ from row to row is computed beforehand, and what follows from
sums over all rows afterwards, both with an array module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .c_kernels import CannotEmitError, CCode, Place, is_elementwise
from .c_phases import Phase, Product, is_product
from .program import Instruction, Value, needed
from .schedule import Backward, Forward

__all__ = ["CFunction", "Contraction", "Panels", "Room", "backward_c", "forward_c"]

_RESERVED = [
    "job",
    "arrays",
    "panels",
    "first",
    "last",
    "begin",
    "i",
    "r",
    "s",
    "b",
    "j",
    "n",
    "B",
    "T",
    "odd",
    "reverse",
    "saving",
    "threads",
    "at_once",
    "done",
    "kept_from",
    "int",
    "float",
    "double",
    "char",
    "long",
    "short",
    "unsigned",
    "signed",
    "const",
    "static",
    "void",
    "struct",
    "union",
    "enum",
    "if",
    "else",
    "for",
    "while",
    "do",
    "return",
    "switch",
    "case",
    "break",
    "continue",
    "default",
    "goto",
    "register",
    "volatile",
    "auto",
    "extern",
    "sizeof",
    "typedef",
    "inline",
    "restrict",
    "Index",
    "Job",
    "Flag",
    "REAL",
    "share",
    "pack",
    "product",
    "exp",
    "tanh",
    "sigmoid",
    "abs",
    "sqrt",
]


@dataclass(frozen=True)
class Room:
    """An array that a function works in.

    Attributes:
        value: what it holds.
        rows: "T" steps of rows, the rows of a "chunk" of steps, or those of the "batch".
    """

    value: Value
    rows: str


@dataclass(frozen=True)
class Panels:
    """The panels of a matrix: a weight, its transpose, or (without a value) rows of a chunk with these columns."""

    value: Value | None
    transposed: bool
    columns: int


@dataclass(frozen=True)
class Contraction:
    """A sum over all rows that C computes: its value, and its shape in C."""

    value: Value
    shape: tuple[int, ...]


@dataclass
class CFunction:
    """A function in C, and what it is given.

    Attributes:
        source: the code of its parts and of the function.
        arrays: the values, rooms and sums whose arrays it takes, in order.
        panels: the panels that it takes, in order.
    """

    source: str = ""
    arrays: list[Any] = field(default_factory=list)
    panels: list[Panels] = field(default_factory=list)


class _Writer:
    """What the parts of a function share.

    Args:
        fixed: the values that are computed beforehand, or captured.
    """

    def __init__(self, fixed: set[Value]) -> None:
        self.function = CFunction()
        self.code = CCode(_RESERVED)
        self._fixed = fixed
        self._index: dict[Any, int] = {}
        self._panels: dict[Panels, int] = {}
        self._used: list[str] = []
        self.biases: dict[Value, list[Value]] = {}  # of products, which are added where these are read

    # -- arrays --------------------------------------------------------------------------------------------------------

    def array(self, key: Any) -> int:
        """The number of an array among those that the function is given."""
        if key not in self._index:
            self._index[key] = len(self.function.arrays)
            self.function.arrays.append(key)
        return self._index[key]

    def panels(self, panels: Panels) -> int:
        """The number of panels among those that the function is given."""
        if panels not in self._panels:
            self._panels[panels] = len(self.function.panels)
            self.function.panels.append(panels)
        return self._panels[panels]

    def type_of(self, value: Value) -> str:
        """The C type of a value's elements."""
        if value.dtype.kind == "b":
            return "Flag"
        if value.dtype.kind != "f":
            raise CannotEmitError(f"there is no C code for {value.dtype}")
        return "REAL"

    def pointer(self, key: Any, value: Value, name: str, first: str = "", constant: bool = False) -> str:
        """A pointer to the array of this key, from row `first` on; adds its declaration to the present part."""
        offset = f" + ({first}) * {value.row_size}" if first else ""
        kind = self.type_of(value)
        line = f"{'const ' * constant}{kind} *const {name} = ({kind} *)job->arrays[{self.array(key)}]{offset};"
        if line not in self._used:
            self._used.append(line)
        return name

    def fixed_place(self, value: Value) -> Place:
        """The place of a value without rows."""
        return Place(self.pointer(value, value, self.code.name(value), constant=True), "0")

    def room(self, value: Value, rows: str) -> Place:
        """A place for a value that only this function needs."""
        name = self.pointer(Room(value, rows), value, self.code.name(value, "room_{}"))
        return Place(name, "r" if rows == "chunk" else "b")

    # -- parts ---------------------------------------------------------------------------------------------------------

    def part(self, name: str, body: Callable[[CCode], None]) -> str:
        """Adds a function of rows [first, last), whose body is written by `body`."""
        self._used, outer, self.code.lines = [], self.code.lines, []
        with self.code.block(f"static void {name}(void *given, Index first, Index last)"):
            body(self.code)
        head, *lines = self.code.lines
        self.code.lines = outer
        text = "\n".join(lines)
        used = [line for line in self._used if re.search(rf"\b{_name_in(line)}\b", text)]
        declared = [
            "const Job *const job = given;",
            *(["const Index B = job->B;"] if "B" in text + "".join(used) else []),
        ]
        self.function.source += "\n".join([head, *(f"    {line}" for line in (*declared, *used)), *lines, "", ""])
        return name

    def call(self, code: CCode, rows: str) -> Callable[[Product, Place, Place], tuple[str, ...]]:
        """The function that adds calls of products, for the rows of a chunk ("r") or of a step ("b")."""

        def add(product: Product, x: Place, out: Place) -> tuple[str, ...]:
            given, weight, *bias = product.instruction.arguments
            linear = product.instruction.op.name == "linear"
            columns, depth = product.result.row_size, given.row_size
            panels = self.panels(Panels(weight, linear, columns))
            places = [
                f"{place.array} + {'(s * B + first)' if place.row == 'r' and rows == 'b' else 'first'} * {size}"
                for place, size in ((out, columns), (x, depth))
            ]
            code.add(
                f"product({places[0]}, {columns}, {places[1]}, {depth}, last - first, job->panels[{panels}], "
                f"{columns}, {depth}, {int(product.added is not None)});"
            )
            self.biases[product.value] = [value for value in bias if value is not None]
            return tuple(self.fixed_place(value).array for value in self.biases[product.value])

        return add

    def phase(
        self, code: CCode, rows: str, instructions: Sequence[Instruction], known: Mapping[Value, Place],
        wanted: Sequence[tuple[Value, Place]], free: set[Value], unfinished: set[Value],
    ) -> None:  # fmt: skip
        """Adds the code of a phase for the rows of a chunk ("r") or of a step ("b")."""
        every = {value: place for value, place in known.items()}
        for instruction in instructions:
            for value in instruction.inputs:
                of_product = is_product(instruction) and value is not instruction.inputs[0]
                if (value in self._fixed or hasattr(value.constant, "shape")) and not of_product:
                    every[value] = self.fixed_place(value)
        phase = Phase(
            instructions, every, wanted, lambda value: self.room(value, "chunk" if rows == "r" else "batch"), free,
            unfinished,
        )  # fmt: skip
        heads = {
            "r": "for (Index r = first; r < last; r++)",
            "b": "for (Index b = first, r = s * B + first; b < last; b++, r++)",
        }
        phase.write(code, heads[rows], self.type_of, self.call(code, rows))

    def packs(self) -> list[str]:
        """The lines that fill the panels of weights."""
        lines = []
        for k, panels in enumerate(self.function.panels):
            if panels.value is not None:
                rows, columns = panels.value.shape
                name = "pack_weight_transposed" if panels.transposed else "pack_matrix"
                matrix = f"arrays[{self.array(panels.value)}]"
                lines.append(f"{name}(threads, panels[{k}], {matrix}, {rows}, {columns});")
        return lines


def forward_c(schedule: Forward) -> CFunction:
    """The function `forward`, which goes through the steps of a sequence.

    Raises:
        CannotEmitError: there is no C code for a part of the program.
    """
    program = schedule.program
    _check(program.operands, (*schedule.ahead, *schedule.loop))
    fixed = {*program.captured, *(value for each in schedule.once for value in each.results)}
    if any(value.has_batch for value in fixed):
        raise CannotEmitError("a value that does not differ from step to step, but from row to row")
    writer = _Writer(fixed)
    in_ahead = dict.fromkeys(value for instruction in schedule.ahead for value in instruction.results)
    of_loop = _read_through(schedule.loop, in_ahead)
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
            before = writer.pointer(
                ("states", state), state, writer.code.name(state), "(job->begin + job->reverse) * B"
            )
            after = writer.pointer(
                ("states", state), state, writer.code.name(state, "next_{}"), "(job->begin + 1 - job->reverse) * B"
            )
            known[state] = Place(before, "r")
            targets.append((value, Place(after, "r")))
        if program.output is not program.after[0]:
            out = writer.pointer("out", program.output, "out", "job->begin * B")
            targets.append((program.output, Place(out, "r")))
        _steps(code, "job->reverse", lambda: writer.phase(
            code, "b", schedule.loop, known, targets, unfinished, set()
        ))  # fmt: skip

    parts = [("n * B", writer.part("ahead", ahead))] if handed else []
    parts.append(("B", writer.part("loop", loop)))
    code = writer.code
    with code.block("void forward(Index threads, Index T, Index B, Index at_once, int reverse, int saving, "
                    "void **arrays, REAL **panels)"):  # fmt: skip
        code.add(*writer.packs())
        with code.block("for (Index done = 0; done < T; done += at_once)"):
            code.add("const Index n = T - done < at_once ? T - done : at_once;")
            code.add("const Index begin = reverse ? T - done - n : done;")
            code.add("Job job = {T, B, begin, n, saving ? begin : 0, reverse, saving, 0, arrays, panels};")
            code.add(*(f"share(threads, {rows}, {name}, &job);" for rows, name in parts))
    writer.function.source += code.source("").lstrip("\n")
    return writer.function


def backward_c(schedule: Backward, forward: Forward) -> CFunction:
    """The function `backward`, which goes back through the steps of a sequence.

    Raises:
        CannotEmitError: there is no C code for a part of the derivative.
    """
    derivative, program = schedule.derivative, schedule.derivative.program
    of_operand = dict(zip(program.operands, derivative.gradients, strict=True))
    arithmetic = [each for each in schedule.ahead if not is_product(each)]
    if len(arithmetic) != len(schedule.ahead) or schedule.totals:
        raise CannotEmitError("a derivative that is not a loop of arithmetic and products")
    _check(program.operands, (*arithmetic, *schedule.loop, *schedule.after))
    fixed = {*program.captured, *(value for each in schedule.once for value in each.results)}
    writer = _Writer(fixed)
    code, of_output = writer.code, derivative.cotangents[0]
    carried = {state: g for state, g in zip(program.states, derivative.cotangents[1:]) if g is not None}
    contractions, rows_of_sums = _contractions(schedule)

    def known() -> dict[Value, Place]:
        """The places of what is known of the steps of a chunk."""
        steps: dict[Value, tuple[Any, str]] = {value: (value, "job->begin * B") for value in program.inputs}
        steps |= {state: (("states", state), "(job->begin + job->reverse) * B") for state in program.states}
        for value, state in zip(program.after, program.states):
            if value not in steps and value not in fixed:
                steps[value] = (("states", state), "(job->begin + 1 - job->reverse) * B")
        steps |= {value: (("kept", value), "job->begin * B") for value in forward.kept}
        if of_output is not None:
            steps[of_output] = ("g_out", "job->begin * B")
        return {
            value: Place(writer.pointer(key, value, code.name(value), first, True), "r")
            for value, (key, first) in steps.items()
        }

    def loop(code: CCode) -> None:
        places, targets = known(), []
        for state, g in carried.items():
            for name in ("even", "odd"):
                writer.pointer((name, state), state, code.name(state, f"{name}_{{}}"))
            places[g] = Place(code.name(g), "b")
            gradient = of_operand[state]
            if gradient is not None:
                targets.append((gradient, Place(code.name(g, "next_{}"), "b")))
        targets += [(value, writer.room(value, "chunk")) for value in schedule.kept]

        def body() -> None:
            code.add("const int odd = (job->done + i) & 1;")
            for state, g in carried.items():
                names = [code.name(state, f"{name}_{{}}") for name in ("even", "odd")]
                code.add(f"REAL *const {code.name(g)} = odd ? {names[1]} : {names[0]};")
                code.add(f"REAL *const {code.name(g, 'next_{}')} = odd ? {names[0]} : {names[1]};")
            for state, g in carried.items():
                if of_operand[state] is None:
                    size, following = state.row_size, code.name(g, "next_{}")
                    code.add(f"for (Index k = first * {size}; k < last * {size}; k++) {following}[k] = 0;")
            writer.phase(code, "b", [*arithmetic, *schedule.loop], places, targets, set(), set())

        _steps(code, "!job->reverse", body)

    def of_rows(wanted: Callable[[], list[tuple[Value, Place]]]) -> Callable[[CCode], None]:
        def body(code: CCode) -> None:
            places = known() | {value: writer.room(value, "chunk") for value in (*schedule.kept, *rooms)}
            pairs = [(value, place) for value, place in wanted() if value not in places or place != places[value]]
            instructions = needed([*arithmetic, *schedule.after], [value for value, _ in pairs], places)
            writer.phase(code, "r", instructions, places, pairs, set(), set())

        return body

    rooms: list[Value] = []
    parts = [("1", "B", writer.part("back", loop))]
    for k, value in enumerate(program.inputs):
        gradient = of_operand[value]
        if gradient is not None:
            place = of_rows(lambda value=value, gradient=gradient: [(gradient, Place(writer.pointer(
                ("g", value), value, code.name(value, "g_{}"), "job->begin * B"), "r"))])  # type: ignore[misc]  # fmt: skip
            parts.append((f"needs[{k}]", "n * B", writer.part(f"gradient_of_{value.name}", place)))
    there = {*program.inputs, *program.states, *program.after, *forward.kept, *schedule.kept, of_output}
    loose = [value for value in rows_of_sums if value not in there]
    if loose:
        part = writer.part("rows_of_sums", of_rows(lambda: [(value, writer.room(value, "chunk")) for value in loose]))
        parts.append((f"needs[{len(program.inputs)}]", "n * B", part))
        rooms += loose
    calls = [_sum_of_rows(writer, each, known, schedule, loose) for each in contractions]
    with code.block("void backward(Index threads, Index T, Index B, Index at_once, int reverse, const int *needs, "
                    "void **arrays, REAL **panels)"):  # fmt: skip
        code.add(*writer.packs())
        with code.block("for (Index done = 0; done < T; done += at_once)"):
            code.add("const Index n = T - done < at_once ? T - done : at_once;")
            code.add("const Index begin = reverse ? done : T - done - n;")
            code.add(
                "const Job given = {T, B, begin, n, begin, reverse, 1, done, arrays, panels}, *const job = &given;"
            )
            for condition, rows, name in parts:
                code.add(f"{f'if ({condition}) ' * (condition != '1')}share(threads, {rows}, {name}, &given);")
            if calls:
                with code.block(f"if (needs[{len(program.inputs)}])"):
                    code.add(*(line for call in calls for line in call))
    writer.function.source += code.source("").lstrip("\n")
    return writer.function


def _contractions(schedule: Backward) -> tuple[list[Instruction], list[Value]]:
    """The sums over rows of a derivative, and the values of rows that they read."""
    found, rows = [], []
    for instruction in schedule.sums:
        inputs = [value for value in instruction.inputs if value.has_batch]
        if not inputs or instruction.op.name == "permute":
            continue
        if instruction.op.name == "matmul":
            x, y = instruction.arguments
            turned = x.instruction
            if turned is None or turned.op.name != "permute":
                raise CannotEmitError("a product over rows of a matrix that is not transposed")
            rows += [turned.arguments[0], y]
        elif instruction.op.name in ("sum", "sum_to") and instruction.results[0].row_size == inputs[0].row_size:
            rows.append(inputs[0])
        else:
            raise CannotEmitError(f"there is no C code for {instruction!r}")
        found.append(instruction)
    return found, list(dict.fromkeys(rows))


def _sum_of_rows(
    writer: _Writer,
    instruction: Instruction,
    known: Callable[[], dict[Value, Place]],
    schedule: Backward,
    loose: Sequence[Value],
) -> list[str]:
    """The lines that add the rows of a chunk to a sum."""
    (result,) = instruction.results

    def rows(value: Value) -> str:
        if value in schedule.kept or value in loose:
            return f"(REAL *)arrays[{writer.array(Room(value, 'chunk'))}]"
        writer._used = []
        array = known()[value].array
        line = next(line for line in writer._used if f" {array} = " in line)
        return line.split(" = ", 1)[1].rstrip(";")

    total = f"arrays[{writer.array(Contraction(result, result.lengths))}]"
    if instruction.op.name != "matmul":
        value = instruction.inputs[0]
        return [f"add_rows_up(threads, {total}, {rows(value)}, {value.row_size}, n * B, done > 0);"]
    g, x = instruction.arguments[0].instruction.arguments[0], instruction.arguments[1]
    panels = writer.panels(Panels(None, False, x.row_size))
    return [
        f"add_products_of_rows(threads, {total}, {rows(g)}, {g.row_size}, {rows(x)}, panels[{panels}], {x.row_size}, "
        "n * B, done > 0);"
    ]


def _name_in(declaration: str) -> str:
    return declaration.split(" = ", 1)[0].rsplit(" ", 1)[1]


def _steps(code: CCode, reverse: str, body: Callable[[], None]) -> None:
    """Adds a loop over the steps of a chunk."""
    with code.block("for (Index i = 0; i < job->n; i++)"):
        code.add(f"const Index s = {reverse} ? job->n - 1 - i : i;")
        body()


def _read_through(instructions: Iterable[Instruction], values: Container[Value]) -> set[Value]:
    return {value for instruction in instructions for value in instruction.inputs if value in values}


def _check(operands: Sequence[Value], instructions: Sequence[Instruction]) -> None:
    """Raises CannotEmitError if a value has a dtype or a shape for which there is no code."""
    dtypes = {value.dtype for value in operands if value.dtype.kind == "f"}
    for instruction in instructions:
        dtypes |= {value.dtype for value in (*instruction.inputs, *instruction.results) if value.dtype.kind == "f"}
        if not (is_elementwise(instruction) or is_product(instruction)):
            raise CannotEmitError(f"there is no C code for {instruction!r}")
    if len(dtypes) != 1 or next(iter(dtypes)).itemsize < 4:
        raise CannotEmitError(f"the dtypes are {', '.join(sorted(map(str, dtypes)))}")
    if any(value.has_batch and len(value.shape) != 2 for value in operands):
        raise CannotEmitError("an input or a state of a step is not (B, n)")
