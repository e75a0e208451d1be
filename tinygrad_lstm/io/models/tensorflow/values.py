"""The values of a graph while its module is built, and its steps afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..body import Step, plain_array
from ..rules import MOST_ON_HOST, RuleCall, is_small

__all__ = ["Term", "folded", "named"]

FOLDED = frozenset(
    {
        *("Add", "AddV2", "Sub", "Mul", "FloorDiv", "FloorMod", "Maximum", "Minimum", "Max", "Min", "Sum", "Prod"),
        *(
            "Pack",
            "Unpack",
            "ConcatV2",
            "StridedSlice",
            "Slice",
            "GatherV2",
            "Cast",
            "Reshape",
            "ExpandDims",
            "Squeeze",
        ),
        *("Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual", "LogicalAnd", "LogicalNot", "Neg"),
        *("Range", "Rank", "Shape", "Size"),
    }
)
"""Ops that are computed when the model is built, if all their inputs are small constants."""


@dataclass(eq=False)
class Term:
    """A value: one that a step computes, an input, a constant, or a variable.

    Attributes:
        name: its name in the body.
        stored: its array, if it is a constant or variable.
        trainable: whether it is a parameter.
        wanted: the name of its attribute, if it has one.
    """

    name: str
    stored: HostArray | None = None
    trainable: bool = False
    wanted: str = ""


def folded(op: str, call: RuleCall, given: Sequence[Term]) -> list[HostArray]:
    """What an op computes of small constants; nothing if it is not such an op, or an input is not a constant."""
    if op not in FOLDED:
        return []
    arrays = [term.stored for term in given if term.stored is not None and not term.trainable and is_small(term.stored)]
    if len(arrays) < len(given):
        return []
    try:
        if op == "Range" and len(range(*[each.item() for each in arrays])) > MOST_ON_HOST:
            return []
        result = call(*arrays)
    except (ArithmeticError, IndexError, TypeError, ValueError):  # an error when it runs, if it does
        return []
    results = list(result) if isinstance(result, tuple) else [result]
    if not all(isinstance(each, np.ndarray) and is_small(each) for each in results):
        return []
    return [plain_array(each) for each in results]


# -- steps -------------------------------------------------------------------------------------------------------------


def named(steps: Sequence[Step], names: Mapping[str, str]) -> Iterator[Step]:
    """Steps whose results have the names of the outputs.

    Args:
        names: the names of the values, by the names of outputs.
    """
    made = {name for step in steps for name in step.outputs}
    renamed = {name: output for output, name in names.items() if name in made}
    for step in steps:
        yield replace(
            step,
            inputs=tuple(renamed.get(name, name) for name in step.inputs),
            outputs=tuple(renamed.get(name, name) for name in step.outputs),
        )
    for output, name in names.items():
        if renamed.get(name) != output:
            yield Step("Identity", same, (renamed.get(name, name),), (output,))


def same(value: Any) -> Any:
    """The value."""
    return value
