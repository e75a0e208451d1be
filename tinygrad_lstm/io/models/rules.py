"""How a rule says what an op of a file format computes.

A rule is a function whose positional parameters are the op's inputs, and whose keyword-only parameters are its
attributes, under ONNX's names and with ONNX's defaults:

    @rule("Gather")
    def gather(data: Value, indices: Value, *, axis: int = 0) -> Value: ...

The annotation of an input says what the rule is given:
    Tensor: a Tensor; an array on the host is copied to the device of the other inputs.
    Statistic: a Tensor that is not trained, such as a mean over a training set.
    Ints: a list of integers, such as a shape or axes, which are read on the host.
    Floats: a list of floats, such as scales, which are read on the host.
    Value: a Tensor; or an array on the host if all inputs with this annotation are. NumPy's functions take both.
    Operand: as Value, but an array of one number beside a tensor is a Python number, so that the dtype is kept.
    Any: as it comes: a Tensor, an array on the host, or a sequence, which is a tuple of values.
An attribute is an int, a float, a string, a list of one of these, an array (a tensor of the file),
or a dtype if its annotation is `np.dtype[Any] | None`. A keyword-only parameter `opset` receives the version of the
operators, and `outputs` the number of outputs.

A constant is on the host if it is one float, or a few integers such as a shape; also if it is for Ints or Floats.

A rule returns a tensor, an array, or an integer; or a tuple with one of these for each output, of which those that the
node does not have are dropped.

Lengths and shapes are arrays on the host, of dtype object, whose elements are Python's integers: arithmetic on them is
exact, waits for no device, and keeps where a length came from, so that a model can be exported and compiled again.
Arrays on the host of a different dtype do not depend on the lengths of the inputs.
"""

import functools
import importlib
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ..._tensor import Tensor, as_tensor
from ...creation import full
from ...device import get_device
from ...lengths import Derived
from ...ops import stack
from ..errors import ContentError, shown
from ..onnx.tensors import dtype_of
from .annotations import is_of
from .body import plain_array

__all__ = [
    "MOST_ON_HOST",
    "Floats",
    "Ints",
    "Operand",
    "Rule",
    "RuleCall",
    "Statistic",
    "Value",
    "host_ints",
    "is_known",
    "is_small",
    "rule",
    "rule_for",
    "tensors",
]

Ints: TypeAlias = list[int]
"""Integers that are read on the host."""

Floats: TypeAlias = list[float]
"""Floats that are read on the host."""

Value: TypeAlias = Tensor | HostArray
"""A tensor, or an array on the host."""

Statistic = typing.NewType("Statistic", Tensor)
"""A tensor that is not trained: a buffer of the module, not a parameter."""

MOST_ON_HOST = 64
"""The most elements of a vector of integers that is kept on the host, where shapes and axes are read."""

Operand: TypeAlias = Tensor | HostArray | float
"""A tensor, an array on the host, or one number beside a tensor."""

_KINDS = {Tensor: "tensor", Statistic: "statistic", Ints: "ints", Floats: "floats", Value: "value", Operand: "operand"}
"""What an input is converted to, by its annotation."""

_TOGETHER = ("value", "operand")
"""What stays on the host if all such inputs are there."""

_DTYPE = np.dtype[Any] | None
"""The annotation of an attribute that is a dtype."""

Function = TypeVar("Function", bound=Callable[..., Any])

_OF_BUILDER = {"opset", "outputs"}
"""Keyword-only parameters that are no attributes."""


