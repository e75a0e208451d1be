"""The places of a loop's values: arrays that are made before the loop, or parts of arrays of all steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .code import IN_PLACE, Scope, is_join, is_view
from .program import Instruction, Value

__all__ = ["Kept", "Loop"]


@dataclass(frozen=True)
class Kept:
    """An array of the values of all steps: its name, and the expression of a step's index in it."""

    array: str
    index: str


class Loop:
    """The instructions of a loop over steps.

    Parts of a join are computed in the joined array, so that nothing is copied. Lines that make the arrays are added to
    the code.

    Args:
        scope: the scope of the lines before the loop.
        instructions: those of a step.
        kept: the arrays of the values that are kept of all steps.
        given: the expressions of arrays, which each step defines, into which some values are to be computed.
    """

    def __init__(
        self, scope: Scope, instructions: Sequence[Instruction], kept: Mapping[Value, Kept], given: Mapping[Value, str]
    ) -> None:
        self._scope, self._code, self._instructions = scope, scope.code, instructions
        self._kept, self._places, self._given = dict(kept), dict(given), given
        self._parts: dict[Value, tuple[Value, slice]] = {}
        self._at_step: dict[Value, str] = {}
        self.read = {value for instruction in instructions for value in instruction.inputs}
        made = {value for instruction in instructions for value in instruction.results}
        for instruction in filter(is_join, instructions):
            for part, where in _slices(instruction):
                if part in made and part not in given and part.instruction.op.name in IN_PLACE:  # type: ignore[union-attr]
                    self._parts.setdefault(part, (instruction.results[0], where))
        self._parts = {
            part: place for part, place in self._parts.items() if part not in self._kept or place[0] in self._kept
        }
        for instruction in instructions:
            if not is_view(instruction):
                for value in instruction.results:
                    self._place(value)

    def array(self, value: Value) -> str:
        """The array of all steps of a value that is kept."""
        return self._kept[value].array

    def place(self, value: Value) -> str:
        """The expression of a value's place at a step."""
        return self._places[value]

    def products_in_place(self, factors: set[Value]) -> dict[Value, Value]:
        """Products that are computed in the place of a factor, which is written there before the loop: by factor.

        Args:
            factors: values that are known before the loop, and that only the loop reads.
        """
        uses = Counter(value for instruction in self._instructions for value in instruction.inputs)
        found: dict[Value, Value] = {}
        for instruction in self._instructions:
            (product, *_) = instruction.results
            if instruction.op.name == "mul" and product in self._kept:
                for factor in instruction.inputs:
                    alike = factor.shape == product.shape and factor.dtype == product.dtype
                    if factor in factors and uses[factor] == 1 and alike:
                        found[factor] = product
                        break
        return found

    def _place(self, value: Value) -> None:
        code, name = self._code, self._code.name(value)
        if value in self._places:
            return
        if value in self._parts:
            whole, where = self._parts[value]
            self._place(whole)
            columns = f"[..., {where.start}:{where.stop}]"
            if whole in self._kept:
                of_whole, of_part = self._kept[whole], code.name(value, "all_{}")
                code.add(f"{of_part} = {of_whole.array}{columns}")
                self._kept[value] = Kept(of_part, of_whole.index)
            elif whole in self._given or whole in self._at_step:
                self._at_step[value] = f"{name} = {self._places[whole]}{columns}"
            else:
                code.add(f"{name} = {self._places[whole]}{columns}")
        elif value not in self._kept:
            code.add(f"{name} = empty({self._scope.shape(value)}, {self._scope.dtype(value)})")
        if value in self._kept:
            kept = self._kept[value]
            self._at_step[value] = f"{name} = {kept.array}[{kept.index}]"
        self._places[value] = name

    def add_step(self, scope: Scope) -> None:
        """Adds the lines of a step."""
        self._code.add(*self._at_step.values())
        for instruction in self._instructions:
            (first, *_) = instruction.results
            if is_join(instruction) and any(
                self._parts.get(part, (None,))[0] is first for part, _ in _slices(instruction)
            ):
                self._fill(scope, instruction)
            elif is_view(instruction):
                scope.compute(instruction)
                for value in filter(self._kept.__contains__, instruction.results):
                    self._code.add(f"{self._kept[value].array}[{self._kept[value].index}] = {scope.text(value)}")
            else:
                scope.compute(instruction, self._places[first])

    def _fill(self, scope: Scope, instruction: Instruction) -> None:
        """Copies the parts of a join that were not computed in their place."""
        (whole,) = instruction.results
        scope.places[whole] = self._places[whole]
        for part, where in _slices(instruction):
            if self._parts.get(part) != (whole, where):
                self._code.add(f"{self._places[whole]}[..., {where.start}:{where.stop}] = {scope.text(part)}")


def _slices(join: Instruction) -> list[tuple[Value, slice]]:
    """The parts of a join, and where they are in the last dimension."""
    start, found = 0, []
    for part in join.arguments[0]:
        end = start + part.shape[-1]
        found.append((part, slice(start, end)))
        start = end
    return found
