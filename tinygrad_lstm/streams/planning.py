"""A recorded model as nodes that take frames as they come."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._tensor import Tensor, as_tensor
from ..creation import full
from ..device import Device
from ..lengths import Derived, Length, evaluated
from ..programs.program import Call, Constant, Loop, Operand, Program, Value, leaves
from .layout import BATCH, TIME, Factor, Layout, Pair
from .nodes import Hold, Map, Node, Rate
from .timeline import Timeline, steps_behind

__all__ = [
    "Fixed",
    "Flow",
    "NotCausalError",
    "Planner",
    "RefusedError",
    "applied",
    "filled",
    "refused",
    "sources",
    "streams",
    "values_in",
]


class NotCausalError(ValueError):
    """An output depends on more than the steps that have come."""


class RefusedError(Exception):
    """Why a call has no rule; collected by the planner."""


@dataclass(frozen=True, eq=False)
class Flow:
    """A value of which there are frames as steps come.

    Attributes:
        number: its number among the values of the run.
        layout: where its dimensions are.
        dtype: its dtype.
        length: the number of its frames in a sequence that ends after n steps.
        ready: the number of frames that are computed from the first n steps.
        is_present: whether it has no frames, but is the value of a sequence that ends now.
    """

    number: int
    layout: Layout
    dtype: Any
    length: Timeline
    ready: Timeline
    is_present: bool = False


@dataclass(frozen=True, eq=False)
class Fixed:
    """A value that does not depend on the steps.

    Attributes:
        tensor: the value, with a length of 1 in place of the time, and of the batch if all elements are equal.
        layout: for each dimension `TIME` or `BATCH` if it has that length in the model, or else its length.
        is_filled: whether all elements are equal.
    """

    tensor: Tensor
    layout: Layout
    is_filled: bool = False


Known = Flow | Fixed | None
"""None: it depends on a call that was refused."""

Rule = Callable[..., Any]

_RULES: dict[Any, Rule] = {}
_SOURCES: dict[Any, Rule] = {}


def streams(*functions: Any) -> Callable[[Rule], Rule]:
    """Registers the rule of ops, by name or as their functions, or of functions made of ops.

    The rule is called with the planner, the call and its arguments.

    It is given `Flow` and `Fixed` in place of tensors, at least one of them a `Flow`; it returns the results.
    """

    def enter(rule: Rule) -> Rule:
        for function in functions:
            name = isinstance(function, str)
            _RULES[function if name else getattr(function, "op", None) or inspect.unwrap(function)] = rule
        return rule

    return enter


def sources(function: Any) -> Callable[[Rule], Rule]:
    """Registers the rule of a function that makes a value of the number of steps, without any `Flow`."""

    def enter(rule: Rule) -> Rule:
        _SOURCES[inspect.unwrap(function)] = rule
        return rule

    return enter


@dataclass(eq=False)
class Planner:
    """Makes the nodes of a program.

    Args:
        program: the program.
        pairs: the lengths of `TIME` and `BATCH` in both runs.
        batch: the number of sequences of the stream.
        device: where it runs.

    Attributes:
        nodes: the nodes, each after those whose values it takes.
        known: what is known of each operand.
        reasons: why calls need the whole sequence, or have no rule.
        behind: the calls that look ahead, each with the number of steps.
        extremes: for the indices of a cumulative maximum, by their number, its values.
    """

    program: Program
    pairs: Mapping[str, Pair]
    batch: int
    device: Device
    nodes: list[Node] = field(default_factory=list)
    known: dict[Operand, Known] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    behind: dict[str, int] = field(default_factory=dict)
    extremes: dict[int, Flow] = field(default_factory=dict)
    number: int = 0
    _copies: dict[Any, Tensor] = field(default_factory=dict)

    # -- values --------------------------------------------------------------------------------------------------------

    def flow(self, layout: Layout, dtype: Any, length: Timeline, ready: Timeline, is_present: bool = False) -> Flow:
        """A new value."""
        self.number += 1
        return Flow(self.number - 1, layout, dtype, length, ready, is_present)

    def present(self, layout: Layout, dtype: Any) -> Flow:
        """A new value without time."""
        return self.flow(layout, dtype, Timeline.none(), Timeline.none(), True)

    def layout_of(self, operand: Operand) -> Layout:
        """The layout of an input or a constant, of which each dimension has one factor."""
        dims: list[tuple[Factor, ...]] = []
        for size in operand.shape:
            pair = _pair(size)
            label = next((label for label, lengths in self.pairs.items() if pair == lengths and pair[0] != pair[1]), "")
            if not label and pair[0] != pair[1]:
                raise RefusedError("depends on the number of steps")
            dims.append((label,) if label else () if size == 1 else (pair[0],))
        return Layout(tuple(dims))

    def constant(self, operand: Constant) -> Fixed:
        """A constant, on the device."""
        layout = self.layout_of(operand)
        if operand.array is not None:
            return Fixed(self._on_device(operand), layout)
        if operand.filling is None:
            raise RefusedError("is given an array that depends on the number of steps")
        shape = [math.prod(each if isinstance(each, int) else 1 for each in dim) for dim in layout.dims]
        number = operand.filling.item()
        return Fixed(full(shape, number, dtype=operand.dtype, device=self.device), layout, True)

    def _on_device(self, operand: Constant) -> Tensor:
        """A copy of an array; a parameter that is used several times has one."""
        assert operand.array is not None
        key = operand.name or id(operand.array)
        if key not in self._copies:
            self._copies[key] = as_tensor(operand.array.copy(), "cpu").to(self.device)
        return self._copies[key]

    def number_of(self, value: Any) -> Any:
        """A number among the arguments of a call.

        Raises:
            RefusedError: it depends on the number of steps.
        """
        try:
            return evaluated(value, {self.pairs[BATCH]: self.batch} if BATCH in self.pairs else {})
        except KeyError:
            raise RefusedError("is given a number that depends on the number of steps") from None

    def template(self, given: Any) -> Any:
        """The arguments of a call with plain numbers; `filled` replaces the values in them."""
        if isinstance(given, list | tuple):
            return type(given)(self.template(part) for part in given)
        if isinstance(given, slice):
            return slice(*(self.number_of(part) for part in (given.start, given.stop, given.step)))
        return given if isinstance(given, Flow | Fixed) else self.number_of(given)

    def count(self, number: Any) -> Timeline:
        """A number that depends on the lengths of the inputs, after n steps.

        Raises:
            RefusedError: it is not computed from numbers of steps.
        """
        if not isinstance(number, Derived):
            return Timeline.always(number)
        if isinstance(number, Length) and number.how is None and isinstance(number.source, Value):
            flow = self.known.get(number.source)
            at = next((k for k, size in enumerate(number.source.shape) if size is number), None)
            if isinstance(flow, Flow) and at is not None and flow.layout.dims[at] == (BATCH,):
                return Timeline.always(self.batch)
            if isinstance(flow, Flow) and at is not None and flow.layout.dims[at][:1] == (TIME,):
                return flow.length.times(math.prod(each for each in flow.layout.dims[at] if isinstance(each, int)))
        if number.how is not None:
            kind, *operands = number.how
            return Timeline.computed(getattr(operator, kind), *map(self.count, operands))
        raise RefusedError("takes a part of the steps that depends on their number")

    # -- planning ------------------------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Makes the nodes.

        Raises:
            NotCausalError: a call needs the whole sequence, or cannot be computed step by step.
        """
        for call in self.program.calls:
            self._plan_call(call)
        if self.reasons:
            told = "; ".join(dict.fromkeys(self.reasons))
            raise NotCausalError(f"stream: the model cannot be computed step by step: {told}")

    def _plan_call(self, call: Call) -> None:
        try:
            given = self.resolved(call.arguments)
            flat = [leaf for leaf in leaves(given) if isinstance(leaf, Flow | Fixed) or leaf is _LOST]
            if any(leaf is _LOST for leaf in flat):
                results: Any = [None] * len(call.results)
            elif call.function in _SOURCES and any(isinstance(leaf, Derived) for leaf in leaves(call.result.shape)):
                results = _SOURCES[call.function](self, call, *given)
            elif not any(isinstance(leaf, Flow) for leaf in flat) and not isinstance(call.arguments[0], Loop):
                results = self._fixed(call, given)
            else:
                results = self._by_rule(call, given)
                for value, result in zip(call.results, results, strict=True):
                    if isinstance(result, Flow):
                        self._check(call, value, result)
                        self._note_behind(call, given, result)
        except RefusedError as error:
            line = "" if self.place(call) else f" ({call.line})"
            self.reasons.append(f"{self.told(call)} {error}{line}")
            results = [None] * len(call.results)
        self.known.update(zip(call.results, results, strict=True))

    def _by_rule(self, call: Call, given: Sequence[Any]) -> Sequence[Known]:
        """The results of a call by its rule; if it has none for a time that is merged, of what has the time alone."""
        rule: Callable[..., Sequence[Known]] = _rule_of(call)
        number = len(self.nodes)
        try:
            return rule(self, call, *given)
        except RefusedError:
            del self.nodes[number:]
            flat = self._all_flat(given)
            if len(self.nodes) == number:
                raise
            return rule(self, call, *flat)

    def _all_flat(self, given: Any) -> Any:
        """The arguments of a call with the time of each value alone."""
        if isinstance(given, list | tuple):
            return type(given)([self._all_flat(part) for part in given])
        return self.flat(given) if isinstance(given, Flow) else given

    def resolved(self, argument: Any) -> Any:
        """An argument with what is known in place of operands; `_LOST` for one that depends on a refused call."""
        if isinstance(argument, list):
            return [self.resolved(part) for part in argument]
        if isinstance(argument, tuple):
            return tuple(self.resolved(part) for part in argument)
        if isinstance(argument, slice | Loop):
            return argument
        if isinstance(argument, Constant):
            return self.constant(argument)
        if isinstance(argument, Value):
            found = self.known[argument]
            return _LOST if found is None else found
        return argument

    def _fixed(self, call: Call, given: Any) -> list[Fixed]:
        """The results of a call that is given nothing that depends on the steps: computed now."""
        values = [leaf for leaf in leaves(given) if isinstance(leaf, Fixed)]
        if any(each.layout.has_time for each in values):
            raise RefusedError("depends on the number of steps")
        made = applied(call.function, filled(self.template(given), iter([each.tensor for each in values])))
        made = made if isinstance(made, tuple) else (made,)
        return [Fixed(tensor, self.layout_of(value)) for tensor, value in zip(made, call.results, strict=True)]

    def _check(self, call: Call, value: Operand, flow: Flow) -> None:
        """Checks that the layout has the shape that was recorded."""
        known = dict(self.pairs)
        if not flow.is_present:
            known[TIME] = (flow.length.at(self.pairs[TIME][0]), flow.length.at(self.pairs[TIME][1]))
        for dim, size in zip(flow.layout.dims, value.shape, strict=True):
            pairs = [known[each] if isinstance(each, str) else (each, each) for each in dim]
            if (math.prod(p[0] for p in pairs), math.prod(p[1] for p in pairs)) != _pair(size):
                raise RefusedError("has a number of steps that does not follow from that of the input")

    def _note_behind(self, call: Call, given: Any, result: Flow) -> None:
        """Notes a call that looks ahead further than what it is given."""
        behind = steps_behind(result.length, result.ready)
        before = [steps_behind(leaf.length, leaf.ready) or 0 for leaf in leaves(given) if isinstance(leaf, Flow)]
        if behind and behind > max(before, default=0):
            self.behind[self.told(call)] = behind - max(before, default=0)

    def told(self, call: Call) -> str:
        """A call, for messages: its op, and the place of its layer."""
        place = self.place(call)
        return f"{call.name} {place!r}" if place else call.name

    def place(self, call: Call) -> str:
        """The name of the module that a call belongs to, by its layer or its parameters; "" if it is not known."""
        names = [leaf.name.rpartition(".")[0] for leaf in leaves(call.arguments) if isinstance(leaf, Constant)]
        return call.place or next((name for name in names if name), "")

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def map(
        self,
        call: Call,
        flows: Sequence[Flow],
        layouts: Sequence[Layout],
        function: Callable[..., Any],
    ) -> list[Flow]:
        """The results of a function of frames, `function(lead, *frames)`, with these layouts."""
        flows, length, ready = self.together(call, flows)
        made = [
            self.flow(layout, value.dtype, length, ready, flows[0].is_present)
            for layout, value in zip(layouts, call.results, strict=True)
        ]
        numbers = [flow.number for flow in flows]
        self.nodes.append(Map(numbers, [each.number for each in made], function, flows[0].is_present))
        return made

    def repeated(self, fixed: Fixed, steps: Flow) -> Flow:
        """A fixed value with a time dimension, as a value that has the same frame for each of these steps."""
        made = self.flow(fixed.layout, fixed.tensor.dtype, steps.length, steps.ready)
        number, rest = fixed.tensor.reshape(-1)[0].item(), fixed.layout.rest

        def function(lead: int, frames: Tensor) -> Tensor:
            return full((*frames.shape[:lead], *rest), number, dtype=made.dtype, device=self.device)

        self.nodes.append(Map([steps.number], [made.number], function))
        return made

    def together(self, call: Call, flows: Sequence[Flow]) -> tuple[Sequence[Flow], Timeline, Timeline]:
        """Flows whose frames come at the same time: those that come earlier are held."""
        if len({flow.is_present for flow in flows}) > 1:
            raise RefusedError("needs, at each step, a value of the whole sequence")
        ready = flows[0].ready
        for flow in flows[1:]:
            ready = ready.at_most(flow.ready)
        held = [flow if flow.ready.is_like(ready) else self.hold(call, flow, 0, ready, flow.length) for flow in flows]
        return held, held[0].length, ready

    def hold(self, call: Call, flow: Flow, first: int, ready: Timeline, length: Timeline) -> Flow:
        """A flow whose frames come later, or without the first ones."""
        made = self.flow(flow.layout, flow.dtype, length, ready)
        node = Hold(
            [flow.number], [made.number], f"{self.place(call) or call.name}", self.filler(flow), first, flow.ready,
            ready, length,
        )  # fmt: skip
        self.nodes.append(node)
        return made

    def flat(self, x: Flow) -> Flow:
        """A value whose time has its dimension alone: several elements for each step become steps."""
        if x.is_present or not x.layout.has_time:
            return x
        time = x.layout.time
        dim = x.layout.dims[time]
        if len(dim) != 2 or dim[0] != TIME or not isinstance(dim[1], int):
            return x
        number, at = dim[1], sum(isinstance(each, int) for before in x.layout.dims[:time] for each in before)

        def function(frames: Tensor) -> Tensor:
            apart = frames.permute(0, 2 + at, 1, *(k for k in range(2, frames.ndim) if k != 2 + at))
            return apart.reshape(-1, *apart.shape[2:])

        made = self.flow(x.layout.with_dim(time, (TIME,)), x.dtype, x.length.times(number), x.ready.times(number))
        self.nodes.append(Rate([x.number], [made.number], function))
        return made

    def filler(self, flow: Flow, value: float = 0) -> Callable[[int, int], Tensor]:
        """Makes frames of a value, (B, number, *rest), filled with a number."""
        shape, dtype, device = flow.layout.rest, flow.dtype, self.device
        return lambda batch, number: full((batch, number, *shape), value, dtype=dtype, device=device)


_LOST: Any = object()


def _rule_of(call: Call) -> Rule:
    """The rule of a call, by its function, or for an op by its name.

    Raises:
        RefusedError: there is none.
    """
    rule = _RULES.get(call.function) or _RULES.get(getattr(call.function, "name", None))
    if rule is None:
        raise RefusedError("has no rule for streams")
    return rule


def applied(function: Any, arguments: Sequence[Any]) -> Any:
    """The result of an op, or of a function made of ops."""
    return getattr(function, "call", function)(*arguments)


def filled(template: Any, tensors: Iterator[Any]) -> Any:
    """The arguments of a call with these tensors in place of its values, in order."""
    if isinstance(template, list | tuple):
        return type(template)([filled(part, tensors) for part in template])
    return next(tensors) if isinstance(template, Flow | Fixed) else template


def values_in(given: Any) -> list[Flow | Fixed]:
    """The values in the arguments of a call, in order."""
    return [leaf for leaf in leaves(given) if isinstance(leaf, Flow | Fixed)]


def refused(why: str) -> RefusedError:
    """The error of a rule that cannot be applied: what the call does, after its name."""
    return RefusedError(why)


def _pair(size: Any) -> Pair:
    return size.values if isinstance(size, Derived) else (size, size)
