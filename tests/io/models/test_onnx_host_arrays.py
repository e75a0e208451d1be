"""Arithmetic of shapes on the host: equal to that of tensors, and it keeps where a length came from."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import tinygrad_lstm as tg
from tinygrad_lstm.io.models.body import plain_array
from tinygrad_lstm.io.models.onnx import building  # noqa: F401  (all rules are registered)
from tinygrad_lstm.io.models.rules import rule_for

OPSET = 21
LENGTHS = st.lists(st.integers(-6, 6), min_size=1, max_size=4)
ARITHMETIC = ["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max"]
COMPARISONS = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]
LOGIC = ["And", "Or", "Xor"]
REDUCTIONS = ["ReduceSum", "ReduceProd", "ReduceMin", "ReduceMax"]


def call(op: str, *values: Any, **attributes: Any) -> Any:
    rule = rule_for("", op, OPSET)
    assert rule is not None
    return rule.call(attributes, OPSET)(*values)


def check(op: str, *values: Any, fixed: tuple[Any, ...] = (), **attributes: Any) -> None:
    """Compares the results of values as arrays of Python's integers, of int64, and as tensors."""
    arrays = [np.asarray(value) for value in values]
    ends = [np.asarray(value) for value in fixed]
    expected = call(op, *map(tg.tensor, arrays), *ends, **attributes).numpy()
    for dtype in (object, None):
        got = plain_array(call(op, *[array.astype(dtype or array.dtype) for array in arrays], *ends, **attributes))
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@given(a=LENGTHS, b=st.integers(-6, 6), op=st.sampled_from(ARITHMETIC + COMPARISONS))
def test_arithmetic(a: list[int], b: int, op: str) -> None:
    check(op, a, b or 1)
    check(op, b, [each or 1 for each in a])
    check(op, b, a[0] or 1)


@given(a=st.lists(st.booleans(), min_size=1, max_size=4), b=st.booleans(), op=st.sampled_from(LOGIC))
def test_logic(a: list[bool], b: bool, op: str) -> None:
    check(op, a, b)
    check("Not", a)
    check("Where", a, list(range(len(a))), -1)


@given(a=LENGTHS, op=st.sampled_from(REDUCTIONS), keepdims=st.booleans())
def test_reductions(a: list[int], op: str, keepdims: bool) -> None:
    check(op, a, keepdims=int(keepdims))
    check(op, a, fixed=([0],), keepdims=int(keepdims))


@given(a=LENGTHS, data=st.data())
def test_parts(a: list[int], data: st.DataObject) -> None:
    n = len(a)
    ends = st.integers(-n - 1, n + 1)
    check("Slice", a, fixed=([data.draw(ends)], [data.draw(ends)], [0], [data.draw(st.sampled_from([1, 2, -1]))]))
    check("Gather", a, data.draw(st.integers(-n, n - 1)))
    check("Gather", a, data.draw(st.lists(st.integers(-n, n - 1), min_size=1)))
    check("Concat", a, a[:1], a, axis=0)


@given(a=LENGTHS)
def test_shapes(a: list[int]) -> None:
    check("Unsqueeze", a, fixed=([0, -1],))
    check("Squeeze", [[a]], fixed=([0, 1],))
    check("Reshape", a, fixed=([-1, 1],))
    check("Transpose", [a, a], perm=[1, 0])
    check("Expand", [[each] for each in a], fixed=([len(a), 3],))
    check("Tile", a, fixed=([2],))
    for op in ("Abs", "Neg", "Floor", "Ceil", "Sign"):
        check(op, a)


@given(a=LENGTHS, to=st.sampled_from([TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL]))
def test_dtypes(a: list[int], to: int) -> None:
    check("Cast", a, to=to)


@given(start=st.integers(-5, 5), limit=st.integers(-5, 5), delta=st.sampled_from([-2, -1, 1, 3]))
def test_ranges(start: int, limit: int, delta: int) -> None:
    check("Range", start, limit, delta)


# -- lengths that remain free ------------------------------------------------------------------------------------------


