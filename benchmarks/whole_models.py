"""Loaded ONNX models against onnxruntime: an LSTM with a layer for outputs, streamed and over sequences.

    python benchmarks/whole_models.py            # with pip install -e '.[bench]'
    python benchmarks/whole_models.py 128 512    # these numbers of units

A stream takes one step at batch 1; onnxruntime is given the states of the step before. Both sides run in one process
and take turns, with one thread each if OMP_NUM_THREADS=1. Each line has the median times, and in parentheses the median
over the turns of our time divided by onnxruntime's: below 1 we are ahead.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import tinygrad_lstm as tg

OUTPUTS = 32
TURNS = 15
SEQUENCES = ((100, 1), (100, 16))  # time steps, batch


def model_of(units: int) -> onnx.ModelProto:
    """x (T, B, H) to y (T, B, OUTPUTS), with states that go in and come out."""
    draw = np.random.default_rng(0).standard_normal
    weights = {
        "W": draw((1, 4 * units, units)) / units**0.5,
        "R": draw((1, 4 * units, units)) / units**0.5,
        "B": draw((1, 8 * units)) * 0.1,
        "head.weight": draw((units, OUTPUTS)) / units**0.5,
        "head.bias": draw(OUTPUTS),
    }
    value = helper.make_tensor_value_info
    states = [value(name, TensorProto.FLOAT, [1, "batch", units]) for name in ("h0", "c0", "hn", "cn")]
    graph = helper.make_graph(
        [
            helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["out", "hn", "cn"], hidden_size=units),
            helper.make_node("Squeeze", ["out", "axes"], ["squeezed"]),
            helper.make_node("MatMul", ["squeezed", "head.weight"], ["product"]),
            helper.make_node("Add", ["product", "head.bias"], ["y"]),
        ],
        "lstm",
        [value("x", TensorProto.FLOAT, ["time", "batch", units]), *states[:2]],
        [value("y", TensorProto.FLOAT, ["time", "batch", OUTPUTS]), *states[2:]],
        [
            *(numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()),
            numpy_helper.from_array(np.array([1]), "axes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """onnxruntime, with as many threads as OMP_NUM_THREADS says, or its default."""
    options = onnxruntime.SessionOptions()
    if "OMP_NUM_THREADS" in os.environ:
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def compared(ours: Callable[[], Any], theirs: Callable[[], Any], calls: int) -> str:
    """The median times of both sides, in µs, and the median of their ratios."""
    times: list[tuple[float, float]] = []
    for _ in range(TURNS):
        turn = []
        for call in (ours, theirs):
            call()
            started = time.perf_counter()
            for _ in range(calls):
                call()
            turn.append((time.perf_counter() - started) / calls * 1e6)
        times.append((turn[0], turn[1]))
    medians = [statistics.median(each) for each in zip(*times, strict=True)]
    ratio = statistics.median(mine / other for mine, other in times)
    return f"{medians[0]:10.1f} µs, onnxruntime {medians[1]:10.1f} µs ({ratio:.2f})"


def check(ours: Any, theirs: Any) -> None:
    """Raises if two outputs differ."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * float(np.abs(theirs).max()))


def measure(units: int, folder: Path) -> None:
    """Prints a line for the stream, and for each kind of sequences."""
    path = folder / f"lstm_{units}.onnx"
    onnx.save(model_of(units), path)
    session, model = session_of(path), tg.io.load_model(path, states={"h0": "hn", "c0": "cn"})
    draw = np.random.default_rng(1).standard_normal
    x = draw((1, 1, units)).astype(np.float32)
    stream, step = model.stream(batch=1), x[0]
    h = c = np.zeros((1, 1, units), np.float32)

    def streamed() -> Any:
        nonlocal h, c
        y, h, c = session.run(None, {"x": x, "h0": h, "c0": c})
        return y

    for _ in range(3):
        check(stream(step).y, streamed()[0])
    print(f"H = {units:4}, a step      {compared(lambda: stream(step), streamed, 1000)}")
    for T, B in SEQUENCES:
        given = draw((T, B, units)).astype(np.float32)
        zeros = np.zeros((1, B, units), np.float32)
        tensor = tg.tensor(given)

        def ours(tensor: tg.Tensor = tensor) -> Any:
            with tg.no_grad():
                return model(tensor).y.data

        def theirs(given: Any = given, zeros: Any = zeros) -> Any:
            return session.run(None, {"x": given, "h0": zeros, "c0": zeros})[0]

        check(ours(), theirs())
        print(f"H = {units:4}, ({T}, {B:2}) {compared(ours, theirs, max(3, 20000 // (T * B * units // 16)))}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for size in [int(word) for word in sys.argv[1:]] or (32, 128, 256, 512):
            measure(size, Path(temporary))
