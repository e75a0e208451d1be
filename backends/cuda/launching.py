"""Launches kernels and multiplies matrices on a CUDA device."""

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base import Array
from ..dtypes import checked_dtype, is_float
from ..kernels import ArrayKernels
from .precision import get_precision

__all__ = [
    "PACK_BYTES",
    "THREADS",
    "Kernel",
    "LaunchedKernels",
    "Matrices",
    "Multiply",
    "blocks",
    "complete",
    "definitions",
    "source",
    "with_includes",
]

Kernel = Callable[..., None]
"""`kernel(blocks, threads, arguments, shared=0)` launches a kernel. The numbers of blocks and of threads per block are
an int or a tuple of up to three; `shared` is the size of the shared memory in bytes. Arguments are contiguous arrays of
the dtype of the kernel's parameter, None for a missing array, ints and floats."""

Multiply = Callable[[int, int, int], None]
"""`multiply(x, y, out)`, with the addresses of three matrices."""

THREADS = 128
"""The default number of threads in a block."""

_NAMES = {"float16": "Half", "float32": "float", "float64": "double"}
PACK_BYTES = 16


@functools.cache
def source(name: str) -> str:
    """The code of `name`.cu; see `complete`."""
    return complete(_read(f"{name}.cu"))


@functools.cache
def complete(text: str) -> str:
    """A source with its includes inserted, so that a cache of machine code sees every change.

    Comments are removed: CuPy writes the code to disk in an encoding that may not have their characters.
    """
    return re.sub(r" *//.*", "", with_includes(text))


def with_includes(text: str) -> str:
    """A source with its includes inserted."""
    return re.sub(r'#include "(.+)"', lambda include: with_includes(_read(include[1])), text)


def _read(file: str) -> str:
    return (Path(__file__).parent / file).read_text(encoding="utf-8")


def definitions(dtype: Any, width: int = 1, **constants: int) -> tuple[str, ...]:
    """The compiler's options for a source's macros: the dtype, the width of a pack, and other constants."""
    given = {"REAL": _NAMES[checked_dtype(dtype).name], "WIDTH": width, **constants}
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in given.items()))


