"""The calls of recurrent cells and layers in a traced run: recorded first, then made into `LayerTrace`s."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor, as_tensor
from ..autograd import grad
from ..creation import zeros_like
from ..graph import Node, next_number
from ..kinds import KINDS
from ..mode import Switch, Tracer, enable_grad, mode, no_grad
from ..nn import Module
from ..nn.names import joined
from ..observing import ShownLayer
from ..ops.recurrent import Scan, active_steps
from ..states import CheckedStep, names_of
from ..tracing.names import watched_variables
from ._program import names_in, step_shown
from .data_path import Part
from .layers import LayerTrace
from .sequences import RanSequence

__all__ = ["Calls", "on_host", "read_only"]

States = tuple[Tensor, ...]


def on_host(tensor: Tensor) -> HostArray:
    """A copy of the values as a NumPy array."""
    return np.array(tensor.device.backend.to_host(tensor._array))


def read_only(array: HostArray) -> HostArray:
    """The array, made read-only."""
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class _Time:
    """The place of a call in a sequence.

    Attributes:
        going: which sequences have not ended at each step of the call, (steps, B).
        reverse: whether the steps are taken from the last to the first.
        first: by the name of a cell or layer, the index of the sequence's first recorded call.
    """

    going: HostArray
    reverse: bool = False
    first: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class _Call:
    """A call of a cell or layer, for one step or for the rows of several.

    Attributes:
        name: the name of the cell or layer.
        shown: the cell or layer.
        kind: its kind.
        at: the time of the call.
        number: the graph's node number at this time.
        x: its inputs.
        before: the states before, by name.
        values: what it computed, by name; gradients are computed for these.
        exact: the values of states that ran as part of one op, which may have rounded them differently.
        gradients: the gradients of values; empty without a loss.
        equations, data_path: those of a step, if they are known and it is not that of a plain layer in `KINDS`.
    """

    name: str
    shown: Any
    kind: str
    at: _Time
    number: int
    x: Tensor
    before: dict[str, Tensor]
    values: dict[str, Tensor]
    exact: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    equations: tuple[str, ...] = ()
    data_path: tuple[Part, ...] = ()

    @property
    def options(self) -> Mapping[str, Any]:
        """The options in which a layer differs from a plain one of its kind."""
        return self.shown.options if isinstance(self.shown, ShownLayer) else {}

    def parameters(self) -> dict[str, HostArray]:
        """The parameters, named as those of a layer."""
        with no_grad():
            parameters: Mapping[str, Tensor] = getattr(self.shown, "layer_parameters", dict)()
            return {name: on_host(parameter) for name, parameter in parameters.items()}

    def traced(self) -> LayerTrace:
        """The call as a trace, without parameters."""
        going = self.at.going

        def steps(tensor: Tensor) -> HostArray:
            values = on_host(tensor).reshape(*going.shape, math.prod(tensor.shape[1:]))
            values[~going] = 0
            return values

        def by_name(tensors: Mapping[str, Tensor]) -> dict[str, HostArray]:
            return {name: steps(tensor) for name, tensor in tensors.items()}

        return LayerTrace(
            name=self.name,
            kind=self.kind,
            reverse=self.at.reverse,
            inputs=steps(self.x),
            values=by_name(self.values | self.exact),
            gradients=by_name(self.gradients),
            before=by_name(self.before),
            parameters={},
            going=going,
            options=self.options,
            equations=self.equations,
            data_path=self.data_path,
        )


class Calls(Tracer):
    """Records what the cells and layers of a model compute, by their names in the model.

    A sequence that is computed as one op runs as it does without a trace. Then its steps are taken again, and recorded.

    Args:
        model: the model.
        gradients: whether gradients will be computed.
    """

    sees_steps = False

    def __init__(self, model: Module, gradients: bool) -> None:
        self._names: dict[object, str] = {module: name for name, module in model.named_modules()}
        self._gradients = gradients
        self._calls: list[_Call] = []
        self._by_name: dict[str, list[_Call]] = {}  # in the order of the sequence
        self._ran: list[RanSequence] = []
        self._at: _Time | None = None  # the current step of the innermost sequence
        self._computed: dict[int, Tensor] = {}  # in a step that no cell shows, by the ids of arrays
        self._masks: Iterator[Tensor] | None = None  # of dropout, in a step that is taken again

    def __bool__(self) -> bool:
        """Whether any call was recorded."""
        return bool(self._calls)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def see_step(self, cell: Any, kind: str, x: Tensor, before: Mapping[str, Tensor], gates: Any) -> None:
        """Records a step.

        Raises:
            ValueError: the step's values lack a state, or one of them is not of shape (B, ...).
            TypeError: `gates` is not a NamedTuple.
        """
        if not hasattr(gates, "_asdict"):
            raise TypeError(
                f"show_step: expected a NamedTuple of what {type(cell).__name__} computed, got {type(gates).__name__}"
            )
        values: dict[str, Tensor] = gates._asdict()
        rows = len(x) if self._at is None else self._at.going.shape[1]
        for name, value in values.items():
            if value.ndim < 2 or len(value) != len(x):
                raise ValueError(
                    f"show_step: expected gates and states of shape ({rows}, ...), but {name!r} of "
                    f"{type(cell).__name__} has shape {value.shape}"
                )
        if missing := [state for state in before if state not in values]:
            raise ValueError(
                f"show_step: the states before are {', '.join(before)}, but the gates of {type(cell).__name__} are "
                f"{', '.join(values)}; put {', '.join(missing)} among them"
            )
        self._record(self._name(cell) or self._unused("cell"), cell, kind, x, before, values)

    def _record(
        self, name: str, shown: Any, kind: str, x: Tensor, before: Mapping[str, Tensor], values: Mapping[str, Tensor]
    ) -> None:
        """Records a step, in the order of the sequence."""
        at = self._at or _Time(np.ones((1, len(x)), bool))
        kept = Tensor.detach if self.sees_steps else _snapshot
        states = {state: kept(tensor) for state, tensor in before.items()}
        call = _Call(name, shown, kind, at, next_number(), kept(x), states, dict(values))
        self._calls.append(call)
        calls = self._by_name.setdefault(name, [])
        calls.insert(at.first.setdefault(name, len(calls)) if at.reverse else len(calls), call)

    def _taken(self, step: Any, x: Tensor, states: States, at: _Time) -> States:
        """The states after a step. If no cell shows the step, its states and variables are recorded."""
        outside, begun, names = (self._at, self._computed), len(self._calls), dict[int, str]()
        unshown = isinstance(step, CheckedStep)
        self._at, self._computed = at, {id(each._array): each for each in (x, *states)} if unshown else {}

        def see(tensor: Tensor, name: str) -> None:
            if id(tensor._array) in self._computed:  # so that the array stays, and its id is not used again
                names[id(tensor._array)] = name

        try:
            with watched_variables(see) if unshown else nullcontext():
                after: States = step(x, states)
            if unshown and len(self._calls) == begun:
                self._record_variables(step, x, states, after, names)
            else:
                self._take_states(step, self._calls[begun:], after)
        finally:
            self._at, self._computed = outside
        return after

    def _take_states(self, step: Any, calls: Sequence[_Call], after: States) -> None:
        """Shows the states after a step, if a subclass has changed those of the step that it overrides."""
        for call in reversed(calls):
            if isinstance(call.shown, ShownLayer):
                owner: Any = call.shown.network
            elif isinstance(step, CheckedStep) and call.shown is step.function:
                owner = call.shown
            else:
                continue
            states = dict(zip(names_of(owner, len(after)), after))
            shown = {name: call.values.get(name, state) for name, state in states.items()}
            changed = {name for name, state in states.items() if state._array is not shown[name]._array}
            if changed:
                inner = {f"inner_{name}" if name in changed else name: each for name, each in call.values.items()}
                call.values = {**inner, **{name: each for name, each in states.items() if name in call.before}}
                kind = type(owner).__name__
                call.kind = f"{kind} cell" if kind in KINDS else kind
            return

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """Notes what the variables of a step may be: what is computed from its input and states."""
        if self._computed:
            parts = [part for each in arguments for part in (each if isinstance(each, list | tuple) else (each,))]
            if any(id(getattr(part, "_array", None)) in self._computed for part in parts):
                results = result if isinstance(result, tuple) else (result,)
                self._computed |= {id(each._array): each for each in results}

    def _record_variables(
        self, step: CheckedStep, x: Tensor, states: States, after: States, names: Mapping[int, str]
    ) -> None:
        """Records a step of a cell that does not show it, with the names of its variables, by the ids of arrays."""
        cell, given = step.function, {id(tensor._array) for tensor in (x, *states, *after)}
        kind = type(cell).__name__ if isinstance(cell, Module) else getattr(cell, "__name__", type(cell).__name__)
        named = [(name, self._computed[key]) for key, name in names.items() if key in self._computed.keys() - given]
        values = {name: each for name, each in named if is_float(each.dtype) and each.shape[:1] == x.shape[:1]}
        floats = {name: k for k, name in enumerate(step.names) if is_float(states[k].dtype)}
        # The last state is a trace's memory: if possible, one with a number for each number of the output.
        order = sorted(floats, key=lambda name: states[floats[name]].shape == states[0].shape)
        before = {name: states[floats[name]] for name in order}
        values = {**values, **{name: after[k] for name, k in floats.items()}}
        name = self._name(cell if isinstance(cell, Module) else getattr(cell, "__code__", cell), kind)
        self._record(name or self._unused("cell"), cell, f"{kind} cell" if kind in KINDS else kind, x, before, values)

    # -- sequences -----------------------------------------------------------------------------------------------------

    def see_sequence(
        self, step: Callable[..., Any], T: int, lengths: HostArray | None, reverse: bool, mask: Tensor | None
    ) -> Callable[..., Any]:
        """The step, whose calls are recorded with their time."""
        times = iter(range(T)[::-1] if reverse else range(T))
        first: dict[str, int] = {}
        active: HostArray | None = None

        def timed(x: Tensor, states: States) -> States:
            nonlocal active
            if active is None:
                active = active_steps(T, len(x), lengths, mask)
            t = next(times)
            return self._taken(step, x, states, _Time(active[t][None], reverse, first))

        return timed

    def see_fused(
        self,
        run: Callable[[Sequence[Tensor], Sequence[Tensor]], States],
        inputs: Sequence[Tensor],
        others: Sequence[Tensor],
        scan: Scan,
    ) -> States:
        """Runs a sequence, and takes its steps again. Under `no_grad` its outputs are not part of a graph."""
        if not any(each.requires_grad for each in (*inputs, *others)):  # then the op would not keep the states
            others = [each.detach().requires_grad_(is_float(each.dtype)) for each in others]
        with enable_grad():
            outputs = run(inputs, others)
        nodes = {output._node.parents[0] for output in outputs if output._node is not None}
        for node in nodes:  # the op's; or none, if all numbers are integers
            assert isinstance(node, Node)
            with Switch(recording=self._gradients):
                self._take_again(RanSequence(scan, outputs, node))
        return outputs if mode().value.recording else tuple(output.detach() for output in outputs)

    def _take_again(self, ran: RanSequence) -> None:
        """Takes the steps of a sequence again, and records them."""
        begun, first = len(self._calls), dict[str, int]()
        self.sees_steps = True  # sequences in a step go step by step, as they did when the step was traced
        try:
            for steps in ran.parts:
                (x, states, masks), number = ran.given(steps), len(self._calls)
                self._masks = iter(masks)
                after = self._taken(ran.scan.step, x, states, _Time(ran.active[steps], ran.scan.reverse, first))
                ran.stepped.append(after)
                exact = {id(state._array): ran.rows(kept, steps) for state, kept in zip(after, ran.after, strict=True)}
                for call in self._calls[number:]:
                    named = {name: id(value._array) for name, value in call.values.items()}
                    call.exact = {name: exact[key] for name, key in named.items() if key in exact}
        finally:
            self.sees_steps, self._masks = False, None
        ran.calls = self._calls[begun:]
        self._ran.append(ran)
        self._show_step(ran, x, states)

    def _show_step(self, ran: RanSequence, x: Tensor, states: States) -> None:
        """Adds the equations of a step and its data path to its calls, if it is not that of a plain layer."""
        step = ran.scan.step
        cell = step.function if isinstance(step, CheckedStep) else None
        calls = [call for call in ran.calls if call.kind not in KINDS or call.options]
        calls = [call for call in calls if (isinstance(call.shown, ShownLayer) if cell is None else call.shown is cell)]
        if not calls:
            return
        last = calls[-1]
        known = next((call for call in self._by_name[last.name] if call.equations), None)
        if known is not None:  # of an earlier call of the same layer
            for call in calls:
                call.equations, call.data_path = known.equations, known.data_path
            return
        shown = {id(state._array): name for name, state in last.before.items()}
        if isinstance(step, CheckedStep):
            names, used = step.names, names_in(step.function)
        else:
            names = tuple(last.before)
            used = {id(each._array): name for name, each in last.shown.parameters.items()}
        named = {shown.get(id(state._array), name): state for state, name in zip(states, names, strict=True)}
        equations, data_path = step_shown(step, x, named, used, last.values)
        for call in calls:
            call.equations, call.data_path = equations, data_path

    def see_dropout(self, x: Tensor, p: float) -> Tensor | None:
        """The masks of a step that is taken again are those that it had."""
        return None if self._masks is None else next(self._masks)

    # -- results -------------------------------------------------------------------------------------------------------

    def traced(self, loss: Tensor | None) -> tuple[LayerTrace, ...]:
        """What was computed and, with a loss, its gradients. The calls of one layer or cell are concatenated over time.

        Raises:
            RuntimeError: the model changed an output of a cell or layer, or an operand of a layer, in place.
            ValueError: the loss does not depend on anything that was computed; calls of one layer differ in batch size.
        """
        again = {id(call) for ran in self._ran for call in ran.calls}
        alone = [call for call in self._calls if id(call) not in again]
        for call in alone:
            _check_unchanged(call.name, call.values.values(), call.number)
        for ran in self._ran:
            if ran.calls:
                _check_unchanged(ran.calls[0].name, ran.unchanged, ran.number)
        if loss is not None:
            found = _gradients([loss], alone, others=[output for ran in self._ran for output in ran.outputs])
            if not found:
                raise ValueError(
                    "trace: the loss does not depend on what the recurrent parts computed; make it of the model's "
                    "output"
                )
            for ran in self._ran:
                gradients = [found.get(id(output)) for output in ran.outputs]
                if any(gradient is not None for gradient in gradients):
                    roots = ran.roots(gradients)
                    found |= _gradients([root for root, _ in roots], ran.calls, [gradient for _, gradient in roots])
            for call in self._calls:
                call.gradients = {
                    name: found[id(value)] if id(value) in found else zeros_like(value)
                    for name, value in call.values.items()
                }
        return tuple(_joined(calls) for calls in self._by_name.values())

    # -- names ---------------------------------------------------------------------------------------------------------

    def _name(self, shown: Any, kind: str = "") -> str:
        """The dotted name of a cell or layer; one made from its class's name if it is not part of the model."""
        if isinstance(shown, ShownLayer):
            return joined(self._name(shown.network), shown.place)
        if shown not in self._names:
            self._names[shown] = self._unused((kind or type(shown).__name__).lower())
        return self._names[shown]

    def _unused(self, name: str) -> str:
        """This name, with a number if a module has it already."""
        taken = set(self._names.values())
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in taken)


