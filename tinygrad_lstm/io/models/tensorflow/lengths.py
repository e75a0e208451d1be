"""Loops over sequences of different lengths, as `tf.nn.dynamic_rnn(..., sequence_length=lengths)` makes them.

After its length a sequence keeps its states, and its outputs are zeros: a Select takes one or the other by whether the
step is at least the length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..body import Body, Step
from .control import While
from .outside import Outside

__all__ = ["Unmasked", "reaches", "unmasked"]


@dataclass(frozen=True)
class Unmasked:
    """The step of a loop, as if all sequences had all steps.

    Attributes:
        lengths: the name of the sequences' lengths.
        kept: the numbers of the values that sequences keep after their length, of those that the loop carries.
    """

    body: Body
    lengths: str
    kept: frozenset[int]


def unmasked(loop: While, outside: Outside) -> Unmasked | None:
    """The step of a loop over sequences of different lengths; None if the loop is not one."""
    body = loop.body
    ends = [step for step in body.steps if step.op == "GreaterEqual" and step.inputs[0] in body.inputs]
    lengths = {step.inputs[1] for step in ends}
    if len(lengths) != 1 or not lengths <= {*loop.captured}:
        return None
    ended = {step.outputs[0] for step in ends}
    selects = {step.outputs[0]: step for step in body.steps if step.op == "Select" and step.inputs[0] in ended}
    users = [step for step in body.steps if not ended.isdisjoint(step.inputs)]
    if len(users) > len(selects) or any(not ended.isdisjoint(step.inputs[1:]) for step in users):
        return None
    kept = {
        number
        for number, (before, after) in enumerate(zip(body.inputs, body.outputs, strict=True))
        if after in selects and selects[after].inputs[1] == before
    }
    others = selects.keys() - {body.outputs[number] for number in kept}
    if not kept or not all(_is_zeros(selects[name].inputs[1], outside) for name in others):
        return None
    renamed = {name: step.inputs[2] for name, step in selects.items()}
    dropped = ended | selects.keys()
    steps = [_with_inputs(step, renamed) for step in body.steps if dropped.isdisjoint(step.outputs)]
    plain = Body(body.inputs, tuple(steps), tuple(renamed.get(name, name) for name in body.outputs))
    return Unmasked(plain, lengths.pop(), frozenset(kept))


def _with_inputs(step: Step, renamed: Mapping[str, str]) -> Step:
    return replace(step, inputs=tuple(renamed.get(name, name) for name in step.inputs))


def _is_zeros(name: str, outside: Outside) -> bool:
    """Whether all elements of a value are 0."""
    step = outside.steps.get(name)
    if step is not None:
        return step.op == "ZerosLike" or (step.op == "Fill" and _is_zeros(step.inputs[1], outside))
    return name in outside.arrays and not outside.arrays[name].any()


def reaches(name: str, lengths: str, outside: Outside) -> bool:
    """Whether a number of steps is at least the longest length."""
    step = outside.steps.get(name)
    if step is None:
        return False
    if step.op == "Max":
        return step.inputs[0] == lengths
    return step.op == "Maximum" and any(reaches(each, lengths, outside) for each in step.inputs)
