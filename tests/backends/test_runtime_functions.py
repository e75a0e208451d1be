"""The elementary functions of generated C, in vector instructions, to the last bits."""

import ctypes
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.backends.compiled.building import library, why_not

HostArray = np.ndarray[Any, Any]
pytestmark = pytest.mark.skipif(why_not() is not None, reason="there is no C compiler")

TYPES = {"float32": ("f32", "float"), "float64": ("f64", "double")}
ARGUMENTS = {1: "x[k]", 2: "x[k], y[k]"}


def sigmoid(x: HostArray) -> HostArray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def log1pexp(x: HostArray) -> HostArray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def erf(x: HostArray) -> HostArray:
    return np.array([math.erf(value) for value in x.tolist()])


class Function(NamedTuple):
    """What a C function computes, of how many arguments, and by how many units in the last place it may be off."""

    true: Callable[..., HostArray]
    units: float
    arguments: int = 1


FUNCTIONS = {
    "abs": Function(np.abs, 0),
    "sign": Function(np.sign, 0),
    "floor": Function(np.floor, 0),
    "ceil": Function(np.ceil, 0),
    "trunc": Function(np.trunc, 0),
    "round": Function(np.round, 0),
    "maximum": Function(np.maximum, 0, 2),
    "minimum": Function(np.minimum, 0, 2),
    "sqrt": Function(np.sqrt, 0.5),
    "exp": Function(np.exp, 1.1),
    "exp_nonpositive": Function(lambda x: np.exp(np.minimum(x, 0)), 1.1),
    "expm1": Function(np.expm1, 2),
    "tanh": Function(np.tanh, 2.6),
    "sigmoid": Function(sigmoid, 2.6),
    "log": Function(np.log, 1),
    "log1p": Function(np.log1p, 1),
    "log1pexp": Function(log1pexp, 1.8),
    "erf": Function(erf, 1.5),
    "sin": Function(np.sin, 2),
    "cos": Function(np.cos, 2),
    "pow": Function(np.power, 2, 2),
    "tan": Function(np.tan, 2),
    "asin": Function(np.arcsin, 2),
    "acos": Function(np.arccos, 2),
    "atan": Function(np.arctan, 2),
    "sinh": Function(np.sinh, 3),
    "cosh": Function(np.cosh, 3),
    "asinh": Function(np.arcsinh, 3),
    "acosh": Function(np.arccosh, 3),
    "atanh": Function(np.arctanh, 3),
    "log2": Function(np.log2, 2),
    "log10": Function(np.log10, 2),
    "atan2": Function(np.arctan2, 2, 2),
    "hypot": Function(np.hypot, 2, 2),
    "direction": Function(lambda x, y: np.sin(np.arctan2(x, np.abs(y))), 3, 2),
    "remainder": Function(np.remainder, 1, 2),
    "floor_divide": Function(np.floor_divide, 1, 2),
}
BY_THE_C_LIBRARY = {
    "pow",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
}
BY_THE_C_LIBRARY |= {"log2", "log10", "atan2", "remainder", "floor_divide"}
VECTORIZED = set(FUNCTIONS) - BY_THE_C_LIBRARY
FLUSHING = ("exp_nonpositive", "sigmoid", "log1pexp")  # results below the normal numbers are 0


def source() -> str:
    """A loop over arrays for each function and type, each in a line of its own, which names it."""
    text = '#include "functions.h"\n'
    for name, function in FUNCTIONS.items():
        for suffix, real in TYPES.values():
            text += (
                f"void all_{name}_{suffix}(long n, const {real} *restrict x, const {real} *restrict y, "
                f"{real} *restrict out) {{ "
                f"for (long k = 0; k < n; ++k) out[k] = {name}_{suffix}({ARGUMENTS[function.arguments]}); }}\n"
            )
    return text


@cache
def loops() -> ctypes.CDLL:
    return library("functions", source())


def computed(name: str, *arrays: HostArray) -> HostArray:
    x, y, out = arrays[0], arrays[-1], np.empty_like(arrays[0])
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, y, out)]
    loops()[f"all_{name}_{TYPES[x.dtype.name][0]}"](ctypes.c_long(x.size), *pointers)
    return out


