"""Model files that PyTorch, Keras and onnx wrote: what is loaded from them computes what their models compute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

import tinygrad_lstm as tg
from tinygrad_lstm.io.contents import Weights
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM
from tinygrad_lstm.models.recurrent import _Recurrent

FILES = Path(__file__).parents[1] / "golden" / "files"
Arrays = dict[str, np.ndarray]


class Case(NamedTuple):
    """A file, and how the network in it is loaded."""

    file: str
    kind: type[_Recurrent]
    prefix: str | list[str] = ""
    options: Mapping[str, Any] = {}

    @property
    def framework(self) -> str:
        return "keras" if self.file.startswith("keras") else "onnx" if self.file.startswith("onnx") else "torch"

    def load(self, weights: Weights, prefix: str | list[str]) -> _Recurrent:
        made: _Recurrent = getattr(self.kind, f"from_{self.framework}")(
            weights, prefix, dtype="float32", **self.options
        )
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
]


def second_biases_forgotten(gradients: Arrays, kind: type[_Recurrent]) -> Arrays:
    """Gradients of a framework's parameters, such that loading them as weights gives those of the one bias.

    The gradients of biases that are summed are the same; loading adds them up, so one of them is left. Of a GRU whose
    reset gate comes after the product, the candidate's second bias is a parameter of its own.
    """
    kept = {}
    for name, gradient in gradients.items():
        gradient = gradient.copy()
        last = name.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
        if "bias_hh" in name or "layernorm_h.bias" in name:
            gradient[: len(gradient) if kind is not GRU else len(gradient) // 3 * 2] = 0
        elif gradient.ndim == 2 and len(gradient) == 2 and ("bias" in last or name.endswith("vars/2")):  # a Keras GRU's
            gradient[1, : gradient.shape[1] // 3 * 2] = 0
        kept[name] = gradient
    return kept


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_values_and_gradients(case: Case, device: str, compiled: bool) -> None:
    weights = tg.io.load_weights(FILES / case.file)
    expected = load_file(FILES / f"{Path(case.file).stem}.expected.safetensors")
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
    layers = {name: layer for name, layer in weights.layers.items()}
    as_weights = Weights(second_biases_forgotten(gradients, case.kind), layers)
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
        model = CharLM(vocab_size=27, embedding_size=8, hidden_size=16)
        model.load_state_dict(tg.io.from_torch(tg.io.load_weights(FILES / "char_rnn.pt")))
        logits, (h, c) = model(tg.tensor(expected["ids"]))
    (logits.square().sum() / 2).backward()
    for tensor, name in ((logits, "logits"), (h, "h"), (c, "c")):
        close(tensor, expected[name])
    for name, parameter in model.named_parameters():
        close(parameter.grad, expected[f"grad.{name.replace('bias_l0', 'bias_ih_l0')}"])
