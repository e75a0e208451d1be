"""Dtypes: one file decides what they are, and how they promote."""

import ast
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.backends import dtypes

ROOT = Path(__file__).parents[1]
FILES = [path for floor in ("backends", "tinygrad_lstm", "models") for path in sorted((ROOT / floor).rglob("*.py"))]

EXCEPTIONS = {
    "backends/dtypes.py": "what the others ask",
    "backends/memory.py": "takes a dtype as numpy.empty does",
    "tinygrad_lstm/io/dtypes.py": "file formats' own dtypes",
    "tinygrad_lstm/io/torch/tensors.py": "bfloat16, which NumPy lacks",
}

# NumPy's functions that decide by a dtype, and its dtypes' names, which `==`, `is` and `in` would compare with.
FUNCTIONS = {"can_cast", "common_type", "dtype", "finfo", "iinfo", "isdtype", "issubdtype", "min_scalar_type"}
FUNCTIONS |= {"promote_types", "result_type"}
NAMES = {"bool", "bool_", *(f"float{bits}" for bits in (16, 32, 64))}
NAMES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
KINDS = set("?bBiufcmMOSUV")


def of_numpy(node: ast.AST, names: set[str]) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("np", "numpy", "xp")
        and node.attr in names
    )


def is_dtype(node: ast.AST) -> bool:
    """Whether an expression is called a dtype: `x.dtype`, `dtype`."""
    return getattr(node, "attr", getattr(node, "id", "")) == "dtype"


def operands(compared: ast.Compare) -> list[ast.expr]:
    """What a comparison compares, in sets and tuples too."""
    found = [compared.left, *compared.comparators]
    return found + [part for each in found if isinstance(each, ast.Tuple | ast.List | ast.Set) for part in each.elts]


def decides(node: ast.AST) -> bool:
    """Whether an expression decides something by a dtype."""
    if isinstance(node, ast.Attribute) and node.attr in ("kind", "char", "num"):
        return is_dtype(node.value)
    if isinstance(node, ast.Call):
        return of_numpy(node.func, FUNCTIONS)
    if not isinstance(node, ast.Compare):
        return False
    sides = operands(node)
    strings = [side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)]
    attributes = {side.attr for side in sides if isinstance(side, ast.Attribute)}
    return (
        any(of_numpy(side, NAMES) for side in sides)
        or "itemsize" in attributes
        or ("kind" in attributes and any(set(string) <= KINDS for string in strings))
        or (bool(strings) and any(is_dtype(side) or is_dtype(getattr(side, "value", side)) for side in sides))
    )


def decisions(source: str) -> list[str]:
    return [ast.unparse(node) for node in ast.walk(ast.parse(source)) if decides(node)]


def test_only_one_file_decides_by_dtypes() -> None:
    found = {path.relative_to(ROOT).as_posix(): decisions(path.read_text(encoding="utf-8")) for path in FILES}
    assert {name: lines for name, lines in found.items() if lines and name not in EXCEPTIONS} == {}
    assert [name for name in EXCEPTIONS if not found[name]] == []  # exceptions that nothing needs any more


@pytest.mark.parametrize(
    "source",
    [
        'x.dtype.kind == "f"',
        'kind.kind in "iu"',
        "dtype.itemsize > 2",
        "x.dtype == np.float16",
        "dtype in (np.float32, np.float64)",
        "dtype is np.bool_",
        'x.dtype == "float32"',
        'x.dtype.name == "bfloat16"',
        "np.result_type(x, y)",
        "np.dtype(x)",
        'x.dtype.char + "8"',
    ],
)
def test_the_scan_sees(source: str) -> None:
    assert decisions(source)


@pytest.mark.parametrize(
    "source",
    [
        'layer.kind == "GRU"',
        "x.size * x.dtype.itemsize",
        "x.dtype == y.dtype",
        "x.astype(np.float64)",
        "isinstance(dtype, np.dtype)",
        "dtype is None",
        "parameter.kind is not parameter.VAR_POSITIONAL",
    ],
)
def test_the_scan_lets_pass(source: str) -> None:
    assert decisions(source) == []


INTEGERS = [np.dtype(f"{sign}{size}") for sign in "iu" for size in (1, 2, 4, 8)]
FLOATS = [np.dtype(f"f{size}") for size in (2, 4, 8)]
ALL = [np.dtype(bool), *INTEGERS, *FLOATS]


def test_each_dtype_is_of_one_kind() -> None:
    kinds = {dtype: (dtypes.is_bool(dtype), dtypes.is_integer(dtype), dtypes.is_float(dtype)) for dtype in ALL}
    assert kinds == {dtype: (dtype == ALL[0], dtype in INTEGERS, dtype in FLOATS) for dtype in ALL}


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_what_a_dtype_holds(dtype: np.dtype[Any]) -> None:
    lowest, highest = dtypes.limits(dtype)
    ends = tg.tensor([lowest, highest], dtype)
    assert ends.tolist() == [lowest, highest]
    if dtype in INTEGERS:
        for beyond in (lowest - 1, highest + 1):
            with pytest.raises(OverflowError, match=f"{beyond} is out of bounds for {dtype}"):
                tg.tensor([beyond], dtype)


@pytest.mark.parametrize(("x", "y"), list(itertools.product(ALL, ALL)), ids=str)
def test_promotion(x: np.dtype[Any], y: np.dtype[Any]) -> None:
    """Integers and bool never widen floats, and become float32 where a float is needed; the rest is NumPy's."""
    floats = [dtype for dtype in (x, y) if dtype in FLOATS]
    expected = np.result_type(*(floats or (x, y)))
    assert (tg.ones(2, dtype=x) * tg.ones(2, dtype=y)).dtype == expected
    assert (tg.ones(2, dtype=x) / tg.ones(2, dtype=y)).dtype == (expected if floats else np.float32)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_which_dtypes_have_gradients(dtype: np.dtype[Any]) -> None:
    if dtype in FLOATS:
        assert tg.ones(2, dtype=dtype, requires_grad=True).requires_grad
    else:
        with pytest.raises(TypeError, match="only float tensors have gradients"):
            tg.ones(2, dtype=dtype, requires_grad=True)
