"""Kernels where a compiler, or the disk, does not work: they are never needed."""

import operator
import os
import subprocess
import sys
import types
from functools import cache
from pathlib import Path

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


def run_program(before: bool = True, **environment: str) -> list[str]:
    """What the program prints with an environment; `before` asks for `info` before anything else too."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "TINYGRAD_LSTM_COMPILED")}
    ended = subprocess.run(
        [sys.executable, "-c", f"BEFORE = {before}\n{PROGRAM}"],
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


def test_an_error_raised_by_a_kernel_does_not_turn_kernels_off() -> None:
    fails = compiled.Kernel("truediv", "operators")
    operators = types.SimpleNamespace(truediv=operator.truediv)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tinygrad_lstm.backends.compiled.operators", operators)
        with pytest.raises(ZeroDivisionError):
            fails(FLOAT32, 1, 0)
        assert fails(FLOAT32, 6, 2) == 3
        assert fails(FLOAT16, 6, 2) is NotImplemented
        with compiled.compiled_kernels(False):
            assert fails(FLOAT32, 6, 2) is NotImplemented


@pytest.mark.skipif(os.name != "posix", reason="the compiler of this test is a shell script")
@pytest.mark.parametrize("before", [True, False])
def test_a_c_compiler_that_fails_is_done_without(tmp_path: Path, before: bool) -> None:
    """`info` says so, without a warning; NumPy computes."""
    script = tmp_path / "cc"
    script.write_text("#!/bin/sh\ntest \"$1\" = --version || { echo 'error: not today' >&2; exit 1; }\n")
    script.chmod(0o700)
    warnings, shown, result, error = run_program(before, CC=str(script))
    reason = f"{script} fails: error: not today"
    assert warnings == "0"
    assert shown == f"CPU kernels    NumPy ({reason}; faster ones need a C compiler)"
    assert error == f"compiled_kernels: {reason}; install a C compiler, or set CC to one"
    assert result == result_of_numpy()


def test_without_a_compiler_numpy_computes() -> None:
    warnings, shown, result, error = run_program(CC="no-such-compiler")
    assert warnings == "0"
    assert "CC is no-such-compiler, which is not found" in shown and "which is not found; install" in error
    assert result == result_of_numpy()
