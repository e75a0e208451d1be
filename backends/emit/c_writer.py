"""What the parts of a function in C share: the arrays that it is given, and their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..dtypes import FLOAT16, is_bool, is_float
from .c_kernels import CannotEmitError, CCode, Place
from .c_phases import Phase, Product, factors, is_product, is_supported
from .program import BATCH, Instruction, Value

__all__ = ["LARGE_WEIGHT", "CFunction", "Contraction", "Panels", "Writer", "add_steps", "check"]

_RESERVED = [
    "job", "arrays", "panels", "first", "last", "begin", "end", "from", "given", "one", "i", "r", "s", "b", "n", "B",
    "T", "odd", "reverse", "saving", "needs", "threads", "at_once", "done", "kept_from", "Index", "Job", "Flag",
    "share", "pack", "product", "exp", "tanh", "sigmoid", "abs", "sqrt", "add_product", "product_by_columns", "NULL",
    "INFINITY", "NAN", "INDEPENDENT", "ONE_BY_ONE", "linux", "unix", "Packing", "cumprod_before_along",
    "cumsum_along", "cumsum_from_end_along", "inverse_deviation_along", "log_softmax_along", "logsumexp_along",
    "magnitude_along", "max_along", "min_along", "normalized_along", "prod_along", "softmax_along", "sum_along",
]  # fmt: skip


LARGE_WEIGHT = 256 * 1024
"""The number of elements from which threads share the columns of a weight, if there are few rows."""


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


@dataclass(eq=False)
class CFunction:
    """A function in C, and what it is given.

    Attributes:
        source: the code of its parts and of the function.
        arrays: the values, rooms and sums whose arrays it takes, in order.
        panels: the panels that it takes, in order.
        lasting: the number of arrays that it reads or writes when the panels are filled; these are the first ones.
    """

    source: str = ""
    arrays: list[Any] = field(default_factory=list)
    panels: list[Panels] = field(default_factory=list)
    lasting: int = 0


class Writer:
    """What the parts of a function share.

    Args:
        fixed: the values that are computed beforehand, or captured.
    """

    def __init__(self, fixed: set[Value]) -> None:
        self.function = CFunction()
        self.code = CCode(_RESERVED)
        self._fixed = fixed
        self._used: list[str] = []
        self.biases: dict[Value, list[Value]] = {}  # of products, which are added where these are read

    # -- arrays --------------------------------------------------------------------------------------------------------

    def array(self, key: Any) -> int:
        """The number of an array among those that the function is given."""
        return _numbered(key, self.function.arrays)

    def panels(self, panels: Panels) -> int:
        """The number of panels among those that the function is given."""
        return _numbered(panels, self.function.panels)

    def type_of(self, value: Value) -> str:
        """The C type of a value's elements."""
        if is_bool(value.dtype):
            return "Flag"
        if not is_float(value.dtype):
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

    def of_steps(
        self, key: Any, value: Value, form: str = "{}", first: str = "job->begin * B", constant: bool = False
    ) -> Place:
        """The place of a value in the array of this key, which has the rows of steps, from row `first` on."""
        return Place(self.pointer(key, value, self.code.name(value, form), first, constant), "r")

    def fixed_place(self, value: Value) -> Place:
        """The place of a value that is the same at all steps."""
        return Place(self.pointer(value, value, self.code.name(value), constant=True), "b" if value.has_batch else "0")

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
            given, weight, transposed, bias = factors(product.instruction)
            columns, depth = product.result.row_size, given.row_size
            panels = self.panels(Panels(weight, transposed, columns))
            places = [
                f"{place.array} + {'(s * B + first)' if place.row == 'r' and rows == 'b' else 'first'} * {size}"
                for place, size in ((out, columns), (x, depth))
            ]
            name = "product_by_columns(job->threads, " if depth * columns >= LARGE_WEIGHT else "product("
            code.add(
                f"{name}{places[0]}, {columns}, {places[1]}, {depth}, last - first, job->panels[{panels}], "
                f"{columns}, {depth}, {int(product.added is not None)});"
            )
            self.biases[product.value] = [] if bias is None else [bias]
            return tuple(self.fixed_place(value).array for value in self.biases[product.value])

        return add

    def phase(
        self, code: CCode, rows: str, instructions: Sequence[Instruction], known: Mapping[Value, Place],
        wanted: Sequence[tuple[Value, Place]], free: set[Value], unfinished: set[Value],
    ) -> None:  # fmt: skip
        """Adds the code of a phase for the rows of a chunk ("r") or of a step ("b")."""
        every = dict(known)
        read = [value for value, _ in wanted]
        for instruction in instructions:
            read += instruction.inputs[:1] if is_product(instruction) else instruction.inputs
        for value in dict.fromkeys(read):
            if value in self._fixed or hasattr(value.constant, "shape"):
                every[value] = self.fixed_place(value)
                if every[value].row == "b" and rows == "r":
                    raise CannotEmitError("rows of many steps that depend on a value of each row of the batch")
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


def add_steps(code: CCode, reverse: str, body: Callable[[], None]) -> None:
    """Adds a loop over the steps of a chunk."""
    with code.block("for (Index i = 0; i < job->n; i++)"):
        code.add(f"const Index s = {reverse} ? job->n - 1 - i : i;")
        body()


_MOST_DIMENSIONS = 6


def check(operands: Sequence[Value], instructions: Sequence[Instruction]) -> None:
    """Raises CannotEmitError if a value has a dtype or a shape for which there is no code."""
    dtypes = {value.dtype for value in operands if is_float(value.dtype)}
    for instruction in instructions:
        dtypes |= {value.dtype for value in (*instruction.inputs, *instruction.results) if is_float(value.dtype)}
        if not is_supported(instruction):
            raise CannotEmitError(f"there is no C code for {instruction!r}")
        for value in (*instruction.inputs, *instruction.results):
            if not value.row_size or len(value.shape) > _MOST_DIMENSIONS:
                raise CannotEmitError(f"there is no C code for a value of shape {value.shape}")
    if len(dtypes) != 1 or FLOAT16 in dtypes:
        raise CannotEmitError(f"the dtypes are {', '.join(sorted(map(str, dtypes)))}")
    if any(BATCH in value.shape[1:] or not value.row_size for value in operands):
        raise CannotEmitError("an operand without elements, or whose rows are not its first dimension")


def _numbered(key: Any, keys: list[Any]) -> int:
    """The index of a key, which is added if it is new."""
    if key not in keys:
        keys.append(key)
    return keys.index(key)


def _name_in(declaration: str) -> str:
    return declaration.split(" = ", 1)[0].rsplit(" ", 1)[1]
