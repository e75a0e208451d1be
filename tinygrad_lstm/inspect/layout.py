"""The layout of a drawing: its parts in columns, each to the right of all parts that it depends on.

A wire has a place in each column that it passes, and is horizontal there. Columns are ordered so that few wires cross.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import NamedTuple

from .data_path import Input, Output, Part

__all__ = ["GRID", "ROW", "Hop", "Item", "Layout", "tracks_of"]

GRID = 8  # pixels, as all lengths; the height of each part and wire is a multiple
ROW = 24  # the height of an output of several
_SWEEPS = 16
_LONGEST = 12  # parts of a wire that are moved at once, so that large drawings do not take minutes


@dataclass(eq=False)
class Item:
    """What has a place in a column.

    Attributes:
        part: a part; None for a wire that passes.
        column: the number of the column.
        width: the width.
        up, down: how far it reaches from y.
        ins, outs: where its wires meet it, relative to y.
        x, y: the place of its middle, and of its only output.
    """

    part: Part | None
    column: int
    width: int = 0
    up: int = GRID
    down: int = GRID
    ins: dict[Input | Output, int] = field(default_factory=dict)
    outs: dict[Output, int] = field(default_factory=dict)
    x: int = 0
    y: int = 0


class Hop(NamedTuple):
    """A piece of a wire, from a column to the next."""

    wire: Output
    left: Item
    right: Item
    end: Input | Output  # where it meets the right item

    @property
    def start_y(self) -> int:
        return self.left.y + self.left.outs[self.wire]

    @property
    def end_y(self) -> int:
        return self.right.y + self.right.ins[self.end]


class Layout:
    """Finds the columns of parts, and the height of parts and wires.

    Args:
        parts: the parts, each after those that it depends on.
        made: makes the item of a part in a column, with its size.

    Attributes:
        items: by part.
        columns: from left to right, each from top to bottom.
        hops: the pieces of all wires.
        before, after: the pieces that end and begin at an item.
    """

    def __init__(self, parts: Sequence[Part], made: Callable[[Part, int], Item]) -> None:
        sources = {output: part for part in parts for output in part.outputs}
        column: dict[Part, int] = {}
        for part in parts:
            column[part] = max((column[sources[each.source]] + 1 for each in part.inputs), default=0)
        last = max(1, *column.values())
        self.items = {part: made(part, last if part.place == "right" else column[part]) for part in parts}
        self.hops: list[Hop] = []
        self._chains: list[list[Item]] = []  # of items that a wire passes
        for output, source in sources.items():
            self._lay(output, self.items[source])
        everything = [*self.items.values(), *(item for chain in self._chains for item in chain)]
        self.columns = [[item for item in everything if item.column == k] for k in range(last + 1)]
        self.before, self.after = defaultdict[Item, list[Hop]](list), defaultdict[Item, list[Hop]](list)
        self._hops_after: list[list[Hop]] = [[] for _ in self.columns]
        for hop in self.hops:
            self.after[hop.left].append(hop)
            self.before[hop.right].append(hop)
            self._hops_after[hop.left.column].append(hop)
        self._order()
        self._straighten()

    def _lay(self, wire: Output, source: Item) -> None:
        """Divides a wire into pieces between columns."""
        ends = [(item, each) for part, item in self.items.items() for each in part.inputs if each.source is wire]
        source.outs[wire] = 0
        at, chain = source, list[Item]()
        self._chains.append(chain)
        for column in range(source.column + 1, max((item.column for item, _ in ends), default=0) + 1):
            for item, each in ends:
                if item.column == column:
                    item.ins[each] = 0
                    self.hops.append(Hop(wire, at, item, each))
            if any(item.column > column for item, _ in ends):
                passing = Item(None, column, ins={wire: 0}, outs={wire: 0})
                chain.append(passing)
                self.hops.append(Hop(wire, at, passing, wire))
                at = passing

    def _order(self) -> None:
        """Orders the columns so that few wires cross: each item goes to the mean of its neighbours, to and fro."""
        for column in self.columns:
            self._place(column, [0.0] * len(column))
        best, orders = math.inf, [list(column) for column in self.columns]
        for sweep in range(_SWEEPS):
            for column in self.columns if sweep % 2 == 0 else self.columns[::-1]:
                both = self.before, self.after
                sides = both if sweep >= _SWEEPS // 2 else both[sweep % 2 : sweep % 2 + 1]
                column.sort(key=lambda item: (_is_below(item), self._is_connected(item), self._wanted(item, sides)))
                self._place(column, [self._wanted(item, sides) for item in column])
                self._set_ends(column)
            cost = self._cost()
            if cost < best:
                best, orders = cost, [list(column) for column in self.columns]
        self.columns = orders
        for column in self.columns:
            self._place(column, [self._wanted(item, (self.before, self.after)) for item in column])
        self._exchange()

    def _is_connected(self, item: Item) -> bool:
        return bool(self.before[item] or self.after[item])

    def _exchange(self) -> None:
        """Exchanges neighbours in a column as long as fewer wires cross."""
        for _ in range(3):
            begun = self._cost()
            for number, column in enumerate(self.columns):
                near = range(max(number - 1, 0), number + 1)  # no other pieces of wires move
                best = self._cost(near)
                for k in range(len(column) - 1):
                    if _is_below(column[k + 1]):
                        continue
                    places = [item.y for item in column]
                    column[k : k + 2] = column[k + 1], column[k]
                    self._place(column, places)
                    self._set_ends(column)
                    cost = self._cost(near)
                    if cost < best:
                        best = cost
                        continue
                    column[k : k + 2] = column[k + 1], column[k]
                    for item, y in zip(column, places):
                        item.y = y
                    self._set_ends(column)
            if self._cost() == begun:
                break

    def _wanted(self, item: Item, sides: Iterable[Mapping[Item, Sequence[Hop]]]) -> float:
        """Where an item would be if its wires were straight: a mean, in which wires that only pass weigh more."""
        total = weights = 0.0
        for side in sides:
            for hop in side.get(item, ()):
                weight = 4.0 if hop.left.part is None and hop.right.part is None else 1.0
                is_right = hop.right is item
                total += weight * (hop.start_y - item.ins[hop.end] if is_right else hop.end_y - item.outs[hop.wire])
                weights += weight
        return total / weights if weights else float(item.y)

    @staticmethod
    def _place(column: Sequence[Item], wanted: Sequence[float]) -> None:
        """Places the items of a column as near as possible to where they are wanted, in order."""
        offsets = [0]
        for above, below in pairwise(column):
            offsets.append(offsets[-1] + above.down + _gap(above, below) + below.up)
        blocks: list[tuple[float, int]] = []  # sums and numbers of items that touch each other
        for place, offset in zip(wanted, offsets):
            block = (place - offset, 1)
            while blocks and blocks[-1][0] / blocks[-1][1] > block[0] / block[1]:
                total, number = blocks.pop()
                block = (block[0] + total, block[1] + number)
            blocks.append(block)
        places = [total / number for total, number in blocks for _ in range(number)]
        for item, place, offset in zip(column, places, offsets):
            item.y = GRID * round(place / GRID) + offset

    def _set_ends(self, column: Sequence[Item]) -> None:
        """Orders the wires of each part in a column by where they come from, and go to."""
        for item in column:
            if item.part is None:
                continue
            before, after = self.before[item], self.after[item]
            if not item.part.ordered:
                before = sorted(before, key=lambda hop: hop.start_y)
            for hop, place in zip(before, _spaced(len(before))):
                item.ins[hop.end] = place
            if len(item.outs) > 1:
                ends = {wire: [hop.end_y for hop in after if hop.wire is wire] for wire in item.outs}
                wires = sorted(ends, key=lambda wire: sum(ends[wire]) / len(ends[wire]) if ends[wire] else math.inf)
                for k, wire in enumerate(wires):
                    item.outs[wire] = item.down - 16 - ROW * (len(wires) - 1 - k)

    def _cost(self, columns: Iterable[int] | None = None) -> float:
        """The number of crossings, and the length of vertical lines; to the right of all columns, or of some."""
        total = 0.0
        for column in range(len(self.columns)) if columns is None else columns:
            hops = [(hop.wire, hop.start_y, hop.end_y) for hop in self._hops_after[column]]
            crossings = sum(
                (a_start - b_start) * (a_end - b_end) < 0
                for (a, a_start, a_end), (b, b_start, b_end) in combinations(hops, 2)
                if a is not b
            )
            total += 400.0 * crossings + sum(abs(start - end) for _, start, end in hops)
        return total

    def _straighten(self) -> None:
        """Moves items, without changing their order, so that wires become straight."""
        for sweep in range(12):
            for column in self.columns if sweep % 2 else self.columns[::-1]:
                self._place(column, [self._wanted(item, (self.before, self.after)) for item in column])
                self._set_ends(column)
        for sweep in range(8):
            for column in self.columns if sweep % 2 else self.columns[::-1]:
                for item in column:
                    self._snap([item])
            for chain in self._chains:
                for begin in range(len(chain)):
                    for end in range(begin + 1, min(begin + _LONGEST, len(chain)) + 1):
                        self._snap(chain[begin:end])
                if len(chain) > _LONGEST:
                    self._snap(chain)
        self._separate()
        for column in self.columns:
            for item, below in reversed(list(pairwise(column))):
                if not self._is_connected(item):
                    item.y = below.y - below.up - _gap(item, below) - item.down

    def _snap(self, items: Sequence[Item]) -> None:
        """Moves an item, or items that one wire passes, to where most of their wires are straight."""
        hops = list(dict.fromkeys(hop for item in items for hop in (*self.before[item], *self.after[item])))
        rooms = [self._room(item) for item in items]
        low, high = max(low for low, _ in rooms), min(high for _, high in rooms)
        begun = [item.y for item in items]
        places = {item.y for item in items}
        for hop in hops:
            places.add(hop.end_y - hop.left.outs[hop.wire])
            places.add(hop.start_y - hop.right.ins[hop.end])

        def cost(ys: Sequence[int]) -> float:
            for item, y in zip(items, ys):
                item.y = y
            return sum(40 + abs(hop.start_y - hop.end_y) for hop in hops if hop.start_y != hop.end_y)

        cost(min([begun, *([y] * len(items) for y in sorted(places) if low <= y <= high)], key=cost))

    def _separate(self) -> None:
        """Moves items at which two wires would run along each other."""
        for _ in self.hops:
            along = self._along()
            ends = (along[0][1].right, along[0][0].left) if along else ()
            if not any(self._move_apart(item, len(along)) for item in ends):
                break

    def _move_apart(self, item: Item, number: int) -> bool:
        """Moves an item so that fewer wires than this number run along each other; its neighbours too if need be."""
        column = self.columns[item.column]
        k, (low, high) = column.index(item), self._room(item)
        for shift in (sign * GRID * n for n in range(1, 9) for sign in (1, -1)):
            items = [item] if low <= item.y + shift <= high else column[k:] if shift > 0 else column[: k + 1]
            for each in items:
                each.y += shift
            if len(self._along()) < number:
                return True
            for each in items:
                each.y -= shift
        return False

    def _along(self) -> list[tuple[Hop, Hop]]:
        """The pairs of wires between two columns of which the first begins where the second ends, to its right."""
        found = []
        for column in range(len(self.columns)):
            hops = self._hops_after[column]
            tracks, ends = tracks_of(hops), defaultdict[int, list[Hop]](list)
            for hop in hops:
                ends[hop.end_y].append(hop)
            for hop in hops:
                track = tracks.get(hop.wire, math.inf)
                others = (other for other in ends[hop.start_y] if other.wire is not hop.wire)
                found += [(hop, other) for other in others if track >= tracks.get(other.wire, -1)]
        return found

    def _room(self, item: Item) -> tuple[float, float]:
        """How high and how low an item can be in its column."""
        column = self.columns[item.column]
        k = column.index(item)
        low, high = -math.inf, math.inf
        if k:
            low = column[k - 1].y + column[k - 1].down + _gap(column[k - 1], item) + item.up
        if k < len(column) - 1:
            high = column[k + 1].y - column[k + 1].up - _gap(item, column[k + 1]) - item.down
        return low, high


def _spaced(number: int) -> list[int]:
    """The places of inputs, relative to a part's middle."""
    return [GRID * (2 * k - number + 1) for k in range(number)]


