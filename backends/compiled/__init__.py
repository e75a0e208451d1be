"""Faster kernels for the CPU: in C, built by the machine's compiler, or else compiled by numba (the extra `fast`).

Importing this package does not import numba; its modules do, when a kernel is first used.
"""

import importlib
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from types import FrameType, TracebackType
from typing import Any

from ..dtypes import FLOAT32, FLOAT64
from ..installing import how_to_install
from ..scoped import Scoped
from . import building

__all__ = ["Kernel", "available", "compiled_kernels", "enabled", "serves", "why_no_numba", "why_not"]

_OLDEST = (0, 61)  # numba 0.60 cannot compile these kernels

_enabled = Scoped[bool | None]("compiled_kernels", None)
_failure: str | None = None  # the error of numba when it compiled a kernel
_not_built = set[tuple[str, Any]]()  # modules in C and dtypes whose libraries cannot be built: they are not tried again


def available() -> bool:
    """Whether kernels are compiled here, in C or by numba."""
    return why_not() is None


def why_not() -> str | None:
    """The reason why kernels are not compiled, in one line; None if C or numba works."""
    reason = building.why_not() and why_no_numba()
    return reason and f"{building.why_not()}; {reason}"


def why_no_numba() -> str | None:
    """The reason why numba does not compile kernels, in one line; None if it does. A warning says so if it fails."""
    return _failure or _imported() or None


@cache
def _imported() -> str:
    """Imports numba; returns the reason why it cannot be used, or an empty string."""
    if find_spec("numba") is None:
        return "numba is not installed"
    try:
        version = importlib.import_module("numba").__version__
    except Exception as error:  # a broken installation may raise any error
        return _warned(f"numba cannot be imported: {_in_one_line(error)}")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
        return _warned(f"numba {version} is installed, but {'.'.join(map(str, _OLDEST))} or newer is needed")
    return ""


def _warned(reason: str) -> str:
    """Warns that NumPy is used instead, and returns the reason."""
    warnings.warn(f"kernels are not compiled by numba, NumPy computes: {reason}", RuntimeWarning, stacklevel=3)
    return reason


def _in_one_line(error: BaseException) -> str:
    said = " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(error)).split())  # numba colours its messages
    return f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__


class _UnlessBroken:
    """A context for the call of a kernel. It suppresses errors of numba, with one warning.

    After such an error kernels are not compiled any more, and the code after the context must compute the same without
    them. Errors of the kernel itself are not suppressed.
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


_UNLESS_BROKEN = _UnlessBroken()


def _is_of_numba(call: tuple[FrameType, int]) -> bool:
    """Whether this call is in numba, or is the import of a module, which fails only if a part of numba is missing."""
    code, names = call[0].f_code, call[0].f_globals
    return code.co_name == "<module>" or names.get("__name__", "").partition(".")[0] in ("numba", "llvmlite")


class Kernel:
    """A function that is compiled, in C or by numba, if that is possible and not disabled.

    If C does not work there is no warning; `building.why_not()` says why.

    Args:
        name: the name of the function in its modules.
        modules: the modules of this package that compute it, by compiler, "c" or "numba", in the order of preference.
    """

    def __init__(self, name: str, **modules: str) -> None:
        self._name, self._modules = name, modules

    def __call__(self, dtype: Any, *args: Any) -> Any:
        """The function's result for arrays of a dtype; NotImplemented if it is not compiled, and has done nothing."""
        if enabled(dtype):
            for compiler, module in self._modules.items():
                if compiler == "c" and (module, dtype) not in _not_built:
                    with suppress(building.BuildError):
                        return self._function(module)(*args)
                    _not_built.add((module, dtype))
                elif compiler == "numba" and why_no_numba() is None:
                    with _UNLESS_BROKEN:
                        return self._function(module)(*args)
        return NotImplemented

    @cache  # noqa: B019 (kernels are never deleted)
    def _function(self, module: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(importlib.import_module(f".{module}", __name__), self._name)
        return function


def enabled(dtype: Any) -> bool:
    """Whether compiled kernels may be used for this dtype: there are kernels for it, and they are not disabled."""
    chosen = _enabled.value
    if chosen is None:
        chosen = os.environ.get("TINYGRAD_LSTM_COMPILED") != "0"
    return chosen and dtype in (FLOAT32, FLOAT64)


def serves(dtype: Any) -> bool:
    """Whether compiled kernels are used for this dtype: C or numba works, and they are not disabled."""
    return enabled(dtype) and available()


@contextmanager
def compiled_kernels(enabled: bool) -> Iterator[None]:
    """Enables or disables compiled kernels in a `with` block. By default, TINYGRAD_LSTM_COMPILED=0 disables them.

    Raises:
        RuntimeError: they are enabled, but there is no C compiler, and numba is not installed or does not work.

    >>> import tinygrad_lstm as tg
    >>> with tg.compiled_kernels(False):
    ...     y = tg.ones(2, 3).sum()
    """
    if enabled and not available():
        raise RuntimeError(f"compiled_kernels: {why_not()}; install a C compiler, or {how_to_install('fast')}")
    with _enabled.set_to(enabled):
        yield