@dataclass(frozen=True)
class Rule:
    """What an op computes, and what it takes.

    Attributes:
        op: its name in ONNX.
        since: the first version of the operators with these inputs and attributes.
        function: the rule.
        conversions: for each input, "tensor", "statistic", "ints", "floats", "value", "operand" or "any".
        required: the number of inputs that it must have.
        optional: the places of inputs that may be left out before others.
        variadic: whether the last conversion applies to any number of further inputs.
        attributes: the default of each attribute; `inspect.Parameter.empty` for one that must be given.
        types: the annotation of each attribute.
        wanted: which of `opset` and `outputs` it takes.
    """

    domain: str
    op: str
    since: int
    function: Callable[..., Any]
    conversions: tuple[str, ...]
    required: int
    optional: frozenset[int]
    variadic: bool
    attributes: Mapping[str, Any]
    types: Mapping[str, Any]
    wanted: frozenset[str]

    def check_given(self, is_given: Sequence[bool]) -> None:
        """Raises a ContentError if an input is left out that must be there."""
        for place, given in enumerate(is_given):
            if not given and min(place, len(self.conversions) - 1) not in self.optional:
                raise ContentError(f"the input {place + 1} is missing")

    def kinds(self, number: int) -> tuple[str, ...]:
        """What each of a number of inputs is converted to.

        Raises:
            ContentError: there are too few or too many.
        """
        most = len(self.conversions)
        if not self.required <= number or (number > most and not self.variadic):
            raise ContentError(f"{number} inputs, expected {self.required} to {most}")
        return self.conversions[:number] + self.conversions[-1:] * (number - most)

    def call(self, given: Mapping[str, Any], opset: int = 1, outputs: int = 1) -> "RuleCall":
        """The function of a node with these attributes, in a version of the operators, with a number of outputs.

        Raises:
            ContentError: an attribute is unknown, missing or of the wrong type, or is a dtype that tensors cannot have.
        """
        if unknown := given.keys() - self.attributes.keys():
            raise ContentError(f"unknown attributes {', '.join(sorted(map(shown, unknown)))}")
        if wrong := [name for name, value in given.items() if not is_of(value, self.types[name])]:
            raise ContentError(f"attributes of the wrong type: {', '.join(map(shown, sorted(wrong)))}")
        attributes = {**self.attributes, **given}
        if missing := [name for name, value in attributes.items() if value is inspect.Parameter.empty]:
            raise ContentError(f"missing attributes {', '.join(missing)}")
        for name, value in given.items():
            if self.types[name] == _DTYPE:
                attributes[name] = dtype_of(value)
        of_node = {"opset": opset, "outputs": outputs}
        return RuleCall(self, {**attributes, **{name: of_node[name] for name in self.wanted}}, outputs)

    @functools.cached_property
    def takes_tensors(self) -> bool:
        """Whether tensors need no conversion."""
        return not {"ints", "floats"} & set(self.conversions)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its name."""
        return _registered, (self.domain, self.op, self.since)


_RULES: dict[tuple[str, str], list[Rule]] = {}


def rule(
    op: str, since: int = 1, domain: str = "", attributes_of: Callable[..., Any] | None = None
) -> Callable[[Function], Function]:
    """Registers a function as the rule of an op, from a version of the operators on.

    Args:
        attributes_of: a different rule, whose attributes it also has; it receives them as `**attributes`.
    """

    def register(function: Function) -> Function:
        own = list(inspect.signature(function).parameters.values())
        hints = typing.get_type_hints(function)
        inputs = [each for each in own if each.kind in (each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL)]
        keywords = {each.name: each.default for each in own if each.kind is each.KEYWORD_ONLY}
        if attributes_of is not None:
            of_other = inspect.signature(attributes_of).parameters.values()
            keywords |= {each.name: each.default for each in of_other if each.kind is each.KEYWORD_ONLY}
            hints |= typing.get_type_hints(attributes_of)
        found = Rule(
            domain,
            op,
            since,
            function,
            conversions=tuple([_conversion(hints[each.name]) for each in inputs]),
            required=sum(each.default is each.empty and each.kind is not each.VAR_POSITIONAL for each in inputs),
            optional=frozenset(
                place
                for place, each in enumerate(inputs)
                if each.default is not each.empty or type(None) in typing.get_args(hints[each.name])
            ),
            variadic=any(each.kind is each.VAR_POSITIONAL for each in inputs),
            attributes={name: default for name, default in keywords.items() if name not in _OF_BUILDER},
            types={name: hints[name] for name in keywords},
            wanted=frozenset(keywords.keys() & _OF_BUILDER),
        )
        rules = _RULES.setdefault((domain, op), [])
        rules.append(found)
        rules.sort(key=operator.attrgetter("since"))
        return function

    return register


def _conversion(hint: Any) -> str:
    if isinstance(hint, types.UnionType) and hint not in _KINDS:
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        hint = parts[0] if len(parts) == 1 else Value
    return _KINDS.get(hint, "any")


def rule_for(domain: str, op: str, opset: int) -> Rule | None:
    """The rule of an op in a version of the operators; None if there is none."""
    rules = _RULES.get(("" if domain == "ai.onnx" else domain, op), [])
    return next((each for each in reversed(rules) if each.since <= opset), None)


def _registered(domain: str, op: str, since: int) -> Rule | None:
    """The rule of an op, in a process that may not have registered it yet."""
    importlib.import_module(f".{'tensorflow' if domain == 'tensorflow' else 'onnx'}.ops", __package__)
    return rule_for(domain, op, since)


@dataclass(frozen=True)
class RuleCall:
    """A rule with the attributes of a node: a function of the node's inputs, which returns its outputs."""

    rule: Rule
    attributes: Mapping[str, Any]
    outputs: int = 1

    def __call__(self, *values: Any) -> Any:
        if not (self.rule.takes_tensors and all([isinstance(value, Tensor) for value in values])):
            values = tuple(self._converted(values))
        result = self.rule.function(*values, **self.attributes)
        if self.outputs == 1:
            return _as_value(result[0] if isinstance(result, tuple) else result)
        return tuple([_as_value(each) for each in result[: self.outputs]])

    def _converted(self, values: Sequence[Any]) -> list[Any]:
        kinds = self.rule.kinds(len(values))
        device = most = None
        for value, kind in zip(values, kinds, strict=True):
            if isinstance(value, Tensor):
                device = device or value.device
                if kind in _TOGETHER:
                    most = max(most or 0, value.ndim)
        return [_as_kind(value, kind, device, most) for value, kind in zip(values, kinds, strict=True)]


