"""What a loaded model computes: named steps, one after the other."""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import INT64, dtype_of_numbers, is_float

from ..._tensor import Tensor
from ...mode import mode

__all__ = ["Body", "Step", "Watcher", "captured", "computing_in", "floats_as", "needed", "plain_array", "watching"]


@dataclass(frozen=True)
class Step:
    """One step: a function of named values.

    A value is a Tensor, an array of integers on the host (a length, a shape, an index), or a module.

    Attributes:
        op: the name of the op or layer, as the file has it.
        function: returns the result, or a tuple with one result for each output. It can be pickled.
        inputs: the names of its arguments, in order; "" for None.
        outputs: the names of its results; "" for one that nothing uses.
        settings: the settings that `print(model)` shows, such as "axis=1".
        origin: what the step is in the file, for messages, such as "the node '/lstm/LSTM'".
    """

    op: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Body:
    """Steps that compute outputs from inputs: a whole model, or the body of a loop or branch.

    Attributes:
        inputs: the names of the values that it is given.
        steps: in the order in which they run: each uses only inputs, and results of earlier ones.
        outputs: the names of the values that it returns.
    """

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    _unused_after: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        last: dict[str, int] = {}
        for number, step in enumerate(self.steps):
            last |= dict.fromkeys((*step.inputs, *step.outputs), number)
        kept = {*self.outputs, ""}
        unused: list[list[str]] = [[] for _ in self.steps]
        for name, number in last.items():
            if name not in kept:
                unused[number].append(name)
        object.__setattr__(self, "_unused_after", tuple(map(tuple, unused)))

    def __call__(self, *given: Any) -> tuple[Any, ...]:
        """The outputs for these values of the inputs. A value is dropped after the last step that uses it."""
        return self.run(dict(zip(self.inputs, given, strict=True)))

    def run(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The outputs, given the inputs by name; values that are not inputs are ignored.

        Raises:
            ValueError: a step cannot be computed, since the file or the inputs are wrong. The message names the step.
        """
        values, seen, tracer = {**values, "": None}, _WATCHED.get(), mode().value.tracer
        dtype = _COMPUTED_IN.get()
        if seen is not None and not self.steps:
            seen.before(_NOTHING, ())
        for step, unused in zip(self.steps, self._unused_after, strict=True):
            if tracer is not None:
                tracer.see_part(step.origin or step.op)
            arguments = [values[name] for name in step.inputs]
            try:
                if seen is not None:
                    seen.before(step, arguments)
                result = step.function(*arguments)
            except Exception as error:
                where = step.origin or step.op
                if _is_unfit(error):
                    raise ValueError(f"{where} cannot be computed: {_reason(error)}") from error
                error.add_note(f"in {where}")
                raise
            if dtype is not None:
                result = floats_as(dtype, result)
            if seen is not None:
                seen.after(step, result)
            if len(step.outputs) == 1:
                values[step.outputs[0]] = result
            else:
                values.update(zip(step.outputs, result, strict=True))
            values[""] = None
            for name in unused:
                del values[name]
        return tuple([values[name] for name in self.outputs])


_UNFIT = (TypeError, LookupError, AttributeError, ArithmeticError)
"""What functions raise for arguments that they do not take, except ValueErrors. A file may have any step with any
arguments, and not all of these are known before it runs."""

_LIBRARIES = {__name__.partition(".")[0], "numpy", "cupy", *sys.stdlib_module_names}
"""The packages whose code steps run. Other code is a user's, such as a hook, or a layer in place of the file's."""


def _is_unfit(error: Exception) -> bool:
    """Whether an error is due to arguments that a step does not take. Errors of a user's code stay what they are.

    So does the FloatingPointError of `detect_anomaly`.
    """
    if not isinstance(error, _UNFIT) or isinstance(error, FloatingPointError):
        return False
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    return all(module.partition(".")[0] in _LIBRARIES for module in modules)


def _reason(error: Exception) -> str:
    """The message of an error; that of a KeyError is only the key."""
    return f"{type(error).__name__}: {error}" if isinstance(error, KeyError) or not str(error) else str(error)


def needed(steps: Sequence[Step], results: Iterable[str]) -> list[Step]:
    """The steps on which results depend."""
    wanted, found = set(results), []
    for step in reversed(steps):
        if not wanted.isdisjoint(step.outputs):
            wanted.update(step.inputs)
            found.append(step)
    return found[::-1]


def captured(*bodies: Body) -> tuple[str, ...]:
    """The names of the values that bodies take from outside."""
    found: dict[str, None] = {}
    for body in bodies:
        known = {"", *body.inputs}
        for step in body.steps:
            found |= dict.fromkeys(name for name in step.inputs if name not in known)
            known.update(step.outputs)
        found |= dict.fromkeys(name for name in body.outputs if name not in known)
    return tuple(found)


class Watcher(Protocol):
    """What `watching` calls, before and after each step."""

    def before(self, step: Step, arguments: Sequence[Any]) -> None: ...

    def after(self, step: Step, result: Any) -> None: ...


_WATCHED: ContextVar[Watcher | None] = ContextVar("watched steps", default=None)


_NOTHING = Step("", tuple, (), ())
"""What a body without steps shows: a loop of it may have no end."""


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """In a `with` block, bodies show each step to a watcher, with its arguments and its result."""
    token = _WATCHED.set(watcher)
    try:
        yield
    finally:
        _WATCHED.reset(token)


_COMPUTED_IN: ContextVar[np.dtype[Any] | None] = ContextVar("dtype of floats", default=None)


@contextmanager
def computing_in(dtype: np.dtype[Any]) -> Iterator[None]:
    """In a `with` block, the floats that the steps of bodies compute are converted to this dtype.

    A file says in which dtype a step makes a tensor, such as an initial state. A model that has a different dtype since
    `to(dtype=...)` makes it in its own.
    """
    token = _COMPUTED_IN.set(dtype)
    try:
        yield
    finally:
        _COMPUTED_IN.reset(token)


def floats_as(dtype: np.dtype[Any], value: Any) -> Any:
    """A value, or a tuple of values, whose floats have this dtype."""
    if isinstance(value, Tensor | np.ndarray):
        return value.astype(dtype) if is_float(value.dtype) and value.dtype != dtype else value
    return tuple([floats_as(dtype, each) for each in value]) if type(value) is tuple else value


def plain_array(array: HostArray) -> HostArray:
    """An array on the host, in a dtype that tensors can have if it is of dtype object, with Python's numbers."""
    if array.dtype != object:
        return array
    plain: HostArray = np.asarray(array.tolist())
    return plain.astype(dtype_of_numbers(plain.dtype) if plain.size else INT64)
