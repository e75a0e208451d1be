"""Whole models of every framework, in tests/golden/models: each agrees with the framework that made it, and trains.

Beside each model stands NAME.expected.safetensors, which its script wrote: the arrays "in.NAME" and "out.NAME" have the
framework's inputs and outputs, by the names that the loaded model has for them; its metadata say who wrote the model.
"""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from golden_models import NAMES, arrays, model_path

import tinygrad_lstm as tg
from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent, RNNCell

RECURRENT = (LSTM, GRU, RNN, Recurrent, LSTMCell, GRUCell, RNNCell)


def by_name(outputs: object, expected: dict[str, HostArray]) -> dict[str, tg.Tensor]:
    """What a model returned, by the names of its outputs."""
    if isinstance(outputs, tg.Tensor):
        (only,) = expected
        return {only: outputs}
    return outputs._asdict()  # type: ignore[attr-defined]


def test_there_are_models() -> None:
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_agree(name: str) -> None:
    model, expected = tg.io.load_model(model_path(name)), arrays(name, "out.")
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with tg.no_grad():
            outputs = by_name(each(**arrays(name, "in.")), expected)
        assert outputs.keys() == expected.keys()
        for key, theirs in expected.items():
            ours = outputs[key].numpy()
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), key
            if theirs.dtype.kind == "f":
                scale = np.abs(theirs).max(initial=0)
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale, err_msg=key)
            else:
                np.testing.assert_array_equal(ours, theirs, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name: str) -> None:
    """A step down the gradient lowers a loss of all outputs."""
    model, inputs, expected = tg.io.load_model(model_path(name)), arrays(name, "in."), arrays(name, "out.")
    targets = {key: 0.5 * theirs for key, theirs in expected.items() if theirs.dtype.kind == "f"}

    def loss() -> tg.Tensor:
        outputs = by_name(model(**inputs), expected)
        parts = [(outputs[key] - tg.tensor(target)).square().mean() for key, target in targets.items()]
        return sum(parts[1:], parts[0])

    before = loss()
    before.backward()
    parameters = {key: each for key, each in model.named_parameters() if each.requires_grad}
    gradients = {key: each.grad for key, each in parameters.items() if each.grad is not None}
    assert gradients
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients.values())
    length = sum(gradient.square().sum().item() for gradient in gradients.values()) ** 0.5
    with tg.no_grad():
        for key, gradient in gradients.items():
            parameters[key].copy_(parameters[key] - gradient * (1e-3 / length))
        assert loss().item() < before.item()


@pytest.mark.parametrize("name", NAMES)
def test_its_gradient_in_float64(name: str) -> None:
    """After `to(dtype="float64")` outputs are float64, near those in float32.

    The derivative of a loss along a direction is the product of the direction with the gradient.
    """
    model, expected = tg.io.load_model(model_path(name)).to(dtype="float64"), arrays(name, "out.")
    inputs = {key: x.astype("float64") if x.dtype.kind == "f" else x for key, x in arrays(name, "in.").items()}
    rng = np.random.default_rng(0)
    weights = {key: tg.tensor(rng.standard_normal(y.shape)) for key, y in expected.items() if y.dtype.kind == "f"}

    def loss() -> tg.Tensor:
        outputs = by_name(model(**inputs), expected)
        for key in weights:
            ours, theirs = outputs[key].detach().numpy(), expected[key]
            assert ours.dtype == np.float64
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max(initial=0), err_msg=key)
        parts = [(outputs[key] * (outputs[key] + weight)).sum() for key, weight in weights.items()]
        return sum(parts[1:], parts[0])

    loss().backward()
    parameters = [each for each in model.parameters() if each.grad is not None]
    steps = [1e-6 * rng.standard_normal(each.shape) for each in parameters]
    for each, step in zip(parameters, steps, strict=True):
        step[each.grad.numpy() == 0] = 0  # the row of PyTorch's padding_idx is not trained
    expected_change = sum((each.grad.numpy() * step).sum() for each, step in zip(parameters, steps, strict=True))
    losses = []
    with tg.no_grad():
        for times in (1, -2):
            for each, step in zip(parameters, steps, strict=True):
                each.copy_(each + tg.tensor(times * step))
            losses.append(loss().item())
    assert (losses[0] - losses[1]) / 2 == pytest.approx(expected_change, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_it_prints_as_a_program(name: str) -> None:
    model = tg.io.load_model(model_path(name))
    lines = repr(model).splitlines()
    assert len(lines) > 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_traced(name: str, tmp_path: Path) -> None:
    """With recurrent layers, a trace and a page of these; the outputs are the same to the bit."""
    model, inputs, expected = tg.io.load_model(model_path(name)), arrays(name, "in."), arrays(name, "out.")
    with tg.no_grad():
        model(**inputs)  # a step is compiled by now, whose sums may be rounded in a different way than those of its ops
        outputs = by_name(model(**inputs), expected)

    def loss(returned: object) -> tg.Tensor:
        parts = [each.square().sum() for each in by_name(returned, expected).values() if each.dtype.kind == "f"]
        return sum(parts[1:], parts[0])

    scans = any(step.op == "scan" for step in model.body.steps)
    if not scans and not any(isinstance(module, RECURRENT) for module in model.modules()):
        with pytest.raises(ValueError, match="no recurrent layer or cell"):
            tg.inspect.trace(model, **inputs, loss=loss)
        return
    traced = tg.inspect.trace(model, **inputs, loss=loss)
    for ours, own in zip(traced.all_outputs.values(), outputs.values(), strict=True):
        np.testing.assert_array_equal(ours, own.numpy())
    assert list(traced.all_inputs) == list(inputs)
    for layer in traced:
        assert any(gradient.any() for gradient in layer.gradients.values()), layer.name
    assert tg.inspect.page(traced, tmp_path / "page.html").stat().st_size > 10_000


NOT_EXPORTED = {
    "onnx_keras": "loops over the steps",
    "onnx_keras_masked": "loops over the steps",
    "onnx_translator": "reads the result of",
    "onnx_vad": "reads the result of",
}
"""Models that branch on values, or loop over steps outside of a layer, with what the error says."""


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("onnx_")])
def test_an_onnx_model_is_exported_again(name: str, tmp_path: Path) -> None:
    model, inputs, expected = tg.io.load_model(model_path(name)), arrays(name, "in."), arrays(name, "out.")
    if name in NOT_EXPORTED:
        with pytest.raises(ValueError, match=NOT_EXPORTED[name]):
            tg.io.export_onnx(model, tmp_path / "again.onnx")
        return
    tg.io.export_onnx(model, tmp_path / "again.onnx")
    again = tg.io.load_model(tmp_path / "again.onnx")
    assert (again.input_names, again.states) == (model.input_names, model.states)
    with tg.no_grad():
        outputs = by_name(again(**inputs), expected)
    for key, theirs in expected.items():
        scale = np.abs(theirs).max(initial=0)
        np.testing.assert_allclose(outputs[key].numpy(), theirs, rtol=0, atol=1e-5 * scale, err_msg=key)
