"""How a rule says what an ONNX op computes.

A rule is a function whose positional parameters are the op's inputs, and whose keyword-only parameters are its
attributes, under ONNX's names and with ONNX's defaults:

    @rule("Gather")
    def gather(data: Value, indices: Value, *, axis: int = 0) -> Value: ...

The annotation of an input says what the rule is given:
    Tensor: a Tensor; an array on the host is copied to the device of the other inputs.
    Ints: a list of integers, such as a shape or axes, which are read on the host.
    Value: as it comes, a Tensor or an array on the host.
An attribute is an int, a float, a string, a list of one of these, an array (a tensor of the file), or a `Body` (a
graph). A keyword-only parameter `opset` receives the version of the operators, and `outputs` the number of outputs.

Lengths and shapes are arrays on the host, of dtype object, whose elements are Python's integers: arithmetic on them is
exact, waits for no device, and keeps where a length came from, so that a model can be exported and compiled again.
"""

import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ...._tensor import Tensor, as_tensor

__all__ = ["Ints", "Rule", "RuleCall", "Value", "host_ints", "rule", "rule_for", "tensors"]

Ints: TypeAlias = list[int]
"""Integers that are read on the host."""

Value: TypeAlias = Tensor | HostArray
"""A tensor, or an array on the host."""

_OF_BUILDER = {"opset", "outputs"}
"""Keyword-only parameters that are no attributes."""


@dataclass(frozen=True)
class Rule:
    """What an op computes, and what it takes.

    Attributes:
        op: its name in ONNX.
        since: the first version of the operators with these inputs and attributes.
        function: the rule.
        conversions: for each input, "tensor", "ints" or "value".
        required: the number of inputs that it must have.
        variadic: whether the last conversion applies to any number of further inputs.
        attributes: the default of each attribute; `inspect.Parameter.empty` for one that must be given.
    """

    op: str
    since: int
    function: Callable[..., Any]
    conversions: tuple[str, ...]
    required: int
    variadic: bool
    attributes: Mapping[str, Any]
    wanted: frozenset[str]


_RULES: dict[tuple[str, str], list[Rule]] = {}


def rule(op: str, since: int = 1, domain: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the rule of an op, from a version of the operators on."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = typing.get_type_hints(function)
        inputs, attributes, wanted = [], {}, set()
        required, variadic = 0, False
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                if name in _OF_BUILDER:
                    wanted.add(name)
                else:
                    attributes[name] = parameter.default
                continue
            variadic = parameter.kind is parameter.VAR_POSITIONAL
            inputs.append(_conversion(hints[name]))
            required += parameter.default is parameter.empty and not variadic
        found = Rule(op, since, function, tuple(inputs), required, variadic, attributes, frozenset(wanted))
        rules = _RULES.setdefault((domain, op), [])
        rules.append(found)
        rules.sort(key=operator.attrgetter("since"))
        return function

    return register


def _conversion(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        hint = parts[0] if len(parts) == 1 else Value
    return "tensor" if hint is Tensor else "ints" if hint == Ints else "value"


def rule_for(domain: str, op: str, opset: int) -> Rule | None:
    """The rule of an op in a version of the operators; None if there is none."""
    rules = _RULES.get(("" if domain == "ai.onnx" else domain, op), [])
    return next((each for each in reversed(rules) if each.since <= opset), None)


@dataclass(frozen=True)
class RuleCall:
    """A rule with the attributes of a node: a function of the node's inputs."""

    rule: Rule
    attributes: Mapping[str, Any]

    def __call__(self, *values: Any) -> Any:
        rule = self.rule
        conversions = rule.conversions
        if len(values) > len(conversions):
            conversions += conversions[-1:] * (len(values) - len(conversions))
        device = next((value.device for value in values if isinstance(value, Tensor)), None)
        given = [
            value
            if value is None or kind == "value"
            else _as_ints(value)
            if kind == "ints"
            else _as_tensor(value, device)
            for kind, value in zip(conversions, values, strict=False)
        ]
        return rule.function(*given, **self.attributes)


def _as_ints(value: Value) -> Ints:
    integers: Any = value.reshape(-1).tolist()
    return list(map(int, integers)) if isinstance(value, Tensor) else integers


def _as_tensor(value: Value, device: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return as_tensor(value.astype(np.int64) if value.dtype == object else value, device)


def tensors(*values: Value) -> list[Tensor]:
    """Values as tensors, on the device of the first that is one."""
    device = next((value.device for value in values if isinstance(value, Tensor)), None)
    return [_as_tensor(value, device) for value in values]


def host_ints(integers: Sequence[Any] | int) -> HostArray:
    """Integers on the host, which may be the lengths of a tensor: a vector, or 0-d."""
    array = np.empty(len(integers) if isinstance(integers, Sequence) else (), object)
    array[...] = integers
    return array
