"""The content of an ONNX file: a model, run with example inputs and written as a graph."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import checker, helper, shape_inference

from ..._tensor import Tensor
from ..._version import __version__
from ...mode import no_grad
from ...nn import Module
from ...random import random_state, restored_random_state
from .examples import Dims, Example, examples_of, lengths_of_runs
from .graph import Graph, value_info
from .program import Program
from .recording import Run, UntraceableError
from .recurrent import write
from .trace import Trace

__all__ = ["content_of"]

OPSET = 17
IR_VERSION = 8  # the IR version of opset 17
LARGEST_FILE = 2**31 - 1  # bytes, protobuf's limit


def content_of(model: Module, inputs: Mapping[str, Any] | None, dynamic: Mapping[str, Dims] | None) -> bytes:
    """The content of the file of a model; see `export_onnx`."""
    with restored_random_state(random_state()), model.evaluating(), no_grad():
        examples = examples_of(model, inputs, dynamic)
        program, labels = _traced(model, examples)
    return _serialized(type(model).__name__, list(examples), program, labels)


# -- running -----------------------------------------------------------------------------------------------------------


def _traced(model: Module, examples: Mapping[str, Example]) -> tuple[Program, dict[Any, str]]:
    """The program of the model, from two runs with inputs like the examples; and the names of free lengths.

    A model may take only multiples of the example's lengths, or only its integers: if it raises, both runs are repeated
    with those.

    Raises:
        ValueError: the inputs are not those of forward; what it computes cannot be exported.
    """
    forward: Callable[..., Any] = getattr(model, "named_forward", model.forward)
    takes = inspect.signature(forward)
    try:
        takes.bind(**examples)
    except TypeError as error:
        raise ValueError(
            f"export_onnx: {type(model).__name__}.forward({', '.join(takes.parameters)}) cannot be given the inputs "
            f"{', '.join(examples)}: {error}"
        ) from error
    for own_integers, multiples in ((False, False), (False, True), (True, False)):
        try:
            return _two_runs(model, forward, examples, own_integers=own_integers, multiples=multiples)
        except UntraceableError:
            raise
        except Exception:  # any other error is raised again by the last try
            continue
    return _two_runs(model, forward, examples, own_integers=True, multiples=True)


def _two_runs(
    model: Module, forward: Callable[..., Any], examples: Mapping[str, Example], *, own_integers: bool, multiples: bool
) -> tuple[Program, dict[Any, str]]:
    """The program and the names of free lengths, by one measured and one traced run."""
    lengths = lengths_of_runs(examples, multiples=multiples)
    rng = np.random.default_rng(0)
    given, others = (
        {name: each.for_run(run, lengths, rng, own_integers=own_integers) for name, each in examples.items()}
        for run in (0, 1)
    )
    measured = Run(model, given)
    trace = Trace(model, others, measured)
    with _with_shapes(model, given):
        measured.note(lambda **inputs: _named(forward(**inputs)))
    with _with_shapes(model, others):
        program = trace.program(lambda **inputs: _named(forward(**inputs)))
    labels = {pair: label for label, pair in lengths.items()}
    return program, {length.key: labels[length.values] for length in trace.lengths}


@contextlib.contextmanager
def _with_shapes(model: Module, inputs: Mapping[str, Tensor]) -> Iterator[None]:
    """Adds the shapes of the inputs to an error that the model raises."""
    try:
        yield
    except UntraceableError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in inputs.items())
        error.add_note(f"export_onnx ran {type(model).__name__} with {shapes}, made of the examples")
        raise


def _named(given: Any) -> dict[str, Tensor]:
    """What forward returned, by name.

    Raises:
        ValueError: an output is not a tensor, or has no name.
    """
    if isinstance(given, Mapping) or hasattr(given, "_asdict"):
        outputs = dict(given if isinstance(given, Mapping) else given._asdict())
    else:
        names = itertools.chain(["output"], (f"output_{number}" for number in itertools.count(1)))
        outputs = dict(zip(names, _flat(given), strict=False))
    if not outputs:
        raise ValueError("export_onnx: forward returned nothing; expected tensors, by name in a dict, or in tuples")
    for name, value in outputs.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"export_onnx: expected forward to return tensors by name, in a dict, but one is {name!r}")
        if not isinstance(value, Tensor):
            raise ValueError(
                f"export_onnx: expected forward to return tensors, by name in a dict, or in tuples, but {name!r} is "
                f"{type(value).__name__}"
            )
    return outputs


def _flat(given: Any) -> Iterator[Any]:
    if isinstance(given, tuple | list):
        for part in given:
            yield from _flat(part)
    else:
        yield given


# -- writing -----------------------------------------------------------------------------------------------------------


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
