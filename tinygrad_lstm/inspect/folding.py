"""Folds the steps of unrolled loops in a sequence of ops.

Code that unrolls a loop declares where steps begin (see `graph.declare_step`). An op that is applied again to the same
inputs also counts as the beginning of a step, so that plain loops of ops fold as well.

Beginnings at equal distances form a loop. Each of its steps is compared with the last complete step: each op must be
the same, and its inputs must come from the same position of the same step, from an equal number of steps before, or
from outside the loop. The first step may begin with different states and lack ops on constants; the last step may lack
unused ops. The loop becomes one entry of the sequence; loops of such entries are folded next.
"""

import operator
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Given", "Item", "Made", "Place", "find_loops"]

_MIN_STEPS = 3
_MIN_HIDDEN = 8  # the ops that folding must hide, at least


class Given(NamedTuple):
    """An input that was not made by an item of the sequence.

    Attributes:
        key: equal for inputs that are treated as the same.
        constant: whether it does not require a gradient. Ops on constants only are not recorded.
    """

    key: Hashable
    constant: bool


class Made(NamedTuple):
    """An input that an earlier item made.

    Attributes:
        at: the index of that item.
        port: which of its outputs; the same in all steps of a loop.
        step: which of several similar outputs, such as the slices of a sequence; may differ from step to step.
    """

    at: int
    port: Hashable = ()
    step: Hashable = ()


class Item(NamedTuple):
    """An op.

    Attributes:
        label: what the op does, equal for ops that may be drawn as one.
        inputs: its inputs.
        begins: the loop that has a step beginning here, if that was declared.
    """

    label: Hashable
    inputs: Sequence[Given | Made]
    begins: Hashable = None


class Place(NamedTuple):
    """Where an item is after folding.

    Attributes:
        shown: the item that is drawn in its place: itself if it is not in a loop.
        path: the loops around it, outermost first, each with the index of its step.
    """

    shown: int
    path: tuple[tuple[int, int], ...]


def find_loops(items: Sequence[Item]) -> tuple[list[Place], list[int]]:
    """The place of each item, and the number of steps of each loop.

    Args:
        items: ordered such that each comes after the items that made its inputs.

    >>> chain = [Item("tanh", [Made(k - 1) if k else Given("x", False)]) for k in range(20)]
    >>> places, steps = find_loops(chain)
    >>> steps, len({place.shown for place in places}), places[7].path
    ([20], 1, ((0, 7),))
    """
    folding = _Folding(items)
    while loops := folding.loops():
        folding.fold(loops)
    return folding.places()


_Step = list[int | None]  # a step's entries by position; None if the first or last step lacks one


class _Loop(NamedTuple):
    """A loop found.

    Attributes:
        start, stop: the range of its entries.
        steps: these entries by step.
        example: the index of a complete step.
        wiring: how the entries of a step are connected.
        carried: how many values a step takes from steps before.
    """

    start: int
    stop: int
    steps: list[_Step]
    example: int
    wiring: Hashable
    carried: int

    def cost(self) -> tuple[int, int, int]:
        """Small if steps begin at the right place: the number of values carried, and of entries missing at the ends."""
        first, last = self.steps[0].count(None), self.steps[-1].count(None)
        return self.carried, max(first, last), last


