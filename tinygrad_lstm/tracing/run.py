"""A run of a step, recorded: the ops that it applies, and what it takes from outside."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.backends.emit.program import BATCH, Size, mapped

from .._tensor import Tensor
from ..device import Device
from ..graph import Leaf, Node, Pick, next_number, user_line
from ..mode import Switch, Tracer
from ..random import no_draws
from ..tracer_hooks import prints_seen
from .dry import dry_forward
from .effects import Effects
from .watching import watched_calls

__all__ = [
    "BATCHES",
    "DETACH",
    "FailedStepError",
    "Known",
    "Like",
    "Note",
    "Run",
    "Step",
    "UntraceableError",
    "example",
    "like_of",
    "run_of",
]

Step = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, ...]]
"""`step(inputs, states, others)` returns the output of a step and the states after it."""


class Like(NamedTuple):
    """A tensor that a step is given: its shape, with `BATCH` in it, dtype and device, and if it needs a gradient."""

    shape: tuple[Size, ...]
    dtype: Any
    device: Device
    requires_grad: bool


BATCHES = (2, 3)
"""The batch sizes of the two runs that a program is made of."""
_FILLS = dict(zip(BATCHES, (0.5, 0.25)))  # the values of a float input in these runs, of which the step reads none


class UntraceableError(RuntimeError):
    """A step cannot be computed as one op."""


class FailedStepError(UntraceableError):
    """A step raises an error for the batch size of a run."""


@dataclass(frozen=True)
class Known:
    """Stands for a tensor of a run, by its place among all of them."""

    place: int


_known = cache(Known)  # one object for each place, which is quicker to compare


@dataclass(eq=False, slots=True)
class Note:
    op: Any
    arguments: Sequence[Any]
    places: Sequence[int]
    detached: bool


class Run(Tracer):
    """One run of a step, for one batch size.

    Args:
        given: what the step is given.
        dry: whether the results of ops need not be computed.
        effects: notes what arrays may be changed.

    Attributes:
        tensors: all tensors of the run in order: what it was given, what it takes from outside, results of ops.
        outside: the places of those that it takes from outside.
        notes: the ops.
        names: names of results that the step shows, by place.
        masks: the places of the masks of dropout, which are different at each step.
        dropped: for each mask, the probability of dropping an element.
    """

    def __init__(self, given: Sequence[Tensor], dry: bool = False, effects: Effects | None = None) -> None:
        self._dry = dry
        self._effects = effects
        self._places: dict[int, int] = {}  # by the ids of arrays
        self._recorded: set[int] = set()  # the places of tensors through which gradients flow
        self._copies: list[Array] = []  # kept alive, so that their ids stay unique
        self.tensors: list[Tensor] = []
        self.outside: list[int] = []
        self.notes: list[Note] = []
        self.names: dict[int, str] = {}
        self.masks: list[int] = []
        self.dropped: list[float] = []
        self._began = next_number()
        self.refusal: UntraceableError | None = None  # raised again after the run, as the step may catch it
        for tensor in given:
            self._add(tensor)

    def _add(self, tensor: Tensor) -> int:
        place = len(self.tensors)
        self.tensors.append(tensor)
        self._places[id(tensor._array)] = place
        if tensor._node is not None:
            self._recorded.add(place)
        return place

    def forward_of(self, op: Any) -> Callable[..., Any]:
        """Computes nothing in a dry run."""
        return dry_forward(op) if self._dry else super().forward_of(op)

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """Records an op."""
        noted = tuple([mapped(argument, self._noted_part) for argument in arguments])
        results = result if isinstance(result, tuple) else (result,)
        detached = bool(op.rules) and results[0]._node is None and self._recorded.intersection(_places_in(noted))
        self.notes.append(Note(op, noted, [self._add(part) for part in results], bool(detached)))

    def see_copy(self, source: Any, copied: Array) -> None:
        """Refuses a copy of values that the step computes: it would be the same in every step."""
        if id(getattr(source, "_array", source)) in self._places:
            self._refuse(f"an index or ids are computed in the step ({user_line()})")

    def see_read(self, tensor: Tensor) -> None:
        """Refuses that values which the step computes are read as Python numbers."""
        place = self._places.get(id(tensor._array))
        if place is not None and place not in self.outside:
            self._refuse(f"the step reads a value; choose with tg.where instead ({user_line()})")

    def see_array(self, tensor: Tensor) -> None:
        """Refuses it too, since any value may be read of the array. That of a tensor from outside may be changed."""
        self.see_read(tensor)
        if self._effects is not None:
            self._effects.note_array(tensor)

    def see_attribute(self, module: Any, name: str) -> None:
        """Refuses that an attribute of a module is set, which must happen at each step."""
        self._refuse(f"the step changes {type(module).__name__}.{name}, which must happen at each step")

    def see_print(self) -> bool:
        """Refuses it, as it would happen in each run, not at each step."""
        self._refuse(f"the step prints, which must happen at each step ({user_line()})")

    def see_call_in_c(self, name: str, frame: FrameType) -> None:
        """Refuses a call whose effects are not known, as it would happen in each run, not at each step."""
        self._refuse(f"the step calls {name}, which must happen at each step ({user_line(frame)})")

    def see_requires_grad(self, tensor: Tensor) -> None:
        """Refuses the question whether gradients flow, whose answer may be different for the first step."""
        place = self._places.get(id(tensor._array))
        if place is not None and place not in self.outside:
            self._refuse(f"the step asks whether a value requires a gradient, or is a leaf ({user_line()})")

    def see_write(self, tensor: Tensor) -> None:
        """Refuses writes in place: they would happen in each run, not at each step."""
        self._refuse(
            f"the step changes a tensor of shape {tensor.shape} in place; make a new one, as tg.where does, and give "
            f"it as a state if the next step needs it ({user_line()})"
        )

    def see_dropout(self, x: Tensor, p: float) -> Tensor:
        """A mask that keeps all elements, in place of one of random numbers."""
        with x.device.current():
            mask = Tensor._wrap(x.device.xp.ones(x.shape, bool), x.device)
        self.masks.append(self._add(mask))
        self.dropped.append(p)
        return mask

    def see_hooks(self, module: Any) -> None:
        """Refuses hooks, which would not be called at each step."""
        self._refuse(f"{type(module).__name__} has hooks, which are called at each step")

    def see_backward(self, create_graph: bool) -> None:
        """Refuses gradients that are not part of the graph: they would be the same in every step."""
        if not create_graph:
            self._refuse(f"the step computes a gradient without create_graph=True ({user_line()})")

    def _refuse(self, reason: str) -> NoReturn:
        self.refusal = UntraceableError(reason)
        raise self.refusal

    def see_step(self, cell: Any, kind: str, x: Tensor, before: Mapping[str, Tensor], gates: Any) -> None:
        """Takes the names of the gates."""
        for name, tensor in getattr(gates, "_asdict", dict)().items():
            self.see_name(tensor, name)

    def see_name(self, tensor: Tensor, name: str) -> None:
        """Takes the name of a tensor, in place of any that it has."""
        place = self._places.get(id(tensor._array))
        if place is not None:
            self.names[place] = name

    def noted(self, argument: Any) -> Any:
        """An argument, with `Known` in place of tensors."""
        return mapped(argument, self._noted_part)

    def _noted_part(self, part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part.item() if isinstance(part, np.generic) else part
        place = self._places.get(id(part._array))
        if place is None:
            if isinstance(part._node, Node | Pick) and part._node.number > self._began:
                self._refuse(f"the step computes a value that is not seen, as in another thread ({user_line()})")
            place = self._add(part)
            self.outside.append(place)
        elif isinstance(part._node, Leaf) and part._node is not self.tensors[place]._node:
            self._refuse(f"the step makes a leaf of a value that it computes ({user_line()})")
        elif part._node is None and place in self._recorded:
            self.notes.append(Note(DETACH, (_known(place),), [len(self.tensors)], True))
            place = len(self.tensors)
            self.tensors.append(part)
        return _known(place)


class _Detach:
    """What `Tensor.detach` is in a program: an op whose result is its input."""

    name = "detach"
    names = ("x",)
    wants_backend = False
    composed = None
    rules: Mapping[str, Any] = {}

    @staticmethod
    def forward(xp: Any, x: Array) -> Array:
        """The input itself."""
        return x

    @staticmethod
    def call(x: Tensor) -> Tensor:
        """The input, to which no gradient flows."""
        return x.detach()


DETACH: Any = _Detach()


def _places_in(argument: Any) -> Iterator[int]:
    if isinstance(argument, Known):
        yield argument.place
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _places_in(part)


def run_of(step: Step, given: Sequence[Sequence[Like]], batch: int, dry: bool = False) -> tuple[Run, list[Known]]:
    """A run of a step for a batch size, and its outputs.

    Args:
        dry: see `Run`.

    Raises:
        FailedStepError: the step raises an error.
        UntraceableError: it does what cannot be recorded.
    """
    inputs, states, others = ([example(like, batch) for like in part] for part in given)
    with Effects(step) as effects:
        if effects.unfollowed is not None:
            raise UntraceableError(f"what the step changes cannot be followed: {effects.unfollowed}")
        run = Run([*inputs, *states, *others], dry, effects)
        switch = Switch(tracer=run, recording=True, anomaly=False)
        try:
            watch = watched_calls(effects.codes, run.see_call_in_c) if effects.calls_unknown else nullcontext(True)
            with switch, no_draws(_refused_draw), prints_seen, np.errstate(all="ignore"), watch as is_watched:
                if not is_watched:
                    raise UntraceableError("what the step calls cannot be followed while a profiler is active")
                after = step(inputs, states, others)
        except UntraceableError:
            raise
        except Exception as error:
            raise FailedStepError(f"the step fails for a batch of {batch} ({type(error).__name__}: {error})") from error
        finally:
            changed = effects.undo()
    if run.refusal is not None:
        raise run.refusal
    if changed:
        raise UntraceableError(f"the step changes {changed}, which must happen at each step")
    if any(tensor._node is not None and tensor._node.extras and tensor._node.extras.hooks for tensor in run.tensors):
        raise UntraceableError("the step registers hooks on tensors, which are called at each step")
    return run, [run.noted(tensor) for tensor in after]


def like_of(tensor: Tensor) -> Like:
    """What a tensor is like, as it is."""
    return Like(tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad)


def _refused_draw() -> Exception:
    return UntraceableError(
        "the step draws random numbers other than the masks of tg.dropout; draw those of all steps beforehand, and "
        f"give them in x ({user_line()})"
    )


def example(like: Like, batch: int) -> Tensor:
    """A tensor for a run."""
    shape = tuple(batch if size is BATCH else size for size in like.shape)
    with like.device.current():
        array = like.device.xp.full(shape, _FILLS.get(batch, 0) if is_float(like.dtype) else 0, like.dtype)
    return Tensor._wrap(array, like.device).requires_grad_(like.requires_grad)
