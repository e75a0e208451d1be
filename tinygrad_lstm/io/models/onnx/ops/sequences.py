"""Ops of sequences and optional values: a sequence is a tuple of values, a missing value is None.

Reference: https://onnx.ai/onnx/operators/
"""

from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from ...rules import Ints, Value, host_ints, rule, tensors

__all__: list[str] = []


@rule("SequenceConstruct")
def sequence_construct(*inputs: Any) -> Any:
    return (inputs,)


@rule("SequenceEmpty")
def sequence_empty(*, dtype: int = 1) -> Any:
    return ((),)


@rule("SequenceAt")
def sequence_at(sequence: Any, position: Ints) -> Any:
    return (sequence[position[0]],)


@rule("SequenceInsert")
def sequence_insert(sequence: Any, tensor: Any, position: Ints | None = None) -> Any:
    at = len(sequence) if position is None else position[0]
    return ((*sequence[:at], tensor, *sequence[at:]),)


@rule("SequenceErase")
def sequence_erase(sequence: Any, position: Ints | None = None) -> Any:
    at = range(len(sequence))[-1 if position is None else position[0]]
    return ((*sequence[:at], *sequence[at + 1 :]),)


@rule("SequenceLength")
def sequence_length(sequence: Any) -> Value:
    return host_ints(len(sequence))


@rule("ConcatFromSequence")
def concat_from_sequence(sequence: Any, *, axis: int, new_axis: int = 0) -> Value:
    if not any(isinstance(each, Tensor) for each in sequence):
        return np.stack(sequence, axis) if new_axis else np.concatenate(sequence, axis)
    return ops.stack(tensors(*sequence), axis) if new_axis else ops.concat(tensors(*sequence), axis)


@rule("SplitToSequence")
def split_to_sequence(x: Tensor, split: Any = None, *, axis: int = 0, keepdims: int = 1) -> Any:
    if split is None:
        parts = ops.split(x, 1, axis)
        return (tuple(parts if keepdims else (ops.squeeze(part, axis) for part in parts)),)
    sizes = split.tolist()
    return (tuple(ops.split(x, sizes, axis)),)


@rule("Optional")
def optional(x: Any = None, *, type: Any = None) -> Any:
    return (x,)


@rule("OptionalHasElement")
def optional_has_element(x: Any = None) -> Value:
    return np.array(x is not None)


@rule("OptionalGetElement")
def optional_get_element(x: Any) -> Any:
    return (x,)
