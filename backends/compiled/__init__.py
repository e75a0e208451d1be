"""Faster kernels for the CPU, in C, which the machine's own compiler builds when they are first used."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from ..dtypes import FLOAT32, FLOAT64
from ..scoped import Scoped
from .errors import BuildError

__all__ = ["Kernel", "compiled_kernels", "enabled", "serves"]

_enabled = Scoped[bool | None]("compiled_kernels", None)
_not_built = set[tuple[str, Any]]()  # modules and dtypes whose libraries cannot be built: they are not tried again


class Kernel:
    """A function in C, if it can be built and is not disabled. It does not warn if not; `why_not` says why.

    Args:
        name: the name of the function.
        module: the module of this package that has it.
    """

    def __init__(self, name: str, module: str) -> None:
        self._name, self._module = name, module

    def __call__(self, dtype: Any, *args: Any) -> Any:
        """The function's result for arrays of a dtype; NotImplemented if it is not compiled, and has done nothing."""
        if enabled(dtype) and (self._module, dtype) not in _not_built:
            with suppress(BuildError):
                return self._function()(*args)
            _not_built.add((self._module, dtype))
        return NotImplemented

    @cache  # noqa: B019 (kernels are never deleted)
    def _function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(importlib.import_module(f".{self._module}", __name__), self._name)
        return function


def enabled(dtype: Any) -> bool:
    """Whether compiled kernels may be used for this dtype: there are kernels for it, and they are not disabled."""
    chosen = _enabled.value
    if chosen is None:
        chosen = os.environ.get("TINYGRAD_LSTM_COMPILED") != "0"
    return chosen and dtype in (FLOAT32, FLOAT64)


def serves(dtype: Any) -> bool:
    """Whether compiled kernels are used for this dtype: C works, and they are not disabled."""
    return enabled(dtype) and _why_not() is None


def _why_not() -> str | None:
    from .building import why_not

    return why_not()


@contextmanager
def compiled_kernels(enabled: bool) -> Iterator[None]:
    """Enables or disables compiled kernels in a `with` block. By default, TINYGRAD_LSTM_COMPILED=0 disables them.

    Raises:
        RuntimeError: they are enabled, but there is no C compiler, or it does not work.

    >>> import tinygrad_lstm as tg
    >>> with tg.compiled_kernels(False):
    ...     y = tg.ones(2, 3).sum()
    """
    if enabled and (reason := _why_not()) is not None:
        raise RuntimeError(f"compiled_kernels: {reason}; install a C compiler, or set CC to one")
    with _enabled.set_to(enabled):
        yield
