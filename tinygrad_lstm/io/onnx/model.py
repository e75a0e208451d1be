"""The content of an ONNX file: a model, run with example inputs and written as a graph."""

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import checker, helper, shape_inference

from ..._version import __version__
from ...nn import Module
from ...programs.examples import Dims
from ...programs.program import Program
from ...programs.recording import named_errors
from ...programs.runs import recorded
from .graph import Graph, value_info
from .recurrent import write

__all__ = ["content_of"]

OPSET = 17
IR_VERSION = 8  # the IR version of opset 17
LARGEST_FILE = 2**31 - 1  # bytes, protobuf's limit


def content_of(model: Module, inputs: Mapping[str, Any] | None, dynamic: Mapping[str, Dims] | None) -> bytes:
    """The content of the file of a model; see `export_onnx`."""
    with named_errors("export_onnx"):
        names, program, labels = recorded(model, inputs, dynamic)
    return _serialized(type(model).__name__, names, program, labels)


def _serialized(model: str, inputs: Sequence[str], program: Program, labels: Mapping[Any, str]) -> bytes:
    """The file's content.

    Args:
        labels: the names of free lengths, by their keys.

    Raises:
        ValueError: a name is used twice; an op cannot be exported, or not for such tensors; the file is too large.
    """
    outputs = list(program.outputs)
    if twice := [name for name in outputs if name in inputs]:
        raise ValueError(f"export_onnx: {', '.join(twice)} is the name of an input and of an output; name them apart")
    graph = Graph([*inputs, *outputs])
    for name, value in zip(inputs, program.inputs, strict=True):
        graph.note(value, name)
    write(graph, program.calls)
    for name, operand in program.outputs.items():
        graph.set_output(operand, name)
    total = sum(array.nbytes for array in graph.needed(outputs)[1].values())
    if total > LARGEST_FILE:
        raise ValueError(
            f"export_onnx: the weights take {total:,} bytes, and an ONNX file holds at most {LARGEST_FILE:,}; export "
            "parts of the model, or half as many bytes with model.to(dtype='float16')"
        )
    infos = (
        [value_info(name, operand, labels) for name, operand in zip(names, operands, strict=True)]
        for names, operands in ((inputs, program.inputs), (outputs, program.outputs.values()))
    )
    written = helper.make_model(
        graph.finished(model, *infos),
        producer_name="tinygrad_lstm",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    content: bytes = written.SerializeToString()
    try:
        checker.check_model(content, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"export_onnx: ONNX does not take what forward computes: {reason}; if it names a type, cast tensors to "
            "a different one, as by x.astype('float32')"
        ) from error
    return content
