"""What is known of an op: its rules and inputs, and how what it is given becomes tensors that fit each other."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import check_bounds, promoted_dtype

from .._tensor import Tensor, operand
from ..device import Device, device_of, get_device
from ..graph import Node, Pick, user_line, watch
from ..lengths import Derived, plain
from ..mode import Mode, mode
from ..walk import has_nan
from .rules import OpDerivative, Rule, asked_by, function_of

__all__ = ["ALIASES", "INPUT", "MISSING", "NUMBERS", "Op", "Promotion"]

Promotion = Literal["common", "float"]

ALIASES = {"axis": "dim", "dims": "dim", "keepdims": "keepdim"}
INPUT = "input"
"""Torch's name for the first argument of most functions."""
NUMBERS = frozenset({float, int, bool})
MISSING = object()
"""Stands for an argument that must be given."""
_PLAIN = frozenset({TypeError, ValueError, IndexError, OverflowError})


@dataclass(eq=False, repr=False)
class Op:
    """An operation on tensors: its rules, and what is known of them beforehand. `calling.caller` makes it a function.

    Attributes:
        names: the parameters of the forward rule, without the first.
        inputs: those that take tensors; of an op of a list, only the list.
        sequence: whether the op takes a list of tensors.
        promoted: the inputs that are brought to one dtype. One without a rule, such as a condition, is not.
        also: keywords that no rule has, each with the function that applies the op with its value.
        call: the function that applies the op.
    """

    forward: Callable[..., Any]
    name: str
    rules: dict[str, Rule]
    promotion: Promotion | None
    broadcasts: bool
    view: bool | Callable[..., bool]
    composed: Callable[..., Any] | None
    fresh: bool
    also: dict[str, Callable[..., Any]] = field(default_factory=dict)
    call: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        signature = inspect.signature(self.forward)
        (first, *parameters), returned = signature.parameters.values(), signature.return_annotation
        if self.composed is not None:
            parameters.pop()  # `saving`, which the mechanism says
        self.wants_backend = first.name == "backend"
        self.names = [parameter.name for parameter in parameters]
        written = {parameter.name: _as_written(parameter.annotation, self.forward) for parameter in parameters}
        self.inputs = [name for name in self.names if written[name] in (*_ONE, _SEVERAL)]
        self.sequence = _SEVERAL in written.values()
        self.signature = inspect.Signature(
            [
                *(p.replace(annotation=_SHOWN[written[p.name]]) if p.name in self.inputs else p for p in parameters),
                *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in self.also),
            ],
            return_annotation="tuple[Tensor, ...]" if returned == tuple[Array, ...] else "Tensor",
        )
        # An op with settings takes them, and its first input, by torch's and NumPy's names too. So the call itself
        # checks that required arguments are there.
        self.defaults: dict[str, Any] = {}
        for p in parameters:
            if p.default is not p.empty or len(self.inputs) < len(self.names):
                self.defaults[p.name] = MISSING if p.default is p.empty else p.default
        for problem in self._problems(first.name, parameters):
            raise TypeError(f"op {self.name!r}: {problem}")
        promotes = self.inputs if self.promotion else ()
        self.promoted = [name for name in promotes if self.sequence or not self.rules or name in self.rules]
        self.derivatives: dict[int, OpDerivative] = {}

    def _problems(self, first: str, parameters: Sequence[inspect.Parameter]) -> Iterator[str]:
        """What is wrong with the rules."""
        if first not in ("xp", "backend"):
            yield f"the forward rule's first parameter is {first!r}; call it xp or backend"
        if not self.inputs or (self.sequence and len(self.inputs) > 1):
            yield "annotate its inputs `Array`, or one of them alone `Sequence[Array]`"
        own = {"g", "out", "F", "buffer", *(f"{name}_shape" for name in self.inputs)}
        if self.composed is not None:
            own |= {"saved", "backend", "needs_grad"}
        for p in parameters:
            if p.kind is not p.POSITIONAL_OR_KEYWORD:
                yield f"parameter {str(p)!r} is not a plain one; ops take no *, / or keyword-only"
            if p.name in own or p.name.startswith("_"):
                yield f"rename its parameter {p.name!r}, which rules know as something else"
        for name, rule in self.rules.items():
            if name not in self.inputs:
                yield f"a rule for {name!r}, but its inputs are {', '.join(self.inputs)}"
            if unknown := set(asked_by(function_of(rule))) - own - set(self.names):
                yield f"the rule for {name!r} asks for {', '.join(sorted(unknown))}"

    def __repr__(self) -> str:
        return f"<op {self.name}{self.signature}>"

    def context(self, device: Device) -> Any:
        """The first argument of the forward rule on that device."""
        return device.backend if self.wants_backend else device.xp

    def bit(self, name: str) -> int:
        """The bit of a parameter in masks."""
        return 1 << self.names.index(name)

    def derivative(self, mask: int) -> OpDerivative:
        """The derivative for the inputs, of those with a bit in the mask, that have a rule."""
        if mask not in self.derivatives:
            needed = [name for name in self.inputs if mask & self.bit(name)]
            self.derivatives[mask] = OpDerivative(self, needed)
        return self.derivatives[mask]

    # -- arguments -----------------------------------------------------------------------------------------------------

    def called(self, arguments: Sequence[Any], more: Sequence[Any], named: dict[str, Any]) -> Any:
        """The result for arguments that are not in their places; a function of `also` takes the keyword it is for."""
        call = self.call
        for keyword, function in self.also.items():
            if (value := named.pop(keyword, None)) is not None:
                call = functools.partial(function, call, value)
        return call(*self.bound(arguments, more, named))

    def bound(self, arguments: Sequence[Any], more: Sequence[Any], named: dict[str, Any]) -> Sequence[Any]:
        """All arguments in order, of those in their places, more than there are places for, and those by name."""
        if more:
            raise TypeError(f"{self.name}: {len(arguments) + len(more)} arguments do not fit; it is {self!r}")
        placed = list(arguments)
        for given, value in named.items():
            name = given if given in self.names else self.inputs[0] if given == INPUT else ALIASES.get(given, given)
            k = self.names.index(name) if name in self.names else -1
            if k < 0 or placed[k] is not self.defaults.get(name, MISSING):
                raise TypeError(f"{self.name}: unexpected or repeated argument {given!r}; it is {self!r}")
            placed[k] = value
        self._check_given(placed)
        return placed

    def _check_given(self, arguments: Sequence[Any]) -> None:
        if any([value is MISSING for value in arguments]):
            raise TypeError(f"{self.name}: an argument is missing; it is {self!r}")

    def settled(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """The arguments with inputs of one device and, where the op promotes, one dtype; numbers beside floats stay."""
        self._check_given(arguments)
        places = [k for k, name in enumerate(self.names) if name in self.inputs]
        given = arguments[places[0]] if self.sequence else [arguments[k] for k in places]
        inputs = [_built_in(x) for x in given]
        if mode().value.tracer is None:
            inputs = [plain(x) if isinstance(x, Derived) else x for x in inputs]
        owners = [x.device if isinstance(x, Tensor) else device_of(x) for x in inputs]
        devices = list(dict.fromkeys(owner for owner in owners if owner is not None)) or [get_device()]
        if len(devices) > 1:
            names = " and ".join(repr(str(device)) for device in devices)
            raise RuntimeError(
                f"{self.name}: inputs on {names}; move them to one device with .to(device) "
                f"(inputs: {_described(inputs)})"
            )
        (device,) = devices
        alone = all(x is None or is_number(x) for x in inputs)
        for k, x in enumerate(inputs):
            if isinstance(x, Tensor):
                x._check_current(self.name)
            elif x is not None and (alone or not is_number(x)):
                try:
                    inputs[k] = operand(given[k], device)
                except Exception as error:
                    self.explain(error, inputs, device)
                    raise
        if self.promoted:
            self._promote(inputs, device)
        settled = list(arguments)
        for k, x in zip(places, [inputs] if self.sequence else inputs):
            settled[k] = x
        return settled

    def _promote(self, inputs: list[Any], device: Device) -> None:
        """Brings the inputs that take part to one dtype: NumPy's common one, but integers never widen a float."""
        part = [k for k, x in enumerate(inputs) if x is not None and (self.sequence or self.inputs[k] in self.promoted)]
        if not any(isinstance(inputs[k], Tensor) for k in part):
            for k in part:
                inputs[k] = operand(inputs[k], device)
        needs_float = self.promotion == "float" or any(isinstance(inputs[k], float) for k in part)
        dtype = promoted_dtype([inputs[k].dtype for k in part if isinstance(inputs[k], Tensor)], needs_float)
        for k in part:
            if isinstance(inputs[k], Tensor):
                inputs[k] = inputs[k].to(dtype=dtype)
            elif self.sequence:
                with device.current():
                    inputs[k] = Tensor._wrap(device.xp.full((), inputs[k], dtype), device)

    def take_beside(self, dtype: np.dtype[Any], inputs: Sequence[Any]) -> bool:
        """Whether the numbers among the inputs can stay beside tensors of an integer dtype or bool: no float can.

        Raises:
            OverflowError: one is out of the dtype's range. Comparisons take any integer.
        """
        if any(isinstance(x, float) for x in inputs):
            return False
        for x in inputs if self.rules else ():
            if x.__class__ in NUMBERS:
                check_bounds(self.name, x, dtype)
        return True

    # -- results -------------------------------------------------------------------------------------------------------

    def regular(self, out: Any, device: Device) -> Any:
        """The output of a forward rule that returned a tuple, a NumPy scalar or one of its inputs, not a new array."""
        if isinstance(out, list):
            raise TypeError(f"{self.name}: the forward rule gave a list; give a tuple for several outputs")
        if isinstance(out, tuple):
            return tuple(out)  # not a named one, such as NumPy's for eigenvalues
        is_array = isinstance(out, device.array_type)
        return device.backend.as_array(out.copy() if is_array else out)

    def several(self, out: tuple[Any, ...], device: Device, node: Node | None, first: Any) -> tuple[Tensor, ...]:
        """The tensors of an op with several outputs."""
        results = []
        for k, part in enumerate(out):
            array = part if part.__class__ is device.array_type else device.backend.as_array(part)
            results.append(Tensor._wrap(array, device, None if node is None else Pick(node, k, device)))
        if self.view:
            first._share_version(*results)
        return tuple(results)

    def watched(
        self, now: Mode, arguments: Sequence[Any], arrays: Sequence[Any], result: Any, node: Node | None
    ) -> None:
        """Does with a result what the current mode asks for."""
        results = result if isinstance(result, tuple) else (result,)
        if now.anomaly:
            made = any(has_nan(tensor, tensor.device) for tensor in results)
            if made and not any(has_nan(x, results[0].device) for x in arrays if hasattr(x, "dtype")):
                raise FloatingPointError(f"detect_anomaly: op {self.name!r} made a NaN at {user_line()}")
        if node is not None:
            watch(node)
            for tensor in results:
                if tensor._node is not node:
                    watch(tensor._node)
        if now.tracer is not None:
            now.tracer.see_op(self, arguments, result)

    # -- errors --------------------------------------------------------------------------------------------------------

    def explain(self, error: Exception, inputs: Sequence[Any], device: Device) -> None:
        """Tells of an error that the forward rule raised the op and its inputs: it stays the same object.

        The message of a plain error is all that it holds, and is added to; any other gets a note.

        Raises:
            MemoryError: in place of one, saying what to do.
        """
        if isinstance(error, MemoryError):
            raise device.out_of_memory(self.name, error)
        where = f"(inputs: {_described(inputs)})"
        if type(error) in _PLAIN and len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f"{self.name}: {error.args[0].removeprefix(f'{self.name}: ')} {where}",)
        else:
            error.add_note(f"in op {self.name!r} {where}")


