"""A model, run twice with inputs like the examples, as a program."""

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .._tensor import Tensor, tensor
from ..lengths import Length
from ..mode import no_grad
from ..nn import Module
from ..random import random_state, restored_random_state
from .examples import EXAMPLE_STEPS, Dims, Example, examples_of, has_one_length, lengths_of_runs
from .program import Program
from .recording import Run, ShortExampleError, UntraceableError
from .trace import Trace

__all__ = ["recorded"]


def recorded(
    model: Module,
    inputs: Mapping[str, Any] | None,
    dynamic: Mapping[str, Dims] | None,
    fixed: Mapping[str, Any] | None = None,
) -> tuple[list[str], Program, dict[Any, str]]:
    """The names of a model's inputs, its program in evaluation mode, and the names of free lengths.

    Args:
        inputs: example inputs by name; by default the model's own.
        dynamic: for some inputs, their dynamic dimensions.
        fixed: the values of inputs without dynamic dimensions, which become constants.

    Raises:
        UntraceableError: the inputs are not those of forward; what it computes cannot be recorded.
    """
    prepared = functools.partial(_prepared, model, inputs, dynamic, fixed or {})

    def traced(steps: int) -> tuple[list[str], Program, dict[Any, str]]:
        examples, constant = prepared(steps)
        return list(examples), *_traced(model, examples, constant)

    short, long = EXAMPLE_STEPS[0], EXAMPLE_STEPS[-1]
    with restored_random_state(random_state()), model.evaluating(), no_grad():
        if inputs is not None or not has_one_length(model):
            return traced(short)
        try:
            found = traced(short)
        except ShortExampleError:
            return traced(long)
        except UntraceableError:
            raise
        except Exception:  # a window may not fit into them
            return traced(long)
        return found if _holds(found[1], model, *prepared(long)) else traced(long)


def _prepared(
    model: Module,
    inputs: Mapping[str, Any] | None,
    dynamic: Mapping[str, Dims] | None,
    fixed: Mapping[str, Any],
    steps: int,
) -> tuple[dict[str, Example], dict[str, Tensor]]:
    """The examples, without those that become constants, and these.

    Args:
        steps: the length of the model's own examples.
    """
    examples = examples_of(model, inputs, dynamic, steps)
    constant: dict[str, Tensor] = {}
    for name, value in fixed.items():
        if name not in examples:
            raise UntraceableError(f"fixed names {name}, but the inputs are {', '.join(examples)}")
        if not examples[name].dims:
            example = examples.pop(name)
            constant[name] = tensor(value, dtype=example.array.dtype, device=example.device)
    return examples, constant


def _holds(program: Program, model: Module, examples: Mapping[str, Example], constant: Mapping[str, Tensor]) -> bool:
    """Whether outputs have the lengths of the program with these examples, which are longer, if the model takes them.

    If both runs are shorter than the stride of a window, both have one frame, and the program has only one.
    """
    forward: Callable[..., Any] = getattr(model, "named_forward", model.forward)
    try:
        given = {name: tensor(each.array, device=each.device) for name, each in examples.items()}
        outputs = _named(forward(**given, **constant))
    except Exception:
        return True
    return all(
        isinstance(size, Length) or size == own
        for name, operand in program.outputs.items()
        for size, own in zip(operand.shape, outputs[name].shape, strict=True)
    )


def _traced(
    model: Module, examples: Mapping[str, Example], constant: Mapping[str, Tensor]
) -> tuple[Program, dict[Any, str]]:
    """The program of the model, from two runs with inputs like the examples; and the names of free lengths.

    A model may take only multiples of the example's lengths, or only its integers: if it raises, both runs are repeated
    with those.

    Raises:
        UntraceableError: the inputs are not those of forward; what it computes cannot be recorded.
    """
    forward: Callable[..., Any] = getattr(model, "named_forward", model.forward)
    if constant:
        forward = functools.partial(forward, **constant)
    takes = inspect.signature(forward)
    try:
        takes.bind(**examples)
    except TypeError as error:
        raise UntraceableError(
            f"{type(model).__name__}.forward({', '.join(takes.parameters)}) cannot be given the inputs "
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
    """Adds the shapes of the inputs to an error that the model raises. NumPy does not warn, since inputs are random."""
    try:
        with np.errstate(all="ignore"):
            yield
    except UntraceableError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in inputs.items())
        error.add_note(f"when {type(model).__name__} was run with {shapes}, made of the examples")
        raise


def _named(given: Any) -> dict[str, Tensor]:
    """What forward returned, by name.

    Raises:
        UntraceableError: an output is not a tensor, or has no name.
    """
    if isinstance(given, Mapping) or hasattr(given, "_asdict"):
        outputs = dict(given if isinstance(given, Mapping) else given._asdict())
    else:
        names = itertools.chain(["output"], (f"output_{number}" for number in itertools.count(1)))
        outputs = dict(zip(names, _flat(given), strict=False))
    if not outputs:
        raise UntraceableError("forward returned nothing; expected tensors, by name in a dict, or in tuples")
    for name, value in outputs.items():
        if not isinstance(name, str) or not name:
            raise UntraceableError(f"expected forward to return tensors by name, in a dict, but one is {name!r}")
        if not isinstance(value, Tensor):
            raise UntraceableError(
                f"expected forward to return tensors, by name in a dict, or in tuples, but {name!r} is "
                f"{type(value).__name__}"
            )
    return outputs


def _flat(given: Any) -> Iterator[Any]:
    if isinstance(given, tuple | list):
        for part in given:
            yield from _flat(part)
    else:
        yield given
