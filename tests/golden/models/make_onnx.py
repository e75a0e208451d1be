"""Makes the ONNX models beside this script, and what onnxruntime computes with them.

python tests/golden/models/make_onnx.py       # with onnx and onnxruntime
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

HERE = Path(__file__).parent


def write(name: str, model: onnx.ModelProto, inputs: Mapping[str, Any]) -> None:
    """Writes a model, and its inputs and outputs."""
    onnx.checker.check_model(model)
    onnx.save(model, HERE / f"{name}.onnx")
    session = onnxruntime.InferenceSession(HERE / f"{name}.onnx", providers=["CPUExecutionProvider"])
    outputs = dict(zip([each.name for each in session.get_outputs()], session.run(None, dict(inputs)), strict=True))
    arrays = {f"in.{key}": array for key, array in inputs.items()} | {f"out.{key}": a for key, a in outputs.items()}
    arrays = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    save_file(arrays, HERE / f"{name}.expected.safetensors", {"made by": f"onnxruntime {onnxruntime.__version__}"})


def dense() -> onnx.ModelProto:
    """tanh(x W + b), by hand."""
    draw = np.random.default_rng(0).standard_normal
    weights = {"dense.weight": draw((3, 5), np.float32), "dense.bias": draw(5, np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "dense.weight"], ["product"]),
            helper.make_node("Add", ["product", "dense.bias"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["y"]),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", "batch", 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    write("onnx_dense", dense(), {"x": np.random.default_rng(1).standard_normal((4, 2, 3), np.float32)})