def _snapshot(given: Any) -> Tensor:
    """A copy, since the model may change the tensor in place before the next step."""
    return as_tensor(given).detach().clone()


def _gradients(
    roots: Sequence[Tensor],
    calls: Sequence[_Call],
    given: Sequence[Tensor] | None = None,
    others: Sequence[Tensor] = (),
) -> dict[int, Tensor]:
    """The gradients of what calls computed, and of other tensors, by the ids of those that have one.

    Args:
        given: the gradients of the roots.
    """
    tensors = [*(value for call in calls for value in call.values.values()), *others]
    wanted = {id(tensor): tensor for tensor in tensors if tensor.requires_grad}
    if not wanted or not any(root.requires_grad for root in roots):
        return {}
    found: Sequence[Tensor | None] = grad(roots, [*wanted.values()], given, allow_unused=True)
    return {key: gradient for key, gradient in zip(wanted, found) if gradient is not None}


def _check_unchanged(name: str, tensors: Iterable[Tensor], number: int) -> None:
    """Raises if a tensor was changed in place since the node of this number."""
    for tensor in tensors:
        if tensor._version is not None and tensor._version.written > number:
            raise RuntimeError(
                f"trace: a tensor of shape {tensor.shape} that {name!r} returned, or computed with, was changed in "
                "place later; change a .clone() of it instead"
            )


