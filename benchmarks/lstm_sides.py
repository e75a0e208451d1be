"""What `lstm.py` measures: each task as each side does it, from the same weights and inputs, in float32.

The tasks:
    forward     the outputs, recorded for a backward to follow
    inference   the outputs, nothing recorded
    backward    forward and backward: the gradients of the input and of all weights, that of the output being given
    charlm      a training step of a character model: embedding, LSTM, linear, cross-entropy, backward, clipping, Adam
    streaming   one step at batch 1, from the state that the step before left
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from cuda_gauges import CupyGauge, TorchGauge
from harness import Case, Gauge, HostGauge

VOCABULARY = 65  # characters, as in the collected Shakespeare
MAX_NORM = 1.0
DEVICE, PRECISION = "LSTM_BENCHMARK_DEVICE", "LSTM_BENCHMARK_PRECISION"  # of the environment
LEARNING_RATE = 1e-3

GRADIENTS = ("out", "gradient of x", "gradient of weight_ih", "gradient of weight_hh", "gradient of the bias")
STREAMED = ("out", "h", "c")


class Sizes(NamedTuple):
    """Steps, batch, input size, hidden size."""

    T: int
    B: int
    I: int
    H: int

    def __str__(self) -> str:
        return f"({self.T}, {self.B}, {self.I}, {self.H})"


class Arrays:
    """The weights of a layer, inputs (T, B, I) and the gradient of the outputs (T, B, H)."""

    def __init__(self, sizes: Sizes) -> None:
        T, B, I, H = sizes
        rng = np.random.default_rng(0)
        self.weight_ih, self.weight_hh = _weights(rng, 4 * H, I, bound=H**-0.5), _weights(rng, 4 * H, H, bound=H**-0.5)
        self.bias = _weights(rng, 4 * H, bound=H**-0.5)
        self.x = rng.standard_normal((T, B, I), np.float32)
        self.g_out = rng.standard_normal((T, B, H), np.float32)


class TextArrays:
    """The weights around a layer in a character model, ids and targets (T, B)."""

    def __init__(self, sizes: Sizes) -> None:
        T, B, I, H = sizes
        rng = np.random.default_rng(1)
        self.embedding = rng.standard_normal((VOCABULARY, I), np.float32)
        self.weight, self.bias = _weights(rng, VOCABULARY, H, bound=H**-0.5), _weights(rng, VOCABULARY, bound=H**-0.5)
        self.ids, self.targets = rng.integers(VOCABULARY, size=(2, T, B))


def _weights(rng: np.random.Generator, *shape: int, bound: float) -> np.ndarray:
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def named(names: Sequence[str], to_numpy: Callable[[Any], np.ndarray]) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """For `Case.arrays`: the results that a call gives in this order."""
    return lambda results: {name: to_numpy(result) for name, result in zip(names, results, strict=True)}


# This library. Where, and whether with compiled kernels, its environment says: see SIDES.


def our_numpy(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def our_lstm(sizes: Sizes, arrays: Arrays) -> Any:
    from tinygrad_lstm.models import LSTM

    lstm = LSTM(sizes.I, sizes.H)
    lstm.load_state_dict({"weight_ih_l0": arrays.weight_ih, "weight_hh_l0": arrays.weight_hh, "bias_l0": arrays.bias})
    return lstm


def our_forward(sizes: Sizes) -> Case:
    import tinygrad_lstm as tg

    arrays = Arrays(sizes)
    lstm, x = our_lstm(sizes, arrays), tg.tensor(arrays.x, requires_grad=True)
    return Case(lambda: lstm(x)[:1], named(["out"], our_numpy))


def our_inference(sizes: Sizes) -> Case:
    import tinygrad_lstm as tg

    arrays = Arrays(sizes)
    lstm, x = our_lstm(sizes, arrays).eval(), tg.tensor(arrays.x)
    return Case(lambda: lstm(x)[:1], named(["out"], our_numpy), within=tg.no_grad)


def our_backward(sizes: Sizes) -> Case:
    import tinygrad_lstm as tg

    arrays = Arrays(sizes)
    lstm = our_lstm(sizes, arrays)
    x, g_out = tg.tensor(arrays.x, requires_grad=True), tg.tensor(arrays.g_out)
    inputs = [x, lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_l0]

    def call() -> list[Any]:
        for tensor in inputs:
            tensor.grad = None
        out, _ = lstm(x)
        out.backward(g_out)
        return [out, *(tensor.grad for tensor in inputs)]

    return Case(call, named(GRADIENTS, our_numpy))


def our_checkpointed_backward(sizes: Sizes) -> Case:
    """Of √T segments of time only the states in between are kept; the rest is computed again on the way back."""
    import tinygrad_lstm as tg

    arrays = Arrays(sizes)
    lstm = our_lstm(sizes, arrays)
    segments = math.isqrt(sizes.T - 1) + 1
    xs = [tg.tensor(x, requires_grad=True) for x in np.array_split(arrays.x, segments)]
    g_outs = [tg.tensor(g_out) for g_out in np.array_split(arrays.g_out, segments)]
    weights = [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_l0]

    def call() -> list[Any]:
        outs, state = [], None
        for x in xs:
            out, state = tg.checkpoint(lstm, x, state)
            outs.append(out)
        grads = tg.grad(outs, [*xs, *weights], grad_outputs=g_outs)
        return [outs, grads[:segments], *grads[segments:]]

    def to_numpy(result: Any) -> np.ndarray:
        return (
            np.concatenate([our_numpy(part) for part in result]) if isinstance(result, Sequence) else our_numpy(result)
        )

    return Case(call, named(GRADIENTS, to_numpy))


def our_charlm(sizes: Sizes) -> Case:
    import tinygrad_lstm as tg
    from tinygrad_lstm.models import CharLM

    arrays, text = Arrays(sizes), TextArrays(sizes)
    model = CharLM(VOCABULARY, sizes.I, sizes.H)
    model.load_state_dict(
        {
            "embedding.weight": text.embedding,
            "lstm.weight_ih_l0": arrays.weight_ih,
            "lstm.weight_hh_l0": arrays.weight_hh,
            "lstm.bias_l0": arrays.bias,
            "output.weight": text.weight,
            "output.bias": text.bias,
        }
    )
    ids, targets = tg.tensor(text.ids), tg.tensor(text.targets)
    parameters = dict(model.named_parameters())
    optimizer = tg.optim.Adam(parameters.values(), lr=LEARNING_RATE)

    def call() -> list[Any]:
        optimizer.zero_grad()
        loss, _ = model.loss(ids, targets)
        loss.backward()
        tg.optim.clip_grad_norm_(parameters.values(), MAX_NORM)
        optimizer.step()
        return [loss, *(parameter.grad for parameter in parameters.values())]

    return Case(call, named(["loss", *(f"gradient of {name}" for name in parameters)], our_numpy))


def our_streaming(sizes: Sizes) -> Case:
    arrays = Arrays(sizes)
    step = our_lstm(sizes, arrays).eval().stepper()
    x, state = arrays.x[0], (np.zeros((1, 1, sizes.H), np.float32), np.zeros((1, 1, sizes.H), np.float32))

    def call() -> list[Any]:
        nonlocal state
        out, state = step(x, state)
        return [out, *state]

    return Case(call, named(STREAMED, np.asarray))


# PyTorch.


def torch_numpy(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def import_torch() -> Any:
    """PyTorch, computing where DEVICE says, in float32 proper unless PRECISION says otherwise."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if DEVICE in os.environ:
        torch.set_default_device(os.environ[DEVICE])
        # cuDNN's own default is TF32.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = os.environ.get(PRECISION) == "tf32"
    return torch


