"""Compiled kernels where numba, or the disk, does not do as hoped: they are never needed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import warnings
import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM

with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    for _ in range(2):
        out, _ = LSTM(3, 4)(tg.randn(2, 2, 3))
        out.sum().backward()
print(len(found), found[0].message)
try:
    with tg.compiled_kernels(True):
        pass
except RuntimeError as error:
    print(error)
"""


def test_numba_that_does_not_work_here_is_done_without(tmp_path: Path) -> None:
    """As where it refuses a NumPy that is too new for it. One warning tells."""
    (tmp_path / "numba.py").write_text("raise ImportError('numba needs NumPy 2.3 or less')")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM}"
    environment = {name: value for name, value in os.environ.items() if name != "TINYGRAD_LSTM_COMPILED"}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    warning, error = ended.stdout.splitlines()
    assert warning.startswith("1 compiled kernels are not used") and warning.endswith("numba needs NumPy 2.3 or less")
    assert error.startswith("compiled_kernels: numba is not installed, or does not work here; pip install")


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
