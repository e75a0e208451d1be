"""Write ONNX models, and beside each what it computes.

    pip install torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 safetensors
    python tests/golden/files/make_onnx_files.py          # in an environment of its own; rewrites the files below

| file | holds |
| --- | --- |
| onnx_lstm.onnx | an LSTM of two layers that torch.onnx.export wrote: two nodes |
| onnx_bidirectional_peephole.onnx | an LSTM node in both directions with peepholes |
| onnx_gru.onnx | a GRU node with linear_before_reset=1, as PyTorch and cuDNN compute |
| onnx_gru_before.onnx | a GRU node with ONNX's default, linear_before_reset=0 |
| onnx_rnn_relu.onnx | an RNN node of relu, in both directions |

Expected values: `file.<name>`, the arrays of the file that are weights; `x` (T, B, I); `out` (T, B, D*H), `h` and `c`
(L*D, B, H) from a state of zeros. With the loss sum(out ** 2) / 2: `grad.x`, and `grad.<name>` for each weight. All is
float32, computed in float64 by the equations of ONNX's operators below; what onnxruntime computes is compared with it.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from safetensors.numpy import save
from torch import Tensor, nn

FOLDER = Path(__file__).parent
TIME, BATCH, INPUT, HIDDEN = 5, 2, 3, 4
OPSET = 22
ROLES = {"W": 1, "R": 2, "B": 3, "P": 7}

Weights = dict[str, Tensor]
Step = Callable[[Tensor, list[Tensor], Weights], list[Tensor]]


class Layer(NamedTuple):
    """A node: the names of its weights by their roles, its directions, and how it computes a step."""

    names: dict[str, str]
    directions: int
    step: Step


def lstm_step(x: Tensor, state: list[Tensor], weights: Weights) -> list[Tensor]:
    """The operator LSTM: rows of the gates i, o, f, c; peepholes i, o, f."""
    h, c = state
    i, o, f, g = (x @ weights["W"].T + h @ weights["R"].T + sum(weights["B"].chunk(2))).chunk(4, -1)
    p_i, p_o, p_f = weights["P"].chunk(3) if "P" in weights else (0.0, 0.0, 0.0)
    new_c = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(g)
    return [torch.sigmoid(o + p_o * new_c) * torch.tanh(new_c), new_c]


def gru_step(after: bool) -> Step:
    """The operator GRU: rows of the gates z, r, h; linear_before_reset is `after`."""

    def step(x: Tensor, state: list[Tensor], weights: Weights) -> list[Tensor]:
        (h,) = state
        (W_z, W_r, W_n), (R_z, R_r, R_n) = weights["W"].chunk(3), weights["R"].chunk(3)
        b_z, b_r, b_n, rb_z, rb_r, rb_n = weights["B"].chunk(6)
        z = torch.sigmoid(x @ W_z.T + h @ R_z.T + b_z + rb_z)
        r = torch.sigmoid(x @ W_r.T + h @ R_r.T + b_r + rb_r)
        of_h = r * (h @ R_n.T + rb_n) if after else (r * h) @ R_n.T + rb_n
        n = torch.tanh(x @ W_n.T + b_n + of_h)
        return [(1 - z) * n + z * h]

    return step


def relu_step(x: Tensor, state: list[Tensor], weights: Weights) -> list[Tensor]:
    """The operator RNN, of relu."""
    return [torch.relu(x @ weights["W"].T + state[0] @ weights["R"].T + sum(weights["B"].chunk(2)))]


def run(x: Tensor, layers: list[Layer], weights: Weights, states: int) -> list[Tensor]:
    """The outputs (T, B, D*H) of stacked layers, and those of h and c (L*D, B, H) that the kind has."""
    last: list[list[Tensor]] = []
    for layer in layers:
        of_directions = []
        for direction in range(layer.directions):
            own = {role: weights[name][direction] for role, name in layer.names.items()}
            state = [torch.zeros(x.shape[1], HIDDEN, dtype=x.dtype) for _ in range(states)]
            steps = []
            for x_t in reversed(x) if direction else x:
                state = layer.step(x_t, state, own)
                steps.append(state[0])
            of_directions.append(torch.stack(steps[::-1] if direction else steps))
            last.append(state)
        x = torch.cat(of_directions, -1)
    return [x, *(torch.stack(rows) for rows in zip(*last, strict=True))]


def node_model(
    kind: str, random: np.random.Generator, directions: int, peephole: bool, **options: object
) -> onnx.ModelProto:
    """A model of one node with random weights."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"W": (gates * HIDDEN, INPUT), "R": (gates * HIDDEN, HIDDEN), "B": (2 * gates * HIDDEN,)}
    shapes |= {"P": (3 * HIDDEN,)} if peephole else {}
    arrays = {role: random.normal(0, 0.4, (directions, *shape)).astype(np.float32) for role, shape in shapes.items()}
    inputs = ["x", "W", "R", "B", *(["", "", "", "P"] if peephole else [])]
    outputs = ["y", "h", "c"][: 3 if kind == "LSTM" else 2]
    direction = "bidirectional" if directions == 2 else "forward"
    node = helper.make_node(kind, inputs, outputs, name="recurrent", hidden_size=HIDDEN, direction=direction, **options)
    sizes: dict[str, list[int | str]] = {
        "y": ["time", directions, "batch", HIDDEN],
        "h": [directions, "batch", HIDDEN],
        "c": [directions, "batch", HIDDEN],
    }
    graph = helper.make_graph(
        [node],
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["time", "batch", INPUT])],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes[name]) for name in outputs],
        [numpy_helper.from_array(array, role) for role, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def exported() -> onnx.ModelProto:
    """What torch.onnx.export writes of an LSTM, without its notes on where in which source each node comes from."""
    torch.manual_seed(0)
    module = nn.LSTM(INPUT, HIDDEN, num_layers=2)
    program = torch.onnx.export(
        module, (torch.zeros(TIME, BATCH, INPUT),), dynamo=True, input_names=["x"], output_names=["y", "h", "c"]
    )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        del part.metadata_props[:]
    return model


def make(name: str, model: onnx.ModelProto, random: np.random.Generator, step: Step) -> None:
    onnx.checker.check_model(model, full_check=True)
    path = FOLDER / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN"):
            names = {role: node.input[place] for role, place in ROLES.items() if place < len(node.input)}
            layers.append(Layer(names, len(arrays[names["W"]]), step))
    used = [array for layer in layers for array in layer.names.values()]
    weights = {key: torch.tensor(arrays[key], dtype=torch.float64, requires_grad=True) for key in used}
    x = random.normal(size=(TIME, BATCH, INPUT)).astype(np.float32)
    inputs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    out, *states = run(inputs, layers, weights, 2 if "c" in {output.name for output in model.graph.output} else 1)
    by_runtime = onnxruntime.InferenceSession(path).run(None, {"x": x})
    y = by_runtime[0] if by_runtime[0].ndim == 3 else by_runtime[0].swapaxes(1, 2).reshape(TIME, BATCH, -1)
    for ours, theirs in zip([out, *states], [y, *by_runtime[1:]], strict=True):
        np.testing.assert_allclose(ours.detach(), theirs, rtol=1e-5, atol=1e-6)
    of_x, *of_weights = torch.autograd.grad((out**2).sum() / 2, [inputs, *weights.values()])
    computed = {"x": inputs, "out": out, "grad.x": of_x, **dict(zip("hc", states, strict=False))}
    computed |= {f"grad.{key}": gradient for key, gradient in zip(weights, of_weights, strict=True)}
    expected = {f"file.{key}": arrays[key] for key in used}
    expected |= {key: np.ascontiguousarray(value.detach(), np.float32) for key, value in computed.items()}
    path.with_suffix(".expected.safetensors").write_bytes(save(expected))
    print(f"{path.name}: {path.stat().st_size} bytes")


def main() -> None:
    def drawing(name: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(name.encode()))

    make("onnx_lstm", exported(), drawing("onnx_lstm"), lstm_step)
    random = drawing("onnx_bidirectional_peephole")
    make("onnx_bidirectional_peephole", node_model("LSTM", random, 2, peephole=True), random, lstm_step)
    for name, after in {"onnx_gru": True, "onnx_gru_before": False}.items():
        random = drawing(name)
        options = {"linear_before_reset": 1} if after else {}
        make(name, node_model("GRU", random, 1, peephole=False, **options), random, gru_step(after))
    random = drawing("onnx_rnn_relu")
    make("onnx_rnn_relu", node_model("RNN", random, 2, peephole=False, activations=["Relu", "Relu"]), random, relu_step)


if __name__ == "__main__":
    main()
