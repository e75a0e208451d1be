"""The places of a loop's values: arrays that are made before the loop, or parts of arrays of all steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .code import IN_PLACE, UFUNCS, Code, Scope, is_join, is_view
from .packs import Pack, Stack, is_even_split
from .program import Group, Instruction, Value, inputs_of

__all__ = ["Kept", "Loop", "joined_in", "stack_name", "unpacked"]


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
        packs: instructions that are computed together.
        outputs: values that are read after a step.
    """

    def __init__(
        self,
        scope: Scope,
        instructions: Sequence[Instruction],
        kept: Mapping[Value, Kept],
        given: Mapping[Value, str],
        packs: Sequence[Pack] = (),
        outputs: Collection[Value] = (),
    ) -> None:
        self._scope, self._code, self._instructions = scope, scope.code, instructions
        self._kept, self._places, self._given = dict(kept), dict(given), given
        self._parts = self._parts_of_joins()
        self._at_step: dict[Value, str] = {}
        self.read = set(inputs_of(instructions))
        self._uses = Counter([*inputs_of(instructions), *outputs])
        self._packs = {instruction: pack for pack in packs for instruction in pack.instructions}
        self.stacked = {stack.values[0] for pack in packs for stack, _ in pack.arguments}
        apart = inputs_of(each for each in instructions if each not in self._packs)
        self._apart = {*apart, *outputs, *kept}
        for pack in packs:
            self._place_stack(pack)
        groups = [each for each in instructions if isinstance(each.op, Group)]
        self._sums = {each.op.addend: each.results[0] for each in groups}  # type: ignore[attr-defined]
        for instruction in instructions:
            if not is_view(instruction):
                for value in instruction.results:
                    self._place(value)
        fixed = {value: place for value, place in self._places.items() if self._is_fixed(value)}
        self._before = Scope(scope.code, "B", fixed)
        self._views = {each for each in instructions if self._is_fixed_view(each)}
        self._parts_before: set[tuple[Value, ...]] = set()
        for pack in packs:
            self._take_parts(pack)
            self._place_factors(pack)
        self._launches: dict[Instruction, str] = {}
        for instruction in groups:
            launch = self._code.name(instruction.results[0], f"launch_{instruction.op.name}")
            self._code.add(f"{launch} = {self._before.prepared(instruction)}")
            self._launches[instruction] = launch

    def _parts_of_joins(self) -> dict[Value, tuple[Value, slice]]:
        """The values that are computed in a part of a join, with the join and the place of the part."""
        made = {value: instruction.op.name for instruction in self._instructions for value in instruction.results}
        found: dict[Value, tuple[Value, slice]] = {}
        for join in filter(is_join, self._instructions):
            for part, where in _slices(join):
                if part not in self._given and made.get(part) in IN_PLACE:
                    found.setdefault(part, (join.results[0], where))
        return {part: at for part, at in found.items() if part not in self._kept or at[0] in self._kept}

    def array(self, value: Value) -> str:
        """The array of all steps of a value that is kept."""
        return self._kept[value].array

    def _is_fixed(self, value: Value) -> bool:
        """Whether a value is in the same place at each step."""
        if value in self._parts:
            return self._is_fixed(self._parts[value][0])
        return value not in self._kept and value not in self._given

    def _is_fixed_view(self, instruction: Instruction) -> bool:
        """Whether the results are the same views at each step. If so, they are taken before the loop."""
        fixed = is_view(instruction) and all(value in self._before.places for value in instruction.inputs)
        if not fixed or (instruction.op.name == "reshape" and self._may_be_copied(instruction.inputs[0])):
            return False
        self._take_view(self._before, instruction)
        return True

    def _may_be_copied(self, value: Value) -> bool:
        """Whether a reshape of a value may be a copy: the value is a part of an array, or in a different order."""
        return value in self._parts or (value.instruction is not None and is_view(value.instruction))

    def _take_view(self, scope: Scope, instruction: Instruction) -> None:
        """Adds the lines of a view; those of a split that packs read are a stack."""
        values, code = instruction.results, self._code
        if not (is_even_split(instruction) and values[0] in self.stacked):
            scope.compute(instruction)
            return
        (B, *_), n = values[0].shape, values[0].lengths[0]
        shape = scope.text((B, len(values), n))
        stack = f"{scope.text(instruction.inputs[0])}.reshape({shape}).transpose((1, 0, 2))"
        code.add(f"{stack_name(code, values)} = {stack}")
        self.unpack(scope, values)

    def stack_steps(self, rows: Scope, split: Instruction) -> None:
        """Adds a line that stacks the parts of a split of many steps' rows, step by step."""
        values, (x, *_) = split.results, split.inputs
        shape = f"(n, B, {len(values)}, {values[0].lengths[0]})"
        stack = f"{rows.text(x)}.reshape({shape}).transpose((0, 2, 1, 3))"
        self._code.add(f"{stack_name(self._code, values, 'steps_{}')} = {stack}")

    def take_stack(self, step: Scope, split: Instruction) -> None:
        """Adds the lines that take the parts of a step from such a stack."""
        values, code = split.results, self._code
        code.add(f"{stack_name(code, values)} = {stack_name(code, values, 'steps_{}')}[s]")
        self.unpack(step, values)

    def unpack(self, scope: Scope, values: Sequence[Value]) -> None:
        """Adds a line that names those values of a stack that are read separately."""
        self._code.add(*unpacked(self._code, values, only=self._apart))
        scope.places.update((value, self._code.name(value)) for value in values if value in self._apart)

    def _place_stack(self, pack: Pack) -> None:
        """Makes the array of a pack's results."""
        code, values = self._code, pack.stack.values
        (first, second, *_), name = values, stack_name(code, values)
        self._places.update((value, code.name(value)) for value in values)
        if first in self._kept:
            self._at_step[first] = f"{name} = {stack_name(code, values, 'all_{}')}[:, {self._kept[first].index}]"
            (self._at_step[second],) = unpacked(code, values)
        else:
            code.add(f"{name} = empty({self._scope.shape(first, str(len(values)))}, {self._scope.dtype(first)})")
            self.unpack(self._scope, values)

    def _room_of(self, pack: Pack) -> tuple[str, str]:
        """Where a pack of sigmoids computes: an array that is contiguous, if there is one, and its view as a stack."""
        ((stack, _),), out = pack.arguments, stack_name(self._code, pack.stack.values)
        first = stack.values[0]
        dead = self._apart.isdisjoint(stack.values) and all(self._uses[value] == 1 for value in stack.values)
        if not dead or len(stack.values) != len(pack.instructions) or first.dtype != pack.stack.values[0].dtype:
            return out, out
        name = stack_name(self._code, stack.values)
        if first.instruction in self._packs:
            return name, name
        split = first.instruction
        if split not in self._views or split.inputs[0] not in self._places or self._uses[split.inputs[0]] > 1:
            return out, out
        return self._places[split.inputs[0]], name

    def _place_factors(self, pack: Pack) -> None:
        """Makes the arrays with which a pack of sigmoids and tanhs is multiplied and added to."""
        kinds, (first, *_) = [each.op.name for each in pack.instructions], pack.stack.values
        if len(set(kinds)) == 1:
            return
        code, dtype, n = self._code, self._scope.dtype(first), first.lengths[0]
        array, stack = self._room_of(pack)
        scale, shift = code.name(first, "scale_{}"), code.name(first, "shift_{}")
        tanhs = [k for k, kind in enumerate(kinds) if kind == "tanh"]
        shape = f"(B, {len(kinds) * n})" if array != stack else self._scope.shape(first, str(len(kinds)))
        code.add(f"{scale} = xp.full({shape}, 0.5, {dtype})", f"{shift} = xp.full(({len(kinds)}, 1, 1), 0.5, {dtype})")
        for k in tanhs:
            code.add(f"{scale}[{k if array == stack else f':, {k * n}:{(k + 1) * n}'}] = 1", f"{shift}[{k}] = 0")

    def _take_parts(self, pack: Pack) -> None:
        """Takes parts of stacks before the loop, where they are the same at each step."""
        for stack, k in pack.arguments:
            values, instruction = stack.values[k : k + len(pack.instructions)], stack.values[0].instruction
            fixed = instruction in self._views or (instruction in self._packs and stack.values[0] not in self._kept)
            if fixed and len(values) < len(stack.values) and values not in self._parts_before:
                self._code.add(f"{stack_name(self._code, values)} = {self._part(stack, k, len(values))}")
                self._parts_before.add(values)

    def _part(self, stack: Stack, k: int, number: int) -> str:
        """The expression of some neighbouring values of a stack, given the index of the first."""
        name, values = stack_name(self._code, stack.values), stack.values[k : k + number]
        if len(values) == len(stack.values):
            return name
        return stack_name(self._code, values) if values in self._parts_before else f"{name}[{k}:{k + number}]"

    def _compute_pack(self, pack: Pack) -> None:
        """Adds the lines of a pack."""
        code, values, number = self._code, pack.stack.values, len(pack.instructions)
        out, kinds = stack_name(code, values), {instruction.op.name for instruction in pack.instructions}
        arguments = [self._part(stack, k, number) for stack, k in pack.arguments]
        if "sigmoid" not in kinds:
            code.add(f"xp.{UFUNCS[min(kinds)]}({', '.join(arguments)}, out={out})")
            return
        array, stacked = self._room_of(pack)
        scale, shift = (code.name(values[0], f"{name}_{{}}") for name in ("scale", "shift"))
        if "tanh" not in kinds:
            scale = shift = "0.5"
        code.add(
            "# sigmoid(x) = (1 + tanh(x / 2)) / 2",
            f"xp.multiply({arguments[0] if stacked == out else array}, {scale}, out={array})",
            f"xp.tanh({array}, out={array})",
            f"xp.multiply({array}, {scale}, out={array})",
            f"xp.add({stacked}, {shift}, out={out})",
        )

    def place(self, value: Value) -> str:
        """The expression of a value's place at a step."""
        return self._places[value]

    def products_in_place(self, factors: set[Value]) -> dict[Value, Value]:
        """Products that are computed in the place of a factor, which is written there before the loop: by factor.

        Args:
            factors: values that are known before the loop, and that only the loop reads.
        """
        found: dict[Value, Value] = {}
        for instruction in self._instructions:
            (product, *_) = instruction.results
            if instruction.op.name == "mul" and product in self._kept:
                for factor in instruction.inputs:
                    alike = factor.shape == product.shape and factor.dtype == product.dtype
                    if factor in factors and self._uses[factor] == 1 and alike:
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
        elif value in self._sums and self._sums[value] not in self._given:
            self._place(self._sums[value])  # whose launch adds to it in place
            name = self._places[self._sums[value]]
        elif value not in self._kept:
            code.add(f"{name} = empty({self._scope.shape(value)}, {self._scope.dtype(value)})")
        if value in self._kept:
            kept = self._kept[value]
            # With "...", what is kept of a 0-d value is an array too, which can be written to.
            index = kept.index if value.shape else f"{kept.index}, ..."
            self._at_step[value] = f"{name} = {kept.array}[{index}]"
        self._places[value] = name

    def add_step(self, scope: Scope) -> None:
        """Adds the lines of a step."""
        self._code.add(*self._at_step.values())
        scope.places.update(self._before.places)
        computed: set[Pack] = set()
        for instruction in self._instructions:
            (first, *_) = instruction.results
            if instruction in self._packs:
                pack = self._packs[instruction]
                if pack not in computed:
                    self._compute_pack(pack)
                    scope.places.update((value, self._places[value]) for value in pack.stack.values)
                    computed.add(pack)
            elif is_join(instruction):
                self._fill(scope, instruction)
            elif is_view(instruction):
                if instruction not in self._views:
                    self._take_view(scope, instruction)
                for value in filter(self._kept.__contains__, instruction.results):
                    self._code.add(f"{self._kept[value].array}[{self._kept[value].index}] = {scope.text(value)}")
            elif isinstance(instruction.op, Group):
                scope.launch(instruction, self._places, self._launches[instruction])
            else:
                scope.compute(instruction, self._places[first])
                for value in instruction.results[1:]:
                    self._code.add(f"{self._places[value]}[...] = {scope.text(value)}")
                    scope.places[value] = self._places[value]

    def _fill(self, scope: Scope, instruction: Instruction) -> None:
        """Copies the parts of a join that were not computed in their place."""
        (whole,) = instruction.results
        scope.places[whole] = self._places[whole]
        for part, where in _slices(instruction):
            if self._parts.get(part) != (whole, where):
                self._code.add(f"{self._places[whole]}[..., {where.start}:{where.stop}] = {scope.text(part)}")


def stack_name(code: Code, values: Sequence[Value], form: str = "{}") -> str:
    """The name of the array of neighbouring values."""
    return code.name(values[0], form + f"_to_{values[-1].name}")


def unpacked(code: Code, values: Sequence[Value], form: str = "{}", only: Collection[Value] | None = None) -> list[str]:
    """The line that names values of such an array: all or some; none, if there are none."""
    array = stack_name(code, values, form)
    named = [k for k, value in enumerate(values) if only is None or value in only]
    names = ", ".join(code.name(values[k], form) for k in named)
    return [f"{names} = {', '.join(f'{array}[{k}]' for k in named)}"] if named else []


def joined_in(instructions: Sequence[Instruction]) -> set[Value]:
    """The parts of joins."""
    return {part for instruction in filter(is_join, instructions) for part, _ in _slices(instruction)}


def _slices(join: Instruction) -> list[tuple[Value, slice]]:
    """The parts of a join, and where they are in the last dimension."""
    start, found = 0, []
    for part in join.arguments[0]:
        end = start + part.shape[-1]
        found.append((part, slice(start, end)))
        start = end
    return found
