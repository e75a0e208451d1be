"""CUDA kernels built for the host and launched there, over memory of the strict device's arrays.

`cuda_on_host/` supplies what kernels use of CUDA's language. What CUDA leaves to the caller is checked here: that
arrays are contiguous and of the dtypes that a kernel's parameters have, and that numbers are where numbers belong.
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strict_backend import StrictArray

HERE = Path(__file__).parent / "cuda_on_host"
COMPILER = shutil.which(os.environ.get("CXX", "g++")) if sys.platform == "linux" else None
MOST_SHARED = 227 * 1024  # bytes of shared memory, of a block on the largest GPUs
WITHOUT = "no C++ compiler (g++ on Linux) to build the CUDA kernels for the host with"
needs_compiler = pytest.mark.skipif(COMPILER is None, reason=WITHOUT)
STANDARD = "-std=c++17"  # as `definitions` has it
OPTIONS = (
    *("-O1", "-fPIC", "-pthread", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unknown-pragmas"),
    "-U_FORTIFY_SOURCE",  # which takes a jump to another stack for an attack
    *os.environ.get("KERNELS_ON_HOST_OPTIONS", "").split(),
)


class _Dim3(ctypes.Structure):
    _fields_ = [("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint)]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", _Dim3),
        ("block", _Dim3),
        ("shared_bytes", ctypes.c_size_t),
        ("cooperative", ctypes.c_bool),
        ("order", ctypes.c_uint),
    ]


def kernel_names(text: str) -> list[str]:
    """The kernels that a source defines."""
    return re.findall(r'extern "C" __global__ void(?: __launch_bounds__\(.+\))?\s+(\w+)\(', text)


def _made(suffix: str, text: str, *options: str) -> Path:
    """A library, an object or a precompiled header (suffix) of a C++ text, built once for all runs and processes."""
    assert COMPILER is not None
    read = [suffix, text, *OPTIONS, *options, (HERE / "cuda_on_host.h").read_text()]
    name = hashlib.sha256("\0".join(read).encode()).hexdigest()[:32]
    folder = Path(tempfile.gettempdir()) / f"tinygrad_lstm-cuda-on-host-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{name}{suffix}"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            source = Path(place, "made.cpp")
            source.write_text(text)
            command = [COMPILER, *OPTIONS, *options, f"-I{HERE}", str(source), "-o", f"{place}/made"]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise RuntimeError(f"the kernels do not compile for the host:\n{result.stderr}")
            made.parent.mkdir(exist_ok=True)
            os.replace(f"{place}/made", made)
    return made


@functools.cache
def _for_all() -> tuple[str, ...]:
    """The options that add what all libraries share: the header, which takes most of a build's time, and an object."""
    header = _made("/cuda_on_host.h.gch", '#include "cuda_on_host.h"', STANDARD, "-x", "c++-header")
    runs = _made(".o", (HERE / "cuda_on_host.cpp").read_text(), "-c")
    return f"-I{header.parent}", str(runs)


def _build(text: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """The library of a C++ text, with what runs kernels on the host."""
    return ctypes.CDLL(str(_made(".so", text, *options, "-shared", *_for_all())))


@functools.cache
def _library(text: str, options: tuple[str, ...]) -> ctypes.CDLL:
    launchers = "".join(
        f'extern "C" const char* kinds_{name}() {{ return host::kinds({name}); }}\n'
        f'extern "C" const char* launch_{name}(const host::Launch* how, void** arguments)'
        f" {{ return host::launch(*how, {name}, arguments); }}\n"
        for name in kernel_names(text)
    )
    return _build(f'#include "cuda_on_host.h"\n{text}\n{launchers}', options)


def _dim3(numbers: int | tuple[int, ...]) -> _Dim3:
    given = (numbers,) if isinstance(numbers, int) else numbers
    return _Dim3(*(max(1, number) for number in (*given, 1, 1)[:3]))


_CTYPES = {"q": ctypes.c_longlong, "d": ctypes.c_double}


def _argument(name: str, kind: str, value: Any) -> Any:
    """What a parameter of that kind gets."""
    if kind[0] == "P":
        if value is None:
            return ctypes.c_void_p(None)
        if not isinstance(value, StrictArray) or not value.flags.c_contiguous:
            raise TypeError(f"{name}: an array of the device that is contiguous was expected, got {value!r}")
        if kind[1] not in (value.dtype.char.replace("l", "q"), "!"):
            raise TypeError(f"{name}: a {value.dtype} array for a pointer of kind {kind[1]!r}")
        return ctypes.c_void_p(value._host.ctypes.data)
    if type(value) is not {"q": int, "d": float}.get(kind[0]):
        raise TypeError(f"{name}: {value!r} for a parameter of kind {kind[0]!r}")
    return _CTYPES[kind[0]](value)


class HostKernels:
    """The kernels of a source, compiled with options such as `-DREAL=float`."""

    def __init__(self, text: str, options: tuple[str, ...]) -> None:
        self._library = _library(text, options)

    def launch(
        self,
        name: str,
        blocks: int | tuple[int, ...],
        threads: int | tuple[int, ...],
        arguments: tuple[Any, ...],
        shared: int,
        cooperative: bool,
        order: int = 0,
    ) -> None:
        """Runs a kernel; a block's threads between barriers forward, backward or, from 2 on, in a random order.

        Raises:
            TypeError: the arguments are none that the kernel has parameters for.
            ValueError: CUDA has no blocks of these sizes.
            RuntimeError: some threads wait at a barrier to which others do not come.
        """
        grid, block = _dim3(blocks), _dim3(threads)
        if max(grid.y, grid.z) > 65535 or block.x * block.y * block.z > 1024 or shared > MOST_SHARED:
            raise ValueError(f"{name}: CUDA has no such blocks: {blocks} of {threads} threads and {shared} bytes")
        run, kinds = self._library[f"launch_{name}"], self._library[f"kinds_{name}"]
        run.restype = kinds.restype = ctypes.c_char_p
        letters = kinds().decode()
        pairs = [letters[k : k + 2] for k in range(0, len(letters), 2)]
        if len(arguments) != len(pairs):
            raise TypeError(f"{name}: {len(arguments)} arguments for {len(pairs)} parameters")
        values = [_argument(name, kind, value) for kind, value in zip(pairs, arguments, strict=True)]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        how = _Launch(grid, block, shared, cooperative, order)
        wrong = run(ctypes.byref(how), pointers)
        if wrong:
            raise RuntimeError(f"{name}: {wrong.decode()}")


def matrix_at(
    address: int, shape: tuple[int, int], transposed: bool, leading: int, dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    """The matrix at an address, as cuBLAS finds it."""
    rows, columns = shape[::-1] if transposed else shape
    assert leading >= columns
    memory = (ctypes.c_byte * (((rows - 1) * leading + columns) * dtype.itemsize)).from_address(address)
    flat = np.frombuffer(memory, dtype)
    matrix = np.lib.stride_tricks.as_strided(flat, (rows, columns), (leading * dtype.itemsize, dtype.itemsize))
    return matrix.T if transposed else matrix
