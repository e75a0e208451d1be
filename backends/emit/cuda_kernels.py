"""Kernels in CUDA C++, of what a step computes element by element: a thread computes one unit of one row."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from ..dtypes import is_bool
from .c_kernels import CannotEmitError, CCode, Kernel, Place, is_elementwise, kernels_of, reshaped_whole
from .program import Instruction, Value

__all__ = ["CudaKernel", "cuda_kernel", "is_for_cuda"]

_MOST_LINES = 256
"""Of a kernel: parts of odd widths would be computed one by one, by few threads."""

_RESERVED = [
    "Index", "Pack", "REAL", "Real", "Wide", "asm", "auto", "bool", "case", "catch", "char", "const", "default",
    "delete", "do", "double", "enum", "explicit", "extern", "false", "float", "for", "friend", "goto", "if", "inline",
    "int", "j", "k", "l", "long", "m", "mutable", "namespace", "new", "of_real", "operator", "private", "protected",
    "public", "q", "r", "register", "rows", "short", "signed", "sizeof", "static", "struct", "switch", "template",
    "this", "thread", "thread_number", "throw", "true", "typedef", "typename", "u", "union", "unit", "unsigned",
    "using", "v", "virtual", "void", "volatile", "w",
]  # fmt: skip


@dataclass(frozen=True)
class CudaKernel:
    """A kernel.

    Attributes:
        source: its code, for a file that includes `elementwise.cuh`.
        units: the number of threads for a row.
        replaceable: inputs and results that may have the same array.
    """

    source: str
    units: int
    replaceable: frozenset[tuple[Value, Value]]


def is_for_cuda(instruction: Instruction, dtype: Any) -> bool:
    """Whether it can be a part of a kernel: arithmetic on the elements of rows, or a move of them."""
    numbers = (value for value in instruction.inputs if not isinstance(value.constant, bool | int | float))
    values = (*numbers, *instruction.results)
    return (
        is_elementwise(instruction)
        and not reshaped_whole(instruction)
        and all(value.has_batch for value in instruction.results)
        and all(value.dtype == dtype or is_bool(value.dtype) for value in values)
    )


def cuda_kernel(name: str, inputs: Sequence[Value], results: Sequence[Value]) -> CudaKernel:
    """The kernel that computes results from inputs.

    Raises:
        CannotEmitError: there is no code for an op, or it would be too long.
    """
    code = CCode(_RESERVED)
    known = {value: Place(code.name(value), "r" if value.has_batch else "0") for value in inputs}
    outputs = [(value, Place(code.name(value), "r")) for value in results]
    parameters = [f"const {_stored(value)}* {place.array}" for value, place in known.items()]
    parameters += [f"{_stored(value)}* {place.array}" for value, place in outputs]
    loops = kernels_of(outputs, known, _computed)
    units = max(math.prod(loop.lengths) for loop in loops)
    if sum(len(loop.lines) for loop in loops) > _MOST_LINES:
        raise CannotEmitError("a kernel of too many lines")
    with code.block(_head(name, [*parameters, "Index rows"])):
        if units > 1:
            code.add(f"const Index thread = thread_number(), r = thread / {units}, unit = thread % {units};")
        else:
            code.add("const Index r = thread_number();")
        code.add("if (r >= rows) return;")
        for loop in loops:
            with nullcontext() if len(loops) == 1 else code.block(f"if (unit < {math.prod(loop.lengths)})"):
                code.add(*_variables(loop), *loop.lines)
    pairs = [(value, result) for value in inputs for result in results if value.shape == result.shape]
    replaceable = frozenset(pair for pair in pairs if len(loops) == 1 and _alike(loops[0], *pair))
    return CudaKernel(code.source("").lstrip("\n"), units, replaceable)


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
        lines.append(f"const Index {variable} = {rest}{'' if first else f' % {length}'};")
        rest = f"unit / {math.prod(loop.lengths[-len(lines) :])}"
    return lines


def _alike(loop: Kernel, value: Value, result: Value) -> bool:
    """Whether the thread that reads an element of a value is the one that writes this element of the result."""
    written = [at for each, at in loop.writes if each is result]
    return all(at in written for each, at in loop.reads if each is value)


def _stored(value: Value) -> str:
    """The type of a value's elements in memory."""
    return "bool" if is_bool(value.dtype) else "Real"


def _computed(value: Value) -> str:
    """The type of a value's elements in registers."""
    return "bool" if is_bool(value.dtype) else "REAL"