def test_a_model_that_computes_shapes_is_exported_with_free_lengths(tmp_path: Path) -> None:
    """x (T, B, 4) becomes (T // 2, 2 * B, 4), plus the numbers of steps, then zeros of its shape are appended."""
    ints = {"i0": 0, "i1": 1, "i2": 2, "zero": [0], "end": [1], "four": [4], "minus": [-1]}
    nodes = [
        ("Shape", "x", "shape", {}),
        ("Gather", "shape i0", "T", {}),
        ("Gather", "shape i1", "B", {}),
        ("Div", "T i2", "half", {}),
        ("Mul", "B i2", "twice", {}),
        ("Cast", "half", "half32", {"to": TensorProto.INT32}),
        ("Cast", "half32", "half64", {"to": TensorProto.INT64}),
        ("Unsqueeze", "half64 zero", "half_", {}),
        ("Unsqueeze", "twice zero", "twice_", {}),
        ("Concat", "half_ twice_ four", "new", {"axis": 0}),
        ("Mul", "half i2", "even", {}),
        ("Unsqueeze", "even zero", "even_", {}),
        ("Slice", "x zero even_ zero", "some", {}),
        ("Reshape", "some new", "apart", {}),
        ("Range", "i0 half i1", "steps", {}),
        ("Cast", "steps", "places", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", "places ends", "column", {}),
        ("Add", "apart column", "sum", {}),
        ("ConstantOfShape", "new", "zeros", {}),
        ("Concat", "sum zeros", "y", {"axis": 2}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, given.split(), [out], **attributes) for op, given, out, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (ints | {"ends": [1, 2]}).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "model.onnx")
    model = tg.io.load_model(tmp_path / "model.onnx")
    tg.io.export_onnx(model, tmp_path / "again.onnx")
    again = tg.io.load_model(tmp_path / "again.onnx")
    for T, B in ((6, 1), (9, 3), (2, 2)):
        x = np.random.default_rng(T).standard_normal((T, B, 4)).astype(np.float32)
        half = T // 2
        sums = x[: 2 * half].reshape(half, 2 * B, 4) + np.arange(half)[:, None, None]
        for each in (model, again):
            np.testing.assert_allclose(each(x).numpy(), np.concatenate([sums, 0 * sums], 2), rtol=1e-6)


def test_a_rule_is_pickled_by_its_name(tmp_path: Path) -> None:
    """Also a rule whose function is in a module that registers none, for a process that has registered none."""
    rule = rule_for("", "Softmax", 7)
    assert rule is not None
    call = pickle.loads(pickle.dumps(rule.call({"axis": 0})))
    np.testing.assert_allclose(call(tg.ones(2, 2)).numpy(), np.full((2, 2), 0.25))
    assert pickle.loads(pickle.dumps(call.rule)) is rule
    convolution = rule_for("", "Conv", 7)
    assert convolution is not None
    path = tmp_path / "rule.pickle"
    path.write_bytes(pickle.dumps(convolution))
    code = f"import pickle; print(pickle.load(open({str(path)!r}, 'rb')).op)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "Conv\n"


@given(
    a=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    dtype=st.sampled_from(["int32", "int64", "float32", "float64"]),
)
def test_constants_keep_their_dtypes(a: list[int], dtype: str) -> None:
    x, two = np.array(a, dtype), np.array(2, dtype)
    for op in ("Pow", "Mul", "Div"):
        assert call(op, x, two).dtype == x.dtype
    for exponent in ("int64", "float32"):
        assert call("Pow", x, two.astype(exponent)).dtype == x.dtype
        assert call("Pow", x, two.astype(exponent)).tolist() == [each**2 for each in a]
    for op in REDUCTIONS:
        assert call(op, x).dtype == x.dtype
    assert call("Range", *map(np.asarray, np.array([0, 2, 1], dtype))).dtype == x.dtype


def test_a_power_of_a_length_is_a_length() -> None:
    power = call("Pow", np.array([2, 3], object), np.array(2.0, np.float32))
    assert [type(each) for each in power] == [int, int]
    np.testing.assert_array_equal(plain_array(power), [4, 9])


@pytest.mark.parametrize(
    ("op", "axes"), [("Unsqueeze", [3]), ("Unsqueeze", [0, -3]), ("Squeeze", [1]), ("Squeeze", [-2])]
)
@pytest.mark.parametrize("make", [np.asarray, tg.tensor])
def test_axes_that_are_not_there(op: str, axes: list[int], make: Any) -> None:
    with pytest.raises(ValueError, match=r"expected numbers from|not distinct"):
        call(op, make([5]), np.array(axes))


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"the shapes \(3,\), \(2,\) do not broadcast"):
        call("Expand", tg.ones(3), np.array([2]))
