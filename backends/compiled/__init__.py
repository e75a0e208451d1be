"""Kernels for the CPU that numba compiles, where it is installed (the extra `fast`): faster, and never needed.

Importing this package does not import numba: its modules do, when a kernel is first used.
"""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..scoped import Scoped

__all__ = ["available", "compiled_kernels", "serves"]

_wanted = Scoped[bool | None]("compiled_kernels", None)


@cache
def available() -> bool:
    """Whether numba is installed, and works: it refuses versions of NumPy that are too new for it."""
    if find_spec("numba") is None:
        return False
    try:
        importlib.import_module("numba")
    except ImportError as error:
        warnings.warn(f"compiled kernels are not used, as numba does not work here: {error}", RuntimeWarning, 2)
        return False
    return True


def serves(dtype: Any) -> bool:
    """Whether compiled kernels compute with this dtype: where numba is, and nobody said otherwise."""
    wanted = _wanted.value
    if wanted is None:
        wanted = os.environ.get("TINYGRAD_LSTM_COMPILED") != "0"
    return wanted and dtype in (np.float32, np.float64) and available()


@contextmanager
def compiled_kernels(enabled: bool) -> Iterator[None]:
    """Within it, the CPU does or does not use compiled kernels; the environment's TINYGRAD_LSTM_COMPILED=0 before.

    Raises:
        RuntimeError: they are asked for, but numba is not installed, or does not work.

    >>> import tinygrad_lstm as tg
    >>> with tg.compiled_kernels(False):
    ...     y = tg.ones(2, 3).sum()
    """
    if enabled and not available():
        raise RuntimeError(
            "compiled_kernels: numba is not installed, or does not work here; pip install 'tinygrad-lstm[fast]'"
        )
    with _wanted.set_to(enabled):
        yield
