"""Hostile models: names that collide or are nested deeply."""

import keyword
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import tinygrad_lstm as tg
from tinygrad_lstm.io.models.names import attribute_names, identifiers

FLOAT = onnx.TensorProto.FLOAT
X = np.ones((2, 3), "float32")


def saved(path: Path, nodes: Sequence[onnx.NodeProto], name: str = "x", weight: str = "w") -> Path:
    """A model of one input, and one weight that nodes may use."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.eye(3, dtype="float32"), weight)],
    )
    onnx.save(helper.make_model(graph), path)
    return path


@given(st.lists(st.text(max_size=4), max_size=4))
def test_names_of_inputs_and_outputs_are_those_of_arguments(names: list[str]) -> None:
    found = identifiers(names)
    assert len(set(found)) == len(names)
    for name in found:
        assert name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_") and name != "self"
        assert unicodedata.normalize("NFKC", name) == name  # or a program could not name it


@pytest.mark.parametrize("name", ["self", "args", "x²", "class", "_fields"])
def test_inputs_of_any_name_are_given_by_name(tmp_path: Path, name: str) -> None:
    model = tg.io.load_model(saved(tmp_path / "model.onnx", [helper.make_node("Tanh", [name], ["y"])], name))
    np.testing.assert_array_equal(model(**{model.input_names[0]: X}).numpy(), model(X).numpy())


@pytest.mark.parametrize("name", ["a/" * 30_000 + "w", "__class__.x", "parameters", "forward/weight", "training", ".."])
def test_weights_of_any_name_are_parameters(tmp_path: Path, name: str) -> None:
    node = helper.make_node("MatMul", ["x", name], ["y"])
    model = tg.io.load_model(saved(tmp_path / "model.onnx", [node], weight=name))
    assert [parameter.shape for parameter in model.parameters()] == [(3, 3)]
    with tg.no_grad():
        np.testing.assert_array_equal(model.train()(X).numpy(), X)


def test_a_node_that_cannot_be_computed_is_named(tmp_path: Path) -> None:
    gather = helper.make_node("Gather", ["w", "x"], ["y"], "mine")
    model = tg.io.load_model(saved(tmp_path / "model.onnx", [gather]))
    with pytest.raises(ValueError, match=r"^the node 'mine' cannot be computed: .*must be integers or bool"):
        model(X)


def test_an_anomaly_in_a_node_is_still_one(tmp_path: Path) -> None:
    log = helper.make_node("Log", ["x"], ["y"], "mine")
    model = tg.io.load_model(saved(tmp_path / "model.onnx", [log]))
    with pytest.raises(FloatingPointError, match="a NaN") as caught, tg.detect_anomaly(), np.errstate(invalid="ignore"):
        model(-X)
    assert caught.value.__notes__ == ["in the node 'mine'"]


def test_modules_are_nested_at_most_32_deep() -> None:
    (path,) = attribute_names(["/".join("a" * 100)]).values()
    assert path == ".".join("a" * 32 + "_")[:-1] + "_".join("a" * 68)
