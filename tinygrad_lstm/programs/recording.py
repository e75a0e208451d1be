"""A recorded run of a model: the ops that it applies, and their arguments."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array

from .._tensor import Tensor
from ..graph import next_number, user_line
from ..lengths import plain
from ..mode import Switch, Tracer
from ..nn import Module
from ..nn.names import joined
from ..observing import ShownLayer
from ..ops.recurrent import chosen, flags_by_rank, run_scan
from ..ops.shape import unbind

__all__ = ["Held", "Note", "NotedStep", "Run", "ShortExampleError", "Slot", "UntraceableError", "named_errors"]

_SCAN = inspect.unwrap(run_scan)


class _Silent(Tracer):
    """Replaces a run while ops are not recorded; lengths are plain numbers for them."""


_SILENT = _Silent()


class UntraceableError(ValueError):
    """The model cannot be recorded with any inputs."""


class ShortExampleError(UntraceableError):
    """The model can only be recorded with longer inputs."""


@contextlib.contextmanager
def named_errors(user: str) -> Iterator[None]:
    """Begins the message of an `UntraceableError` with the name of the function that the user called."""
    try:
        yield
    except UntraceableError as error:
        error.args = (f"{user}: {error}",)
        raise


@dataclass(frozen=True)
class Slot:
    """Stands for a result: the index of the note of the call that returned it, and its index among the results."""

    note: int
    result: int


@dataclass(frozen=True, eq=False)
class Held:
    """Stands for an array that no noted call returned."""

    array: Array


@dataclass(frozen=True)
class Note:
    """A call; or, without a function, tensors from outside: inputs, or the states before a step.

    Attributes:
        name: the op's name, for messages.
        function: the op, or the function made of ops.
        arguments: all arguments in order, with `Slot` and `Held` in place of tensors and arrays.
        place: the name of a recurrent layer's place in the model.
        results: the arrays that it returned.
        step: for states before a step, the index of the step.
    """

    name: str
    function: Any
    arguments: Sequence[Any]
    place: str
    results: Sequence[Array]
    step: int = 0


@dataclass(frozen=True)
class NotedStep:
    """Stands for one step of a sequence: the states before it are the results of a note, those after it are these."""

    note: int
    after: list[Slot | Held]


class Run(Tracer):
    """Records the ops and recurrent layers of one run of a model.

    Args:
        model: the model to run.
        inputs: the model's inputs, by name.

    Attributes:
        notes: the recorded calls; the first note is the inputs.
        outputs: the slots of the model's outputs, by name.
    """

    def __init__(self, model: Module, inputs: Mapping[str, Tensor]) -> None:
        self._model = model
        self._inputs = inputs
        self._begun = next_number()
        self._slots: dict[int, Slot] = {}  # by the ids of arrays
        self._copies: list[Array] = []  # kept alive, like those in the notes, so that their ids stay unique
        self._place = ""
        self._part = ""
        self._layer: ShownLayer | None = None
        self.notes: list[Note] = []
        self.outputs: dict[str, Slot | Held] = {}

    def note(self, forward: Callable[..., Mapping[str, Tensor]]) -> None:
        """Calls a function that runs the model with the inputs, and records the ops and outputs.

        Raises:
            UntraceableError: an op is given a tensor that was changed in place; forward changes parameters or buffers.
        """
        self._note("inputs", None, (), tuple(self._inputs.values()))
        with Switch(tracer=self):
            given = forward(**self._inputs)
        self.outputs = {name: self._noted(f"output {name!r}", output) for name, output in given.items()}
        for name, tensor in [*self._model.named_parameters(), *self._model.named_buffers()]:
            if self._was_changed(tensor):
                raise UntraceableError(
                    f"forward changes {name!r} in place, but a recorded model keeps nothing from one run to the "
                    "next; take it as an input, and return it as an output"
                )

    # -- ops -----------------------------------------------------------------------------------------------------------

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """Records an op."""
        self._note(op.name, op, arguments, result)

    def see_call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Records a function made of ops instead of its ops."""
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        if function is _SCAN:
            return self._see_scan(*bound.args)
        with Switch(tracer=_SILENT):
            result = function(*plain(bound.args))
        self._note(function.__name__, function, bound.args, result)
        return result

    def see_copy(self, source: Any, copied: Array) -> None:
        """Records that a copy has the values of its source."""
        slot = self._slots.get(id(getattr(source, "_array", source)))
        if slot is not None:
            self._slots[id(copied)] = slot
            self._copies.append(copied)

    def _see_scan(
        self,
        step: Callable[..., Sequence[Tensor]],
        x: Tensor,
        states: tuple[Tensor, ...],
        lengths: Any,
        resets: Tensor | None,
        starts: tuple[Tensor, ...],
        reverse: bool,
        compiled: bool | None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Records one step; then all steps as one call, with that step and the layer that they belong to."""
        layer, place, T = self._layer, self._place, x.shape[0]
        self._layer, self._place = None, ""
        items = unbind(x, 0)
        begins, taken = (
            {} if flags is None else {rank: unbind(each, 0) for rank, each in flags_by_rank(flags, states).items()}
            for flags in (resets, mask)
        )
        begun = len(self.notes)
        after: list[Slot | Held] = []
        for t in range(self._steps_noted(T)):
            self._forget(begun)
            with Switch(tracer=_SILENT):
                before = tuple(state.clone() for state in states)
            self._note("step", None, (), before, t)
            entering = before
            if begins:
                entering = chosen({rank: flags[t] for rank, flags in begins.items()}, starts, before)
            stepped = step(items[t], entering)
            if taken:
                stepped = chosen({rank: flags[t] for rank, flags in taken.items()}, stepped, entering)
            after = [self._noted("a step", state) for state in stepped]
        with Switch(tracer=_SILENT):
            result: tuple[Tensor, ...] = _SCAN(step, x, states, lengths, resets, starts, reverse, compiled, mask)
        parameters = None if layer is None else (list(layer.parameters), list(layer.parameters.values()))
        described = layer and (layer.kind, layer.options, parameters, layer.x)
        self._place = place
        self._note("scan", _SCAN, (NotedStep(begun, after), described, T, list(states), lengths, reverse), result)
        self._place = ""
        return result

    def _steps_noted(self, T: int) -> int:
        """The number of steps of a scan that are recorded, each replacing the one before."""
        return 1

    def _forget(self, begun: int) -> None:
        """Drops the notes from index `begun` on."""
        if begun < len(self.notes):
            del self.notes[begun:]
            self._slots = {array: slot for array, slot in self._slots.items() if slot.note < begun}

    # -- parts of the model ----------------------------------------------------------------------------------------

    def see_part(self, name: str) -> None:
        """Remembers what the ops belong to, for messages."""
        self._part = name

    def _line(self) -> str:
        """Where an op is applied: the part of a model from a file, or the user's line."""
        return self._part or user_line()

    def see_layer(self, layer: ShownLayer) -> None:
        """Remembers the layer of which the steps follow."""
        self._layer = layer
        self._place = self._named(layer.network, layer.place)

    def see_step(self, cell: Any, kind: str, x: Tensor, before: Mapping[str, Tensor], gates: Any) -> None:
        """Does nothing, since the ops of a cell are recorded."""

    def _named(self, network: Module, place: str) -> str:
        """The name of a layer's place in the model."""
        names = {module: name for name, module in self._model.named_modules()}
        return joined(names.get(network, type(network).__name__.lower()), place)

    # -- notes ---------------------------------------------------------------------------------------------------------

    def _note(self, name: str, function: Any, arguments: Sequence[Any], result: Any, step: int = 0) -> None:
        noted = tuple(self._noted(f"op {name!r}", argument) for argument in arguments)
        results = [getattr(part, "_array", part) for part in (result if isinstance(result, tuple) else (result,))]
        self._slots |= {id(array): Slot(len(self.notes), k) for k, array in enumerate(results)}
        self.notes.append(Note(name, function, noted, self._place, results, step))

    def _noted(self, user: str, argument: Any) -> Any:
        """An argument, with `Slot` and `Held` in place of tensors and arrays."""
        if isinstance(argument, list):
            return [self._noted(user, part) for part in argument]
        if isinstance(argument, tuple):
            return tuple(self._noted(user, part) for part in argument)
        if isinstance(argument, slice):
            return slice(*self._noted(user, (argument.start, argument.stop, argument.step)))
        if isinstance(argument, Tensor):
            if self._was_changed(argument):
                raise UntraceableError(
                    f"{user} is given a tensor of shape {argument.shape} that was changed in place, which is not "
                    f"recorded; make a new tensor, as tg.where, tg.cat and tg.stack do ({self._line()})"
                )
            argument = argument._array
        elif isinstance(argument, np.generic):
            return argument.item()
        if hasattr(argument, "dtype") and hasattr(argument, "shape") and not isinstance(argument, type):
            return self._slots.get(id(argument)) or Held(argument)
        return argument

    def _was_changed(self, tensor: Tensor) -> bool:
        """Whether a tensor was written to since the run began."""
        return tensor._version is not None and tensor._version.written > self._begun
