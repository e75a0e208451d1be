"""Models exported to ONNX and run by onnxruntime, beside the same models run by this library."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU

HostArray = np.ndarray[Any, Any]
Tensor = tg.Tensor
Function = Callable[..., Any]
Inputs = Mapping[str, Any]
TOLERANCE = 1e-5
QUIET = onnxruntime.SessionOptions()
QUIET.intra_op_num_threads = 1
QUIET.log_severity_level = 4


class Runner:
    """An exported file, checked, to be run."""

    def __init__(
        self, model: tg.nn.Module, inputs: Inputs | None = None, folder: Path | None = None, **options: Any
    ) -> None:
        path = (folder or Path(".")) / "model.onnx"
        tg.io.export_onnx(model, path, inputs, **options)
        self.proto = onnx.load(path)
        onnx.checker.check_model(self.proto, full_check=True)
        content = self.proto.SerializeToString()
        self.session = onnxruntime.InferenceSession(content, QUIET, providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: Any) -> dict[str, HostArray]:
        names = [output.name for output in self.session.get_outputs()]
        given = {name: on_host(value) for name, value in inputs.items()}
        return dict(zip(names, self.session.run(None, given), strict=True))

    @property
    def nodes(self) -> list[str]:
        """The kinds of its nodes, in order."""
        return [node.op_type for node in self.proto.graph.node]

    @property
    def arrays(self) -> dict[str, HostArray]:
        """Its initialisers by name."""
        return {each.name: onnx.numpy_helper.to_array(each) for each in self.proto.graph.initializer}


def on_host(value: Any) -> HostArray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


class Applied(tg.nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def forward(self, **inputs: Tensor) -> Any:
        return self.function(**inputs)


def assert_near(actual: Mapping[str, HostArray], expected: Mapping[str, Any]) -> None:
    assert list(actual) == list(expected)
    for name, value in expected.items():
        wanted = on_host(value)
        assert (actual[name].shape, actual[name].dtype) == (wanted.shape, wanted.dtype), name
        np.testing.assert_allclose(actual[name], wanted, TOLERANCE, TOLERANCE, err_msg=name)


def assert_same_function(function: Function, example: Inputs, *others: Inputs, folder: Path, **options: Any) -> Runner:
    """Exports a function by an example, and holds what onnxruntime computes to the function's own values."""
    run = Runner(Applied(function), example, folder, **options)
    for inputs in (example, *others):
        with tg.no_grad():
            given = function(**{name: tg.tensor(value) for name, value in inputs.items()})
        outputs = given if isinstance(given, tuple | list) else [given]
        names = ["output", *(f"output_{number}" for number in range(1, len(outputs)))]
        assert_near(run(**inputs), dict(zip(names, outputs, strict=True)))
    return run


def rows(T: int, B: int, size: int = 3, seed: int = 0) -> HostArray:
    return np.random.default_rng(seed).uniform(0.2, 1.5, (T, B, size)).astype(np.float32)


class Spotter(tg.nn.Module):
    """A convolution, a network of both directions, layer normalization, the classes of each step."""

    def __init__(self, classes: int = 3) -> None:
        self.conv = tg.nn.Conv1d(2, 4, 3, stride=2, padding=1)
        self.gru = GRU(4, 5, bidirectional=True)
        self.norm = tg.nn.LayerNorm(10)
        self.dropout = tg.nn.Dropout(0.5)
        self.classes = tg.nn.Linear(10, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = tg.relu(self.conv(x.permute(1, 2, 0))).permute(2, 0, 1)  # (T / 2, B, 4)
        out, h = self.gru(features)
        return tg.softmax(self.classes(self.dropout(self.norm(out))), dim=-1), h
