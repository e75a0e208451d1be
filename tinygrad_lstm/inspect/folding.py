"""Folds the steps of unrolled loops in a sequence of ops.

Where steps begin is declared by what unrolls them (see `graph.declare_step`). An op that is applied again to the same
inputs counts as the beginning of a step, too, so that plain loops of ops fold as well.

Beginnings at one distance are those of a loop. Each of its steps is held to the last whole one: each op must do the
same, to what was made at the same place of the same step, or so many steps before, or outside the loop. The first step
may differ in the states that it begins with and lack ops on constants; the last one may lack what nobody used. The loop
becomes one entry of the sequence; loops of such entries are folded next.
"""

import operator
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Given", "Item", "Made", "Place", "find_loops"]

_LEAST_STEPS = 3
_LEAST_HIDDEN = 8  # ops that folding must hide


class Given(NamedTuple):
    """An input that no item of the sequence made.

    Attributes:
        key: equal for inputs that count as the same.
        constant: whether no gradient flows to it. Ops on constants only are not recorded.
    """

    key: Hashable
    constant: bool


class Made(NamedTuple):
    """An input that an earlier item made.

    Attributes:
        at: the index of that item.
        port: which of its outputs; the same in all steps of a loop.
        step: which of several outputs of one kind, such as the slices of a sequence; may differ from step to step.
    """

    at: int
    port: Hashable = ()
    step: Hashable = ()


class Item(NamedTuple):
    """An op.

    Attributes:
        label: what the op does, equal for ops that may be drawn as one.
        inputs: what it is applied to.
        begins: the loop of which a step begins here, if that was declared.
    """

    label: Hashable
    inputs: Sequence[Given | Made]
    begins: Hashable = None


class Place(NamedTuple):
    """Where an item is after folding.

    Attributes:
        shown: the item that is drawn in its place: itself, outside of loops.
        path: the loops around it, outermost first, each with the index of its step.
    """

    shown: int
    path: tuple[tuple[int, int], ...]


def find_loops(items: Sequence[Item]) -> tuple[list[Place], list[int]]:
    """The place of each item, and the number of steps of each loop.

    Args:
        items: in an order in which each comes after those that made its inputs.

    >>> chain = [Item("tanh", [Made(k - 1) if k else Given("x", False)]) for k in range(20)]
    >>> places, steps = find_loops(chain)
    >>> steps, len({place.shown for place in places}), places[7].path
    ([20], 1, ((0, 7),))
    """
    folding = _Folding(items)
    while loops := folding.loops():
        folding.fold(loops)
    return folding.places()


_Step = list[int | None]  # the entries of a step by position; None where the first or last step lacks one


class _Loop(NamedTuple):
    """A loop found.

    Attributes:
        start, stop: the entries that it is made of.
        steps: the same, step by step.
        example: the index of a step that lacks none.
        wiring: how the entries of a step are connected.
        carried: the values that steps take from steps before.
    """

    start: int
    stop: int
    steps: list[_Step]
    example: int
    wiring: Hashable
    carried: set[Hashable]

    def cost(self) -> tuple[int, int, int]:
        """What is little if steps begin at the right place: how much they carry, and how much the outer ones lack."""
        first, last = self.steps[0].count(None), self.steps[-1].count(None)
        return len(self.carried), max(first, last), last


