"""Kernels in CUDA C++, of what a step computes element by element: a thread computes a pack of units of one row."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..dtypes import FLOAT16, FLOAT32, is_bool
from .c_kernels import CannotEmitError, CCode, Kernel, Place, is_elementwise, kernels_of, reshaped_whole
from .c_moves import At
from .program import Instruction, Value

__all__ = ["CudaKernel", "cuda_kernel", "is_for_cuda"]

_MOST_LINES = 256
"""Of a kernel: parts of odd widths would be computed one by one, by few threads."""

_RESERVED = [
    "asm", "bool", "catch", "delete", "e", "explicit", "false", "friend", "Half", "Index", "load", "mutable",
    "namespace", "new", "Number", "of_real", "operator", "Pack", "private", "protected", "public", "r", "Real",
    "rows", "store", "template", "this", "thread", "thread_number", "throw", "true", "typename", "unit", "using",
    "virtual", "Wide", "WIDTH",
    *(f"p{k}" for k in range(_MOST_LINES)),
]  # fmt: skip


@dataclass(frozen=True)
class CudaKernel:
    """A kernel, compiled for packs of WIDTH elements, and with LARGE for arrays of 2³¹ or more elements.

    Attributes:
        source: its code, for a file that includes `elementwise.cuh`.
        units: the number of elements of a row that threads compute.
        row_size: the most elements of a row of an array with a batch dimension.
        widest: a pack may have any width that divides this number.
        packed: the numbers of the arrays among the parameters that are read or written in packs.
        replaceable: inputs and results that may have the same array.
    """

    source: str
    units: int
    row_size: int
    widest: int
    packed: tuple[int, ...]
    replaceable: frozenset[tuple[Value, Value]]


def is_for_cuda(instruction: Instruction, dtype: Any) -> bool:
    """Whether it can be a part of a kernel: arithmetic on the elements of rows, or a move of them."""
    numbers = (value for value in instruction.inputs if not isinstance(value.constant, bool | int | float))
    values = (*numbers, *instruction.results)
    dtypes = (FLOAT16, FLOAT32) if dtype == FLOAT16 else (dtype,)  # kernels compute float16 in float32
    return (
        is_elementwise(instruction)
        and not reshaped_whole(instruction)
        and all(value.has_batch for value in instruction.results)
        and all(value.dtype in dtypes or is_bool(value.dtype) for value in values)
    )


def cuda_kernel(name: str, inputs: Sequence[Value], results: Sequence[Value], dtype: Any) -> CudaKernel:
    """The kernel for a dtype that computes results from inputs.

    Raises:
        CannotEmitError: there is no code for an op, or it would be too long.
    """
    code = CCode(_RESERVED)
    known = {value: Place(code.name(value), "r" if value.has_batch else "0") for value in inputs}
    outputs = [(value, Place(code.name(value), "r")) for value in results]
    parameters = [f"const {_stored(value, dtype)}* {place.array}" for value, place in known.items()]
    parameters += [f"{_stored(value, dtype)}* {place.array}" for value, place in outputs]
    loops = kernels_of(outputs, known, _computed, partial(_PackKernel, dtype))
    units = max(math.prod(loop.lengths) for loop in loops)
    if sum(len(loop.lines) for loop in loops) > _MOST_LINES:
        raise CannotEmitError("a kernel of too many lines")
    with code.block(_head(name, [*parameters, "Index rows"])):
        if units > 1:
            code.add(f"const Number thread = thread_number(), r = thread / ({units} / WIDTH);")
            code.add(f"const Number unit = thread % ({units} / WIDTH) * WIDTH;")
        else:
            code.add("const Number r = thread_number();")
        code.add("if (r >= rows) return;")
        for loop in loops:
            with nullcontext() if len(loops) == 1 else code.block(f"if (unit < {math.prod(loop.lengths)})"):
                loop.write(code)
    pairs = [(value, result) for value in inputs for result in results if value.shape == result.shape]
    replaceable = frozenset(pair for pair in pairs if len(loops) == 1 and _alike(loops[0], *pair))
    in_packs = {array for loop in loops for array in loop.packed}
    return CudaKernel(
        source=code.source("").lstrip("\n"),
        units=units,
        row_size=max(value.row_size for value in (*inputs, *results) if value.has_batch),
        widest=math.gcd(*(number for loop in loops for number in loop.multiples)),
        packed=tuple(k for k, (_, place) in enumerate((*known.items(), *outputs)) if place.array in in_packs),
        replaceable=replaceable,
    )


class _PackKernel(Kernel):
    """A kernel whose thread computes WIDTH adjacent elements, which it reads and writes at once.

    Attributes:
        packed: the arrays that are read or written in packs.
        multiples: a pack may have any width that divides all of these.
    """

    def __init__(self, dtype: Any, *given: Any) -> None:
        self._dtype = dtype
        self.packed: set[str] = set()
        self.multiples: list[int] = []
        self._packs: dict[str, str] = {}
        super().__init__(*given)
        self.multiples += self.lengths[-1:] or [1]

    def write(self, code: CCode) -> None:
        *outer, inner = self._lines
        code.add(*_variables(self), *(line for lines in outer for line in lines))
        if not self.lengths:
            code.add(*inner)
            return
        written = {place.array for _, place, _ in self._elements}
        stored = {at: pack for at, pack in self._packs.items() if at.partition(" ")[0] in written}
        code.add(*(f"const Pack {pack} = load({at});" for at, pack in self._packs.items() if at not in stored))
        code.add(*([f"Pack {', '.join(stored.values())};"] if stored else []), "#pragma unroll")
        with code.block("for (int e = 0; e < WIDTH; ++e)"):
            code.add(*inner)
        code.add(*(f"store({at}, {pack});" for at, pack in stored.items()))

    def _element(self, place: Place, value: Value, at: Mapping[str, int]) -> tuple[str, str]:
        if at.get("j") != 1 or value.dtype != self._dtype:
            return super()._element(place, value, {_moved(name): step for name, step in at.items()})
        element, column = super()._element(place, value, at)
        self.packed.add(place.array)
        self.multiples += [value.row_size, *(step for name, step in at.items() if name != "j")]
        address = f"{place.array} + {element[len(place.array) + 1 : -1]}"
        return f"{self._packs.setdefault(address, f'p{len(self._packs)}')}.at[e]", column

    @staticmethod
    def _offset(at: At) -> str:
        return Kernel._offset(at._replace(variable=_moved(at.variable)))


def _moved(variable: str) -> str:
    """The variable of an element of a pack, given that of its first."""
    return "(j + e)" if variable == "j" else variable


def _head(name: str, parameters: Sequence[str]) -> str:
    """The first lines of a kernel, which are broken between parameters."""
    whole = ", ".join(parameter.replace(" ", "\0") for parameter in parameters)
    lines = textwrap.wrap(f'extern "C" __global__ void {name}({whole})', 110, break_long_words=False)
    return "\n        ".join(lines).replace("\0", " ")


def _variables(loop: Kernel) -> list[str]:
    """The lines that compute the variables of loops from the number of a unit."""
    lines, rest = [], "unit"
    for variable, length in zip(reversed(loop.variables), reversed(loop.lengths), strict=True):
        first = variable == loop.variables[0]
        lines.append(f"const Number {variable} = {rest}{'' if first else f' % {length}'};")
        rest = f"unit / {math.prod(loop.lengths[-len(lines) :])}"
    return lines


def _alike(loop: Kernel, value: Value, result: Value) -> bool:
    """Whether the thread that reads an element of a value is the one that writes this element of the result."""
    written = [at for each, at in loop.writes if each is result]
    return all(at in written for each, at in loop.reads if each is value)


def _stored(value: Value, dtype: Any) -> str:
    """The type of a value's elements in memory, in a kernel for a dtype."""
    return "bool" if is_bool(value.dtype) else "Real" if value.dtype == dtype else "Wide"


def _computed(value: Value) -> str:
    """The type of a value's elements in registers."""
    return "bool" if is_bool(value.dtype) else "REAL"
