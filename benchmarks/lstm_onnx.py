"""onnxruntime's side of `lstm.py`, on a model of one node."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np
from harness import Case
from lstm_data import STREAMED, Arrays, Sizes, named


def onnx_session(sizes: Sizes, arrays: Arrays) -> Any:
    """The LSTM for a sequence of one step at batch 1, its state an input and an output."""
    import onnxruntime
    from onnx import TensorProto, checker, helper, numpy_helper

    def by_onnx(rows: np.ndarray) -> np.ndarray:
        """Rows in the gate order i, o, f, g instead of i, f, g, o; (1, ...) for the one direction."""
        i, f, g, o = np.split(rows, 4)
        return np.concatenate([i, o, f, g])[None]

    weights = {
        "W": by_onnx(arrays.weight_ih),
        "R": by_onnx(arrays.weight_hh),
        "b": np.concatenate([by_onnx(arrays.bias), np.zeros((1, 4 * sizes.H), np.float32)], axis=1),
    }
    values = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    inputs = ["x", "W", "R", "b", "", "h", "c"]  # the one left out: sequence lengths
    graph = helper.make_graph(
        [helper.make_node("LSTM", inputs, ["out", "h_next", "c_next"], hidden_size=sizes.H)],
        "lstm",
        [values("x", shape=[1, 1, sizes.I]), values("h", shape=[1, 1, sizes.H]), values("c", shape=[1, 1, sizes.H])],
        [values("out", shape=[1, 1, 1, sizes.H]), *(values(s, shape=[1, 1, sizes.H]) for s in ("h_next", "c_next"))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnx_streaming(sizes: Sizes) -> Case:
    """Arrays given and taken at each step."""
    arrays = Arrays(sizes)
    session = onnx_session(sizes, arrays)
    h = c = np.zeros((1, 1, sizes.H), np.float32)

    def call() -> list[Any]:
        nonlocal h, c
        out, h, c = session.run(None, {"x": arrays.x, "h": h, "c": c})
        return [out, h, c]

    return Case(call, named(STREAMED, np.asarray))


def onnx_bound_streaming(sizes: Sizes) -> Case:
    """Memory of its own bound once: the input is copied in, the output out, and two pairs of states take turns."""
    from onnxruntime import OrtValue

    arrays = Arrays(sizes)
    session = onnx_session(sizes, arrays)

    def zeros(*shape: int) -> Any:
        return OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))  # it may work on the array's memory

    x, out = zeros(1, 1, sizes.I), zeros(1, 1, 1, sizes.H)
    before, after = ([zeros(1, 1, sizes.H) for _ in "hc"] for _ in range(2))

    def binding(states: list[Any], next_states: list[Any]) -> Any:
        bound = session.io_binding()
        for name, value in zip(["x", "h", "c"], [x, *states], strict=True):
            bound.bind_ortvalue_input(name, value)
        for name, value in zip(["out", "h_next", "c_next"], [out, *next_states], strict=True):
            bound.bind_ortvalue_output(name, value)
        return bound

    turns = [(binding(before, after), after), (binding(after, before), before)]

    def call() -> list[Any]:
        x.update_inplace(arrays.x)
        bound, states = turns[0]
        session.run_with_iobinding(bound)
        turns.reverse()
        return [out.numpy(), *states]

    return Case(call, named(STREAMED, lambda value: value if isinstance(value, np.ndarray) else value.numpy()))