class _Folding:
    """A sequence of entries, each an item or a folded loop of entries."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._entries = [[k] for k in range(len(items))]  # the items in each entry
        self._numbers: dict[Hashable, int] = {}
        self._labels = [self._number(item.label) for item in items]
        self._begins = [item.begins for item in items]
        self._paths: list[tuple[tuple[int, int], ...]] = [()] * len(items)  # (position, step) in the loops around it
        self._is_shown = [True] * len(items)
        self._describe()

    def _number(self, label: Hashable) -> int:
        return self._numbers.setdefault(label, len(self._numbers))

    def _describe(self) -> None:
        self._at = [0] * len(self._items)  # the entry of each item
        for k, members in enumerate(self._entries):
            for item in members:
                self._at[item] = k
        self._inputs = [self._inputs_of(k) for k in range(len(self._entries))]
        self._taken = bytearray(len(self._entries))  # which entries are in a loop of this turn

    def _inputs_of(self, k: int) -> list[Given | Made]:
        """What an entry takes from outside itself, in terms of entries; of a loop, each value once."""
        found: dict[Hashable, Given | Made] = {}
        for item in self._entries[k]:
            positions = tuple(position for position, _ in self._paths[item])
            for n, value in enumerate(self._items[item].inputs):
                if isinstance(value, Given):
                    found[positions, n, value] = value
                elif (at := self._at[value.at]) != k:
                    made = Made(at, value.port, value.step)
                    if path := self._paths[value.at]:
                        where, when = zip(*path)
                        made = Made(at, (where, value.port), (when, value.step))
                    key = positions, n, at, made.port
                    if found.setdefault(key, made) != made:
                        found[key] = Made(at, made.port, None)  # several
        return list(found.values())

    def fold(self, loops: Sequence[_Loop]) -> None:
        """Makes each loop one entry."""
        for loop in sorted(loops, reverse=True):
            example = [k for k in loop.steps[loop.example] if k is not None]
            label = len(loop.steps), *(self._labels[k] for k in example), loop.wiring
            members = []
            for t, step in enumerate(loop.steps):
                for position, k in enumerate(step):
                    for item in () if k is None else self._entries[k]:
                        self._paths[item] = (position, t), *self._paths[item]
                        self._is_shown[item] &= t == loop.example
                        members.append(item)
            place = slice(loop.start, loop.stop)
            self._begins[place] = [self._begins[example[0]]]
            self._labels[place] = [self._number(label)]
            self._entries[place] = [members]
        self._describe()

    def places(self) -> tuple[list[Place], list[int]]:
        """Where each item is now, and the number of steps of each loop."""

        def around(k: int) -> list[Hashable]:
            """What is equal for items in one loop, for each loop around an item; at last for items drawn as one."""
            positions = [position for position, _ in self._paths[k]]
            return [(self._at[k], *positions[:depth]) for depth in range(len(positions) + 1)]

        shown = {around(k)[-1]: k for k, is_shown in enumerate(self._is_shown) if is_shown}
        numbers: dict[Hashable, int] = {}
        steps: dict[int, int] = {}
        places = []
        for k, path in enumerate(self._paths):
            *loops, own = around(k)
            inside = tuple((numbers.setdefault(loop, len(numbers)), t) for loop, (_, t) in zip(loops, path))
            steps |= {loop: max(t + 1, steps.get(loop, 0)) for loop, t in inside}
            places.append(Place(shown[own], inside))
        return places, list(steps.values())

    def loops(self) -> list[_Loop]:
        """Loops that do not overlap, those with the shortest steps first."""
        found = []
        for _, is_op, _, starts in sorted(self._beginnings(), key=operator.itemgetter(0, 1, 2)):
            if len(starts) < _LEAST_STEPS - (not is_op):
                continue
            loop = self._loop(starts)
            if loop is not None and (beyond := loop.steps[-1].count(None)):
                # Steps may rather begin so that the last one is whole, if the first then lacks no more.
                first = starts[0] + starts.step - beyond
                shifted = self._loop(range(first - starts.step * (first >= starts.step), loop.stop + 1, starts.step))
                if shifted is not None and shifted.start <= loop.start:
                    loop = min(loop, shifted, key=_Loop.cost)
            if loop is not None:
                self._taken[loop.start : loop.stop] = b"\1" * (loop.stop - loop.start)
                found.append(loop)
        return found

    def _beginnings(self) -> Iterator[tuple[int, bool, int, range]]:
        """Where steps may begin.

        Yields:
            How long they are; whether nobody declared it; where a first step, which may be shorter, may begin; and
            beginnings at one distance, at least two.
        """
        runs: dict[tuple[bool, Hashable], tuple[int, range]] = {}
        for k, (begins, label, inputs) in enumerate(zip(self._begins, self._labels, self._inputs)):
            described = [
                value if isinstance(value, Given) else (self._labels[value.at], value.port) for value in inputs
            ]
            for key in ((False, begins), (True, (label, *described))):
                if key[1] is None:
                    continue
                before, run = runs.get(key, (k, range(k, k + 1)))
                if len(run) > 1 and k - run[-1] != run.step:
                    yield run.step, key[0], before, run
                    before, run = run[-2], run[-1:]
                runs[key] = before, range(run[0], k + 1, max(k - run[-1], 1))
        yield from ((run.step, key[0], before, run) for key, (before, run) in runs.items() if len(run) > 1)

    def _loop(self, starts: range) -> _Loop | None:
        """The loop whose steps begin there, if folding it hides enough."""
        period, stop = starts.step, starts[-1]
        if any(self._taken[stop - period : stop]):
            return None
        shorter = range(max(starts[0] - period, 0), starts[0] - period // 2)  # where a shorter first step may begin
        if self._labels[starts[0] - 1] != self._labels[stop - 1]:
            shorter = range(0)
        failed = 0
        for start in (*shorter, *starts[:-1]):
            if start < failed:
                continue
            example = _Example(self._labels, self._inputs, stop - period, period, start)
            steps, end = self._steps(example, starts)
            if end >= stop and len(steps) >= _LEAST_STEPS and end - start - period >= _LEAST_HIDDEN:
                at = -((start - stop) // period) - 1
                return _Loop(start, end, steps, at, example.wiring(), example.carried())
            if len(steps) > 1:
                failed = end
        return None

    def _steps(self, example: "_Example", starts: range) -> tuple[list[_Step], int]:
        """The steps that are as the example, and where they stop."""
        steps: list[_Step] = []
        k = example.start
        while k < len(self._labels):
            is_whole = starts[0] <= k < starts[-1]
            limit = min(k + starts.step, len(self._labels)) if k >= starts[0] else starts[0]
            step: _Step = []
            stop = k
            for position in range(starts.step):
                fits = stop < limit and not self._taken[stop] and example.fits(stop, position, step, steps)
                if is_whole and not fits:
                    return steps, k
                step.append(stop if fits else None)
                stop += fits
            if stop < limit if k < starts[0] else 2 * (stop - k) < starts.step:
                break
            steps.append(step)
            k = stop
            if None in step and len(steps) > 1:
                break
        return steps, k


class _Example:
    """A step from `base` on, of a loop that begins at `start`: what the other steps must be like."""

    def __init__(
        self, labels: Sequence[int], inputs: Sequence[Sequence[Given | Made]], base: int, period: int, start: int
    ) -> None:
        self._labels, self._inputs, self.start = labels, inputs, start
        self._base, self._period = base, period
        self._sources: dict[int, list[tuple[int, int] | None]] = {}

    def _sources_of(self, position: int) -> list[tuple[int, int] | None]:
        """For each input how many steps before it was made, and where in the step; None for one from outside."""
        if position not in self._sources:
            self._sources[position] = [
                (-((value.at - self._base) // self._period), (value.at - self._base) % self._period)
                if isinstance(value, Made) and value.at >= self.start
                else None
                for value in self._inputs[self._base + position]
            ]
        return self._sources[position]

    def wiring(self) -> Hashable:
        """How the entries of the step are connected, and which inputs no item made."""
        return tuple(
            (source, *value[1:]) if source else isinstance(value, Given) and value
            for position in range(self._period)
            for value, source in zip(self._inputs[self._base + position], self._sources_of(position))
        )

    def carried(self) -> set[Hashable]:
        """What is taken from steps before: how many steps, and from which position."""
        sources = (source for position in range(self._period) for source in self._sources_of(position))
        return {source for source in sources if source and source[0]}

    def fits(self, k: int, position: int, step: _Step, steps: Sequence[_Step]) -> bool:
        """Whether an entry can stand at a position, past these of its step and after these steps."""
        example, inputs = self._base + position, self._inputs[k]
        if self._labels[k] != self._labels[example] or len(inputs) != len(self._inputs[example]):
            return False
        for value, wanted, source in zip(inputs, self._inputs[example], self._sources_of(position)):
            if source is None:  # the same for all steps, but for which slice of a sequence it is
                fits = value[:2] == wanted[:2]
            elif source[0] > len(steps):  # a state that the loop begins with
                fits = isinstance(value, Given) or value.at < self.start
            else:
                maker = (steps[-source[0]] if source[0] else step)[source[1]]
                if isinstance(value, Made):
                    fits = value.at == maker and value[1:] == wanted[1:]
                else:  # The first step lacks ops on constants, which are not recorded.
                    fits = not steps and maker is None and value.constant
            if not fits:
                return False
        return True
