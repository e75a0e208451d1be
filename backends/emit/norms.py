"""Normalizations and the inverse deviations by which they multiply, which one function of a backend computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..base import Array
from .program import Group, Instruction
from .schedule import Forward

__all__ = ["with_norms_joined"]


def with_norms_joined(schedule: Forward) -> Forward:
    """The schedule, in which one instruction computes rows that are normalized, and their inverse deviations."""
    return replace(schedule, ahead=_joined(schedule.ahead), loop=_joined(schedule.loop))


def _joined(instructions: Sequence[Instruction]) -> list[Instruction]:
    deviations = {each.arguments: each for each in instructions if each.op.name == "inverse_deviation"}
    made: list[Instruction] = []
    joined: set[Instruction] = set()
    for instruction in instructions:
        if not _is_of_last_dims(instruction):
            made.append(instruction)
            continue
        results, found = instruction.results, deviations.get(instruction.arguments)
        if found is not None:
            joined.add(found)
            results += found.results
        x, dims, eps = instruction.arguments
        size = math.prod(x.shape[d] for d in dims)
        made.append(Instruction(Group("standardized", partial(_prepared, size, eps), ()), (x,), results))
    return [instruction for instruction in made if instruction not in joined]


def _prepared(size: int, eps: float, backend: Any, _: int) -> Callable[[Sequence[Array], Sequence[Array]], None]:
    """The launch that normalizes rows of this size."""

    def launch(inputs: Sequence[Array], results: Sequence[Array]) -> None:
        normalized, *deviations = results
        out, (_, found) = backend.layer_norm_forward((inputs[0].reshape(-1, size), None, None), eps)
        normalized[...] = out.reshape(normalized.shape)
        for each in deviations:
            each[...] = found.reshape(each.shape)

    return launch


def _is_of_last_dims(instruction: Instruction) -> bool:
    """Whether it normalizes over the last dimensions of rows."""
    if instruction.op.name != "normalized":
        return False
    x, dims, _ = instruction.arguments
    return bool(dims) and [*dims] == [*range(len(x.shape) - len(dims), len(x.shape))] and 0 not in dims
