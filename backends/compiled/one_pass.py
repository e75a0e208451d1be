"""Elementwise programs in C, in one pass over memory: the source of `emit/one_pass.py`, built and called."""

import struct
from collections.abc import Sequence
from ctypes import c_char_p, c_ssize_t
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from ..emit.c_kernels import CannotEmitError
from ..emit.one_pass import HEAD, one_pass_c
from ..emit.program import Derivative, Program, Value
from .c_runtime import address, kernel_library, threads_for
from .errors import BuildError

__all__ = ["CPass", "compiled_pass"]

_COLUMNS = 1024  # of the rows that arrays are read in, if only arrays of one number are not contiguous


class CPass:
    """An elementwise program and its derivative.

    Args:
        program: the program, whose inputs and output have the shape (BATCH,).
        derivative: the derivative; None if no input needs a gradient.

    Attributes:
        forward: `forward(inputs)` returns a list of the output.
        backward: `backward([g, *inputs])` returns the gradients that the derivative has; None without one.

    Raises:
        BuildError: there is no C compiler, or it fails.
        CannotEmitError: there is no C code for a part of the program.
    """

    def __init__(self, program: Program, derivative: Derivative | None) -> None:
        parts: list[tuple[str, Sequence[Value], Sequence[Value]]] = [("forward", program.inputs, [program.output])]
        if derivative is not None:
            cotangents = [g for g in derivative.cotangents if g is not None]
            gradients = [g for g in derivative.gradients if g is not None]
            parts.append(("backward", [*cotangents, *program.inputs], gradients))
        written = [one_pass_c(*part) for part in parts]
        source = HEAD + "".join(text for text, _ in written)
        library = kernel_library("one_pass", source, program.output.dtype)
        self.forward, *backward = [
            _Function(getattr(library, name), operations, len(inputs), len(results))
            for (name, inputs, results), (_, operations) in zip(parts, written, strict=True)
        ]
        self.backward = backward[0] if backward else None


class _Function:
    """`function(arrays)` returns the results, which are new arrays; all arrays have one shape and dtype."""

    def __init__(self, run: Any, operations: int, inputs: int, results: int) -> None:
        self._run, self._operations, self._results = run, operations, results
        self._layout = struct.Struct(f"{2 + inputs + results}n{inputs + results}P")  # n is an integer, P an address
        run.argtypes, run.restype = [c_ssize_t, c_char_p], None

    def __call__(self, arrays: Sequence[HostArray]) -> list[HostArray]:
        like = arrays[0]
        columns, given = _in_rows(arrays)
        results = [memory.empty(like.shape, like.dtype) for _ in range(self._results)]
        steps = [*(step for _, step in given), *[columns] * self._results]
        addresses = [address(array) for array in (*(array for array, _ in given), *results)]
        packed = self._layout.pack(like.size, columns, *steps, *addresses)
        self._run(threads_for(self._operations * like.size, beside_blas=True), packed)
        return results


def _in_rows(arrays: Sequence[HostArray]) -> tuple[int, list[tuple[HostArray, int]]]:
    """The length of rows, and for each array one whose first row is at its address, and the distance of its rows."""
    shape = arrays[0].shape
    if all([_is_contiguous(array) or not any(array.strides) for array in arrays]):
        columns = _COLUMNS if any([not _is_contiguous(array) for array in arrays]) else arrays[0].size
    else:
        columns = shape[-1]
    return columns, [_rows_of(array, columns) for array in arrays]


def _is_contiguous(array: HostArray) -> bool:
    return array.flags.c_contiguous and array.flags.aligned


def _rows_of(array: HostArray, columns: int) -> tuple[HostArray, int]:
    """An array with rows of this length, and their distance in elements; 0 if all elements are one number."""
    if _is_contiguous(array):
        return array, columns
    if not any(array.strides):
        return np.full(columns, array.flat[0]), 0
    size, (*lengths, _), (*steps, last) = array.itemsize, array.shape, array.strides
    adjacent = last == size and all(steps[d] == steps[d + 1] * lengths[d + 1] for d in range(len(lengths) - 1))
    if not adjacent or not array.flags.aligned or steps[-1] % size:
        return np.require(array, None, ["C", "A"]), columns
    return array, steps[-1] // size


def compiled_pass(program: Program, derivative: Derivative | None) -> CPass | None:
    """The program and its derivative in C; None if there is no C code, or it cannot be built."""
    try:
        return CPass(program, derivative)
    except (BuildError, CannotEmitError):
        return None
