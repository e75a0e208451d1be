"""Models as ONNX files, for other programs to run."""

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
    """Writes a model to an ONNX file, which runs with any batch and any number of steps, each at least 1.

    What is written is what `forward` computes when it is run outside of training: so dropout is left out, and adapters
    are part of the weights. It is run twice, with inputs that are as long as the examples, and then longer ones; again
    with multiples of the examples' lengths, or only their integers, if it raises. In the second run `x.shape` and
    `len(x)` say where a length comes from, and arithmetic on it (+ - * / // %) says how a number depends on it; all
    else has to be the same in both runs. Each recurrent layer becomes one LSTM, GRU or RNN node, of both directions if
    it has both; with a projection or layer normalization, which these nodes lack, a Scan of its steps. Initial states
    are inputs if they are among the examples, else zeros. Parameters keep the names of `state_dict()` where they are
    used as they are; the weights of a recurrent layer are called `lstm.l0.W`, `.R` and `.B`, after its place in the
    model, and have ONNX's order of gates.

    The file is of opset 17, for onnxruntime 1.12 and later. Models of float16 and float64 are written as they are, but
    onnxruntime does not run recurrent nodes and convolutions of float64: `model.to(dtype="float32")` before.

    Of infinities, NaN and the largest and smallest numbers the file computes what the model does, and an embedding's
    ids that are out of range raise. onnxruntime itself departs from this in a few places: the sigmoid of numbers below
    -18 is 0, sums of int64 are exact up to 2^53, and log_softmax of float64 is wrong in rows with infinities or NaN.

    Args:
        model: LSTM, GRU, RNN, CharLM, ManyToOne, or a module of yours.
        path: the file; one that is there already is replaced, or stays whole if writing fails.
        inputs: example inputs, by the names of the parameters of `forward`: tensors or arrays, of a few steps and
            sequences. Those models have their own: x (CharLM: ids), h0 and, of an LSTM, c0, of which they make out
            (CharLM: logits; ManyToOne: output), h and c; all but CharLM may be given `lengths` besides. A module of
            yours may name its inputs and outputs itself, by having `example_inputs(T, B)` and
            `named_forward(**inputs)` as they do. Else outputs are called as in the dict or NamedTuple that `forward`
            gives, or output, output_1, ...
        dynamic: for some inputs, the dimensions whose length may be any, with names, as in
            `{"x": {0: "time", 1: "batch"}}`. These, the first two, are so by default; of an input with one dimension,
            that is the batch.

    Raises:
        ValueError: the inputs are not those of `forward`; it goes through the steps one by one, outside of a layer; it
            applies an op that ONNX lacks, or lacks for such tensors; it depends on a length or on values outside of
            ops, as by `if x.max() > 1`, or changes tensors in place; the weights take more than 2 GB. The error names
            the line, and no file is written.
        TypeError: `model` is no Module.
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
    if find_spec("onnx") is None:
        from .file import OnnxUnavailableError

        raise OnnxUnavailableError(f"export_onnx needs onnx: {how_to_install('onnx')}")
    from .model import content_of

    write_atomically(path, content_of(model, inputs, dynamic))