def blocks(elements: int, width: int = 1) -> int:
    """The number of blocks of THREADS threads with one thread per pack of `width` elements."""
    return -(-elements // (width * THREADS))


class Matrices(NamedTuple):
    """Two matrices x (m, k) and y (k, n), whose product is written into a contiguous matrix.

    If a matrix is `transposed`, its columns are contiguous, otherwise its rows; `leading` is the stride from one to the
    next, in elements.
    """

    m: int
    n: int
    k: int
    transposed: tuple[bool, bool]
    leading: tuple[int, int]
    dtype: np.dtype[Any]


class LaunchedKernels(ArrayKernels):
    """Kernels and products, with the device's methods `compiled`, `multiplier` and `address`.

    Attributes:
        multiprocessors: the number of multiprocessors; 0 if blocks cannot wait for each other.
        shared_bytes: the most shared memory that a block can have.
    """

    multiprocessors: int
    shared_bytes: int

    def kernel(
        self, file: str, name: str, dtype: Any, width: int = 1, *, cooperative: bool = False, **constants: int
    ) -> Kernel:
        """The kernel of this name in `file`.cu, compiled for arrays of a dtype.

        All blocks of a `cooperative` kernel run at the same time, so that they can wait for each other.
        """
        key = (file, name, dtype, width, cooperative, *constants.items())
        found = self._kernels.get(key)
        if found is None:
            options = definitions(dtype, width, **constants)
            found = self._kernels[key] = self.compiled(source(file), name, options, cooperative)
        return found

    def generated(self, text: str, name: str, dtype: Any, width: int = 1, **constants: int) -> Kernel:
        """The kernel of this name in a text that is not in a file."""
        key = (text, name, dtype, width, *constants.items())
        found = self._kernels.get(key)
        if found is None:
            options = definitions(dtype, width, **constants)
            found = self._kernels[key] = self.compiled(complete(text), name, options, False)
        return found

    @functools.cached_property
    def _kernels(self) -> dict[Any, Kernel]:
        """The kernels that were asked for."""
        return {}

    def compiled(self, text: str, name: str, options: tuple[str, ...], cooperative: bool) -> Kernel:
        """The kernel of this name in a complete source, compiled with options."""
        raise NotImplementedError

    def multiplier(self, matrices: Matrices, accumulate: bool) -> Multiply:
        """A function that multiplies matrices of this kind, and writes the product or adds it to the output."""
        raise NotImplementedError

    def address(self, array: Array) -> int:
        """The address of the array in the device's memory."""
        raise NotImplementedError

    def queue(self) -> int:
        """A number for the current queue of work. A device may have several."""
        return 0

    # -- products ------------------------------------------------------------------------------------------------------

    def matmul(self, x: Array, y: Array) -> Array:
        if y.ndim != 2 or x.ndim < 2 or x.dtype != y.dtype or not is_float(x.dtype) or x.shape[-1] != len(y):
            return self.xp.matmul(x, y)
        rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), len(y))
        return self.gemm(rows, y).reshape(*x.shape[:-1], y.shape[1])

    def gemm(self, x: Array, y: Array) -> Array:
        """x·y for two float matrices with any strides."""
        out = self.empty((len(x), y.shape[1]), x.dtype)
        self.product()(x, y, out, False)
        return out

    def product(self) -> Callable[[Array, Array, Array, bool], None]:
        """`multiply(x, y, out, accumulate)`: out = x·y, or out += x·y, for float matrices x and y with any strides and
        a contiguous one.

        What depends only on the layout of the matrices and the precision is prepared when these change.
        """
        prepared: tuple[Any, ...] | None = None
        readable, multiply = (True, True), None

        def multiply_at(x: Array, y: Array, out: Array, accumulate: bool) -> None:
            nonlocal prepared, readable, multiply
            layout = (x.shape, x.strides, y.shape, y.strides, accumulate, get_precision())
            if layout != prepared:
                layouts = [_layout(each) for each in (x, y)]
                readable = layouts[0] is not None, layouts[1] is not None
                turned, leading = zip(*(found or (False, each.shape[1]) for found, each in zip(layouts, (x, y))))
                (m, k), n = x.shape, y.shape[1]
                matrices = Matrices(m, n, k, turned, leading, x.dtype)
                multiply = self.multiplier(matrices, accumulate) if m and n and k else None
                prepared = layout
            if multiply is None:
                if not accumulate:
                    out.fill(0)
                return
            x = x if readable[0] else self.xp.ascontiguousarray(x)
            y = y if readable[1] else self.xp.ascontiguousarray(y)
            multiply(self.address(x), self.address(y), self.address(out))

        return multiply_at

    # -- arguments of kernels ------------------------------------------------------------------------------------------

    def contiguous(self, *arrays: Array | None) -> list[Any]:
        """The arrays, copied if they are not contiguous; None stays None."""
        # ascontiguousarray would add a dimension to 0-d arrays.
        return [
            array if array is None or array.flags.c_contiguous else self.xp.ascontiguousarray(array) for array in arrays
        ]

    def _width(self, length: int, *arrays: Array) -> int:
        """The number of elements that can be loaded at once from these arrays, with rows of this length."""
        width = PACK_BYTES // int(arrays[0].dtype.itemsize)
        aligned = all(self.address(array) % PACK_BYTES == 0 for array in arrays)
        return width if aligned and length % width == 0 else 1


def _layout(matrix: Array) -> tuple[bool, int] | None:
    """The `transposed` and `leading` of a matrix for `Matrices`; None if products cannot read its strides."""
    size = matrix.dtype.itemsize
    (rows, columns), (down, across) = matrix.shape, matrix.strides
    # The stride of a dimension of length 1 has no meaning.
    if (across == size or columns <= 1) and (down >= columns * size or rows <= 1) and down % size == 0:
        return False, max(down // size if rows > 1 else columns, 1)
    if (down == size or rows <= 1) and (across >= rows * size or columns <= 1) and across % size == 0:
        return True, max(across // size if columns > 1 else rows, 1)
    return None
