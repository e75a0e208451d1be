"""`tinygrad-lstm info`."""

import os
import platform
import sys

import numpy as np

from tinygrad_lstm.backends import threads
from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.backends.compiled.caching import cache_folder

from .. import __version__, cuda
from .._tensor import tensor
from ..creation import zeros
from ..device import DeviceUnavailableError, get_device, get_num_threads
from ..inspect import program
from ..nn import Embedding

__all__ = ["info"]


def info() -> None:
    """Show versions, devices and the matrix library."""
    rows = {
        "tinygrad_lstm": __version__,
        "Python": f"{platform.python_version()} ({sys.executable})",
        "NumPy": np.__version__,
        "BLAS": threads.blas_library(),
        "threads": f"{get_num_threads()} (OPENBLAS_NUM_THREADS sets it)",
        "CPU kernels": _cpu_kernels(),
        "sequences": _sequences(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "devices": _devices(),
    }
    for name, value in rows.items():
        print(f"{name:<14} {value}")


def _cpu_kernels() -> str:
    """The compiler of the kernels, or the reason why they are not used."""
    if os.environ.get("TINYGRAD_LSTM_COMPILED") == "0":
        return "NumPy (TINYGRAD_LSTM_COMPILED=0 is set)"
    # Only compiling shows whether it works. The kernel for an embedding's gradient is small.
    embedding = Embedding(1, 1)
    embedding(tensor([0])).sum().backward()
    reason = building.why_not()
    return f"NumPy ({reason}; faster ones need a C compiler)" if reason else _c()


def _sequences() -> str:
    """How sequences of any cell are computed on the CPU; a small step shows whether its code can be built."""
    code = program(lambda x, h: h + x, zeros(1, 1, 1), zeros(1, 1)).code
    by = f"C by {building.compiler().name}" if next(iter(code)) == "C" else f"NumPy (C is {code['C']})"
    return f"any cell is one op, in {by}"


def _c() -> str:
    """The C compiler, and where its libraries are cached."""
    reason = building.why_not_cached()
    place = f"cached in {cache_folder()}" if reason is None else f"not cached: {reason}"
    return f"C by {building.compiler().name} ({place})"


def _devices() -> str:
    """The available devices, and the reason if cuda is not available."""
    if cuda.is_available():
        return ", ".join(["cpu", *(f"cuda:{index}" for index in range(cuda.device_count()))])
    try:
        get_device("cuda")
    except DeviceUnavailableError as error:
        return f"cpu (no cuda: {error})"
    return "cpu"
