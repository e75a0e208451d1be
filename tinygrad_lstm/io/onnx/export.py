"""Export of models as ONNX files."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tinygrad_lstm.backends.installing import how_to_install

from ...nn import Module
from ..atomic import write_atomically

__all__ = ["export_onnx"]


def export_onnx(
    model: Module,
    path: str | Path,
    inputs: Mapping[str, Any] | None = None,
    *,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Writes a model to an ONNX file, which runs with any batch size and number of steps of at least 1.

    The file computes what `forward` computes in evaluation mode, so without dropout and with adapters merged into the
    weights. `forward` is run twice, first with inputs as long as the examples, then with longer ones. If it raises, it
    is run again with multiples of the examples' lengths, then with only their integers. In the second run `x.shape` and
    `len(x)` record the origin of a length, and arithmetic on it (+ - * / // %) records how a number depends on it;
    everything else must be the same in both runs. Each recurrent layer becomes one LSTM, GRU or RNN node, for both
    directions if it has both. A layer with a projection or layer normalization, which these nodes lack, becomes a Scan
    of its steps. Initial states are inputs if they are among the examples, or else zeros. Parameters keep the names of
    `state_dict()` if they are used unchanged. The weights of a recurrent layer are named `lstm.l0.W`, `.R` and `.B`,
    after its place in the model, and have ONNX's order of gates.

    The file is of opset 17, for onnxruntime 1.12 and later. Models of float16 and float64 keep their dtype, but
    onnxruntime does not run recurrent nodes and convolutions of float64: call `model.to(dtype="float32")` first.

    The file computes the same as the model also for infinities, NaN and the largest and smallest numbers, and raises
    for ids of an embedding that are out of range. onnxruntime differs in a few places: the sigmoid of numbers below -18
    is 0, sums of int64 are exact only up to 2^53, and log_softmax of float64 is wrong in rows with infinities or NaN.

    Args:
        model: an LSTM, GRU, RNN, CharLM, ManyToOne, or a user-defined module.
        path: the file; an existing one is replaced, or unchanged if writing fails.
        inputs: example inputs, by the names of the parameters of `forward`: tensors or arrays of a few steps and
            sequences. Built-in models have default inputs x (CharLM: ids), h0 and, for an LSTM, c0, and outputs out
            (CharLM: logits; ManyToOne: output), h and c; all except CharLM also take `lengths`. A user-defined module
            can define its inputs and outputs with `example_inputs(T, B)` and `named_forward(**inputs)`. Otherwise
            outputs have the names in the dict or NamedTuple that `forward` returns, or output, output_1, ...
        dynamic: the dynamic dimensions of some inputs, with names, as in `{"x": {0: "time", 1: "batch"}}`. These two
            are the default; the only dimension of a vector is the batch by default.

    Raises:
        ValueError: the inputs are not those of `forward`; it loops over steps outside of a layer; it applies an op that
            ONNX lacks, or lacks for such tensors; it depends on a length or on values outside of ops, as in `if x.max()
            > 1`; it changes tensors in place; the weights take more than 2 GB. The error names the line, and no file is
            written.
        TypeError: `model` is not a Module, or `inputs` is not a mapping.
        OnnxUnavailableError: onnx is not installed (a RuntimeError).
        OSError: the file cannot be written.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> class Tagger(tg.nn.Module):
    ...     def __init__(self):
    ...         self.lstm = LSTM(3, 8, bidirectional=True)
    ...         self.tags = tg.nn.Linear(16, 2)
    ...
    ...     def forward(self, x):
    ...         out, _ = self.lstm(x)
    ...         return {"tags": tg.softmax(self.tags(out), dim=-1)}
    >>> tg.io.export_onnx(Tagger(), "tagger.onnx", {"x": tg.randn(5, 2, 3)})
    >>> tg.io.export_onnx(LSTM(3, 8), "lstm.onnx")
    """
    if not isinstance(model, Module):
        raise TypeError(f"export_onnx: expected a Module, got {type(model).__name__}")
    if inputs is not None and not isinstance(inputs, Mapping):
        raise TypeError(
            "export_onnx: expected the inputs in a dict, by the names of forward's parameters, as in {'x': x}; got "
            f"{type(inputs).__name__}"
        )
    if find_spec("onnx") is None:
        from .file import OnnxUnavailableError

        raise OnnxUnavailableError(f"export_onnx needs onnx: {how_to_install('onnx')}")
    from .model import content_of

    write_atomically(path, content_of(model, inputs, dynamic))
