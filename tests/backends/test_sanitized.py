"""A sample of `make sanitize`: kernels in C stay within their arrays, and errors of C would be noticed."""

from pathlib import Path

import pytest
import sanitized

pytestmark = pytest.mark.skipif(sanitized.environment() is None, reason="there is no GCC with AddressSanitizer")

WRONG = {
    "heap-buffer-overflow": "double wrong(const double *x, long k) { return x[k + 3]; }",
    "signed integer overflow": "int wrong(const double *x, int k) { return 2147483647 + k; }",
}


def test_kernels_have_no_errors() -> None:
    tests = str(Path(__file__).with_name("test_training.py"))
    ended = sanitized.run(["-m", "pytest", "-n", "0", tests, "-k", "numpys or order or logits"], True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout


@pytest.mark.parametrize("error", WRONG)
def test_errors_are_found(error: str) -> None:
    program = f"""
import ctypes
import numpy as np
from tinygrad_lstm.backends.compiled.building import library
wrong = library("wrong", {WRONG[error]!r}).wrong
wrong(ctypes.c_void_p(np.ones(3).ctypes.data), ctypes.c_long(2))
"""
    ended = sanitized.run(["-c", program], True)
    assert ended.returncode != 0 and error in ended.stderr