class _Folding:
    """A sequence of entries, each an item or a folded loop of entries."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._entries = [[k] for k in range(len(items))]  # the items in each entry
        self._numbers: dict[Hashable, int] = {}
        self.labels = [self._number(item.label) for item in items]
        self._begins = [item.begins for item in items]
        self._positions: list[tuple[int, ...]] = [()] * len(items)  # each item's positions in the loops around it
        self._steps: list[tuple[int, ...]] = [()] * len(items)  # each item's steps in the loops around it
        self._is_shown = [True] * len(items)
        self._describe()

    def _number(self, label: Hashable) -> int:
        return self._numbers.setdefault(label, len(self._numbers))

    def _describe(self) -> None:
        self._at = [0] * len(self._items)  # the entry of each item
        for k, members in enumerate(self._entries):
            for item in members:
                self._at[item] = k
        self.inputs = [self._inputs_of(k) for k in range(len(self._entries))]
        self.taken = bytearray(len(self._entries))  # the entries in a loop found in this round

    def _inputs_of(self, k: int) -> list[Given | Made]:
        """The inputs that an entry takes from other entries or from outside; each value once."""
        found: dict[Hashable, Given | Made] = {}
        for item in self._entries[k]:
            for n, value in enumerate(self._items[item].inputs):
                if isinstance(value, Given):
                    found[self._positions[item], n, value] = value
                elif (at := self._at[value.at]) != k:
                    port = self._positions[value.at], value.port
                    made = Made(at, port, (self._steps[value.at], value.step))
                    if found.setdefault((self._positions[item], n, at, port), made) != made:
                        found[self._positions[item], n, at, port] = Made(at, port, None)  # several
        return list(found.values())

    def fold(self, loops: Sequence[_Loop]) -> None:
        """Makes each loop one entry."""
        for loop in sorted(loops, reverse=True):
            example = [k for k in loop.steps[loop.example] if k is not None]
            label = len(loop.steps), *(self.labels[k] for k in example), loop.wiring
            for t, step in enumerate(loop.steps):
                for position, k in enumerate(step):
                    for item in () if k is None else self._entries[k]:
                        self._positions[item] = position, *self._positions[item]
                        self._steps[item] = t, *self._steps[item]
                        self._is_shown[item] &= t == loop.example
            place = slice(loop.start, loop.stop)
            self._begins[place] = [self._begins[example[0]]]
            self.labels[place] = [self._number(label)]
            self._entries[place] = [[item for members in self._entries[place] for item in members]]
        self._describe()

    def places(self) -> tuple[list[Place], list[int]]:
        """Where each item is now, and the number of steps of each loop."""
        places = list(zip(self._at, self._positions))  # equal for items that are drawn as one
        shown = {place: k for k, place in enumerate(places) if self._is_shown[k]}
        loops: dict[Hashable, int] = {}
        lengths: list[int] = []
        paths = []
        for (at, positions), steps in zip(places, self._steps):
            path = []
            for depth, t in enumerate(steps):
                loop = loops.setdefault((at, positions[:depth]), len(loops))
                lengths += [0] * (loop == len(lengths))
                lengths[loop] = max(lengths[loop], t + 1)
                path.append((loop, t))
            paths.append(tuple(path))
        return [Place(shown[place], path) for place, path in zip(places, paths)], lengths

    def loops(self) -> list[_Loop]:
        """Loops that do not overlap, those with the shortest steps first."""
        found = []
        for period, is_op, first, starts in sorted(self._beginnings(), key=operator.itemgetter(0, 1, 2)):
            if len(starts) < _MIN_STEPS - (not is_op) or any(self.taken[starts[-2] : starts[-1]]):
                continue
            one, other = (self.labels[start : start + period] for start in (starts[-3:-1][0], starts[-2]))
            if one != other:
                continue
            # Where a first step that lacks ops on constants may begin.
            shorter = range(max(starts[0] - period, 0), starts[0] - period // 2) if is_op else (first,)
            loop = self._loop(shorter, starts)
            if loop is not None and (beyond := loop.steps[-1].count(None)):
                # Steps may instead begin so that the last one is complete, if the first does not lack more then.
                shift = starts[0] + period - beyond
                shifted = self._loop((loop.start,), range(shift - period * (shift >= period), loop.stop + 1, period))
                if shifted is not None and shifted.start <= loop.start:
                    loop = min(loop, shifted, key=_Loop.cost)
            if loop is not None:
                self.taken[loop.start : loop.stop] = b"\1" * (loop.stop - loop.start)
                found.append(loop)
        return found

    def _beginnings(self) -> Iterator[tuple[int, bool, int, range]]:
        """Where steps may begin.

        Yields:
            The length of the steps; whether they are not declared; the previous beginning; beginnings at that distance.
        """
        runs: dict[tuple[bool, Hashable], tuple[int, range]] = {}
        for k, (begins, label, inputs) in enumerate(zip(self._begins, self.labels, self.inputs)):
            described = [x if isinstance(x, Given) else (self.labels[x.at], x.port) for x in inputs]
            for key in ((False, begins), (True, (label, *described))):
                if key[1] is None:
                    continue
                before, run = runs.get(key, (k, range(k, k + 1)))
                if len(run) > 1 and k - run[-1] != run.step:
                    yield run.step, key[0], before, run
                    before, run = run[-2], run[-1:]
                runs[key] = before, range(run[0], k + 1, max(k - run[-1], 1))
        yield from ((run.step, key[0], before, run) for key, (before, run) in runs.items() if len(run) > 1)

    def _loop(self, shorter: Iterable[int], starts: range) -> _Loop | None:
        """The loop whose steps begin at `starts`, after a first one that may be shorter, if folding it hides enough."""
        base, stop = starts[-2], starts[-1]
        failed = 0
        for start in (*shorter, *starts[:-1]):
            if start < failed:
                continue
            example = _Example(self, base, starts.step, start)
            steps, end = example.steps(starts)
            if end >= stop and len(steps) >= _MIN_STEPS and end - start - starts.step >= _MIN_HIDDEN:
                at = next(t for t, step in enumerate(steps) if step[0] == base)
                return _Loop(start, end, steps, at, *example.wiring())
            if len(steps) > 1:
                failed = end
        return None


class _Example:
    """The step at `base` of a loop that begins at `start`, with which the other steps are compared."""

    def __init__(self, folding: _Folding, base: int, period: int, start: int) -> None:
        self._labels, self._inputs, self._taken = folding.labels, folding.inputs, folding.taken
        self._base, self._period, self._start = base, period, start
        self._sources: dict[int, list[tuple[int, int] | None]] = {}

    def steps(self, starts: range) -> tuple[list[_Step], int]:
        """The steps that are equal to this one, and where they end."""
        steps: list[_Step] = []
        k = self._start
        while k < len(self._labels):
            is_first, is_last = k < starts[0], k >= starts[-1]
            limit = starts[0] if is_first else min(k + self._period, len(self._labels))
            step: _Step = []
            stop = k
            for position in range(self._period):
                matches = stop < limit and self._matches(stop, position, step, steps)
                if not (matches or is_first or is_last):
                    return steps, k
                step.append(stop if matches else None)
                stop += matches
            if stop < limit if is_first else 2 * (stop - k) < self._period:
                break
            steps.append(step)
            k = stop
            if is_last and None in step:
                break
        return steps, k

    def _matches(self, k: int, position: int, step: _Step, steps: Sequence[_Step]) -> bool:
        """Whether an entry can be at a position, after the previous entries of its step and the previous steps."""
        example = self._base + position
        if self._labels[k] != self._labels[example] or self._taken[k]:
            return False
        inputs, expected = self._inputs[k], self._inputs[example]
        if len(inputs) != len(expected):
            return False
        for value, other, source in zip(inputs, expected, self._sources_of(position)):
            if source is None:  # the same for all steps, except for the slice of a sequence
                matches = value[:2] == other[:2]
            elif source[0] > len(steps):  # a state that the loop begins with
                matches = isinstance(value, Given) or value.at < self._start
            else:
                maker = (steps[-source[0]] if source[0] else step)[source[1]]
                if isinstance(value, Made):
                    matches = value.at == maker and value[1:] == other[1:]
                else:  # the first step lacks ops on constants, which are not recorded
                    matches = not steps and maker is None and value.constant
            if not matches:
                return False
        return True

    def _sources_of(self, position: int) -> list[tuple[int, int] | None]:
        """For each input how many steps before it was made, and at which position; None if it is from outside."""
        if position not in self._sources:
            self._sources[position] = [
                (-((value.at - self._base) // self._period), (value.at - self._base) % self._period)
                if isinstance(value, Made) and value.at >= self._start
                else None
                for value in self._inputs[self._base + position]
            ]
        return self._sources[position]

    def wiring(self) -> tuple[Hashable, int]:
        """How the step's entries are connected to each other and to outside inputs; how many values are carried."""
        values = [value for k in range(self._base, self._base + self._period) for value in self._inputs[k]]
        sources = [source for position in range(self._period) for source in self._sources_of(position)]
        wires = [
            (source, *value[1:]) if source else isinstance(value, Given) and value
            for value, source in zip(values, sources, strict=True)
        ]
        return tuple(wires), len({source for source in sources if source and source[0]})