def drawn(name: str, dtype: str) -> tuple[HostArray, ...]:
    """Numbers of all sizes, and such that all results of the function occur."""
    rng = np.random.default_rng(0)
    largest = 100.0 if dtype == "float32" else 740.0
    x = np.concatenate([rng.uniform(-scale, scale, 20_000) for scale in (1e-30, 1e-6, 0.1, 0.5, 1, 3, 10, largest)])
    if name in ("log", "log2", "log10", "sqrt", "log1p", "pow"):
        x = np.concatenate([np.abs(x), np.exp(x.clip(-largest, 0.88 * largest)), rng.uniform(0.5, 1.5, 20_000)])
    if name == "log1p":
        x = np.concatenate([x, rng.uniform(-1, 0, 20_000)])
    if name == "exp_nonpositive":
        x = -np.abs(x)
    return x.astype(dtype), rng.uniform(-4, 4, x.size).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_right_to_the_last_bits(name: str, dtype: str) -> None:
    arrays = drawn(name, dtype)[: FUNCTIONS[name].arguments]
    found = computed(name, *arrays)
    expected = FUNCTIONS[name].true(*(array.astype(np.longdouble) for array in arrays))
    rounded = expected.astype(dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    smallest = np.finfo(dtype).tiny
    off = np.abs(found - expected)[finite] / np.spacing(np.abs(rounded))[finite]
    if name in FLUSHING:
        off = off[rounded[finite] >= smallest]
    assert off.max() <= FUNCTIONS[name].units


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_special_values(name: str, dtype: str) -> None:
    """NaNs, infinities, zeros with their signs, and the smallest and largest numbers, alone and in pairs."""
    info = np.finfo(dtype)
    least = info.smallest_subnormal
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, least, -least, info.tiny, info.max, info.min, 2.0, -3.5]
    x, y = (part.reshape(-1) for part in np.meshgrid(*2 * [np.array(special, dtype)]))
    arrays = (np.minimum(x, 0) if name == "exp_nonpositive" else x, y)[: FUNCTIONS[name].arguments]
    found = computed(name, *arrays)
    expected = FUNCTIONS[name].true(*(array.astype(np.longdouble) for array in arrays)).astype(dtype)
    np.testing.assert_array_max_ulp(found, expected, maxulp=2)
    if name not in ("maximum", "minimum"):  # of zeros with different signs, NumPy may return either
        some = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found)[some], np.signbit(expected)[some])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_do_not_depend_on_the_place_in_an_array(name: str, dtype: str) -> None:
    """The first and last elements of a loop, and all elements of unaligned arrays, are computed as the others."""
    arrays = [array[::1001][:100] for array in drawn(name, dtype)[: FUNCTIONS[name].arguments]]
    whole = computed(name, *(np.ascontiguousarray(array) for array in arrays))
    for first in range(1, 36):
        shifted = [np.concatenate([np.ones(first, dtype), array])[first : first + 71] for array in arrays]
        np.testing.assert_array_equal(computed(name, *shifted), whole[:71])
        alone = [np.ascontiguousarray(array[first : first + 1]) for array in arrays]
        np.testing.assert_array_equal(computed(name, *alone), whole[first : first + 1])


REPORTS = {
    "gcc": ("-fopt-info-vec-optimized", "loop vectorized"),
    "clang": ("-Rpass=loop-vectorize", "vectorized loop"),
}


@pytest.mark.parametrize("compiler", REPORTS)
def test_compilers_vectorize_the_loops(compiler: str, tmp_path: Path) -> None:
    is_clang = "clang" in subprocess.getoutput(f"{compiler} --version")
    if shutil.which(compiler) is None or is_clang != (compiler == "clang"):
        pytest.skip(f"there is no {compiler}")
    flag, message = REPORTS[compiler]
    path = tmp_path / "loops.c"
    terms = [f"tanh_f32(x[k] - {n}) * sigmoid_f32(x[k] + {n}) + log1pexp_f32({n} * x[k])" for n in range(25)]
    large = (
        f"void all_large_f32(long n, float *restrict x) {{ for (long k = 0; k < n; ++k) x[k] = {' + '.join(terms)}; }}"
    )
    text = source() + large
    path.write_text(text)
    options = [*building._FLAGS, "-march=native", flag, f"-I{building.RUNTIME}"]
    command = [compiler, *options, "-c", path, "-o", tmp_path / "loops.o"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {int(match) for match in re.findall(rf"loops\.c:(\d+):\d+: .*{message}", ended.stderr)}
    names = {line: text.partition("all_")[2].partition("(")[0] for line, text in enumerate(text.splitlines(), 1)}
    expected = {name for name in names.values() if name.rpartition("_")[0] in VECTORIZED | {"large"}}
    assert expected - {names[line] for line in found} == set()
    assert len(expected) == 2 * len(VECTORIZED) + 1
