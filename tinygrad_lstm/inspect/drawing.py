"""A data path as a drawing: the sizes and places of its parts, how its wires run, and what is written."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from .data_path import Input, Output, Part
from .layout import GRID, ROW, Hop, Item, Layout, tracks_of

__all__ = ["Drawing", "drawn"]

_TRACK = 12  # between vertical lines
_BEFORE, _AFTER = 14, 22  # the space between a column and the vertical lines after it, and before it
_TITLE, _LINE = 20, 18  # the heights of a title and of a line
_BOLD, _CODE = 10.2, 7.9  # the widths of a character of a title, and of code
_NUMBER = 64  # the width of a number


class Box(NamedTuple):
    """A rectangle."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Drawing:
    """A drawing.

    Attributes:
        size: its width and height.
        boxes: the parts and the room that each takes, with what is written in it.
        shapes: what is drawn, as the page's script reads it.
    """

    size: tuple[int, int]
    boxes: tuple[tuple[Part, Box], ...]
    shapes: tuple[Mapping[str, Any], ...]


def drawn(parts: Sequence[Part]) -> Drawing:
    """The drawing of a data path."""
    picture = _Picture(Layout(parts, _item))
    return Drawing(picture.size, tuple(picture.boxes()), tuple(picture.shapes()))


# -- sizes -------------------------------------------------------------------------------------------------------------


def _even(length: float) -> int:
    """The length or a little more, so that half of it is a multiple of the grid."""
    return 2 * GRID * math.ceil(length / (2 * GRID))


def _is_box(part: Part) -> bool:
    return part.shape == "box" or (len(part.outputs) > 1 and part.shape == "circle")


def _captions(part: Part) -> list[tuple[str, str]]:
    """What is written under a circle: the name of its value, and its number, by the class of the text."""
    (output,) = part.outputs
    named = [("code", output.name)] if output.name and not output.name.startswith("next_") else []
    return [*named, *([("number", output.value)] if named and output.value else [])]


def _item(part: Part, column: int) -> Item:
    item = Item(part, column)
    title = _BOLD * len(part.title)
    if part.shape == "port":
        item.width = _even(max(1.1 * title, _NUMBER if any(output.value for output in part.outputs) else 0) + 8)
        item.up, item.down = (GRID, 40) if part.place == "below" else (24, 24)
    elif _is_box(part):
        several = part.outputs if len(part.outputs) > 1 else ()
        rows = [_CODE * len(output.name) + (_NUMBER if output.value else 0) for output in several]
        number = not several and bool(part.outputs[0].value)
        item.width = _even(max(title, *(_CODE * len(line) for line in part.lines), *rows, _NUMBER * number, 40) + 20)
        height = _TITLE * bool(part.title) + _LINE * (len(part.lines) + number) + ROW * len(several) + 14
        item.up = item.down = _even(max(height, 16 * len(part.inputs) + 8)) // 2
    else:
        written = [_CODE * len(name) if kind == "code" else _NUMBER for kind, name in _captions(part)]
        item.width = _even(max(2 * _radii(part)[0], *written, 0))
        item.up = _even(2 * _radii(part)[1]) // 2
        item.down = item.up + 16 * len(written)
    return item


def _radii(part: Part) -> tuple[int, int]:
    wide = 18 if len(part.title) <= 2 else 12 + 5 * len(part.title)
    return wide, max(18, 8 * len(part.inputs))


# -- places ------------------------------------------------------------------------------------------------------------


