"""`tinygrad-lstm info`."""

import os
import platform
import sys
from importlib.metadata import version

import numpy as np

from .. import __version__, cuda
from ..backends import compiled, threads
from ..device import DeviceUnavailableError, get_device, get_num_threads

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
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "devices": _devices(),
    }
    for name, value in rows.items():
        print(f"{name:<14} {value}")


def _cpu_kernels() -> str:
    """Whether the kernels that numba compiles are in use, or why not."""
    if not compiled.available():
        return "NumPy (faster ones: pip install 'tinygrad-lstm[fast]')"
    if not compiled.serves(np.float32):
        return "NumPy (TINYGRAD_LSTM_COMPILED=0 is set)"
    return f"compiled by numba {version('numba')}"


def _devices() -> str:
    """The devices that there are, or why cuda is none of them."""
    if cuda.is_available():
        return ", ".join(["cpu", *(f"cuda:{index}" for index in range(cuda.device_count()))])
    try:
        get_device("cuda")
    except DeviceUnavailableError as error:
        return f"cpu (no cuda: {error})"
    return "cpu"
