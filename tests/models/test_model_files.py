"""Model files that PyTorch, Keras and onnx wrote: what is loaded from them computes what their models compute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

import tinygrad_lstm as tg
from tinygrad_lstm.io import FileLayer, Weights
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM

FILES = Path(__file__).parents[1] / "golden" / "files"
Arrays = dict[str, np.ndarray]
Network = LSTM | GRU | RNN


class Case(NamedTuple):
    """A file, and how the network in it is loaded."""

    file: str
    kind: type[Network]
    prefix: str | list[str] = ""
    options: Mapping[str, Any] = {}

    @property
    def framework(self) -> str:
        return "keras" if self.file.startswith("keras") else "onnx" if self.file.startswith("onnx") else "torch"

    def load(self, weights: Weights, prefix: str | list[str]) -> Network:
        made: Network = getattr(self.kind, f"from_{self.framework}")(weights, prefix, dtype="float32", **self.options)
        return made


CASES = [
    Case("lstm.pt", LSTM, "model.lstm"),
    Case("lstm_legacy.pt", LSTM, "lstm"),
    Case("lstm_script.pt", LSTM, "lstm"),
    Case("lstm_proj.pt", LSTM),
    Case("gru.pt", GRU),
    Case("rnn.pt", RNN, options={"nonlinearity": "relu"}),
    Case("bfloat16.pt", LSTM),
    Case("float16.safetensors", LSTM),
    Case("layer_norm.pt", LSTM, "layers.0.cell"),
    Case("keras_lstm.keras", LSTM, ["layers/lstm", "layers/lstm_1"]),
    Case("keras.weights.h5", LSTM, ["layers/lstm", "layers/lstm_1"]),
    Case("keras_bidirectional.keras", LSTM),
    Case("keras_gru.keras", GRU),
    Case("keras_gru_before.keras", GRU),
    Case("keras_rnn.h5", RNN),
    Case("keras2_lstm.h5", LSTM, ["lower", "upper"]),
    Case("keras2_gru_weights.h5", GRU),
    Case("onnx_lstm.onnx", LSTM, ["node_LSTM_64", "node_LSTM_125"]),
    Case("onnx_bidirectional_peephole.onnx", LSTM),
    Case("onnx_gru.onnx", GRU),
    Case("onnx_gru_before.onnx", GRU),
    Case("onnx_rnn_relu.onnx", RNN),
]


def second_biases_forgotten(gradients: Arrays, layers: Mapping[str, FileLayer], kind: type[Network]) -> Arrays:
    """Gradients of a framework's parameters: loading them as weights returns those of the single bias.

    Both biases have the same gradient, and loading adds them up: so the second is left out. Of a GRU whose reset gate
    comes after the product, the rows of the candidate stay, the last third: they are a parameter of their own.
    """
    kept = {name: gradient.copy() for name, gradient in gradients.items()}

    def forget(bias: np.ndarray, after: bool = kind is GRU) -> None:
        bias[..., : bias.shape[-1] // 3 * 2 if after else None] = 0

    for name in kept:
        if "bias_hh" in name or "layernorm_h.bias" in name:
            forget(kept[name])
    for layer in layers.values():
        for names in layer.arrays:
            after = kind is GRU and layer.reset_after
            if "B" in names:
                forget(np.split(kept[names["B"]], 2, axis=1)[1], after)
            elif kind is GRU and after:
                forget(kept[names["bias"]][1])
    return kept


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_values_and_gradients(case: Case, device: str, compiled: bool) -> None:
    weights = tg.io.load_weights(FILES / case.file)
    expected = load_file(FILES / f"{case.file.split('.')[0]}.expected.safetensors")
    with tg.default_device(device):
        network = case.load(weights, case.prefix)
        x = tg.tensor(expected["x"], requires_grad=True)
    network.batch_first = False  # the expected arrays are (T, B, ...)
    out, state = network(x)
    (out.square().sum() / 2).backward()
    close(out, expected["out"])
    for part, name in zip(state if isinstance(state, tuple) else [state], network.STATES, strict=True):
        close(part, expected[name])
    close(x.grad, expected["grad.x"])
    gradients = {name.removeprefix("grad."): g for name, g in expected.items() if name.startswith("grad.")}
    del gradients["x"]
    as_weights = Weights(second_biases_forgotten(gradients, weights.layers, case.kind), weights.layers)
    wanted = case.load(as_weights, "" if case.framework == "torch" else case.prefix).state_dict()
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        close(found[name], gradient)


def close(tensor: tg.Tensor | None, expected: np.ndarray) -> None:
    assert tensor is not None
    np.testing.assert_allclose(np.array(tensor.detach().cpu().tolist()), expected, rtol=1e-4, atol=2e-5)


def test_a_whole_model(device: str) -> None:
    expected = load_file(FILES / "char_rnn.expected.safetensors")
    with tg.default_device(device):
        model = CharLM.from_torch(tg.io.load_weights(FILES / "char_rnn.pt"))
        logits, (h, c) = model(tg.tensor(expected["ids"]))
    (logits.square().sum() / 2).backward()
    for tensor, name in ((logits, "logits"), (h, "h"), (c, "c")):
        close(tensor, expected[name])
    for name, parameter in model.named_parameters():
        close(parameter.grad, expected[f"grad.{name.replace('bias_l0', 'bias_ih_l0')}"])


def test_a_whole_model_has_the_dtype_of_its_arrays() -> None:
    weights = {name: array.astype("float64") for name, array in tg.io.load_weights(FILES / "char_rnn.pt").items()}
    weights["output.bias"] += 1e-12
    model = CharLM.from_torch(weights)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"float64"}
    np.testing.assert_array_equal(model.output.bias.data, weights["output.bias"])


@pytest.mark.parametrize("missing", ["embedding.weight", "lstm.weight_ih_l0", "output.bias"])
def test_a_whole_model_without_a_part_is_refused(missing: str) -> None:
    weights = tg.io.load_weights(FILES / "char_rnn.pt")
    with pytest.raises(ValueError, match=missing):
        CharLM.from_torch({name: array for name, array in weights.items() if name != missing})
