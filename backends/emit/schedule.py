"""A schedule: which instructions of a program run once, for many steps at once, or at each step."""

from __future__ import annotations

from dataclasses import dataclass

from .program import Derivative, Instruction, Program, Value

__all__ = ["Backward", "Forward"]


@dataclass(eq=False)
class Forward:
    """The schedule of a program over a sequence.

    Attributes:
        program: the program.
        once: instructions that depend on no row of the batch: they run once.
        ahead: those that depend on inputs of steps, but on no state: they run for many steps at once.
        loop: the others, which run at each step.
        kept: results of `ahead` and `loop` of each step that the derivative reads.
    """

    program: Program
    once: list[Instruction]
    ahead: list[Instruction]
    loop: list[Instruction]
    kept: list[Value]


@dataclass(eq=False)
class Backward:
    """The schedule of a derivative over a sequence, in whose loop the steps are taken in reverse.

    Attributes:
        derivative: the derivative.
        once: instructions that depend on no row of the batch.
        ahead: those that depend on no cotangent of a state: they run for many steps at once.
        loop: those that the gradients of the states before a step need, which run at each step.
        after: those that run for many steps at once, when the loop has taken these.
        sums: those that run for many steps at once and whose results are sums over the rows of all.
        kept: cotangents and results of `loop` of each step that `after` and `sums` read.
        totals: gradients of operands without a batch that are computed at each step and added up.
    """

    derivative: Derivative
    once: list[Instruction]
    ahead: list[Instruction]
    loop: list[Instruction]
    after: list[Instruction]
    sums: list[Instruction]
    kept: list[Value]
    totals: list[Value]