def _gap(above: Item, below: Item) -> int:
    """The space between neighbours in a column."""
    return GRID * ((above.part is not None) + (below.part is not None))


def _is_below(item: Item) -> bool:
    return item.part is not None and item.part.place == "below"


def tracks_of(hops: Sequence[Hop]) -> dict[Output, int]:
    """For each wire that is not straight between two columns, the number of its vertical line from the left.

    Lines that would touch have different numbers. They are in an order in which few wires cross.
    """
    starts = {hop.wire: hop.start_y for hop in hops}
    ends = defaultdict[Output, set[int]](set)
    for hop in hops:
        ends[hop.wire].add(hop.end_y)
    spans = {wire: (min(start, *ends[wire]), max(start, *ends[wire])) for wire, start in starts.items()}

    def cost(left: Output, right: Output) -> int:
        """What meets if the vertical line of one wire is left of that of the other."""
        (low, high), (lower, higher) = spans[left], spans[right]
        crossings = (low < starts[right] < high) + sum(lower < y < higher for y in ends[left])
        touching = (starts[right] in (low, high)) + sum(y in (lower, higher) for y in ends[left])
        return crossings + 10 * touching + 100 * (starts[right] in ends[left])

    order = sorted((wire for wire in starts if spans[wire][0] < spans[wire][1]), key=lambda wire: starts[wire])
    for wire in 3 * order:  # each goes to its best place among the others
        order.remove(wire)
        costs = [
            sum(cost(other, wire) for other in order[:k]) + sum(cost(wire, other) for other in order[k:])
            for k in range(len(order) + 1)
        ]
        order.insert(costs.index(min(costs)), wire)
    tracks: dict[Output, int] = {}
    for wire in order:
        low, high = spans[wire]
        near = (tracks[other] for other in tracks if spans[other][0] <= high + GRID and low <= spans[other][1] + GRID)
        tracks[wire] = max(near, default=-1) + 1
    return tracks
