"""Makes the ONNX models beside this script, and what onnxruntime computes with them.

python tests/golden/models/make_onnx.py       # with onnx, onnxruntime, torch, onnxscript, tensorflow and tf2onnx
"""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from safetensors.numpy import save_file
from torch import Tensor

HERE = Path(__file__).parent


def write(name: str, model: onnx.ModelProto, inputs: Mapping[str, Any]) -> None:
    """Writes a model, and its inputs and outputs."""
    onnx.checker.check_model(model)
    onnx.save(model, HERE / f"{name}.onnx")
    session = onnxruntime.InferenceSession(HERE / f"{name}.onnx", providers=["CPUExecutionProvider"])
    outputs = dict(zip([each.name for each in session.get_outputs()], session.run(None, dict(inputs)), strict=True))
    arrays = {f"in.{key}": array for key, array in inputs.items()} | {f"out.{key}": a for key, a in outputs.items()}
    arrays = {key: np.asarray(array, order="C") for key, array in arrays.items()}
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


class Tagger(torch.nn.Module):
    """Words to tags, with states that go in and come out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 4)
        self.lstm = torch.nn.LSTM(4, 6, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(6, 5)

    def forward(self, words: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out, (h, c) = self.lstm(self.embedding(words), (h0, c0))
        return torch.log_softmax(self.head(out), dim=-1), h, c


class Lengths(torch.nn.Module):
    """A stacked bidirectional GRU over sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(3, 4, num_layers=2, bidirectional=True)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        out, h = self.gru(packed)
        padded, _ = torch.nn.utils.rnn.pad_packed_sequence(out)
        return self.head(padded), h


class Recogniser(torch.nn.Module):
    """Convolutions with normalization, then an LSTM over fewer frames, and the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Sequential(
            torch.nn.Conv1d(3, 6, 5, stride=2, padding=2),
            torch.nn.BatchNorm1d(6),
            torch.nn.ReLU(),
            torch.nn.MaxPool1d(2),
        )
        self.lstm = torch.nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.norm = torch.nn.LayerNorm(10)
        self.head = torch.nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(self.conv(x).transpose(1, 2))
        return self.head(self.norm(out).mean(dim=1))


class Attention(torch.nn.Module):
    """A GRU, and heads that look at all of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(4, 8, batch_first=True)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        seen, _ = self.attention(out, out, out, need_weights=False)
        return self.head(torch.nn.functional.gelu(out + seen))


class Translator(torch.nn.Module):
    """An encoder, and a decoder that feeds its own outputs back, in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.LSTM(3, 5)
        self.decoder = torch.nn.LSTMCell(2, 5)
        self.head = torch.nn.Linear(5, 2)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        _, (h, c) = self.encoder(x)
        h, c = h[0], c[0]
        fed = torch.zeros(x.shape[1], 2)
        outputs: list[Tensor] = []
        for _step in range(int(steps)):
            h, c = self.decoder(fed, (h, c))
            fed = torch.tanh(self.head(h))
            outputs.append(fed)
        return torch.stack(outputs)


class Branch(torch.nn.Module):
    """The network of a sampling rate: a Fourier transform as a convolution, an encoder, an LSTM, a decoder."""

    def __init__(self, size: int) -> None:
        super().__init__()
        n = np.arange(size)
        waves = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), n) / size) * np.hanning(size + 1)[:-1]
        basis = np.concatenate([waves.real, waves.imag])[:, None].astype("float32")
        self.register_buffer("basis", torch.from_numpy(basis))
        self.hop = size // 2
        self.encoder = torch.nn.Conv1d(size // 2 + 1, 6, 3, padding=1)
        self.lstm = torch.nn.LSTM(6, 4)
        self.decoder = torch.nn.Conv1d(4, 1, 1)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        padded = torch.nn.functional.pad(x.unsqueeze(1), (0, self.hop), mode="reflect")
        real, imaginary = torch.nn.functional.conv1d(padded, self.basis, stride=self.hop).chunk(2, dim=1)
        features = torch.relu(self.encoder(torch.sqrt(real**2 + imaginary**2)))
        out, (h, c) = self.lstm(features.permute(2, 0, 1), (state[:1], state[1:]))
        speech = torch.sigmoid(self.decoder(torch.relu(out).permute(1, 2, 0))).mean(dim=2)
        return speech, torch.cat([h, c])


class Vad(torch.nn.Module):
    """A voice activity detector with a network for each of two sampling rates."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = Branch(16), Branch(8)

    def forward(self, input: Tensor, state: Tensor, sr: Tensor) -> tuple[Tensor, Tensor]:
        if int(sr) == 16000:
            output, stateN = self.wide(input, state)
        else:
            output, stateN = self.narrow(input, state)
        return output, stateN


def exported(module: torch.nn.Module, inputs: Mapping[str, Tensor], outputs: str, **settings: Any) -> onnx.ModelProto:
    """The ONNX model that torch makes of a module."""
    file = io.BytesIO()
    names = {"input_names": list(inputs), "output_names": outputs.split()}
    module = module if isinstance(module, torch.jit.ScriptModule) else module.eval()
    if settings.get("dynamo"):
        program = torch.onnx.export(module, tuple(inputs.values()), **names, **settings)
        model = program.model_proto
        for node in model.graph.node:
            del node.metadata_props[:]  # where it is in the source
        return model
    torch.onnx.export(module, tuple(inputs.values()), file, **names, **settings)
    return onnx.load_from_string(file.getvalue())


