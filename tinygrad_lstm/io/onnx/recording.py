"""A run of a model, noted as it goes: which ops it applies to what."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array

from ..._tensor import Tensor
from ...graph import next_number, user_line
from ...mode import Switch, Tracer
from ...nn import Module
from ...nn.names import joined
from ...observing import SteppedLayer
from ...ops.recurrent import scan
from ...tracing.lengths import plain

__all__ = ["Held", "Note", "NotedStep", "Run", "Slot", "UntraceableError"]

_SCAN = inspect.unwrap(scan)


class _Silent(Tracer):
    """What takes the place of a run while ops are not to be noted: lengths are plain numbers for them all the same."""


_SILENT = _Silent()


class UntraceableError(ValueError):
    """What the model does cannot be written down, whatever inputs it is given."""


@dataclass(frozen=True)
class Slot:
    """Stands for a result: the number of the note of the call that gave it, and its own number among the results."""

    note: int
    result: int


@dataclass(frozen=True, eq=False)
class Held:
    """Stands for an array that no noted call gave."""

    array: Array


@dataclass(frozen=True)
class Note:
    """A call; or, without a function, tensors that come from outside: inputs, or the states before a step.

    Attributes:
        name: the op's, for messages.
        function: the op, or the function made of ops.
        arguments: all of them, in order, with slots and what is held in place of tensors and arrays.
        place: of a recurrent layer, the name of its place in the model.
        results: the arrays that it gave.
        step: of states before a step, the number of that step.
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
    """Notes the ops of one run of a model: a recorder of ops, and an observer of recurrent layers.

    Args:
        model: what is run.
        inputs: what the model is given, by name.

    Attributes:
        notes: the first of them are the inputs.
        outputs: what stands for what the model gave, by name.
    """

    def __init__(self, model: Module, inputs: Mapping[str, Tensor]) -> None:
        self._model = model
        self._inputs = inputs
        self._begun = next_number()
        self._slots: dict[int, Slot] = {}  # by the ids of arrays
        self._copies: list[Array] = []  # which, as those in the notes, are to be the only ones with their ids
        self._place = ""
        self._layer: SteppedLayer | None = None
        self.notes: list[Note] = []
        self.outputs: dict[str, Slot | Held] = {}

    def note(self, forward: Callable[..., Mapping[str, Tensor]]) -> None:
        """Calls a function that runs the model with the inputs, and notes the ops and the outputs, which it gives.

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
                    f"export_onnx: forward changes {name!r} in place, but what runs an ONNX file keeps nothing from "
                    "one call to the next; take it as an input, and give it as an output"
                )

    # -- as a recorder -------------------------------------------------------------------------------------------------

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """Notes an op."""
        self._note(op.name, op, arguments, result)

    def see_call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Notes a function made of ops in place of these."""
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        if function is _SCAN:
            return self._see_scan(*bound.args)
        with Switch(tracer=_SILENT):
            result = function(*plain(bound.args))
        self._note(function.__name__, function, bound.args, result)
        return result

    def see_copy(self, source: Any, copied: Array) -> None:
        """Notes that a copy stands for what was copied."""
        slot = self._slots.get(id(getattr(source, "_array", source)))
        if slot is not None:
            self._slots[id(copied)] = slot
            self._copies.append(copied)

    def _see_scan(
        self, step: Callable[..., Sequence[Tensor]], T: int, states: Sequence[Tensor], lengths: Any, reverse: bool
    ) -> tuple[Tensor, ...]:
        """Notes a step; then all of them as one call, with that step, and the layer whose steps they are."""
        layer, place, begun = self._layer, self._place, len(self.notes)
        self._layer, self._place = None, ""
        after: list[Slot | Held] = []
        for t in range(self._steps_noted(T)):
            self._forget(begun)
            with Switch(tracer=_SILENT):
                before = tuple(state.clone() for state in states)
            self._note("step", None, (), before, t)
            after = [self._noted("a step", state) for state in step(t, *before)]
        with Switch(tracer=_SILENT):
            result: tuple[Tensor, ...] = _SCAN(step, plain(T), states, lengths, reverse)
        parameters = None if layer is None else (list(layer.parameters), list(layer.parameters.values()))
        described = layer and (layer.kind, layer.options, parameters, layer.x)
        self._place = place
        self._note("scan", _SCAN, (NotedStep(begun, after), described, T, list(states), lengths, reverse), result)
        self._place = ""
        return result

    def _steps_noted(self, T: int) -> int:
        """How many of the T steps of a scan are noted, each in place of the one before."""
        return 1

    def _forget(self, begun: int) -> None:
        """Drops the notes from the number `begun` on."""
        if begun < len(self.notes):
            del self.notes[begun:]
            self._slots = {array: slot for array, slot in self._slots.items() if slot.note < begun}

    # -- as an observer ------------------------------------------------------------------------------------------------

    def see_layer(
        self,
        network: Module,
        place: str,
        layer: Callable[[Sequence[Tensor]], tuple[Tensor, ...]],
        operands: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Runs a recurrent layer, whose op is noted with the layer's place in the model."""
        self._place = self._named(network, place)
        outputs = layer(operands)
        self._place = ""
        return outputs

    def see_steps(self, network: Module, layer: SteppedLayer, step: Callable[..., Any]) -> Callable[..., Any]:
        """Remembers which layer is to go step by step."""
        self._layer = layer
        self._place = self._named(network, layer.place)
        return step

    def see_step(self, cell: Any, kind: str, x: Tensor, before: Mapping[str, Tensor], gates: Any) -> None:
        """Does nothing: the ops of a cell are noted."""

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
        """The argument of a user, with slots and what is held in place of tensors and arrays."""
        if isinstance(argument, list):
            return [self._noted(user, part) for part in argument]
        if isinstance(argument, tuple):
            return tuple(self._noted(user, part) for part in argument)
        if isinstance(argument, slice):
            return slice(*self._noted(user, (argument.start, argument.stop, argument.step)))
        if isinstance(argument, Tensor):
            if self._was_changed(argument):
                raise UntraceableError(
                    f"export_onnx: {user} is given a tensor of shape {argument.shape} that was changed in place, which "
                    f"ONNX does not have; make a new tensor, as tg.where, tg.cat and tg.stack do ({user_line()})"
                )
            argument = argument._array
        elif isinstance(argument, np.generic):
            return argument.item()
        if hasattr(argument, "dtype") and hasattr(argument, "shape"):
            return self._slots.get(id(argument)) or Held(argument)
        return argument

    def _was_changed(self, tensor: Tensor) -> bool:
        """Whether a tensor was written to since the run began."""
        return tensor._version is not None and tensor._version.written > self._begun
