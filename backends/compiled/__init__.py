"""Kernels for the CPU that numba compiles, where it is installed (the extra `fast`): faster, and never needed.

Importing this package does not import numba: its modules do, when a kernel is first used.
"""

import importlib
import os
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import FrameType, TracebackType
from typing import Any

from ..dtypes import FLOAT32, FLOAT64
from ..installing import how_to_install
from ..scoped import Scoped

__all__ = ["UNLESS_BROKEN", "available", "compiled_kernels", "serves", "why_not"]

_OLDEST = (0, 61)  # numba 0.60 cannot compile these kernels

_enabled = Scoped[bool | None]("compiled_kernels", None)
_failure: str | None = None  # what numba raised when a kernel was to be compiled


def available() -> bool:
    """Whether numba is installed and, as far as this process has seen, works. If it does not, a warning says so."""
    return _failure is None and _imported() == ""


def why_not() -> str | None:
    """Why kernels are not compiled, in one line; None if they are."""
    if _failure is not None:
        return _failure
    return _imported() or None


@cache
def _imported() -> str:
    """Imports numba; what keeps it from being used, or an empty string."""
    if find_spec("numba") is None:
        return "numba is not installed"
    try:
        version = importlib.import_module("numba").__version__
    except Exception as error:  # whatever a broken installation raises
        return _warned(f"numba cannot be imported: {_in_one_line(error)}")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
        return _warned(f"numba {version} is installed, but {'.'.join(map(str, _OLDEST))} or newer is needed")
    return ""


def _warned(reason: str) -> str:
    """The reason, after a warning that NumPy is used instead."""
    warnings.warn(f"compiled kernels are not used, NumPy is: {reason}", RuntimeWarning, stacklevel=3)
    return reason


def _in_one_line(error: BaseException) -> str:
    said = " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(error)).split())  # numba colours its messages
    return f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__


class _UnlessBroken:
    """A context for the call of a kernel. Whatever numba raises there ends it silently, after one warning.

    Kernels are not compiled any more then, and what follows the context has to compute the same without them. An error
    of a kernel's own passes.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        global _failure
        if not isinstance(error, Exception):
            return False
        if not any(map(_is_of_numba, traceback.walk_tb(trace))):
            return False
        if _failure is None:
            _failure = f"numba cannot compile them here: {_in_one_line(error)}"
            _warned(_failure)
        return True


UNLESS_BROKEN = _UnlessBroken()


def _is_of_numba(call: tuple[FrameType, int]) -> bool:
    """Whether numba was called there, or a module was imported, which does not fail but for want of something in it."""
    code, names = call[0].f_code, call[0].f_globals
    return code.co_name == "<module>" or names.get("__name__", "").partition(".")[0] in ("numba", "llvmlite")


def serves(dtype: Any) -> bool:
    """Whether compiled kernels compute with this dtype: where numba is, and nobody said otherwise."""
    enabled = _enabled.value
    if enabled is None:
        enabled = os.environ.get("TINYGRAD_LSTM_COMPILED") != "0"
    return enabled and dtype in (FLOAT32, FLOAT64) and available()


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
        raise RuntimeError(f"compiled_kernels: {why_not()}; {how_to_install('fast')}")
    with _enabled.set_to(enabled):
        yield
