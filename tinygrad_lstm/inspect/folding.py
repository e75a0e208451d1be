"""Loops in a sequence of ops, found again after they were unrolled.

Items of a sequence are alike, one period apart, if their labels are, and each of their inputs comes either from the
same item, or from items that are one period apart in turn, or is alike to begin with. A stretch in which every item is
alike to the one a period before it is a loop. To find such stretches without trying every period:

1. How far it is from an item to the next that has the same label, and inputs with the same labels, is a period to try.
2. From there the stretch is followed to both sides, comparing item by item.
3. Of the places in a period past which fewest values are carried, steps begin at the one with which most items fall
   into steps. The first step may differ in the states that it begins with, and lack the ops on constants alone, which
   are not recorded; the last may lack what nobody used.
4. The loop becomes one item of the sequence, in which loops around it, or over its results, are then looked for.

A turn takes time in proportion to the sequence's length, but for periods that mislead.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

__all__ = ["Given", "Item", "Made", "Place", "find_loops"]

_LEAST_STEPS = 3
_LEAST_HIDDEN = 8  # items that a loop must save the reader, to be worth its frame
_CUTS_TRIED = 32


class Given(NamedTuple):
    """An input that no item of the sequence made.

    Attributes:
        key: equal for the same input, and for inputs that are to count as alike.
        constant: whether no gradient flows to it, so that an op on such inputs alone is not recorded.
    """

    key: Hashable
    constant: bool


class Made(NamedTuple):
    """An input that an earlier item made.

    Attributes:
        at: the item.
        port: which of its values; the same in all steps of a loop.
        step: which of several values of a kind, such as the slices of a sequence; each step of a loop may take another.
    """

    at: int
    port: Hashable = ()
    step: Hashable = ()


class Item(NamedTuple):
    """An op: what it does, and on what. `label` is equal for items that may stand for each other."""

    label: Hashable
    inputs: Sequence[Given | Made]


class Place(NamedTuple):
    """Where an item is found after folding.

    Attributes:
        shown: the item that stands for it: itself, outside of loops.
        path: the loops around it, outermost first, each with the number of its step.
    """

    shown: int
    path: tuple[tuple[int, int], ...]


@dataclass(eq=False)
class _Fold:
    """Steps in a row that do the same, each a list of entries by position; None where a step lacks one.

    `whole` is a step that lacks none; `wiring` says how its entries are connected.
    """

    steps: list[list["_Entry | None"]]
    whole: list["_Entry"]
    wiring: Hashable


_Entry = int | _Fold


def find_loops(items: Sequence[Item]) -> tuple[list[Place], list[int]]:
    """The place of each item once loops are folded, and how many steps each loop has.

    Args:
        items: in an order in which each comes after those that made its inputs.

    >>> chain = [Item("tanh", [Made(k - 1) if k else Given("x", False)]) for k in range(20)]
    >>> places, steps = find_loops(chain)
    >>> steps, len({place.shown for place in places}), places[7].path
    ([20], 1, ((0, 7),))
    """
    entries: list[_Entry] = list(range(len(items)))
    while found := _Sequence(items, entries).loops():
        folded: list[_Entry] = []
        end = 0
        for loop in sorted(found, key=lambda loop: loop.start):
            steps = [[None if k is None else entries[k] for k in step] for step in loop.steps]
            folded += entries[end : loop.start]
            folded.append(_Fold(steps, [entries[k] for k in loop.whole], loop.wiring))
            end = loop.end
        entries = folded + entries[end:]
    return _places(entries, len(items))


def _places(entries: Sequence[_Entry], number: int) -> tuple[list[Place], list[int]]:
    places = [Place(k, ()) for k in range(number)]
    loops: dict[_Fold, int] = {}
    for entry in entries:
        for item, positions, steps in _inside(entry):
            shown, path = entry, list[tuple[int, int]]()
            for position, t in zip(positions, steps):
                assert isinstance(shown, _Fold)
                path.append((loops.setdefault(shown, len(loops)), t))
                shown = shown.whole[position]
            assert isinstance(shown, int)
            places[item] = Place(shown, tuple(path))
    return places, [len(loop.steps) for loop in loops]


class _Loop(NamedTuple):
    """A loop found: entries from `start` to `end`, as in a `_Fold`; of several, that with the highest score is best."""

    start: int
    end: int
    steps: list[list[int | None]]
    whole: list[int]
    wiring: Hashable
    score: tuple[int, ...]


# Of entries that are alike to those a period before: for each input whether it too comes from an entry that is a period
# on, or else is the same.
_Moved = dict[int, tuple[bool, ...]]


class _Sequence:
    """Entries of which some may be folded loops, with labels and inputs of their own, in terms of entries."""

    def __init__(self, items: Sequence[Item], entries: Sequence[_Entry]) -> None:
        self._where: dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}  # item: entry, positions, steps
        for k, entry in enumerate(entries):
            for item, positions, steps in _inside(entry):
                self._where[item] = k, positions, steps
        numbers: dict[Hashable, int] = {}
        self.labels = [numbers.setdefault(_label(items, entry), len(numbers)) for entry in entries]
        self.inputs = [self._inputs(items, k, entry) for k, entry in enumerate(entries)]
        self._taken = bytearray(len(entries))

    def _inputs(self, items: Sequence[Item], k: int, entry: _Entry) -> list[Given | Made]:
        """What an entry takes from outside itself: of a loop each value once, in the order of first use."""
        if isinstance(entry, int):
            return [self._renamed(value) for value in items[entry].inputs]
        found: dict[Hashable, Given | Made] = {}
        for item, positions, _ in _inside(entry):
            for n, value in enumerate(items[item].inputs):
                value = self._renamed(value)
                if isinstance(value, Given):
                    found.setdefault((positions, n, value), value)
                elif value.at != k:
                    key = (positions, n, value.at, value.port)
                    if found.setdefault(key, value) != value:
                        found[key] = value._replace(step=None)  # several
        return list(found.values())

    def _renamed(self, value: Given | Made) -> Given | Made:
        if isinstance(value, Given):
            return value
        at, positions, steps = self._where[value.at]
        return Made(at, (positions, value.port), (steps, value.step))

    def loops(self) -> list[_Loop]:
        """Loops that do not overlap, shortest periods first."""
        found: list[_Loop] = []
        for period, places in sorted(self._periods().items()):
            end = 0
            for k in places:
                if k < end:
                    continue
                start, end, moved = self._stretch(k, period, end)
                if end - start < period or 1 in self._taken[start - period : end]:
                    continue
                carried = self._carried(end, period, moved)
                cuts = sorted(range(start - period, start), key=lambda cut: carried[cut % period])
                tried = [loop for cut in cuts[:_CUTS_TRIED] if (loop := self._cut(cut, end, period, moved))]
                if tried:
                    best = max(tried, key=lambda loop: loop.score)
                    self._taken[best.start : best.end] = b"\1" * (best.end - best.start)
                    found.append(best)
        return found

    def _periods(self) -> dict[int, list[int]]:
        """Periods to try, each with the entries that are like the one a period before at first sight."""
        periods: dict[int, list[int]] = {}
        last: dict[Hashable, int] = {}
        for k, (label, inputs) in enumerate(zip(self.labels, self.inputs)):
            described = [value if isinstance(value, Given) else (self.labels[value.at], value.port) for value in inputs]
            key = (label, *described)
            if key in last:
                periods.setdefault(k - last[key], []).append(k)
            last[key] = k
        return periods

    def _moved(self, k: int, period: int) -> tuple[bool, ...] | None:
        """Whether each input of an entry is a period on; None if the entry is not alike to the one a period before."""
        before = k - period
        if self.labels[k] != self.labels[before] or len(self.inputs[k]) != len(self.inputs[before]):
            return None
        moved = []
        for a, b in zip(self.inputs[k], self.inputs[before]):
            if isinstance(a, Given) or isinstance(b, Given):
                if a != b:
                    return None
                moved.append(False)
            elif a.port != b.port:
                return None
            elif a.at == b.at:
                moved.append(False)
            elif a.at - b.at == period and a.step == b.step:
                moved.append(True)
            else:
                return None
        return tuple(moved)

    def _stretch(self, k: int, period: int, least: int) -> tuple[int, int, _Moved]:
        """From where to where, around an entry, all are alike to the one a period before, always in the same way."""
        moved: _Moved = {}
        least = max(least, period)

        def alike(at: int, neighbour: int) -> bool:
            found = self._moved(at, period)
            if found is None or moved.get(neighbour, found) != found:
                return False
            moved[at] = found
            return True

        start, end = k, k
        while end < len(self.labels) and alike(end, end - period):
            end += 1
        while end > k and start > least and alike(start - 1, start - 1 + period):
            start -= 1
        return start, end, moved

    def _carried(self, end: int, period: int, moved: _Moved) -> list[int]:
        """For each place in a period how many values are made before it and used after it."""
        reach: dict[Hashable, tuple[int, int]] = {}  # a value: where in a period it is made, how far on it is used
        for k in range(end - period, end):
            for value, moves in zip(self.inputs[k], moved[k]):
                if moves and isinstance(value, Made):
                    at, distance = value.at % period, min(k - value.at, period)
                    key = (at, value.port, value.step)
                    reach[key] = at, max(distance, reach.get(key, (at, 0))[1])
        changes = [0] * (2 * period + 1)
        for at, distance in reach.values():
            changes[at + 1] += 1
            changes[at + 1 + distance] -= 1
        carried = list(accumulate(changes))
        return [carried[place] + carried[place + period] for place in range(period)]

    def _cut(self, cut: int, end: int, period: int, moved: _Moved) -> _Loop | None:
        """The loop whose whole steps begin at `cut` and a period each after it, if it is worth its frame."""
        number = (end - cut) // period
        if number < _LEAST_STEPS - 1:
            return None
        start, stop = cut, cut + number * period
        steps: list[list[int | None]] = [list(range(at, at + period)) for at in range(start, stop, period)]
        step = _Step(self, cut, stop - period, period, moved)
        for _ in range(step.longest_lag):
            if (first := step.before(start, steps)) is None:
                break
            steps.insert(0, first)
            start -= period - first.count(None)
        if (last := step.after(stop, steps)) is not None:
            steps.append(last)
            stop += period - last.count(None)
        if len(steps) < _LEAST_STEPS or stop - start - period < _LEAST_HIDDEN:
            return None
        missing = [row.count(None) for row in steps]
        score = (stop - start - sum(missing), -max(missing), -missing[-1], -cut)
        return _Loop(start, stop, steps, step.whole, step.wiring, score)

    def free(self, k: int) -> bool:
        """Whether there is an entry, and in no loop of this turn."""
        return 0 <= k < len(self.labels) and not self._taken[k]


class _Source(NamedTuple):
    """Where an input in a step comes from: how many steps before, and from which position."""

    lag: int
    position: int


class _Step:
    """What all steps of a loop from `start` on do: the entries from `base` on, a period of them."""

    def __init__(self, sequence: _Sequence, start: int, base: int, period: int, moved: _Moved) -> None:
        self._sequence = sequence
        self.whole = list(range(base, base + period))
        self._sources: list[list[_Source | None]] = []  # None: from outside the loop
        for k in self.whole:
            row: list[_Source | None] = []
            for value, moves in zip(sequence.inputs[k], moved[k]):
                if moves and isinstance(value, Made) and value.at >= start:
                    steps_on, position = divmod(value.at - base, period)
                    row.append(_Source(-steps_on, position))
                else:
                    row.append(None)
            self._sources.append(row)
        self.longest_lag = max((source.lag for row in self._sources for source in row if source), default=0)
        self.wiring = tuple(
            tuple(
                (source, value.port, value.step) if source and isinstance(value, Made) else getattr(value, "key", None)
                for value, source in zip(sequence.inputs[k], row)
            )
            for k, row in zip(self.whole, self._sources)
        )

    def before(self, end: int, steps: Sequence[list[int | None]]) -> list[int | None] | None:
        """The entries up to `end` as a first step before these, by position; the states it begins with are anything.

        Ops on constants alone, as initial states may be, are not recorded, and so may be missing.
        """
        size = len(self.whole)
        for start in range(end - size, end - size // 2):
            first, stop = self._matched(start, end, start, [])
            if stop == end and self._leads_on(start, [first, *steps]):
                return first
        return None

    def _leads_on(self, begin: int, steps: Sequence[list[int | None]]) -> bool:
        """Whether what the steps after the first carry on from it is what it made."""
        return all(
            k is None or self._fits(k, position, begin, steps[t], steps[:t])
            for t in range(1, min(self.longest_lag + 1, len(steps)))
            for position, k in enumerate(steps[t])
        )

    def after(self, start: int, steps: Sequence[list[int | None]]) -> list[int | None] | None:
        """The entries from `start` on as a last step after these, of which those may be missing that nobody used."""
        begin = next(k for k in steps[0] if k is not None)
        last, stop = self._matched(start, len(self._sequence.labels), begin, steps)
        return last if 2 * (stop - start) >= len(last) else None

    def _matched(
        self, start: int, end: int, begin: int, steps: Sequence[list[int | None]]
    ) -> tuple[list[int | None], int]:
        """The entries from `start` on, by position, as a step after these of a loop; and where they stop."""
        step: list[int | None] = [None] * len(self.whole)
        k = start
        for position in range(len(step)):
            if k < end and self._sequence.free(k) and self._fits(k, position, begin, step, steps):
                step[position] = k
                k += 1
            elif not steps and not self._may_be_missing(position, step):
                break
        return step, k

    def _fits(
        self, k: int, position: int, begin: int, step: list[int | None], steps: Sequence[list[int | None]]
    ) -> bool:
        """Whether an entry can stand at the position of a step, after these steps of a loop that begins at `begin`."""
        if not self._alike(k, position):
            return False
        inputs = zip(self._sequence.inputs[k], self._sequence.inputs[self.whole[position]], self._sources[position])
        for value, wanted, source in inputs:
            if source is None:
                continue
            if source.lag > len(steps):  # a state that the loop begins with
                if isinstance(value, Made) and value.at >= begin:
                    return False
                continue
            maker = (steps[-source.lag] if source.lag else step)[source.position]
            if isinstance(value, Given):
                if steps or maker is not None or not value.constant:
                    return False
            elif value.at != maker or value[1:] != wanted[1:]:
                return False
        return True

    def _may_be_missing(self, position: int, step: Sequence[int | None]) -> bool:
        """Whether all inputs of a first step's op may be constants, so that it was not recorded."""
        return all(
            (isinstance(wanted, Given) and wanted.constant)
            if source is None
            else bool(source.lag) or step[source.position] is None
            for wanted, source in zip(self._sequence.inputs[self.whole[position]], self._sources[position])
        )

    def _alike(self, k: int, position: int) -> bool:
        """Whether an entry does what that at the position does, with the same inputs from outside the loop."""
        sequence, example = self._sequence, self.whole[position]
        if sequence.labels[k] != sequence.labels[example] or len(sequence.inputs[k]) != len(sequence.inputs[example]):
            return False
        return all(
            source is not None
            or value == wanted
            or (isinstance(value, Made) and isinstance(wanted, Made) and value[:2] == wanted[:2])
            for value, wanted, source in zip(sequence.inputs[k], sequence.inputs[example], self._sources[position])
        )


def _inside(entry: _Entry) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """The items in an entry, in order, each with its positions in the loops around it and its steps of these."""
    stack: list[tuple[_Entry, tuple[int, ...], tuple[int, ...]]] = [(entry, (), ())]
    while stack:
        entry, positions, steps = stack.pop()
        if isinstance(entry, int):
            yield entry, positions, steps
            continue
        stack += [
            (part, (*positions, position), (*steps, t))
            for t, step in reversed(list(enumerate(entry.steps)))
            for position, part in reversed(list(enumerate(step)))
            if part is not None
        ]


def _label(items: Sequence[Item], entry: _Entry) -> Hashable:
    """What is equal for entries that do the same. (Recursive, in loops within loops, of which there are few.)"""
    if isinstance(entry, int):
        return items[entry].label
    return len(entry.steps), tuple(_label(items, part) for part in entry.whole), entry.wiring