def _joined(calls: Sequence[_Call]) -> LayerTrace:
    """The calls of one layer or cell, concatenated over time.

    Raises:
        ValueError: their batches differ.
    """
    parts = [call.traced() for call in calls]
    first = parts[0]
    batches = {part.shape[1] for part in parts}
    if len(batches) > 1:
        raise ValueError(
            f"trace: {first.name!r} was called with batches of {', '.join(map(str, sorted(batches)))} sequences; trace "
            "calls of one size"
        )

    def joined(arrays: Sequence[HostArray]) -> HostArray:
        return read_only(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))

    def by_name(field: str) -> dict[str, HostArray]:
        columns: list[dict[str, HostArray]] = [getattr(part, field) for part in parts]
        names = [name for name in columns[0] if all(name in column for column in columns)]  # the steps may branch
        return {name: joined([column[name] for column in columns]) for name in names}

    return LayerTrace(
        name=first.name,
        kind=first.kind,
        reverse=first.reverse,
        inputs=joined([part.inputs for part in parts]),
        values=by_name("values"),
        gradients=by_name("gradients"),
        before=by_name("before"),
        parameters={name: read_only(array) for name, array in calls[0].parameters().items()},
        going=joined([part.going for part in parts]),
        options=first.options,
        equations=first.equations,
        data_path=first.data_path,
    )
