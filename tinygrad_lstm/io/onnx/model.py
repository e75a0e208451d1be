"""What an ONNX file holds: the model, run with examples of its inputs, and written down."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import checker, helper, shape_inference

from ..._tensor import Tensor
from ...mode import no_grad
from ...nn import Module
from ...random import random_state, restored_random_state
from .examples import RUNS, Dims, Example, examples_of, lengths_of_runs
from .graph import Graph, value_info
from .program import Length, Program, Size, merged
from .recording import Run
from .recurrent import write

__all__ = ["content_of"]

OPSET = 17
IR_VERSION = 8  # that of opset 17: what runs the one reads the other
LARGEST_FILE = 2**31 - 1  # bytes, protobuf's limit


def content_of(model: Module, inputs: Mapping[str, Any] | None, dynamic: Mapping[str, Dims] | None) -> bytes:
    """The content of the file of a model; see `export_onnx`."""
    with restored_random_state(random_state()), model.evaluating(), no_grad():
        examples = examples_of(model, inputs, dynamic)
        recorded = _recorded(model, examples)
    return _serialized(type(model).__name__, list(examples), recorded)


# -- running -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recorded:
    """What a model computes.

    Attributes:
        outputs: their names.
        labels: the names of the lengths of its inputs.
    """

    program: Program
    outputs: Sequence[str]
    labels: Mapping[Size, str]


def _recorded(model: Module, examples: Mapping[str, Example]) -> _Recorded:
    """Runs the model with inputs that are like the examples.

    Raises:
        ValueError: the inputs are not those of forward; what it does cannot be written down.
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
    runs, outputs, lengths = _runs_that_it_takes(model, forward, examples)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    program = merged(runs, {id(parameter.data): name for name, parameter in tensors})
    return _Recorded(program, outputs, {Length(tuple(each)): label for label, each in lengths.items()})


def _runs_that_it_takes(
    model: Module, forward: Callable[..., Any], examples: Mapping[str, Example]
) -> tuple[list[Run], list[str], Mapping[str, Sequence[int]]]:
    """The runs, the names of the outputs, and the lengths of the runs.

    A model may take multiples of some length alone, as the example's is, or no integers but the example's.
    """
    for own_integers, multiples in ((False, False), (False, True), (True, False)):
        lengths = lengths_of_runs(examples, multiples=multiples)
        with contextlib.suppress(Exception):  # if it was something else, the last try raises it
            return *_runs(model, forward, examples, lengths, own_integers), lengths
    lengths = lengths_of_runs(examples, multiples=True)
    return *_runs(model, forward, examples, lengths, own_integers=True), lengths


def _runs(
    model: Module,
    forward: Callable[..., Any],
    examples: Mapping[str, Example],
    lengths: Mapping[str, Sequence[int]],
    own_integers: bool,
) -> tuple[list[Run], list[str]]:
    """The runs, and the names of the outputs."""
    rng = np.random.default_rng(0)
    runs: list[Run] = []
    for number in range(RUNS):
        inputs = {
            name: example.for_run(number, lengths, rng, own_integers=own_integers) for name, example in examples.items()
        }
        run = Run(model, list(inputs.values()), number)
        try:
            outputs = run.outputs_of(lambda inputs=inputs: _named(forward(**inputs)))  # type: ignore[misc]
        except Exception as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in inputs.items())
            error.add_note(f"export_onnx ran {type(model).__name__} with {shapes}, made of the examples")
            raise
        runs.append(run)
    return runs, list(outputs)


def _named(given: Any) -> dict[str, Tensor]:
    """What forward gave, by name.

    Raises:
        ValueError: something of it is no tensor, or has no name.
    """
    if isinstance(given, Mapping) or hasattr(given, "_asdict"):
        outputs = dict(given if isinstance(given, Mapping) else given._asdict())
    else:
        names = itertools.chain(["output"], (f"output_{number}" for number in itertools.count(1)))
        outputs = dict(zip(names, _flat(given), strict=False))
    if not outputs:
        raise ValueError("export_onnx: forward gave nothing; expected tensors, by name in a dict, or in tuples")
    for name, value in outputs.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"export_onnx: expected forward to give tensors by names, in a dict, but one is {name!r}")
        if not isinstance(value, Tensor):
            raise ValueError(
                f"export_onnx: expected forward to give tensors, by name in a dict, or in tuples, but {name!r} is "
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


def _serialized(model: str, inputs: Sequence[str], recorded: _Recorded) -> bytes:
    """The file's content.

    Raises:
        ValueError: names are there twice; an op cannot be written, or not for such tensors; it is too large.
    """
    from ... import __version__

    program, outputs = recorded.program, recorded.outputs
    if twice := [name for name in outputs if name in inputs]:
        raise ValueError(f"export_onnx: {', '.join(twice)} is the name of an input and of an output; name them apart")
    graph = Graph([*inputs, *outputs])
    for name, value in zip(inputs, program.inputs, strict=True):
        graph.note(value, name)
    write(graph, program.calls)
    for name, operand in zip(outputs, program.outputs, strict=True):
        graph.give(operand, name)
    total = sum(array.nbytes for array in graph.arrays.values())
    if total > LARGEST_FILE:
        raise ValueError(
            f"export_onnx: the weights take {total:,} bytes, and an ONNX file holds at most {LARGEST_FILE:,}; export "
            "parts of the model, or half as many bytes with model.to(dtype='float16')"
        )
    infos = (
        [value_info(name, operand, recorded.labels) for name, operand in zip(names, operands, strict=True)]
        for names, operands in ((inputs, program.inputs), (outputs, program.outputs))
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
            f"export_onnx: ONNX does not take what forward computes: {reason}; where it names a type, make tensors of "
            "another before, as by x.astype('float32')"
        ) from error
    return content
