"""Graphs of ONNX files: order, constants, functions, nested graphs, and what is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import tinygrad_lstm as tg

FLOAT = onnx.TensorProto.FLOAT
X = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")


def info(name: str, shape: Sequence[Any] | None = None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op}_{outputs.split()[0]}", **attributes)


def saved(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    outputs: str = "y",
    *,
    inputs: Sequence[onnx.ValueInfoProto] = (info("x", ["T", 3]),),
    arrays: dict[str, np.ndarray] | None = None,
    **settings: Any,
) -> Path:
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, [info(name) for name in outputs.split()], initializers)
    settings.setdefault("opset_imports", [helper.make_opsetid("", 20)])
    onnx.save(helper.make_model(graph, **settings), path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@tg.no_grad()
def test_nodes_in_any_order_and_those_that_nothing_needs(path: Path) -> None:
    nodes = [node("Add", "a b", "y"), node("Unknown", "x", "z"), node("Tanh", "x", "a"), node("Tanh", "a", "b")]
    model = tg.io.load_model(saved(path, nodes))
    assert [step.op for step in model.body.steps] == ["Tanh", "Tanh", "Add"]
    np.testing.assert_allclose(model(X).numpy(), np.tanh(X) + np.tanh(np.tanh(X)), rtol=1e-6)


@tg.no_grad()
def test_windows_that_are_further_apart_than_examples_are_long(path: Path, tmp_path: Path) -> None:
    """As in a file that resamples: 640 numbers, in one row, of each window. Examples of a few steps have one window."""
    windows = node("Conv", "x w", "c", strides=[441], pads=[7, 448])
    nodes = [windows, node("Transpose", "c", "t", perm=[0, 2, 1]), node("Reshape", "t shape", "r")]
    nodes.append(node("ReduceSum", "r axes", "y"))  # so that no output has the number of windows
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((16, 1, 455)).astype("f4"), "shape": np.array([0, -1])}
    arrays["axes"] = np.array([1])
    model = tg.io.load_model(saved(path, nodes, inputs=[info("x", ["B", 1, "T"])], arrays=arrays))
    tg.io.export_onnx(model, tmp_path / "again.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "again.onnx")
    for B, T in ((1, 5), (2, 441), (2, 2000)):
        x = rng.standard_normal((B, 1, T)).astype("f4")
        (found,) = session.run(None, {"x": x})
        np.testing.assert_allclose(found, model(x).numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"'conv1d' returns the length 1 for both .*; give longer examples"):
        tg.io.export_onnx(model, tmp_path / "again.onnx", {"x": tg.rand(2, 1, 100)})


@tg.no_grad()
def test_integers_that_are_known_are_computed_when_it_is_loaded(path: Path) -> None:
    nodes = [
        node("Constant", "", "some", value_ints=[1, 2]),
        node("Identity", "some", "some_"),
        node("Add", "some_ more", "shape"),
        node("Reshape", "x shape", "y"),
    ]
    model = tg.io.load_model(saved(path, nodes, arrays={"more": [3, 1]}))
    assert [step.op for step in model.body.steps] == ["Reshape"]
    np.testing.assert_array_equal(model(X).numpy(), X)


@tg.no_grad()
def test_constants_of_every_kind(path: Path) -> None:
    array = np.arange(3, dtype="float32")
    nodes = [
        node("Constant", "", "a", value=numpy_helper.from_array(array)),
        node("Constant", "", "b", value_float=2.0),
        node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0]),
        node("Add", "x a", "d"),
        node("Add", "d b", "e"),
        node("Add", "e c", "y"),
    ]
    model = tg.io.load_model(saved(path, nodes))
    assert not list(model.parameters())
    np.testing.assert_allclose(model(X).numpy(), X + array + 2 + np.float32([1, 2, 3]), rtol=1e-6)


def test_constants_are_the_parameters_of_layers_without_initializers(path: Path) -> None:
    weight = np.arange(12, dtype="float32").reshape(3, 4)
    nodes = [
        node("Constant", "", "fc.w_0", value=numpy_helper.from_array(weight)),
        node("Constant", "", "fc.b_0", value=numpy_helper.from_array(weight[0])),
        node("Constant", "", "three", value_floats=[3.0]),
        node("MatMul", "x fc.w_0", "a"),
        node("Add", "a fc.b_0", "b"),
        node("Add", "b three", "c"),
        node("Relu", "c", "y"),
    ]
    model = tg.io.load_model(saved(path, nodes))
    assert [name for name, _ in model.named_parameters()] == ["fc.w_0", "fc.b_0"]
    with tg.no_grad():
        np.testing.assert_allclose(model(X).numpy(), np.maximum(X @ weight + weight[0] + 3, 0), rtol=1e-6)
    nodes[-1] = node("Add", "c w", "y")
    model = tg.io.load_model(saved(path, nodes, arrays={"w": weight[0]}))
    assert [name for name, _ in model.named_parameters()] == ["w"]


@tg.no_grad()
def test_an_input_with_an_initializer_is_optional(path: Path) -> None:
    inputs = [info("x", ["T", 3]), info("b", [3])]
    arrays = {"b": np.ones(3, "float32"), "c": np.ones(3, "float32")}
    model = tg.io.load_model(
        saved(path, [node("Add", "x b", "d"), node("Add", "d c", "y")], inputs=inputs, arrays=arrays)
    )
    np.testing.assert_array_equal(model(X).numpy(), X + 1 + 1)
    np.testing.assert_array_equal(model(X, b=np.zeros(3)).numpy(), X + 1)


def function(name: str, nodes: Sequence[onnx.NodeProto], *attributes: str) -> onnx.FunctionProto:
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a", "b"], ["c"], nodes, domains, attributes)


def with_functions(functions: Sequence[onnx.FunctionProto]) -> dict[str, Any]:
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    return {"functions": functions, "opset_imports": domains}


@tg.no_grad()
def test_functions_of_the_file(path: Path) -> None:
    turned = node("Transpose", "a", "t")
    turned.attribute.add(name="perm", type=onnx.AttributeProto.INTS, ref_attr_name="order")
    inner = function("Turned", [turned, node("Add", "t b", "c")], "order")
    call = helper.make_node("Turned", ["a", "b"], ["t"], domain="own", order=[1, 0])
    outer = function("Twice", [call, helper.make_node("Turned", ["t", "b"], ["c"], domain="own", order=[1, 0])])
    nodes = [helper.make_node("Twice", ["x", "w"], ["h"], domain="own"), node("Tanh", "h", "y")]
    model = tg.io.load_model(
        saved(path, nodes, arrays={"w": np.ones((1, 1), "float32")}, **with_functions([inner, outer]))
    )
    assert [name for name, _ in model.named_parameters()] == ["w"]
    np.testing.assert_allclose(model(X).numpy(), np.tanh(X + 2), rtol=1e-6)


@tg.no_grad()
def test_outputs_have_the_files_names(path: Path) -> None:
    one = function("One", [node("Add", "a b", "c")])
    nodes = [
        helper.make_node("One", ["x", "x"], ["sum"], domain="own"),
        node("Identity", "sum", "same"),
        node("Identity", "w", "weight"),
    ]
    arrays = {"w": np.ones(3, "float32"), "five": np.array([5])}
    path = saved(path, nodes, "sum same weight five x", arrays=arrays, **with_functions([one]))
    outputs = tg.io.load_model(path)(X)
    assert outputs._fields == ("sum", "same", "weight", "five", "x")
    for ours, expected in zip(outputs, (X + X, X + X, arrays["w"], [5], X), strict=True):
        np.testing.assert_array_equal(ours.detach().numpy(), expected)


@tg.no_grad()
@pytest.mark.parametrize("positive", [True, False])
def test_a_branch_takes_values_from_outside(path: Path, positive: bool) -> None:
    def branch(name: str, nodes: Sequence[onnx.NodeProto], **arrays: np.ndarray) -> onnx.GraphProto:
        initializers = [numpy_helper.from_array(array, key) for key, array in arrays.items()]
        return helper.make_graph(nodes, name, [], [info("r")], initializers)

    then = branch("then", [node("Add", "h w", "r")], w=np.full(3, 2, "float32"))
    other = branch("else", [node("Tanh", "h", "t"), node("Add", "t w", "r")], w=np.full(3, 3, "float32"))
    inputs = [info("x", ["T", 3]), info("flag", [], onnx.TensorProto.BOOL)]
    nodes = [node("Tanh", "x", "h"), node("If", "flag", "y", then_branch=then, else_branch=other)]
    model = tg.io.load_model(saved(path, nodes, inputs=inputs))
    expected = np.tanh(X) + 2 if positive else np.tanh(np.tanh(X)) + 3
    np.testing.assert_allclose(model(X, np.array(positive)).numpy(), expected, rtol=1e-6)
    assert [(name, array[0].item()) for name, array in model.named_parameters()] == [("w", 2), ("w_2", 3)]


def test_all_unsupported_ops_are_named_at_once(path: Path) -> None:
    then = helper.make_graph([node("Bad", "h", "r")], "then", [], [info("r")])
    other = helper.make_graph([helper.make_node("Worse", ["h"], ["r"], domain="com.x")], "else", [], [info("r")])
    nodes = [node("Bad", "x", "h"), node("If", "flag", "y", then_branch=then, else_branch=other)]
    saved(path, nodes, inputs=[info("x"), info("flag", [], onnx.TensorProto.BOOL)])
    with pytest.raises(ValueError, match=r"model\.onnx: .*not supported: Bad \(Bad_h, Bad_r\); com\.x\.Worse \(r\)$"):
        tg.io.load_model(path)


def doubling(depth: int) -> list[onnx.FunctionProto]:
    """Functions each of which calls the next one twice."""

    def call(name: int, inputs: str, outputs: str) -> onnx.NodeProto:
        return helper.make_node(f"F{name}", inputs.split(), outputs.split(), domain="own")

    last = function(f"F{depth}", [node("Add", "a b", "c")])
    return [function(f"F{k}", [call(k + 1, "a b", "t"), call(k + 1, "t b", "c")]) for k in range(depth)] + [last]


CALL = helper.make_node("F0", ["x", "x"], ["y"], domain="own")
AGAIN = function("F0", [helper.make_node("F0", ["a", "b"], ["c"], domain="own")])


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        ([node("Add", "x b", "y"), node("Tanh", "y", "b")], {}, "a cycle: the node 'Tanh_b'|a cycle: the node 'Add_y'"),
        ([node("Add", "x gone", "h"), node("Add", "h lost", "y")], {}, "'gone' .*'lost'|'lost' .*'gone'"),
        ([node("Tanh", "x", "h")], {}, "not there: 'y'"),
        ([node("Tanh", "x", "y"), node("Tanh", "x", "y")], {}, "two nodes have the output 'y'"),
        ([node("Tanh", "x", "y", alpha=1.0, beta=2)], {}, "'Tanh_y': unknown attributes 'alpha', 'beta'"),
        ([node("Transpose", "x", "y", perm="ab")], {}, "wrong type: 'perm'"),
        ([node("Tanh", "x x", "y")], {}, "2 inputs"),
        ([helper.make_node("Add", ["", "x"], ["y"])], {}, "'y': the input 1 is missing"),
        ([CALL], with_functions([AGAIN]), "the function 'own.F0' calls itself"),
        ([CALL], with_functions(doubling(40)), "too many nodes"),
        ([CALL], with_functions(doubling(150)), "nested more than 100 deep"),
        ([node("If", "x", "y")], {}, "'If_y': missing attribute 'then_branch'"),
    ],
)
def test_graphs_that_are_refused(path: Path, nodes: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^[^\n]*model\\.onnx: [^\n]*({message})[^\n]*$"):
        tg.io.load_model(saved(path, nodes, **settings))


def test_graphs_a_thousand_deep_are_refused(path: Path) -> None:
    """Laid down byte by byte, since protobuf does not write them."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size % 128 + 128]), size // 128
        return bytes([number * 8 + 2]) + length + bytes([size]) + content

    graph = field(1, field(4, b"Tanh"))
    for _ in range(1000):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    path.write_bytes(b"\x08\x08" + field(7, graph) + field(8, b"\x10\x14"))
    with pytest.raises(ValueError, match="graphs are nested in nodes too deeply"):
        tg.io.load_model(path)