def _as_kind(value: Any, kind: str, device: Any, most: int | None) -> Any:
    """A value as its annotation says.

    Args:
        most: the most dimensions of a tensor among the values and operands; None if all are on the host.
    """
    if value is None or kind == "any" or (kind in _TOGETHER and most is None):
        return value
    if kind == "ints":
        return _as_ints(value)
    if kind == "floats":
        return value.reshape(-1).tolist()
    if isinstance(value, Tensor):
        return value
    if kind == "operand" and value.size == 1 and value.ndim <= (most or 0):
        return value.item()
    return _as_tensor(value, device)


def _as_value(result: Any) -> Any:
    """A result as a value."""
    if result is None or isinstance(result, Tensor | np.ndarray | tuple):
        return result
    if isinstance(result, np.generic):
        return np.asarray(result)
    is_number = isinstance(result, int | float | list | Derived)
    return host_ints(typing.cast(Any, result)) if is_number else result


def _as_ints(value: Value) -> Ints:
    integers: Any = value.reshape(-1).tolist()
    return list(map(int, integers)) if isinstance(value, Tensor) else integers


def _as_tensor(value: Value, device: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if value.dtype == object and any(isinstance(each, Derived) for each in value.flat):  # a trace sees the lengths
        return stack([full((), each, device=device) for each in value.flat]).reshape(value.shape)
    return as_tensor(plain_array(value), device or get_device())


def tensors(*values: Value) -> list[Tensor]:
    """Values as tensors, on the device of the first that is one."""
    device = next((value.device for value in values if isinstance(value, Tensor)), None)
    return [_as_tensor(value, device) for value in values]


def host_ints(integers: Sequence[Any] | int) -> HostArray:
    """Integers on the host, which may be the lengths of a tensor: a vector, or 0-d."""
    if not isinstance(integers, Sequence):
        number: HostArray = np.empty((), object)
        number.fill(integers)  # NumPy would make a plain integer of a length that is assigned
        return number
    array = np.empty(len(integers), object)
    array[...] = integers
    return array


def is_small(array: HostArray) -> bool:
    """Whether an array that is not trained stays on the host: one float, or a few integers such as a shape."""
    return array.ndim <= 1 and array.size <= (1 if is_float(array.dtype) else MOST_ON_HOST)


def is_known(*values: Any) -> bool:
    """Whether values are arrays on the host that do not depend on the lengths of the model's inputs."""
    return all(isinstance(value, np.ndarray) and value.dtype != object for value in values)
