"""Kernels where a compiler, or the disk, does not work: they are never needed."""

import operator
import os
import subprocess
import sys
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tinygrad_lstm.backends import compiled
from tinygrad_lstm.backends.dtypes import FLOAT16, FLOAT32

PROGRAM = """
import contextlib, io, warnings
import numpy as np
import tinygrad_lstm as tg
from tinygrad_lstm.cli.info import info
from tinygrad_lstm.models import GRU, LSTM

ids = tg.tensor([[0, 1], [1, 0]])
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if BEFORE: info()
        for _ in range(2):
            tg.manual_seed(0)
            embedding, lstm, gru = tg.nn.Embedding(2, 3), LSTM(3, 4), GRU(4, 160)
            out, _ = gru(lstm(embedding(ids))[0])
            wide = tg.ones(160, 160, requires_grad=True)
            loss = tg.cross_entropy((tg.ones(160, 160) @ wide)[:2] + out[-1], tg.tensor([0, 1]))
            optimizer = tg.optim.Adam([*embedding.parameters(), *lstm.parameters(), wide])
            loss.backward()
            optimizer.step()
            with tg.no_grad():
                lstm.stream(2)(np.zeros((2, 3), np.float32))
        if not BEFORE: info()
print(len(found), *{str(warning.message) for warning in found})
print(next(line for line in printed.getvalue().splitlines() if line.startswith("CPU kernels")))
print(float(loss.item()), float(wide.grad.data.sum()))
try:
    with tg.compiled_kernels(True):
        pass
except RuntimeError as error:
    print(error)
"""

NO_COMPILER = "no-such-compiler"
NO_C = f"CC is {NO_COMPILER}, which is not found"

# What happens to numba, in front of the program; in each case the error is the same.
FAILS = """
import os, sys
names = {"__name__": "numba.core.dispatcher"}
exec("def fails(*args, **options): raise RuntimeError('no machine code\\\\ntoday')", names)
"""
BROKEN = {
    "at import": "sys.path.insert(0, os.environ['FOLDER'])",
    "at decoration": "import numba; numba.njit = names['fails']",
    "at a call": "from numba.core.dispatcher import Dispatcher; Dispatcher._compile_for_args = names['fails']",
    "in its parts": "import numba.extending; del numba.extending.overload",
}


def run_program(before: bool = True, first: str = "", **environment: str) -> list[str]:
    """What the program prints with an environment; `first` is run before it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "TINYGRAD_LSTM_COMPILED")}
    ended = subprocess.run(
        [sys.executable, "-c", f"{first}\nBEFORE = {before}\n{PROGRAM}"],
        capture_output=True,
        text=True,
        timeout=240,
        env={**kept, **environment},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


@cache
def result_of_numpy() -> str:
    return run_program(TINYGRAD_LSTM_COMPILED="0")[2]


@pytest.mark.parametrize(("how", "before"), [*((how, False) for how in BROKEN), ("at a call", True)])
def test_numba_that_does_not_work_here_is_done_without(how: str, before: bool, tmp_path: Path) -> None:
    """As if it refuses a NumPy that is too new for it. One warning says so, and `info`; results are NumPy's."""
    if how != "at import":
        pytest.importorskip("numba", reason="numba is not installed: there are no compiled kernels")
    (tmp_path / "numba.py").write_text("raise RuntimeError('no machine code\\ntoday')")
    warning, shown, result, error = run_program(before, FAILS + BROKEN[how], FOLDER=str(tmp_path), CC=NO_COMPILER)
    reason = {"in its parts": "ImportError: cannot import name 'overload'"}.get(
        how, "RuntimeError: no machine code today"
    )
    assert (
        warning.startswith("1 kernels are not compiled by numba, NumPy computes: numba cannot ") and reason in warning
    )
    assert shown.startswith(f"CPU kernels    NumPy ({NO_C}; numba cannot ") and reason in shown
    assert error.startswith(f"compiled_kernels: {NO_C}; numba cannot ") and reason in error
    assert error.endswith("; install a C compiler, or pip install '.[fast]' in a checkout of tinygrad_lstm")
    assert result == result_of_numpy()


