"""Groups of elementwise instructions between products, each of which a device computes by one kernel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from .code import is_view
from .program import Group, Instruction, Value, inputs_of, needed, results_of
from .schedule import Backward, Forward

__all__ = ["Grouping", "is_free"]


class Grouping:
    """Puts instructions of schedules into groups.

    Args:
        is_unit: whether a kernel can compute an instruction.
        make: the op of a group of instructions, given its stem of a name, its inputs and results; None if there is no
            kernel for it.
    """

    def __init__(
        self,
        is_unit: Callable[[Instruction], bool],
        make: Callable[[str, Sequence[Value], Sequence[Value]], Group | None],
    ) -> None:
        self._is_unit, self._make = is_unit, make
        self._refused: set[Instruction] = set()

    # -- schedules -----------------------------------------------------------------------------------------------------

    def forward(self, schedule: Forward) -> Forward:
        """The schedule with groups."""
        outputs = {*schedule.program.outputs}
        ahead, moved = self._parted(schedule.ahead, outputs, schedule.loop)
        loop = self._grouped("forward_step", [*moved, *schedule.loop], {*outputs, *schedule.kept}, ahead)
        ahead = self._grouped("forward_ahead", ahead, {*outputs, *schedule.kept, *inputs_of(loop)})
        return replace(schedule, ahead=ahead, loop=loop)

    def backward(self, schedule: Backward) -> Backward:
        """The schedule with groups."""
        schedule = self._joined_in_loop(schedule)
        program, gradients = schedule.derivative.program, schedule.derivative.gradients
        begin, end = len(program.inputs), len(program.inputs) + len(program.states)
        of_inputs, of_states = _values(gradients[:begin]), _values(gradients[begin:end])
        of_sums = [*inputs_of(schedule.sums), *_values(gradients[end:])]
        ahead, moved = self._parted(schedule.ahead, set(_values(gradients)), schedule.loop)
        wanted = [*schedule.kept, *schedule.totals, *of_states]
        loop = self._grouped("backward_step", needed([*moved, *schedule.loop], wanted), wanted, ahead)
        after: list[Instruction] = []
        parts = self._by_use([*moved, *schedule.after], [[g] for g in of_inputs] + [of_sums], schedule.kept)
        for part in parts:
            others = [instruction for other in parts if other is not part for instruction in other]
            after += self._grouped("backward_after", part, {*of_inputs, *of_sums, *inputs_of(others)}, ahead)
        ahead = self._grouped(
            "backward_ahead", ahead, {*_values(gradients), *inputs_of([*loop, *after, *schedule.sums])}
        )
        return replace(schedule, ahead=ahead, loop=loop, after=after)

    def _joined_in_loop(self, schedule: Backward) -> Backward:
        """The schedule, with instructions that follow the loop inside it if then no more is kept of each step."""
        after, kept, moved = list(schedule.after), list(schedule.kept), []
        made = set(results_of(schedule.loop))
        for instruction in schedule.after:
            others = [each for each in (*after, *schedule.sums) if each is not instruction]
            read = {*inputs_of(others), *_values(schedule.derivative.gradients)}
            only_here = [value for value in dict.fromkeys(instruction.inputs) if value in kept and value not in read]
            size = sum(value.row_size for value in instruction.results)
            if (
                self._is_unit(instruction)
                and not is_free(instruction)
                and made.issuperset(instruction.inputs)
                and size <= sum(value.row_size for value in only_here)
            ):
                after.remove(instruction)
                moved.append(instruction)
                made.update(instruction.results)
                kept = [value for value in kept if value not in only_here] + list(instruction.results)
        return replace(schedule, loop=[*schedule.loop, *moved], after=after, kept=kept)

    def _parted(
        self, ahead: Sequence[Instruction], outputs: set[Value], loop: Sequence[Instruction]
    ) -> tuple[list[Instruction], list[Instruction]]:
        """Instructions for many steps at once, and those of which only kernels read the results, which apply them."""
        stay: list[Instruction] = []
        needed_ahead = {*outputs, *inputs_of(each for each in loop if not self._is_unit(each))}
        for instruction in reversed(ahead):
            if not self._is_unit(instruction) or not needed_ahead.isdisjoint(instruction.results):
                stay.append(instruction)
                needed_ahead.update(instruction.inputs)
        return stay[::-1], [instruction for instruction in ahead if instruction not in set(stay)]

    def _by_use(
        self, instructions: Sequence[Instruction], targets: Sequence[Sequence[Value]], given: Iterable[Value]
    ) -> list[list[Instruction]]:
        """Instructions in parts: those of one part are needed for the same targets."""
        sets = [set(needed(instructions, values, given)) for values in targets]
        parts: dict[tuple[bool, ...], list[Instruction]] = {}
        for instruction in instructions:
            use = tuple(instruction in each for each in sets)
            if any(use):
                parts.setdefault(use, []).append(instruction)
        return [parts[use] for use in sorted(parts, key=sum, reverse=True)]

    # -- groups --------------------------------------------------------------------------------------------------------

    def _grouped(
        self,
        name: str,
        instructions: Sequence[Instruction],
        wanted: Collection[Value],
        before: Sequence[Instruction] = (),
    ) -> list[Instruction]:
        """The instructions, of which those that kernels can compute are put into as few groups as possible.

        Of views that are made `before`, groups read the inputs, which are contiguous.
        """

        def is_unit(instruction: Instruction) -> bool:
            return instruction not in self._refused and self._is_unit(instruction)

        while True:
            stages = _Stages(instructions, is_unit, set(wanted), before)
            made = [self._made(name, *stages.ends(members)) for members in stages.groups.values()]
            refused = [members for members, group in zip(stages.groups.values(), made) if group is None]
            if not refused:
                return stages.in_order(dict(zip(stages.groups, made)))  # type: ignore[arg-type]
            self._refused.update(instruction for members in refused for instruction in members)

    def _made(self, name: str, inputs: Sequence[Value], results: Sequence[Value]) -> Instruction | None:
        group = self._make(name, inputs, results)
        return None if group is None else Instruction(group, tuple(inputs), tuple(results))


class _Stages:
    """The stages of a list of instructions: in each, first what is not a unit, then one group of units.

    A unit is computed in the last stage in which it can be, with the results that need it.

    Attributes:
        groups: the units of each stage.
    """

    def __init__(
        self,
        instructions: Sequence[Instruction],
        is_unit: Callable[[Instruction], bool],
        wanted: set[Value],
        before: Sequence[Instruction],
    ) -> None:
        self._instructions, self._wanted = instructions, wanted
        views = [each for each in before if is_free(each) and is_unit(each)]
        self._made_by = {value: instruction for instruction in (*views, *instructions) for value in instruction.results}
        self._units = set(filter(is_unit, instructions))
        self._moves = {*views, *filter(is_free, self._units)}
        self._stage = dict.fromkeys(views, 0)
        for instruction in instructions:
            unit = instruction in self._units
            self._stage[instruction] = max(
                (self._known(value) if unit else self._ready(value) for value in instruction.inputs), default=0
            )
        computed = [each for each in instructions if each in self._units - self._moves]
        last = max((self._stage[each] for each in computed), default=0)
        limits: dict[Instruction, int] = {}
        for instruction in reversed(instructions):
            if instruction in self._moves:
                continue
            if instruction in self._units:
                self._stage[instruction] = limits.get(instruction, last)
            limit = self._stage[instruction] - (instruction not in self._units)
            for source in self._sources(instruction.inputs):
                maker = self._made_by.get(source)
                if maker in self._units:
                    limits[maker] = min(limits.get(maker, last), limit)
        self.groups: dict[int, list[Instruction]] = {}
        for instruction in sorted(computed, key=self._stage.__getitem__):
            self.groups.setdefault(self._stage[instruction], []).append(instruction)

    def _known(self, value: Value) -> int:
        """The stage in which a group can read a value."""
        return self._stage[self._made_by[value]] if value in self._made_by else 0

    def _ready(self, value: Value) -> int:
        """The first stage at whose beginning an array with the value is there."""
        maker = self._made_by.get(value)
        if maker is None:
            return 0
        if maker in self._moves:
            return max(map(self._ready, maker.inputs), default=0)
        return self._stage[maker] + (maker in self._units)

    def _sources(self, values: Iterable[Value]) -> list[Value]:
        """The values of which others are moved parts."""
        found: dict[Value, None] = {}
        for value in values:
            maker = self._made_by.get(value)
            if maker in self._moves:
                found.update(dict.fromkeys(self._sources(maker.inputs)))
            elif not isinstance(value.constant, bool | int | float):
                found[value] = None
        return list(found)

    def ends(self, members: Sequence[Instruction]) -> tuple[list[Value], list[Value]]:
        """The values that a group reads, and those of its results that others read."""
        made = results_of(members)
        reads = self._sources(inputs_of(members))
        within, outside = set(members), set(self._wanted)
        for instruction in self._instructions:
            if instruction not in within and instruction not in self._moves:
                outside.update(instruction.inputs)
                outside.update(self._sources(instruction.inputs))
        outside.update(self._sources(self._wanted))
        return [value for value in reads if value not in made], [value for value in made if value in outside]

    def in_order(self, groups: dict[int, Instruction]) -> list[Instruction]:
        """The groups and the other instructions in the order of computation."""
        plain = [each for each in self._instructions if each not in self._units]
        moves = needed([each for each in self._instructions if each in self._moves], [*inputs_of(plain), *self._wanted])
        keyed = [(self._stage[each], 0, each) for each in plain]
        keyed += [(max(map(self._ready, each.inputs), default=0), 0, each) for each in moves]
        keyed += [(stage, 1, group) for stage, group in groups.items()]
        places = {instruction: place for place, instruction in enumerate(self._instructions)}
        return [each for *_, each in sorted(keyed, key=lambda key: (*key[:2], places.get(key[2], 0)))]


def is_free(instruction: Instruction) -> bool:
    """Whether the result is a view of the input, or rows of a value without rows."""
    return is_view(instruction) or instruction.op.name == "broadcast_to"


def _values(values: Iterable[Value | None]) -> list[Value]:
    return [value for value in values if value is not None]
