"""Where the time steps, the batch and the other dimensions of a value are.

A frame of a value is what belongs to one time step. While a model streams, frames have the shape (B, *rest), and
several of them (T, B, *rest): `rest` are the value's other dimensions in order, without those of length 1. So moving
the time or the batch dimension, merging it with another, or adding dimensions of length 1 changes only the layout.
A batch that is always 1 is in no layout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .._tensor import Tensor
from ..ops.shape import permute, reshape

__all__ = ["BATCH", "TIME", "Factor", "Layout", "Pair"]

TIME, BATCH = "time", "batch"

Factor = str | int
"""A part of a dimension: `TIME`, `BATCH`, or the length of a dimension of the frames."""

Pair = tuple[int, int]
"""A length in both runs of the recorded model."""


@dataclass(frozen=True)
class Layout:
    """For each dimension of a value, the factors of its length, the outermost first; () for a length of 1."""

    dims: tuple[tuple[Factor, ...], ...]

    @property
    def rest(self) -> tuple[int, ...]:
        """The lengths of the other dimensions of a frame."""
        return tuple(factor for dim in self.dims for factor in dim if isinstance(factor, int))

    def find(self, factor: Factor) -> int | None:
        """The dimension that has this factor."""
        return next((k for k, dim in enumerate(self.dims) if factor in dim), None)

    @property
    def time(self) -> int:
        """The dimension that has the time."""
        return next(k for k, dim in enumerate(self.dims) if TIME in dim)

    @property
    def has_time(self) -> bool:
        """Whether a dimension has the time."""
        return self.find(TIME) is not None

    @property
    def has_batch(self) -> bool:
        """Whether a dimension has the batch. If not, the rows of a frame are equal, unless some begin anew earlier."""
        return self.find(BATCH) is not None

    @property
    def by_row(self) -> Layout:
        """With the batch in the first dimension, if no dimension has it and the first has at most the time."""
        taken = self.has_batch or any(isinstance(factor, int) for factor in self.dims[0])
        return self if taken else self.with_dim(0, (*self.dims[0], BATCH))

    def place(self, dim: int) -> int | None:
        """The position among the frame's other dimensions of a dimension that is one of them; None for others."""
        if len(self.dims[dim]) != 1 or not isinstance(self.dims[dim][0], int):
            return None
        return sum(isinstance(factor, int) for before in self.dims[:dim] for factor in before)

    def with_dim(self, dim: int, factors: tuple[Factor, ...]) -> Layout:
        """With different factors in a dimension."""
        return Layout((*self.dims[:dim], factors, *self.dims[dim + 1 :]))

    def without(self, *dims: int) -> Layout:
        """Without some dimensions."""
        return Layout(tuple(factors for k, factors in enumerate(self.dims) if k not in dims))

    def permuted(self, order: Sequence[int]) -> tuple[Layout, tuple[int, ...]]:
        """With the dimensions in a different order, and the order of the frame's other dimensions."""
        numbered, number = [], 0
        for dim in self.dims:
            own = [factor for factor in dim if isinstance(factor, int)]
            numbered.append(range(number, number + len(own)))
            number += len(own)
        return Layout(tuple(self.dims[k] for k in order)), tuple(k for dim in order for k in numbered[dim])

    def native(self, frames: Tensor) -> Tensor:
        """Frames (T, B, *rest) as the model has them. T or B must be 1 if there is no such dimension."""
        order = self._order
        missing = [k for k in (0, 1) if k not in order]
        sizes = self._sizes(frames.shape[0], frames.shape[1])
        return reshape(permute(frames, [*missing, *order]), [math.prod(own) for own in sizes])

    def frames(self, x: Tensor, batch: int) -> Tensor:
        """Frames (T, B, *rest), from what the model has."""
        steps = x.shape[self.time] // math.prod(self._sizes(1, batch)[self.time]) if self.has_time else 1
        order = self._order
        flat = reshape(x, [size for own in self._sizes(steps, batch) for size in own])
        moved = permute(flat, sorted(range(len(order)), key=lambda k: order[k]))
        return reshape(moved, [steps, batch if 1 in order else 1, *self.rest])

    def _sizes(self, steps: int, batch: int) -> list[list[int]]:
        known = {TIME: steps, BATCH: batch}
        return [[known[each] if isinstance(each, str) else each for each in dim] for dim in self.dims]

    @property
    def _order(self) -> list[int]:
        """For each factor in order, its position among T, B, *rest."""
        order, number = [], 2
        for factor in (factor for dim in self.dims for factor in dim):
            order.append(0 if factor == TIME else 1 if factor == BATCH else number)
            number += isinstance(factor, int)
        return order

    def through_time(self) -> Layout:
        """With the time as a further dimension, the first."""
        return Layout(((TIME,), *self.dims))

    def reshaped(self, shape: Sequence[Pair], known: dict[str, Pair]) -> Layout | None:
        """With the elements in the same order, in dimensions of these lengths; None if that mixes steps or rows.

        Args:
            shape: the new lengths.
            known: the lengths of `TIME` and `BATCH`.
        """
        left: list[Factor] = [factor for dim in self.dims for factor in dim]
        dims: list[tuple[Factor, ...]] = []
        for wanted in shape:
            dim: list[Factor] = []
            have = (1, 1)
            while have != wanted:
                if not left:
                    return None
                factor = left.pop(0)
                pair = known[factor] if isinstance(factor, str) else (factor, factor)
                more = (have[0] * pair[0], have[1] * pair[1])
                if wanted[0] % more[0] == wanted[1] % more[1] == 0:
                    dim.append(factor)
                    have = more
                    continue
                part = math.gcd(wanted[0] // have[0], wanted[1] // have[1])
                if (
                    not isinstance(factor, int)
                    or part < 2
                    or factor % part
                    or wanted != (have[0] * part, have[1] * part)
                ):
                    return None
                dim.append(part)
                left.insert(0, factor // part)
                have = wanted
            dims.append(_merged(dim))
        return None if left else Layout(tuple(dims))


def _merged(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """Factors of one dimension, with adjacent lengths multiplied."""
    merged: list[Factor] = []
    for factor in factors:
        last = merged[-1] if merged else None
        if isinstance(factor, int) and isinstance(last, int):
            merged[-1] = last * factor
        else:
            merged.append(factor)
    return tuple(merged)
