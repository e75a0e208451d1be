"""LSTM, GRU and RNN nodes with every attribute: a loaded model computes what onnxruntime does."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from onnx_nodes import Drawn, drawn_nodes
from onnx_runs import run

import tinygrad_lstm as tg


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx") / "model.onnx"


@settings(max_examples=100)
@given(drawn=drawn_nodes())
def test_a_model_computes_what_the_node_does(path: Path, drawn: Drawn) -> None:
    outputs = ["Y", "Y_h", "Y_c"][: 3 if drawn.kind == "LSTM" else 2]
    model = tg.io.load_model(drawn.graph.saved(path, *outputs))
    with tg.no_grad():
        actual = model(**drawn.graph.inputs)
    for ours, theirs in zip(actual, run(drawn.graph, *outputs), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.numpy(), theirs, 1e-4, 1e-5)