def _built_in(value: Any) -> Any:
    """A number of NumPy, or of a subclass of int such as `x.size` or a member of an enum, as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    return int(value) if isinstance(value, int) and value.__class__ not in NUMBERS else value


def is_number(value: Any) -> bool:
    """Whether a value is a Python number, or one that a traced run has in place of such."""
    return value.__class__ in NUMBERS or isinstance(value, Derived)


_ONE, _SEVERAL = ("Array", "Array | None"), "Sequence[Array]"
_SHOWN = {written: written.replace("Array", "Tensor") for written in (*_ONE, _SEVERAL)}
"""How the inputs' annotations are shown to users of the op."""
_MEANINGS = ((Array, "Array"), (Array | None, "Array | None"), (Sequence[Array], "Sequence[Array]"))


def _as_written(annotation: Any, forward: Callable[..., Any]) -> str:
    """An annotation as the library writes it. Under `from __future__ import annotations` it is a string."""
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(forward, "__globals__", {}))
        except Exception:  # names that are imported for type checkers only, or local ones
            return re.sub(r"\w+\.", "", annotation)
    return next((written for meaning, written in _MEANINGS if annotation == meaning), "")


def _described(inputs: Sequence[Any]) -> str:
    return ", ".join(
        f"{value.dtype} {value.shape} on {value.device}" if isinstance(value, Tensor) else type(value).__name__
        for value in inputs
    )