class _Picture:
    """Finds where columns and lines are, given a layout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        items = [item for column in layout.columns for item in column]
        top = min(item.y - item.up for item in items) - 40
        for item in items:
            item.y -= top
        self.size = self._set_x(layout.columns), max(item.y + item.down for item in items) + 8

    def _set_x(self, columns: Sequence[Sequence[Item]]) -> int:
        """Places the columns, and the vertical lines between them; returns the width."""
        x = 16
        self._tracks: dict[tuple[int, Output], int] = {}  # the places of vertical lines, by column and wire
        for k, column in enumerate(columns):
            width = max(item.width for item in column)
            for item in column:
                is_left = item.part is not None and item.part.place in ("left", "below")
                is_right = item.part is not None and item.part.place == "right"
                free = (width - item.width) // 2
                item.x = x + width // 2 + (free if is_left else -free if is_right else 0)
            x += width
            if k < len(columns) - 1:
                marks = [len(end.mark) for item in columns[k + 1] for end in item.ins if isinstance(end, Input)]
                tracks = tracks_of([hop for hop in self._layout.hops if hop.left.column == k])
                for wire, track in tracks.items():
                    self._tracks[k, wire] = x + _BEFORE + _TRACK * track
                x += _BEFORE + _TRACK * max(tracks.values(), default=0) + _AFTER + 9 * max(marks, default=0)
                x += _TRACK * (k == len(columns) - 2)  # for the line to the output
        return x + 16

    def _line(self, hop: Hop) -> list[tuple[int, int]]:
        """The points of a wire's piece, in its direction."""
        start, end, y = hop.start_y, hop.end_y, hop.left.x + _reach(hop.left, hop.left.outs[hop.wire])
        points = [(y, start)]
        if start != end:
            x = self._tracks[hop.left.column, hop.wire]
            points += [(x, start), (x, end)]
        return [*points, (hop.right.x - _reach(hop.right, hop.right.ins[hop.end]), end)]

    def _whole_line(self, hop: Hop) -> list[tuple[int, int]]:
        """The points of a wire from its beginning to the end of this piece."""
        points = self._line(hop)
        while hop.left.part is None:
            (hop,) = self._layout.before[hop.left]
            points = self._line(hop) + points
        if hop.left.part.place == "below":
            x, y = hop.left.x, hop.left.y
            points = [(x, y + 2 * GRID), (x, y), *points[1:]]
        corners = [points[0]]
        for point, after in pairwise([*points[1:], points[-1]]):
            is_corner = (point[0] == corners[-1][0]) != (point[0] == after[0]) or point == after
            if is_corner and point != corners[-1]:
                corners.append(point)
        return corners

    def _dots(self) -> Iterator[tuple[int, int]]:
        """Where a wire branches."""
        for (column, wire), x in self._tracks.items():
            hops = [hop for hop in self._layout.hops if hop.left.column == column and hop.wire is wire]
            start, ends = hops[0].start_y, {hop.end_y for hop in hops}
            low, high = min(start, *ends), max(start, *ends)
            for y in {start, *ends}:
                if (y == start) + (y in ends) + (y > low) + (y < high) > 2:
                    yield x, y

    # -- what is drawn -------------------------------------------------------------------------------------------------

    def boxes(self) -> Iterator[tuple[Part, Box]]:
        """The parts and the room that each takes."""
        for part, item in self._layout.items.items():
            half = item.width // 2
            yield part, Box(item.x - half, item.y - item.up, item.x + half, item.y + item.down)

    def shapes(self) -> Iterator[dict[str, Any]]:
        """What is drawn: wires first."""
        for hop in self._layout.hops:
            part = hop.right.part
            if part is not None:
                points = self._whole_line(hop)
                yield {"kind": "wire", "stage": part.stage, "line": _path(points), "arrow": True}
                if isinstance(hop.end, Input) and hop.end.mark:
                    (x, y) = points[-1]
                    yield _text(part.stage, x - 12, y + (15 if y > hop.right.y else -6), "mark", hop.end.mark)
        for x, y in self._dots():
            yield {"kind": "dot", "at": [x, y]}
        for part, item in self._layout.items.items():
            yield from _of_port(part, item) if part.shape == "port" else _of_part(part, item)
        output = next(item for part, item in self._layout.items.items() if part.place == "right")
        if output.ins:
            x = output.x - output.width // 2 - 24
            yield {"kind": "wire", "stage": None, "line": _path([(x, output.y), (x, 24)]), "arrow": True}
            yield {"kind": "dot", "at": [x, output.y]}
            yield _text(None, x, 16, "port", "output")


def _reach(item: Item, dy: int) -> int:
    """How far an item reaches to the side at a height."""
    if item.part is None or item.part.shape == "port" or _is_box(item.part):
        return item.width // 2
    rx, ry = _radii(item.part)
    return round(rx * math.sqrt(1 - (dy / ry) ** 2))


def _path(points: Sequence[tuple[int, int]]) -> str:
    """Points as the path of an SVG, with horizontal and vertical lines."""
    lines = (f"V{end[1]}" if start[0] == end[0] else f"H{end[0]}" for start, end in pairwise(points))
    return " ".join([f"M{points[0][0]} {points[0][1]}", *lines])


def _text(stage: int | None, x: int, y: int, kind: str, text: str, value: str = "") -> dict[str, Any]:
    return {"kind": "text", "stage": stage, "at": [x, y], "class": kind, "text": text, "value": value}


def _of_port(part: Part, item: Item) -> Iterator[dict[str, Any]]:
    """A port's name and number."""
    value = part.outputs[0].value
    y = item.y + (2 * GRID + 16 if part.place == "below" else -2 if value else 6)
    yield _text(None, item.x, y, "port", part.title)
    if value:
        yield _text(None, item.x, y + 18, "number", "", value)


def _of_part(part: Part, item: Item) -> Iterator[dict[str, Any]]:
    """A box or a circle, and what is written in it."""
    outputs = part.outputs
    value = outputs[0].value if len(outputs) == 1 else ""
    place = {"stage": part.stage, "at": [item.x, item.y]}
    if not _is_box(part):
        yield {"kind": "op", **place, "radii": list(_radii(part))}
        yield _text(part.stage, item.x, item.y + 6, "title", part.title)
        for k, (kind, text) in enumerate(_captions(part)):
            y = item.y + item.up + 14 + 16 * k
            yield _text(part.stage, item.x, y, kind, *(("", text) if kind == "number" else (text,)))
        return
    yield {"kind": "box", **place, "size": [item.width, item.up + item.down], "value": value}
    written = [("title", part.title)] if part.title else []
    written += [("code", line) for line in part.lines]
    written += [("number inside", value)] if value else []
    height = sum(_TITLE if kind == "title" else _LINE for kind, _ in written) + ROW * len(outputs) * (len(outputs) > 1)
    y = item.y - height // 2
    for kind, text in written:
        y += _TITLE if kind == "title" else _LINE
        yield _text(part.stage, item.x, y - 5, kind, *(("", text) if kind == "number inside" else (text,)))
    for output in outputs if len(outputs) > 1 else ():
        y, right = item.y + item.outs[output] + 5, item.x + item.width // 2 - 8
        yield _text(part.stage, right, y, "code end", output.name)
        if output.value:
            yield _text(part.stage, round(right - _CODE * len(output.name) - 8), y, "number end", "", output.value)
