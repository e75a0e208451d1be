"""What derivative rules are given: the functions to compute with, and the arguments for which they ask by name."""

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tinygrad_lstm.backends.base import Array

from ..device import Device
from ..graph import Node
from ..walk import Increment, Rows, tell_op

if TYPE_CHECKING:
    from .operation import Op

__all__ = ["ON_TENSORS", "Functions", "Plan", "Rule", "on_arrays", "parameters_of", "registry"]

Rule = Callable[..., Any]

registry: dict[str, Callable[..., Any]] = {}


class Functions:
    """Every op by name: the forward rules bound to a device, or for None the ops on Tensors."""

    def __init__(self, device: Device | None) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found = registry.get(name)
        if found is None:
            raise AttributeError(f"there is no op named {name!r}")
        function = self(found)
        setattr(self, name, function)
        return function

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function for an op that has no name here: a user-defined one."""
        if self._device is None:
            return function
        op: Op = function.op  # type: ignore[attr-defined]
        return functools.partial(op.forward, op.context(self._device))


ON_TENSORS = Functions(None)
_by_device: dict[Device, Functions] = {}


def on_arrays(device: Device) -> Functions:
    """The forward rules of that device."""
    found = _by_device.get(device)
    if found is None:
        found = _by_device[device] = Functions(device)
    return found


def parameters_of(rule: Rule) -> list[str]:
    """The names by which a rule asks for what it needs."""
    return list(inspect.signature(rule).parameters)


class Plan:
    """What the rules of the inputs in `wanted` ask for, and how it is handed to them.

    Their arguments are picked from the pool `(g, out, F, *arguments of the op, *shapes of its inputs)`; of a composed
    op, from `(g, saved, backend, *arguments of the op, wanted)`.
    """

    def __init__(self, owner: "Op", wanted: Sequence[int]) -> None:
        self._places = {"g": 0, "out": 1, "F": 2, "saved": 1, "backend": 2, "wanted": 3 + owner.arity}
        self._places |= {name: 3 + k for k, name in enumerate(owner.names)}
        self._places |= {f"{owner.names[slot]}_shape": 3 + owner.arity + k for k, slot in enumerate(owner.slots)}
        self.wanted = [(k, owner.rules[k], self._picker(owner.rules[k])) for k in wanted]
        self.special: dict[int, Callable[[Sequence[Any], Node], Any]] = {}
        into = [owner.into[k] for k in wanted if k in owner.into]
        for k in wanted:
            if k in owner.into:
                self.special[k] = functools.partial(_increment, k, owner.into[k], self._picker(owner.into[k]))
            elif k in owner.by_rows:
                rule = owner.rules[k]
                self.special[k] = functools.partial(_rows, rule, self._picker(rule), _count_rows(rule))
        rules = [owner.rules[k] for k in wanted]
        asked = {name for rule in (*rules, *into) for name in parameters_of(rule)}
        self.kept = [slot for slot in owner.slots if owner.names[slot] in asked]
        self.dropped = [slot for slot in owner.slots if slot not in self.kept]
        self.keeps_out = "out" in asked or "saved" in asked
        self.asks_functions = "F" in asked
        self.keeps_shapes = bool(into) or not owner.trusted or any(name.endswith("_shape") for name in asked)
        self.keeps = bool(self.kept) or self.keeps_out

    def _picker(self, rule: Rule) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
        places = [self._places[name] for name in parameters_of(rule) if name != "buffer"]
        if len(places) == 1:
            return lambda pool: (pool[places[0]],)
        pick: Callable[[Sequence[Any]], tuple[Any, ...]] = operator.itemgetter(*places)
        return pick


def _increment(k: int, rule: Rule, pick: Callable[..., Any], pool: Sequence[Any], node: Node) -> Increment:
    arguments = pick(pool)
    make_zeros = functools.partial(node.device.xp.zeros, node.shapes[k], pool[0].dtype)

    def add(buffer: Array) -> None:
        try:
            rule(buffer, *arguments)
        except Exception as error:
            tell_op(error, node)
            raise

    return Increment(make_zeros, add)


def _rows(rule: Rule, pick: Callable[..., Any], joined: int, pool: Sequence[Any], node: Node) -> Rows:
    return Rows(rule, pick(pool), joined, node)


def _count_rows(rule: Rule) -> int:
    """How many of a rule's first arguments have rows: all but the settings behind them."""
    names = parameters_of(rule)
    return sum(name != "F" and not name.endswith("_shape") for name in names)