def of_torch() -> None:
    torch.manual_seed(0)
    words = {"words": torch.randint(11, (2, 7)), "h0": torch.randn(2, 2, 6), "c0": torch.randn(2, 2, 6)}
    tagger = Tagger().eval()
    axes = {"words": {0: "batch", 1: "time"}} | {key: {1: "batch"} for key in ("h0", "c0")}
    free = {"batch": torch.export.Dim("batch"), "time": torch.export.Dim("time")}
    shapes = tuple({dim: free[name] for dim, name in own.items()} for own in axes.values())
    for dynamo, shape in ((False, {"dynamic_axes": axes}), (True, {"dynamic_shapes": shapes})):
        model = exported(tagger, words, "tags hn cn", dynamo=dynamo, **shape)
        write(f"onnx_tagger_torch{'_dynamo' * dynamo}", model, arrays_of(words))
        if not dynamo:
            write_quantised("onnx_tagger_quantised", model, arrays_of(words))

    x = {"x": torch.randn(6, 3, 3), "lengths": torch.tensor([4, 6, 1])}
    model = exported(
        Lengths(), x, "out hn", dynamo=False, dynamic_axes={"x": {0: "time", 1: "batch"}, "lengths": {0: "batch"}}
    )
    write("onnx_gru_lengths", model, arrays_of(x))

    recogniser, x = Recogniser(), {"x": torch.randn(2, 3, 24)}
    for _ in range(3):
        recogniser(torch.randn(4, 3, 24))  # for the statistics
    write(
        "onnx_conv_lstm",
        exported(recogniser, x, "y", dynamo=False, dynamic_axes={"x": {0: "batch", 2: "time"}}),
        arrays_of(x),
    )
    dims = ({0: free["batch"]},)
    write("onnx_conv_lstm_dynamo", exported(recogniser, x, "y", dynamo=True, dynamic_shapes=dims), arrays_of(x))

    x = {"x": torch.randn(2, 5, 4)}
    attention = Attention().eval()
    write(
        "onnx_attention",
        exported(attention, x, "y", dynamo=False),  # which fixes the lengths in the file anyway
        arrays_of(x),
    )
    dims = ({0: free["batch"], 1: free["time"]},)
    write("onnx_attention_dynamo", exported(attention, x, "y", dynamo=True, dynamic_shapes=dims), arrays_of(x))

    x = {"x": torch.randn(4, 2, 3), "steps": torch.tensor(5)}
    scripted = torch.jit.script(Translator().eval())
    write(
        "onnx_translator",
        exported(scripted, x, "y", dynamo=False, dynamic_axes={"x": {0: "time", 1: "batch"}}),
        arrays_of(x),
    )

    x = {"input": torch.randn(2, 64), "state": torch.randn(2, 2, 4), "sr": torch.tensor(16000)}
    axes = {"input": {0: "batch", 1: "samples"}, "state": {1: "batch"}}
    scripted = torch.jit.script(Vad().eval())
    write(
        "onnx_vad",
        exported(scripted, x, "output stateN", dynamo=False, opset_version=16, dynamic_axes=axes),
        arrays_of(x),
    )


def arrays_of(inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: each.numpy() for name, each in inputs.items()}


def write_quantised(name: str, model: onnx.ModelProto, inputs: Mapping[str, Any]) -> None:
    """Writes a model with weights of 8 bits, except those of recurrent layers, whose inputs would be rounded too."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "whole.onnx"), Path(folder, "small.onnx")
        onnx.save(model, paths[0])
        quantize_dynamic(*paths, op_types_to_quantize=["MatMul", "Gather"])
        write(name, onnx.load(paths[1]), inputs)


def of_keras() -> None:
    """Keras models, by tf2onnx: it writes layers as nodes, and those with a mask as loops."""
    from keras import Input, Sequential, layers, utils

    utils.set_random_seed(0)
    biases = {"bias_initializer": "normal"}
    write_keras(
        "onnx_keras",
        Sequential(
            [
                Input((None, 4)),
                layers.Bidirectional(layers.LSTM(5, return_sequences=True, **biases)),
                layers.GRU(4, recurrent_activation="hard_sigmoid", **biases),
                layers.Dense(3, activation="softmax"),
            ]
        ),
    )
    masked = [Input((None, 4)), layers.Masking(), layers.LSTM(3, **biases), layers.Dense(3)]
    write_keras("onnx_keras_masked", Sequential(masked))


def write_keras(name: str, model: Any) -> None:
    import tensorflow
    import tf2onnx

    specification = [tensorflow.TensorSpec((None, None, 4), tensorflow.float32, name="x")]
    function = tensorflow.function(lambda x: model(x), input_signature=specification)
    converted, _ = tf2onnx.convert.from_function(function, specification, opset=15)
    x = np.random.default_rng(2).standard_normal((2, 6, 4), np.float32)
    x[0, 4:] = 0
    write(name, converted, {"x": x})


if __name__ == "__main__":
    write("onnx_dense", dense(), {"x": np.random.default_rng(1).standard_normal((4, 2, 3), np.float32)})
    of_torch()
    of_keras()