def test_a_numba_that_is_too_old_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("__version__ = '0.60.0'")
    warning, shown, *_ = run_program(first=f"import sys; sys.path.insert(0, {str(tmp_path)!r})", CC=NO_COMPILER)
    reason = "numba 0.60.0 is installed, but 0.61 or newer is needed"
    assert warning == f"1 kernels are not compiled by numba, NumPy computes: {reason}"
    assert reason in shown


def test_without_a_writable_folder_kernels_are_compiled_in_memory() -> None:
    """In a read-only tree without a home directory, machine code is kept only in memory."""
    pytest.importorskip("numba", reason="numba is not installed: there are no compiled kernels")
    code = """
import warnings
warnings.simplefilter("error")
import numpy as np
import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled.numba_training import add_rows
target = tg.zeros(3, 2)
add_rows(target.data, np.array([1, 1]), np.ones((2, 2), np.float32))
print(target.tolist(), tg.backends.compiled.why_no_numba())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": "/proc/nothing", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("HOME", None)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "[[0.0, 0.0], [2.0, 2.0], [0.0, 0.0]] None\n"


@pytest.mark.parametrize("by", ["c", "numba"])
def test_an_error_raised_by_a_kernel_does_not_turn_kernels_off(by: str) -> None:
    fails = compiled.Kernel("truediv", **{by: "operators"})
    operators = types.SimpleNamespace(truediv=operator.truediv)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tinygrad_lstm.backends.compiled.operators", operators)
        if by == "numba" and compiled.why_no_numba() is not None:
            assert fails(FLOAT32, 1, 0) is NotImplemented
            return
        with pytest.raises(ZeroDivisionError):
            fails(FLOAT32, 1, 0)
        assert fails(FLOAT32, 6, 2) == 3
        assert fails(FLOAT16, 6, 2) is NotImplemented
        with compiled.compiled_kernels(False):
            assert fails(FLOAT32, 6, 2) is NotImplemented


@pytest.mark.skipif(os.name != "posix", reason="the compiler of this test is a shell script")
def test_a_c_compiler_that_fails_is_done_without(tmp_path: Path) -> None:
    """`info` says so, without a warning; numba's kernels or NumPy compute."""
    script = tmp_path / "cc"
    script.write_text("#!/bin/sh\ntest \"$1\" = --version || { echo 'error: not today' >&2; exit 1; }\n")
    script.chmod(0o700)
    warnings, shown, result, error = run_program(False, "import sys; sys.modules['numba'] = None", CC=str(script))
    reason = f"{script} fails: error: not today; numba is not installed; "
    assert warnings == "0"
    assert shown.startswith(f"CPU kernels    NumPy ({reason}")
    assert error.startswith(f"compiled_kernels: {reason}")
    assert result == result_of_numpy()


@pytest.mark.parametrize("message", ["cannot cache function 'f': no locator available", "something else"])
def test_where_nothing_can_be_written_machine_code_is_not_kept(message: str) -> None:
    pytest.importorskip("numba", reason="numba is not installed: there are no compiled kernels")
    from tinygrad_lstm.backends.compiled.jit import compiled_with

    def decorator(cache: bool = False, nogil: bool = False) -> Callable[[Any], Any]:
        def decorate(function: Any) -> Any:
            if cache:
                raise RuntimeError(message)
            return lambda: (function(), nogil)

        return decorate

    if message.startswith("cannot cache"):
        assert compiled_with(decorator, nogil=True)(lambda: "called")() == ("called", True)
    else:
        with pytest.raises(RuntimeError, match=message):
            compiled_with(decorator, nogil=True)(lambda: "called")
