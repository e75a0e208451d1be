"""The commands for models of any file, on the models that each framework made."""

from pathlib import Path

import numpy as np
import pytest
from golden_models import NAMES, arrays, model_path

import tinygrad_lstm as tg
from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.cli.export import export
from tinygrad_lstm.cli.run import run
from tinygrad_lstm.cli.show import show


def assert_agree(path: Path, expected: dict[str, HostArray], names: list[str]) -> None:
    """The file has the outputs in the model's order, whose names in Python are given; an only one has any name."""
    with np.load(path) as written:
        found = dict(zip(names, written.values(), strict=True))
        for name, array in expected.items():
            ours = found[name if len(expected) > 1 else names[0]]
            np.testing.assert_allclose(ours, array, rtol=0, atol=1e-5 * np.abs(array).max(initial=0))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_shown_run_and_exported(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs, outputs = str(model_path(name)), tmp_path / "in.npz", tmp_path / "out.npz"
    loaded = tg.io.load_model(model)
    np.savez(inputs, **arrays(name, "in."))
    show(model)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("a whole model, by tg.io.load_model(path): ") for line in lines)
    run(model, [str(inputs)], [str(outputs)])
    expected = arrays(name, "out.")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]] == [*np.load(outputs)]
    assert_agree(outputs, expected, loaded.output_names)
    export(model, "safetensors", str(tmp_path / "arrays.safetensors"))
    assert loaded.state_dict().keys() == tg.io.load_weights(tmp_path / "arrays.safetensors").keys()


@pytest.mark.parametrize("name", ["keras3_words", "torch_script_tagger", "torch_script_vad", "tf_keras2"])
def test_it_becomes_an_onnx_file_that_agrees(name: str, tmp_path: Path) -> None:
    model, inputs, outputs = str(model_path(name)), tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(inputs, **arrays(name, "in."))
    export(model, "onnx", str(tmp_path / "model.onnx"), [str(inputs)])
    run(str(tmp_path / "model.onnx"), [str(inputs)], [str(outputs)])
    assert_agree(outputs, arrays(name, "out."), tg.io.load_model(tmp_path / "model.onnx").output_names)