def torch_weights(arrays: Arrays, ending: str = "") -> dict[str, Any]:
    """Its two biases are added to each other: one is ours, the other zero."""
    import torch

    return {
        f"weight_ih{ending}": torch.tensor(arrays.weight_ih),
        f"weight_hh{ending}": torch.tensor(arrays.weight_hh),
        f"bias_ih{ending}": torch.tensor(arrays.bias),
        f"bias_hh{ending}": torch.zeros(len(arrays.bias)),
    }


def torch_lstm(sizes: Sizes, arrays: Arrays) -> Any:
    torch = import_torch()
    lstm = torch.nn.LSTM(sizes.I, sizes.H)
    lstm.load_state_dict(torch_weights(arrays, "_l0"))
    return lstm


def torch_forward(sizes: Sizes) -> Case:
    torch = import_torch()
    arrays = Arrays(sizes)
    lstm, x = torch_lstm(sizes, arrays), torch.tensor(arrays.x, requires_grad=True)
    return Case(lambda: lstm(x)[:1], named(["out"], torch_numpy))


def torch_inference(sizes: Sizes) -> Case:
    torch = import_torch()
    arrays = Arrays(sizes)
    lstm, x = torch_lstm(sizes, arrays).eval(), torch.tensor(arrays.x)
    return Case(lambda: lstm(x)[:1], named(["out"], torch_numpy), within=torch.inference_mode)