def test_lengths_without_a_name_are_free_and_independent(path: Path) -> None:
    inputs = [info("x", [-1, "?", "?", 3, "time"])]
    model = tg.io.load_model(saved(path, [node("Tanh", "x", "y")], inputs=inputs))
    assert model.inputs[0].shape == ("x_0", "x_1", "x_2", 3, "time")


@pytest.mark.parametrize("by_reference", [False, True])
def test_arrays_of_functions_take_limited_memory(path: Path, by_reference: bool) -> None:
    """Each call of a function has its constants again."""
    array, opsets = numpy_helper.from_array(np.ones(2**18, "float32")), [helper.make_opsetid("", 20)]
    constant = node("Constant", "", "c")
    value = constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    if by_reference:
        value.ref_attr_name = "value"
    else:
        value.t.CopyFrom(array)
    nodes = [constant, node("ReduceSum", "c", "s"), node("Add", "x s", "y")]
    once = helper.make_function("own", "Once", ["x"], ["y"], nodes, opsets, ["value"] if by_reference else [])
    calls = [helper.make_node("Once", [f"x{k}"], [f"x{k + 1}"], domain="own") for k in range(100)]
    for each in calls if by_reference else ():
        each.attribute.add(name="value", ref_attr_name="value", type=onnx.AttributeProto.TENSOR)
    opsets.append(helper.make_opsetid("own", 1))
    often = helper.make_function("own", "Often", ["x0"], ["x100"], calls, opsets, ["value"] if by_reference else [])
    call = helper.make_node("Often", ["x"], ["y"], domain="own", **({"value": array} if by_reference else {}))
    with pytest.raises(ValueError, match="its arrays take too much memory"):
        tg.io.load_model(saved(path, [call], functions=[once, often], opset_imports=opsets))
