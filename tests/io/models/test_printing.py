"""`print(model)`: a readable program with the shapes of results."""

import itertools
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tinygrad_lstm as tg

FLOAT = onnx.TensorProto.FLOAT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def saved(path: Path, nodes: list[Any], shape: list[Any] | None, arrays: dict[str, np.ndarray], output: str) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


WEIGHTS = {
    "conv.weight": np.ones((4, 3, 3), "float32"),
    "W": np.ones((1, 20, 4), "float32"),
    "R": np.ones((1, 20, 5), "float32"),
    "shape": np.array([0, -1]),
    "one": np.array([1]),
}
THEN = helper.make_graph(
    [helper.make_node("Tanh", ["h"], ["t"])], "then", [], [helper.make_tensor_value_info("t", FLOAT, None)]
)
NODES = [
    helper.make_node("Conv", ["x", "conv.weight"], ["features"], strides=[2], pads=[1, 1]),
    helper.make_node("Transpose", ["features"], ["frames"], perm=[2, 0, 1]),
    helper.make_node("LSTM", ["frames", "W", "R"], ["Y", "", ""], name="/rnn/LSTM", hidden_size=5),
    helper.make_node("Squeeze", ["Y", "one"], ["h"]),
    helper.make_node("Shape", ["x"], ["lengths"]),
    helper.make_node("ReduceMax", ["lengths"], ["longest"], keepdims=0),
    helper.make_node("Cast", ["longest"], ["flag"], to=onnx.TensorProto.BOOL),
    helper.make_node("If", ["flag"], ["i"], then_branch=THEN, else_branch=THEN),
    helper.make_node("Reshape", ["i", "shape"], ["y"]),
]
PROGRAM = """\
model.onnx      236 parameters
  inputs: x (B, 3, T) float32
  features (B, 4, (T+1)//2) = Conv(x, conv.weight, pads=[1, 1], strides=[2])
  frames ((T+1)//2, B, 4) = Transpose(features, perm=[2, 0, 1])
  Y ((T+1)//2, 1, B, 5) = LSTM(rnn.LSTM, frames)
  h ((T+1)//2, B, 5) = Squeeze(Y, [1])
  lengths (3,) = Shape(x)
  longest () = ReduceMax(lengths, keepdims=0)
  flag () = Cast(longest, to=9)
  i ((T+1)//2, B, 5) = If(flag)
      then_branch():
          t ((T+1)//2, B, 5) = Tanh(h)
          outputs: t
      else_branch():
          t_2 = Tanh(h)
          outputs: t_2
  y ((T+1)//2, B*5) = Reshape(i, [0, -1])
  outputs: y"""


def test_a_program_with_shapes(path: Path) -> None:
    model = tg.io.load_model(saved(path, NODES, ["B", 3, "T"], WEIGHTS, "y")).train()
    tg.manual_seed(0)
    printed = repr(model)
    assert printed == PROGRAM
    assert model.training
    drawn = tg.rand(1).item()
    tg.manual_seed(0)
    assert tg.rand(1).item() == drawn  # printing draws nothing


@pytest.mark.parametrize(("shape", "dim"), [(None, ""), (["B", 7], ""), (["B", 3], " (B, 4)")])
def test_a_model_that_cannot_run_is_printed(path: Path, shape: list[Any] | None, dim: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Reshape", ["h", "s"], ["y"])]
    arrays = {"w": np.ones((3, 4), "float32"), "s": np.array([-1, 1001])}
    lines = repr(tg.io.load_model(saved(path, nodes, shape, arrays, "y"))).splitlines()
    assert lines[2:] == [f"  h{dim} = MatMul(x, w)", "  y = Reshape(h, [-1, 1001])", "  outputs: y"]


def test_a_slow_model_is_printed_with_the_shapes_of_its_first_steps(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [helper.make_node("Tanh", [before], [after]) for before, after in itertools.pairwise("xabcdefghijk")]
    model = tg.io.load_model(saved(path, nodes, ["B", 3], {}, "k"))
    clock = itertools.count(0, 0.3)
    monkeypatch.setattr("tinygrad_lstm.io.models.printing.time", SimpleNamespace(monotonic=lambda: next(clock)))
    lines = repr(model).splitlines()
    assert "  a (B, 3) = Tanh(x)" in lines and "  b (B, 3) = Tanh(a)" in lines
    assert "  k = Tanh(j)" in lines


def test_a_model_of_huge_inputs_is_printed_without_shapes(path: Path) -> None:
    model = tg.io.load_model(saved(path, [helper.make_node("Tanh", ["x"], ["y"])], [10**9, 10**9], {}, "y"))
    assert "  y = Tanh(x)" in repr(model).splitlines()


HUGE = 2**26
GROWING: dict[str, tuple[list[str], dict[str, Any]]] = {
    "Expand": (["h", "n"], {"n": np.array([HUGE])}),
    "Tile": (["h", "n"], {"n": np.array([HUGE])}),
    "ConstantOfShape": (["n"], {"n": np.array([HUGE])}),
    "Pad": (["h", "n"], {"n": np.array([0, HUGE])}),
    "Range": (["zero", "n", "one"], {"n": np.array(HUGE), "zero": np.array(0), "one": np.array(1)}),
    "OneHot": (["zeros", "n", "v"], {"n": np.array(HUGE), "zeros": np.zeros(1, "int64"), "v": np.ones(2, "float32")}),
    "Resize": (["h", "", "", "n"], {"n": np.array([HUGE])}),
}


@pytest.mark.parametrize("op", GROWING)
def test_a_result_as_large_as_a_file_says_is_not_computed(path: Path, op: str) -> None:
    inputs, arrays = GROWING[op]
    nodes = [helper.make_node("Tanh", ["x"], ["h"]), helper.make_node(op, inputs, ["y"])]
    model = tg.io.load_model(saved(path, nodes, [1], arrays, "y"))
    assert_small(model, "  y = ")


@pytest.mark.parametrize(("op", "shapes"), [("Add", ([-1, 1], [1, -1])), ("MatMul", ([-1, 1], [1, -1]))])
def test_a_result_that_is_larger_than_its_inputs_is_not_computed(path: Path, op: str, shapes: Any) -> None:
    arrays = {"a": np.array(shapes[0]), "b": np.array(shapes[1])}
    reshaped = [helper.make_node("Reshape", ["x", name], [f"x{name}"]) for name in arrays]
    model = tg.io.load_model(saved(path, [*reshaped, helper.make_node(op, ["xa", "xb"], ["y"])], [2**13], arrays, "y"))
    assert_small(model, "  y = ")


def assert_small(model: Any, begin: str) -> None:
    tracemalloc.start()
    lines = repr(model).splitlines()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert any(line.startswith(begin) for line in lines) and most < 2**24


def test_arrays_of_the_file_may_be_large(path: Path) -> None:
    """Then results are as large."""
    arrays = {"w": np.ones((2**12, 2**11), "float32"), "i": np.array([3])}
    nodes = [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("Gather", ["t", "i"], ["g"])]
    nodes.append(helper.make_node("MatMul", ["x", "t"], ["h"]))
    nodes.append(helper.make_node("Add", ["h", "g"], ["y"]))
    lines = repr(tg.io.load_model(saved(path, nodes, ["B", 2**11], arrays, "y"))).splitlines()
    assert lines[-2] == "  y (B, 4096) = Add(h, g)"
