"""Weights of ONNX files that other nodes make: in branches, quantized, enlarged; and nodes that are invalid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_graphs import WAYS, Graph, Way, ints
from onnx_runs import SOME, HostArray, gru, run, small

from tinygrad_lstm.io import Weights, load_weights
from tinygrad_lstm.io.recognition import recognised
from tinygrad_lstm.models import GRU


def assert_weights(weights: Weights, name: str, W: HostArray, R: HostArray) -> None:
    (roles,) = weights.layers[name].arrays
    assert np.array_equal(weights[roles["W"]], W) and np.array_equal(weights[roles["R"]], R)
    assert all(weights[each].flags.writeable and weights[each].flags.c_contiguous for each in roles.values())
    assert (GRU.from_onnx(weights, name).input_size, GRU.from_onnx(weights, name).hidden_size) == (W.shape[2], 4)


@pytest.mark.parametrize("way", WAYS)
def test_weights_in_the_graphs_of_an_if_and_a_loop(tmp_path: Path, way: Way) -> None:
    """Made there of what is there and of what is around, and named after the outputs of the nodes that make them."""
    outer, then, other = Graph(), Graph(), Graph()
    W, R, W2 = small(1, 12, 3), small(1, 12, 4), small(1, 12, 5)
    around = way(outer, "W", W)
    for g, own in ((then, W2), (other, W)):
        gru(g, way(g, "of_branch", own), way(g, "R", R), "gru")
    gru(then, around, "R", "also")
    branches = {"then_branch": then.model().graph, "else_branch": other.model().graph}
    body = Graph([helper.make_node("If", ["c"], ["y"], **branches)])
    outer.node("Loop", "n", "c", body=body.model().graph)
    weights = load_weights(outer.saved(tmp_path / "model.onnx"))
    assert list(weights.layers) == ["gru", "gru_1", "also"]
    assert_weights(weights, "gru", W, R)
    assert_weights(weights, "gru_1", W2, R)
    assert_weights(weights, "also", W, R)
    assert weights.layers["also"].arrays[0]["W"] == "W" and weights.layers["gru_1"].arrays[0]["W"] == "of_branch_1"


def test_quantized_weights(tmp_path: Path) -> None:
    """As onnxruntime makes floats of them."""
    g = Graph(inputs={"X": small(2, 1, 3)})
    scale, zero = np.abs(small(12)) + 0.01, SOME.integers(-5, 5, 12, np.int8)
    W = g.node("DequantizeLinear", SOME.integers(-9, 9, (1, 12, 3), np.int8), scale, zero, axis=1)
    steps = np.float32(0.02), np.uint8(100)
    around = g.node("QuantizeLinear", small(1, 12, 4), *map(np.asarray, steps))
    R = g.node("DequantizeLinear", around, *map(np.asarray, steps))
    gru(g, W, R, "gru")
    assert_weights(load_weights(g.saved(tmp_path / "model.onnx", "gru_Y")), "gru", *run(g, W, R))


def test_a_long_chain_of_nodes(tmp_path: Path) -> None:
    g = Graph()
    name = g.array(small(1, 12, 3))
    for _ in range(5000):
        name = g.node("Squeeze", g.node("Unsqueeze", name, "zero"), "zero")
    g.array(ints(0), "zero")
    gru(g, name, g.array(small(1, 12, 4)), "gru")
    weights = load_weights(g.saved(tmp_path / "model.onnx"))
    assert list(weights.layers["gru"].unsupported) == []


def enlarged(g: Graph) -> Sequence[str]:
    """Weights that would be much larger than the file."""
    one = g.array(np.zeros((1, 1), np.float32))
    doubled = one
    for _ in range(40):
        doubled = g.node("Concat", doubled, doubled, axis=0)
    large = ints(2**31, 2**31)
    places = g.node("Expand", g.array(ints(0)), ints(2**40))
    return [
        doubled,
        g.node("Expand", one, large),
        g.node("Tile", one, large),
        g.node("ConstantOfShape", large),
        g.node("Gather", one, places),
        g.node("Cast", g.node("Expand", one, ints(1, 2**20)), to=TensorProto.DOUBLE),
        g.node("Expand", g.array(np.zeros((0, 1), np.float32)), ints(2**62, 0, 2**62)),
    ]


def test_what_is_made_of_weights_is_not_much_larger_than_the_file(tmp_path: Path) -> None:
    g = Graph()
    for number, name in enumerate(enlarged(g)):
        gru(g, name, name, str(number))
    weights = load_weights(g.saved(tmp_path / "model.onnx"))
    assert sum(array.nbytes for array in weights.values()) < 8 * (tmp_path / "model.onnx").stat().st_size
    for found in recognised(weights):
        reasons = ("too much memory", "cannot make", "a shape that the file does not determine")
        assert found.network is None and any(reason in found.reason for reason in reasons)


WRONG: list[tuple[str, Sequence[Any], Mapping[str, Any]]] = [
    ("Slice", [ints(0)], {}),
    ("Slice", [ints(0), ints(1), ints(7)], {}),
    ("Slice", [ints(0), ints(1), ints(0), ints(0)], {}),
    ("Slice", ["", ints(1)], {}),
    ("Split", [ints(-1, 13)], {"axis": 1}),
    ("Concat", [ints(1)], {"axis": 0}),
    ("Concat", [], {"axis": 2**62}),
    ("Reshape", [ints(-5)], {}),
    ("Reshape", [np.zeros(2, np.float32)], {}),
    ("Transpose", [], {"perm": [0, 0, 0]}),
    ("Transpose", [], {"perm": b"abc"}),
    ("Unsqueeze", [ints(*range(100))], {}),
    ("Flatten", [], {"axis": 1.5}),
    ("Gather", [ints(1)], {"axis": 0}),
    ("Gather", [np.zeros(1, np.float32)], {}),
    ("Expand", [ints(-1)], {}),
    ("Expand", [], {}),
    ("Tile", [ints(1)], {}),
    ("Cast", [], {"to": 99}),
    ("Cast", [], {}),
    ("DequantizeLinear", [np.ones(1, np.float32)], {}),
    ("QuantizeLinear", [np.ones(5, np.float32)], {}),
    ("QuantizeLinear", [np.ones(1, np.complex64)], {}),
]


@pytest.mark.parametrize(("kind", "inputs", "attributes"), WRONG)
def test_nodes_that_make_no_sense_are_named(
    tmp_path: Path, kind: str, inputs: Sequence[Any], attributes: Mapping[str, Any]
) -> None:
    g = Graph()
    W = g.node(kind, g.array(small(1, 12, 3)), *inputs, **attributes)
    gru(g, W, g.array(small(1, 12, 4)), "gru")
    weights = load_weights(g.saved(tmp_path / "model.onnx"))
    with pytest.raises(ValueError, match=f"a W that '{kind}' cannot make of the file's arrays: ") as raised:
        GRU.from_onnx(weights)
    assert "\n" not in str(raised.value)


def test_an_output_that_no_op_returns_is_not_an_array(tmp_path: Path) -> None:
    g = Graph()
    g.nodes.append(helper.make_node("Transpose", [g.array(small(3, 12, 1))], ["W", "W2"]))
    gru(g, "W2", g.array(small(1, 12, 4)), "gru")
    (found,) = load_weights(g.saved(tmp_path / "model.onnx")).layers.values()
    assert found.unsupported == ["a W that no op returns"]