def torch_backward(sizes: Sizes) -> Case:
    torch = import_torch()
    arrays = Arrays(sizes)
    lstm = torch_lstm(sizes, arrays)
    x, g_out = torch.tensor(arrays.x, requires_grad=True), torch.tensor(arrays.g_out)
    inputs = [x, lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0]

    def call() -> list[Any]:
        x.grad = None
        lstm.zero_grad()
        out, _ = lstm(x)
        out.backward(g_out)
        return [out, *(tensor.grad for tensor in inputs)]

    return Case(call, named(GRADIENTS, torch_numpy))


def torch_charlm(sizes: Sizes, fused: bool = False) -> Case:
    """`fused`: with Adam as one kernel, which is not its default."""
    torch = import_torch()
    arrays, text = Arrays(sizes), TextArrays(sizes)
    embedding = torch.nn.Embedding.from_pretrained(torch.tensor(text.embedding), freeze=False)
    lstm = torch_lstm(sizes, arrays)
    output = torch.nn.Linear(sizes.H, VOCABULARY)
    output.load_state_dict({"weight": torch.tensor(text.weight), "bias": torch.tensor(text.bias)})
    ids, targets = torch.tensor(text.ids), torch.tensor(text.targets)
    model = torch.nn.ModuleDict({"embedding": embedding, "lstm": lstm, "output": output})
    # Its two biases have the same gradient: if both stepped, it would be at twice our rate.
    lstm.bias_hh_l0.requires_grad_(False)
    parameters = {name.replace("bias_ih", "bias"): p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(parameters.values(), lr=LEARNING_RATE, fused=fused)

    def call() -> list[Any]:
        optimizer.zero_grad()
        out, _ = lstm(embedding(ids))
        loss = torch.nn.functional.cross_entropy(output(out).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
        optimizer.step()
        return [loss, *(parameter.grad for parameter in parameters.values())]

    return Case(call, named(["loss", *(f"gradient of {name}" for name in parameters)], torch_numpy))


def torch_cell_streaming(sizes: Sizes) -> Case:
    """LSTMCell: states (B, H)."""
    torch = import_torch()
    arrays = Arrays(sizes)
    cell = torch.nn.LSTMCell(sizes.I, sizes.H).eval()
    cell.load_state_dict(torch_weights(arrays))
    x, state = torch.tensor(arrays.x[0]), (torch.zeros(1, sizes.H), torch.zeros(1, sizes.H))

    def call() -> list[Any]:
        nonlocal state
        state = cell(x, state)
        return [state[0], *state]

    return Case(call, named(STREAMED, torch_numpy), within=torch.inference_mode)


def torch_lstm_streaming(sizes: Sizes) -> Case:
    """LSTM over a sequence of one step: states (1, B, H)."""
    torch = import_torch()
    arrays = Arrays(sizes)
    lstm = torch_lstm(sizes, arrays).eval()
    x, state = torch.tensor(arrays.x), (torch.zeros(1, 1, sizes.H), torch.zeros(1, 1, sizes.H))

    def call() -> list[Any]:
        nonlocal state
        out, state = lstm(x, state)
        return [out, *state]

    return Case(call, named(STREAMED, torch_numpy), within=torch.inference_mode)


# onnxruntime, on a model of one node.


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


# The floor: the matrix products that these tasks cannot do without, through NumPy into arrays made before, and nothing
# else. There are no results to compare.


def products_forward(sizes: Sizes) -> Case:
    T, B, I, H = sizes
    arrays = Arrays(sizes)
    x, hs = arrays.x.reshape(T * B, I), arrays.g_out  # any states will do
    # For a small product OpenBLAS takes up to twice as long if it has to transpose the weights each time.
    weight_ih, weight_hh = arrays.weight_ih.T, np.ascontiguousarray(arrays.weight_hh.T)
    net_x, net_h = np.empty((T * B, 4 * H), np.float32), np.empty((B, 4 * H), np.float32)

    def call() -> None:
        np.matmul(x, weight_ih, out=net_x)
        for h in hs:
            np.matmul(h, weight_hh, out=net_h)

    return Case(call)


def products_backward(sizes: Sizes) -> Case:
    T, B, I, H = sizes
    arrays = Arrays(sizes)
    forward = products_forward(sizes).call
    x, hs = arrays.x.reshape(T * B, I), arrays.g_out.reshape(T * B, H)
    g_nets = np.random.default_rng(2).standard_normal((T, B, 4 * H), np.float32)
    g_net = g_nets.reshape(T * B, 4 * H)
    g_h, g_x = np.empty((B, H), np.float32), np.empty_like(x)
    g_weight_ih, g_weight_hh = np.empty_like(arrays.weight_ih), np.empty_like(arrays.weight_hh)

    def call() -> None:
        forward()
        for g in g_nets[::-1]:
            np.matmul(g, arrays.weight_hh, out=g_h)
        np.matmul(g_net, arrays.weight_ih, out=g_x)
        np.matmul(g_net.T, x, out=g_weight_ih)
        np.matmul(g_net.T, hs, out=g_weight_hh)

    return Case(call)


Task = Callable[[Sizes], Case]

OURS: dict[str, Task] = {
    "forward": our_forward,
    "inference": our_inference,
    "backward": our_backward,
    "charlm": our_charlm,
    "streaming": our_streaming,
}
CHECKPOINTED: dict[str, Task] = {"backward": our_checkpointed_backward}
TORCH: dict[str, Task] = {
    "forward": torch_forward,
    "inference": torch_inference,
    "backward": torch_backward,
    "charlm": torch_charlm,
}
PRODUCTS: dict[str, Task] = {
    "forward": products_forward,
    "inference": products_forward,
    "backward": products_backward,
    "streaming": products_forward,
}


@dataclass(frozen=True)
class Side:
    """Who computes.

    Args:
        needs: the packages without which it cannot.
        tasks: how it does those that it does.
        environment: variables that it finds set.
        gauge: makes what measures it.
    """

    needs: tuple[str, ...]
    tasks: Mapping[str, Task]
    environment: Mapping[str, str] = field(default_factory=dict)
    gauge: Callable[[], Gauge] = HostGauge

    def installed(self) -> bool:
        return all(find_spec(package) for package in self.needs)


WITH_COMPILED, WITHOUT = {"TINYGRAD_LSTM_COMPILED": "1"}, {"TINYGRAD_LSTM_COMPILED": "0"}
OUR_CUDA, TORCH_CUDA = {"TINYGRAD_LSTM_DEVICE": "cuda"}, {DEVICE: "cuda"}

SIDES = {
    "compiled": Side(("numba",), OURS, WITH_COMPILED),
    "NumPy": Side((), OURS, WITHOUT),
    "compiled, checkpointed": Side(("numba",), CHECKPOINTED, WITH_COMPILED),
    "NumPy, checkpointed": Side((), CHECKPOINTED, WITHOUT),
    "torch": Side(("torch",), TORCH),
    "torch, fused Adam": Side(("torch",), {"charlm": partial(torch_charlm, fused=True)}),
    "torch LSTMCell": Side(("torch",), {"streaming": torch_cell_streaming}),
    "torch LSTM": Side(("torch",), {"streaming": torch_lstm_streaming}),
    "onnxruntime": Side(("onnx", "onnxruntime"), {"streaming": onnx_streaming}),
    "onnxruntime, bound": Side(("onnx", "onnxruntime"), {"streaming": onnx_bound_streaming}),
    "products": Side((), PRODUCTS),
    "ours, CUDA": Side(("cupy",), OURS, OUR_CUDA, CupyGauge),
    "torch, CUDA": Side(("torch",), TORCH, TORCH_CUDA, TorchGauge),
    "torch, CUDA, fused Adam": Side(("torch",), {"charlm": partial(torch_charlm, fused=True)}, TORCH_CUDA, TorchGauge),
}
"""Ours first, for each device; `products` is the floor."""


def prepare(side: str, task: str, sizes: Sizes) -> Case:
    """The task as the side does it."""
    if side == "ours, CUDA":
        import tinygrad_lstm as tg

        tg.cuda.set_precision(os.environ.get(PRECISION, "float32"))
    return replace(SIDES[side].tasks[task](sizes), gauge=SIDES[side].gauge())
