"""If, Loop and Scan of ONNX files compute what onnxruntime does."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

import tinygrad_lstm as tg

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
SOME = np.random.default_rng(0).standard_normal
W, U = SOME((4, 3), np.float32), SOME((4, 4), np.float32)


def info(name: str, shape: Any = None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model_of(
    path: Path, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: str, **arrays: Any
) -> tuple[Any, InferenceSession]:
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "graph", inputs, [info(name) for name in outputs.split()], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return tg.io.load_model(path), InferenceSession(path)


def agree(model: Any, session: InferenceSession, inputs: dict[str, Any]) -> None:
    with tg.no_grad():
        ours = model(**inputs)
    theirs = session.run(None, inputs)
    for one, other in zip((ours,) if isinstance(ours, tg.Tensor) else ours, theirs, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-5, atol=1e-6)


RNN_STEP = [
    helper.make_node("Gemm", ["x_t", "W"], ["a"], transB=1),
    helper.make_node("Gemm", ["h", "U"], ["b"], transB=1),
    helper.make_node("Add", ["a", "b"], ["sum"]),
    helper.make_node("Tanh", ["sum"], ["h_"]),
]
FURTHER = [helper.make_node("Mul", ["h_", "h_"], ["square"]), helper.make_node("Identity", ["h_"], ["same"])]


@pytest.mark.parametrize(
    ("outputs", "settings"),
    [
        ("same", {}),
        ("same", {"scan_input_directions": [1]}),
        ("square", {"scan_input_directions": [1], "scan_output_directions": [1]}),
        ("square", {"scan_input_axes": [1], "scan_output_axes": [1]}),
        ("", {}),
        ("same square", {}),
    ],
)
def test_scan(tmp_path: Path, outputs: str, settings: dict[str, Any]) -> None:
    names = outputs.split()
    body = helper.make_graph(
        [*RNN_STEP, *FURTHER],
        "body",
        [info("h", ["B", 4]), info("x_t", ["B", 3])],
        [info("h_", ["B", 4]), *(info(name, ["B", 4]) for name in names)],
    )
    scan = helper.make_node("Scan", ["h0", "x"], ["hn", *names], body=body, num_scan_inputs=1, **settings)
    axes = ["B", "T"] if "scan_input_axes" in settings else ["T", "B"]
    given = [info("x", [*axes, 3]), info("h0", ["B", 4])]
    model, session = model_of(tmp_path / "a.onnx", [scan], given, f"hn {outputs}", W=W, U=U)
    assert model.states == {"h0": "hn"}
    inputs = {"x": SOME((5, 2, 3) if axes[0] == "T" else (2, 5, 3), np.float32), "h0": SOME((2, 4), np.float32)}
    agree(model, session, inputs)
    result = model(**inputs)
    (result if isinstance(result, tg.Tensor) else result[-1]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    if len(names) < 2:
        tg.io.export_onnx(model, tmp_path / "b.onnx")
        agree(tg.io.load_model(tmp_path / "b.onnx"), session, inputs)


def test_initial_states_that_the_graph_makes_follow_the_models_dtype(tmp_path: Path) -> None:
    body = helper.make_graph(RNN_STEP, "body", [info("h", ["B", 4]), info("x_t", ["B", 3])], [info("h_", ["B", 4])])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["h0"], value=helper.make_tensor("v", FLOAT, [1], [0.5])),
        helper.make_node("Scan", ["h0", "x"], ["hn"], body=body, num_scan_inputs=1),
    ]
    arrays = {"W": W, "U": U, "shape": np.array([2, 4])}
    model, session = model_of(tmp_path / "a.onnx", nodes, [info("x", ["T", 2, 3])], "hn", **arrays)
    x = SOME((5, 2, 3), np.float32)
    found = model.to(dtype="float64")(x).detach().numpy()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], atol=1e-6)


@pytest.mark.parametrize("most", [0, 1, 6, None])
@pytest.mark.parametrize("limit", [-1.0, 10.0])
def test_loop(tmp_path: Path, most: int | None, limit: float) -> None:
    """Until the sum of the states is above a limit, at most a number of times."""
    nodes = [
        *RNN_STEP,
        helper.make_node("Add", ["total", "h_"], ["total_"]),
        helper.make_node("ReduceSum", ["total_"], ["all"], keepdims=0),
        helper.make_node("Less", ["all", "limit"], ["again"]),
        helper.make_node("Cast", ["k"], ["number"], to=FLOAT),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [info("k", [], INT), info("go", [], BOOL), info("h", [2, 4]), info("total", [2, 4])],
        [info("again", [], BOOL), info("h_", [2, 4]), info("total_", [2, 4]), info("h_", [2, 4]), info("number", [])],
    )
    given = [info("x_t", [2, 3]), info("h0", [2, 4]), info("limit", [])]
    arrays = {} if most is None else {"most": most}
    loop = helper.make_node(
        "Loop", ["most" if arrays else "", "true", "h0", "h0"], ["hn", "total", "states", "numbers"], body=body
    )
    arrays |= {"true": True, "W": abs(W), "U": abs(U)}
    model, session = model_of(tmp_path / "a.onnx", [loop], given, "hn total states numbers", **arrays)
    inputs = {
        "x_t": abs(SOME((2, 3), np.float32)),
        "h0": SOME((2, 4), np.float32),
        "limit": np.array(limit, np.float32),
    }
    agree(model, session, inputs)


def test_a_recurrent_layer_in_a_branch_is_the_models(tmp_path: Path) -> None:
    def branch(name: str, direction: str) -> onnx.GraphProto:
        lstm = helper.make_node(
            "RNN", ["x", f"W{name}", f"R{name}"], [f"y{name}"], name, hidden_size=4, direction=direction
        )
        return helper.make_graph([lstm], name, [], [info(f"y{name}")])

    arrays = {f"{role}{name}": array[None] for name in "ab" for role, array in (("W", W), ("R", U))}
    choice = helper.make_node(
        "If", ["flag"], ["y"], then_branch=branch("a", "forward"), else_branch=branch("b", "reverse")
    )
    given = [info("x", ["T", "B", 3]), info("flag", [], BOOL)]
    model, session = model_of(tmp_path / "a.onnx", [choice], given, "y", **arrays)
    assert {name.split(".")[0] for name in model.state_dict()} == {"a", "b"}
    x = SOME((5, 2, 3), np.float32)
    for flag in (True, False):
        agree(model, session, {"x": x, "flag": np.array(flag)})
        assert tg.inspect.trace(model, tg.tensor(x), tg.tensor(flag))[0].name == f"{'a' if flag else 'b'}.l0"


def test_a_loop_of_nothing_without_an_end_is_printed(tmp_path: Path) -> None:
    ports = [info("go", [], BOOL), info("h", [2])]
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"])
    loop.attribute.append(
        helper.make_attribute("body", helper.make_graph([], "body", [info("k", [], INT), *ports], ports))
    )
    model, _ = model_of(tmp_path / "a.onnx", [loop], [info("x", [2])], "y", true=True)
    assert "  y = Loop(None, True, x)" in repr(model).splitlines()


def test_a_loop_without_an_end_is_printed(tmp_path: Path) -> None:
    nodes = [helper.make_node("Tanh", ["h"], ["h_"]), helper.make_node("Identity", ["go"], ["again"])]
    body = helper.make_graph(
        nodes, "body", [info("k", [], INT), info("go", [], BOOL), info("h", [2])], [info("again", [], BOOL), info("h_")]
    )
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    model, _ = model_of(tmp_path / "a.onnx", [loop], [info("x", [2])], "y", true=True)
    assert repr(model).splitlines()[2:5] == [
        "  y = Loop(None, True, x)",
        "      body(k, go, h):",
        "          h_ (2,) = Tanh(h)",
    ]
