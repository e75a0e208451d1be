"""The form of loops over time: they take elements of sequences, change states, and collect one of the states.

A loop of this form has one step for each element, and a counter that does nothing else than count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinygrad_lstm.backends.dtypes import is_float

from ..body import Body, Step
from .control import While
from .lengths import reaches, unmasked
from .outside import Outside

__all__ = ["COUNTER", "LAST", "LIST", "READS", "WRITES", "Form", "form_of"]

READS = {"TensorListGetItem": (0, 1), "TensorArrayReadV3": (2, 1)}
"""Which inputs are the list and the index, of the ops that take an element of a list."""

WRITES = {"TensorListSetItem": (0, 1, 2), "TensorArrayWriteV3": (3, 1, 2)}
"""Which inputs are the list, the index and the element, of the ops that set one."""

MADE_OF = {"TensorListFromTensor": 0, "TensorArrayScatterV3": 2}
"""Which input is the tensor, of the ops that make a list of one."""

LIST, LAST, COUNTER = "list", "last", "counter"
"""What a loop carries beside states: all outputs, the last output, the number of steps."""


@dataclass(frozen=True)
class Form:
    """A loop over time.

    Attributes:
        body: what a step computes.
        sequences: the names of the lists of which it takes elements.
        roles: for each value that it carries, what it is; a state by its number, of which that with the number 0 is
            collected.
        length: the number of steps, if it is a constant.
        lengths: the name of the lengths of the sequences, if they are different; the body does not heed them.
    """

    body: Body
    sequences: tuple[str, ...]
    roles: tuple[str | int, ...]
    length: int | None
    lengths: str = ""


def form_of(loop: While, given: Sequence[str], outside: Outside) -> Form | None:
    """The form of a loop; None if it is not one over time.

    Args:
        given: the names of the first values that it carries.
    """
    if (found := _form_of(loop.body, loop.cond, given, outside, "")) is not None:
        return found
    if (masked := unmasked(loop, outside)) is None:
        return None
    found = _form_of(masked.body, loop.cond, given, outside, masked.lengths)
    if found is None or LAST in found.roles:
        return None
    states = {number for number, role in enumerate(found.roles) if isinstance(role, int)}
    return found if states == masked.kept else None


def _form_of(body: Body, cond: Body, given: Sequence[str], outside: Outside, lengths: str) -> Form | None:
    """The form of a loop with this body and condition, as of `form_of`.

    Args:
        lengths: the name of the lengths of the sequences; "" if all have all steps.
    """
    reads = [step for step in body.steps if step.op in READS]
    writes = [step for step in body.steps if step.op in WRITES]
    if not reads or len(writes) != 1:
        return None
    places = [READS[step.op] for step in reads]
    sequences = tuple(dict.fromkeys(step.inputs[at] for step, (at, _) in zip(reads, places, strict=True)))
    counters = {step.inputs[at] for step, (_, at) in zip(reads, places, strict=True)}
    collected, index, item = (writes[0].inputs[k] for k in WRITES[writes[0].op])
    made = [outside.steps.get(name) for name in sequences]
    sources = [step.inputs[MADE_OF[step.op]] for step in made if step is not None and step.op in MADE_OF]
    reversed_ = [outside.steps[name].inputs[0] for name in sources if _op(outside, name) == "ReverseV2"]
    if len(sources) < len(made) or len(counters) != 1 or collected not in body.inputs:
        return None
    is_last = _is_number(outside, index, 0)
    if not is_last and index not in counters:
        return None
    producers = {name: step for step in body.steps for name in step.outputs}
    roles: list[str | int] = []
    states: list[int] = []
    for number, (name, result) in enumerate(zip(body.inputs, body.outputs, strict=True)):
        if name == collected and result == writes[0].outputs[0]:
            roles.append(LAST if is_last else LIST)
        elif _counts(producers.get(result), name, outside) and _is_number(outside, given[number], 0):
            roles.append(COUNTER)
        else:
            roles.append(-1)
            states.append(number)
    hidden = [number for number in states if body.outputs[number] == item]
    if len(hidden) != 1 or not counters <= _only_counting(body, roles):
        return None
    for place, number in enumerate(sorted(states, key=lambda number: number != hidden[0])):
        roles[number] = place
    limits = list(_limits(cond, roles))
    constants = {outside.arrays[name].item() for name in limits if _is_integer(outside, name)}
    others = [name for name in limits if not _is_integer(outside, name)]
    of_sequences = all(any(_is_length(name, x, outside, lengths) for x in [*sources, *reversed_]) for name in others)
    if not limits or not of_sequences or len(constants) > 1:
        return None
    return Form(body, sequences, tuple(roles), constants.pop() if constants else None, lengths)


def _only_counting(body: Body, roles: Sequence[str | int]) -> set[str]:
    """The counters that steps only increase, or use as an index of lists."""
    counters = {name for name, role in zip(body.inputs, roles, strict=True) if role == COUNTER}
    results = {name for name, role in zip(body.outputs, roles, strict=True) if role == COUNTER}
    for step in body.steps:
        if step.op in READS or step.op in WRITES:
            at = READS[step.op][1] if step.op in READS else WRITES[step.op][1]
            counters -= {name for k, name in enumerate(step.inputs) if k != at}
        elif results.isdisjoint(step.outputs):
            counters -= set(step.inputs)
    return counters


def _op(outside: Outside, name: str) -> str:
    """The op of the step that computes a value."""
    return outside.steps[name].op if name in outside.steps else ""


def _is_integer(outside: Outside, name: str) -> bool:
    array = outside.arrays.get(name)
    return array is not None and array.size == 1 and not is_float(array.dtype)


def _is_number(outside: Outside, name: str, number: int) -> bool:
    return _is_integer(outside, name) and bool(outside.arrays[name].item() == number)


def _counts(step: Step | None, name: str, outside: Outside) -> bool:
    """Whether a step adds 1 to a value."""
    if step is None or step.op not in ("Add", "AddV2") or name not in step.inputs:
        return False
    return any(_is_number(outside, other, 1) for other in step.inputs if other != name)


def _limits(cond: Body, roles: Sequence[str | int]) -> Iterator[str]:
    """The values that counters are less than as long as the loop runs; "" for a different condition."""
    counters = {name for name, role in zip(cond.inputs, roles, strict=True) if role == COUNTER}
    for step in cond.steps:
        if step.op == "Less" and step.inputs[0] in counters:
            yield step.inputs[1]
        elif step.op != "LogicalAnd":
            yield ""


def _is_length(name: str, x: str, outside: Outside, lengths: str) -> bool:
    """Whether a value is the first length of the shape of x, which is at least 1; or less, but not than any length."""
    step = outside.steps.get(name)
    if step is None:
        return False
    if step.op in ("Minimum", "Maximum"):
        of_x = [_is_length(each, x, outside, lengths) for each in step.inputs]
        if step.op == "Minimum":
            others = [lengths and reaches(each, lengths, outside) for each in step.inputs]
        else:
            others = [_is_number(outside, each, 1) for each in step.inputs]
        return any(of_x) and all(own or other for own, other in zip(of_x, others, strict=True))
    if step.op != "StridedSlice":
        return False
    begin = outside.arrays.get(step.inputs[1])
    shape = outside.steps.get(step.inputs[0])
    first = begin is not None and begin.shape == (1,) and begin.item() == 0
    return first and shape is not None and shape.op == "Shape" and shape.inputs[0] == x
